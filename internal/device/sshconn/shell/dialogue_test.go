package shell_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// Each command runs in the mode it wants, and the way there is the shortest.
func TestModes(t *testing.T) {
	t.Parallel()
	sh, b := open(t, &cli{commands: map[string]func(*cli, *box){
		"show it":             prints("it\n"),
		"configuration write": prints(""),
		"maintenance-mode noconfirm": func(c *cli, _ *box) {
			c.prefix = "(maintenance) "
		},
		"package install x": prints("done\n"),
	}})
	for _, step := range []struct{ mode, line, prompt, after string }{
		{"", "show it", "lon-probe-01 #", "enable"},
		{"config", "configuration write", "lon-probe-01 (config) #", "config"},
		{"config", "maintenance-mode noconfirm", "lon-probe-01 (config) #", "config"},
		{"config", "package install x", "(maintenance) lon-probe-01 (config) #", "config"},
		{"enable", "show it", "(maintenance) lon-probe-01 #", "enable"},
		{"standard", "show it", "(maintenance) lon-probe-01 >", "standard"},
		{"config", "configuration write", "(maintenance) lon-probe-01 (config) #", "config"},
	} {
		out := run(t, sh, device.Command{Line: step.line, Mode: step.mode})
		if out.Prompt != step.prompt || sh.Mode() != step.after {
			t.Errorf("%s: prompt %q, then mode %s", step.line, out.Prompt, sh.Mode())
		}
	}
	typed := slices.DeleteFunc(b.lines(), func(l string) bool { return strings.TrimSpace(l) == "" })
	want := []string{"enable", "no cli session paging enable", "show it", "conf t", "configuration write",
		"maintenance-mode noconfirm", "package install x", "exit", "show it", "disable", "show it",
		"enable", "conf t", "configuration write"}
	if diff := cmp.Diff(want, typed); diff != "" {
		t.Errorf("typed (-want +got):\n%s", diff)
	}
}

// A command that changes the mode says so; one that should and does not failed.
func TestNewMode(t *testing.T) {
	t.Parallel()
	sh, _ := open(t, &cli{commands: map[string]func(*cli, *box){
		"reset session": func(c *cli, b *box) { c.mode = "standard"; b.write("reset\r\n") },
		"reset nothing": prints("nothing\n"),
	}})
	out := run(t, sh, device.Command{Line: "reset session", NewMode: "standard"})
	if out.Text != "reset\n" || sh.Mode() != "standard" {
		t.Errorf("output %q, mode %s", out.Text, sh.Mode())
	}
	_, err := sh.Run(t.Context(), device.Command{Line: "reset nothing", NewMode: "standard"})
	wantKind(t, err, fault.Refused)
}

func TestInvalidCommands(t *testing.T) {
	t.Parallel()
	sh, b := open(t, &cli{})
	typed := len(b.lines())
	for name, cmd := range map[string]device.Command{
		"unknown mode":     {Line: "show it", Mode: "root"},
		"unknown new mode": {Line: "show it", NewMode: "root"},
		"empty":            {Line: "  "},
		"two lines":        {Line: "show it\nreload"},
		"a carriage":       {Line: "show it\rreload"},
		"an escape":        {Line: "show \x1b[A"},
		"an interrupt":     {Line: "show \x03"},
		"too long":         {Line: strings.Repeat("x", 5000)},
		"unknown question": {Line: "show it", Answers: map[string]string{"nuclear": "YES"}},
		"a nasty answer":   {Line: "show it", Answers: map[string]string{"takeover": "YES\nreload"}},
	} {
		if _, err := sh.Run(t.Context(), cmd); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if len(b.lines()) != typed {
		t.Errorf("typed %q", b.lines()[typed:])
	}
}

// An answer that the device begins or ends with an error is a refusal, with the
// output. A line like an error in the middle of a log is not.
func TestRefused(t *testing.T) {
	t.Parallel()
	sh, _ := open(t, &cli{commands: map[string]func(*cli, *box){
		"show log":  prints("boot\n% odd line\nready\n"),
		"show late": prints("working\n% Disk full\n"),
	}})
	out, err := sh.Run(t.Context(), device.Command{Line: "shwo version"})
	wantKind(t, err, fault.Refused)
	if out.Text != "% Unrecognized command \"shwo version\".\n" || !strings.Contains(err.Error(), "Unrecognized command") {
		t.Errorf("output %q, error %v", out.Text, err)
	}
	if got := run(t, sh, device.Command{Line: "show log"}).Text; strings.Count(got, "\n") != 3 {
		t.Errorf("output %q", got)
	}
	_, err = sh.Run(t.Context(), device.Command{Line: "show late"})
	wantKind(t, err, fault.Refused)
}

// The takeover question is only ever answered YES by a caller who said so.
func TestTakeover(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &cli{taken: true, commands: map[string]func(*cli, *box){"configuration write": prints("")}}
		sh, b := open(t, c)
		out, err := sh.Run(t.Context(), device.Command{Line: "configuration write", Mode: "config"})
		wantKind(t, err, fault.Refused)
		if !strings.Contains(err.Error(), "takeover") || !slices.Equal(out.Questions, []string{"takeover"}) {
			t.Errorf("error %v, questions %q", err, out.Questions)
		}
		typed := b.lines()
		if slices.Contains(typed, "YES") || slices.Contains(typed, "configuration write") {
			t.Errorf("typed %q", typed)
		}
		if n := count(typed, "conf t"); n != 1 {
			t.Errorf("asked for config mode %d times", n)
		}
		// The shell is still good, in the mode it was in.
		c.commands["show it"] = prints("it\n")
		if got := run(t, sh, device.Command{Line: "show it"}).Text; got != "it\n" {
			t.Errorf("output %q", got)
		}
		out = run(t, sh, device.Command{Line: "configuration write", Mode: "config", Answers: map[string]string{"takeover": "YES"}})
		if out.Prompt != "lon-probe-01 (config) #" || out.Text != "" {
			t.Errorf("prompt %q, output %q", out.Prompt, out.Text)
		}
	})
}

func count(list []string, want string) (n int) {
	for _, s := range list {
		if s == want {
			n++
		}
	}
	return n
}

// A question of a command: the safe answer unless the caller gave one.
func TestQuestion(t *testing.T) {
	t.Parallel()
	ask := func(_ *cli, b *box) {
		b.write("Proceed with reload? [no] ")
		got := <-b.keys
		b.write(got + "\r\n")
		if got == "yes" {
			b.write("Rebooting\r\n")
		}
	}
	for name, c := range map[string]struct {
		answers map[string]string
		typed   string
		refused bool
	}{
		"safe": {nil, "no", true},
		"yes":  {map[string]string{"confirm": "yes"}, "yes", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sh, b := open(t, &cli{commands: map[string]func(*cli, *box){"reload": ask}})
				out, err := sh.Run(t.Context(), device.Command{Line: "reload", Answers: c.answers})
				if fault.Is(err, fault.Refused) != c.refused || !slices.Equal(out.Questions, []string{"confirm"}) {
					t.Errorf("error %v, questions %q", err, out.Questions)
				}
				if typed := b.lines(); count(typed, c.typed) != 1 {
					t.Errorf("typed %q", typed)
				}
				if want := "Proceed with reload? [no] " + c.typed + "\n"; !strings.HasPrefix(out.Text, want) {
					t.Errorf("output %q", out.Text)
				}
			})
		})
	}
}

// Output that looks like a question while the device goes on is output.
func TestQuestionLikeLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh, b := open(t, &cli{commands: map[string]func(*cli, *box){
			"show log": func(_ *cli, b *box) {
				b.write("Enter 'YES' to enter configuration mode anyway:")
				time.Sleep(10 * time.Millisecond)
				b.write(" was asked\r\nPassword: ")
				time.Sleep(10 * time.Millisecond)
				b.write("was typed\r\n--More--")
				time.Sleep(10 * time.Millisecond)
				b.write(" and so on\r\n")
			},
		}})
		out := run(t, sh, device.Command{Line: "show log"})
		want := "Enter 'YES' to enter configuration mode anyway: was asked\nPassword: was typed\n--More-- and so on\n"
		if out.Text != want || len(out.Questions) != 0 {
			t.Errorf("output %q, questions %q", out.Text, out.Questions)
		}
		if typed := b.lines(); slices.Contains(typed, "NO") {
			t.Errorf("typed %q", typed)
		}
	})
}

// A device that asks for ever does not keep us for ever.
func TestEndlessQuestions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh, _ := open(t, &cli{commands: map[string]func(*cli, *box){
			"reload": func(_ *cli, b *box) {
				for {
					b.write("Sure? [yes/no] ")
					got, ok := <-b.keys
					if !ok {
						return
					}
					b.write(got + "\r\n")
				}
			},
		}})
		_, err := sh.Run(t.Context(), device.Command{Line: "reload"})
		wantKind(t, err, fault.Disconnected)
	})
}

func TestEnablePassword(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		have  string // "" for none
		kind  fault.Kind
		typed int // how often it may be typed
	}{
		"right": {"sesame", "", 1},
		"wrong": {"mellon", fault.Auth, 1},
		"none":  {"", fault.Auth, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				device := &cli{password: "sesame"}
				ch, b := newBox(t, device.run)
				o := options()
				if c.have != "" {
					o = withEnable(o, c.have)
				}
				_, err := openWith(t, ch, osm(t), o)
				if got := fault.KindOf(err); got != c.kind {
					t.Fatalf("error %v is %q, want %q", err, got, c.kind)
				}
				if err != nil && (strings.Contains(err.Error(), "mellon") || strings.Contains(fmt.Sprintf("%#v", err), "mellon")) {
					t.Errorf("the password is in the error: %v", err)
				}
				if n := count(b.lines(), c.have); c.have != "" && n != c.typed {
					t.Errorf("typed it %d times", n)
				}
			})
		})
	}
}

// The pager is answered where it could not be switched off, and leaves no trace.
func TestPager(t *testing.T) {
	t.Parallel()
	for name, page := range map[string]struct{ prompt, erase string }{
		"CR and erase":     {"lines 1-3", "\r\x1b[K"},
		"CR and spaces":    {"--More--", "\r        \r"},
		"backspaces":       {"--More-- (42%)", strings.Repeat("\b \b", 14)},
		"less of BIG-IP":   {"---(less 42%)---", "\r\x1b[K"},
		"nothing erased":   {"--More--", "\r\n"},
		"erase comes late": {"--More--", "\r        \r"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ch, b := newBox(t, func(b *box) { pagerBox(b, page.prompt, page.erase, name == "erase comes late") })
				sh, err := openOn(t, ch)
				if err != nil {
					t.Fatal(err)
				}
				out := run(t, sh, device.Command{Line: "show long"})
				want := "  one\n  two\n  three\n  four\n  five\n"
				if name == "nothing erased" {
					want = "  one\n  two\n\n  three\n  four\n\n  five\n"
				}
				if diff := cmp.Diff(want, out.Text); diff != "" {
					t.Errorf("output (-want +got):\n%s", diff)
				}
				_ = b
			})
		})
	}
}

// A question for a password that no mode change asks gets no password.
func TestPasswordElsewhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ask := func(_ *cli, b *box) { b.write("Password: "); <-b.keys; b.write("\r\n") }
		c := &cli{commands: map[string]func(*cli, *box){"show keys": ask, "conf t": ask}}
		ch, b := newBox(t, c.run)
		sh, err := openWith(t, ch, osm(t), withEnable(options(), "sesame"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = sh.Run(t.Context(), device.Command{Line: "show keys"})
		wantKind(t, err, fault.Refused)
		_, err = sh.Run(t.Context(), device.Command{Line: "show keys", Mode: "config"})
		wantKind(t, err, fault.Auth)
		if count(b.lines(), "sesame") != 0 {
			t.Error("the password was typed")
		}
	})
}

// A BIG-IP login that gets bash, worked through a shell: tmsh is a mode above it,
// and the two prompts have user and host in common.
func TestBashToTmsh(t *testing.T) {
	t.Parallel()
	c := &cli{mode: "bash", prompt: func(c *cli) string {
		if c.mode == "bash" {
			return "[root@bigip02:Active:In Sync] config # "
		}
		return "root@(bigip02)(cfg-sync In Sync)(Active)(/Common)(tmos)# "
	}, commands: map[string]func(*cli, *box){
		"tmsh": func(c *cli, _ *box) { c.mode = "tmsh" },
		"quit": func(c *cli, _ *box) { c.mode = "bash" },
		"modify cli preference pager disabled display-threshold 0": prints(""),
		"show sys failover": prints("Failover active for 1d 23:19:21\n"),
		"uptime":            prints("up\n"),
	}}
	ch, _ := newBox(t, c.run)
	sh, err := openWith(t, ch, f5(t), options())
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []device.Command{{Line: "show sys failover"}, {Line: "uptime", Mode: "bash"}, {Line: "show sys failover", Mode: "tmsh"}} {
		run(t, sh, cmd)
	}
}
