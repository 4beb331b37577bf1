package shell_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// Output comes back as it is: blank lines, indentation and trailing spaces, which
// scrapligo takes away, are part of it.
func TestOutputIsExact(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ sent, want string }{
		"nothing":                 {"", ""},
		"a line":                  {"one\r\n", "one\n"},
		"trailing spaces":         {"one   \r\n  two \r\n", "one   \n  two \n"},
		"blank lines at the ends": {"\r\n\r\none\r\n\r\n", "\n\none\n\n"},
		"runs of CR before LF":    {"one\r\r\ntwo\r\r\r\n", "one\ntwo\n"},
		"LF CR":                   {"one\n\rtwo\n\r", "one\ntwo\n"},
		"CR inside a line":        {"10%\r20%\r\n", "10%\r20%\n"},
		"tabs":                    {"a\tb\r\n", "a\tb\n"},
		"UTF-8":                   {"Zürich – 東京\r\n", "Zürich – 東京\n"},
		"no end of line":          {"half a line", "half a line"},
		"colours":                 {"\x1b[1;32mok\x1b[0m\r\n", "ok\n"},
		"a window title":          {"\x1b]0;rm -rf\x07ok\r\n", "ok\n"},
		"an unfinished title":     {"\x1b]0;never ends\r\nstill here\r\n", "\nstill here\n"},
		"8-bit controls":          {"\x9b31mred\xc2\x9b0m\r\n", "red\n"},
		"the host's name":         {"Hostname: lon-probe-01\r\n", "Hostname: lon-probe-01\n"},
		"another's prompt":        {"other-probe # \r\n", "other-probe # \n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sh, _ := open(t, &cli{commands: map[string]func(*cli, *box){
				"show it": func(_ *cli, b *box) { b.write(c.sent) },
				"show on": prints("on\n"),
			}})
			out := run(t, sh, device.Command{Line: "show it"})
			if diff := cmp.Diff(c.want, out.Text); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
			if out.Prompt != "lon-probe-01 #" || out.Command != "show it" {
				t.Errorf("prompt %q, command %q", out.Prompt, out.Command)
			}
			if got := run(t, sh, device.Command{Line: "show on"}).Text; got != "on\n" {
				t.Errorf("the next command's output is %q", got)
			}
		})
	}
}

// A line that looks like the prompt, or is it to the last byte, is output when
// the device goes on behind it: however the output is cut into reads, and
// however long the device stops there.
func TestPromptLikeLines(t *testing.T) {
	t.Parallel()
	const prompt = "lon-probe-01 # "
	outputs := map[string][]string{ // the device may pause between the parts
		"the prompt on a line":         {"one\r\n", prompt, "\r\ntwo\r\n"},
		"the prompt first":             {prompt, "\r\ntwo\r\n"},
		"the prompt last":              {"one\r\n", prompt, "\r\n"},
		"the prompt with a command":    {"one\r\n", prompt, "show log\r\nentry\r\n"},
		"the prompt without its space": {"one\r\n", "lon-probe-01 #", "\r\ntwo\r\n"},
		"prompts in a row":             {"one\r\n", prompt, "\r\n", prompt, "\r\n", prompt, "\r\ntwo\r\n"},
		"prompts apart":                {"one\r\n", prompt, "\r\ntwo\r\n", prompt, "\r\nthree\r\n"},
		"the prompt of another mode":   {"one\r\n", "lon-probe-01 > ", "\r\ntwo\r\n"},
		"maintenance in between":       {"one\r\n", "(maintenance) lon-probe-01 (config) # ", "\r\ntwo\r\n"},
		"another device's prompt":      {"one\r\n", "lon-probe-02 # ", "\r\ntwo\r\n"},
		"behind other text":            {"see: ", prompt, "\r\ntwo\r\n"},
		"with a colour":                {"one\r\n\x1b[1", "m", prompt, "\x1b[0m\r\ntwo\r\n"},
	}
	styles := map[string]func(b *box, parts []string){
		"at once": func(b *box, parts []string) { b.write(strings.Join(parts, "")) },
		"in parts": func(b *box, parts []string) {
			for _, p := range parts {
				b.write(p)
			}
		},
		"with pauses": func(b *box, parts []string) {
			for _, p := range parts {
				b.write(p)
				time.Sleep(2 * time.Second)
			}
		},
		"dripping": func(b *box, parts []string) { b.drip(strings.Join(parts, ""), 700*time.Millisecond) },
	}
	for oname, parts := range outputs {
		for sname, style := range styles {
			t.Run(oname+" "+sname, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					sh, _ := open(t, &cli{commands: map[string]func(*cli, *box){
						"show it": func(_ *cli, b *box) { style(b, parts) },
						"show on": prints("on\n"),
					}})
					want := device.CleanText([]byte(strings.Join(parts, "")))
					out := run(t, sh, device.Command{Line: "show it", Timeout: 10 * time.Minute})
					if diff := cmp.Diff(want, out.Text); diff != "" {
						t.Errorf("output (-want +got):\n%s", diff)
					}
					if got := run(t, sh, device.Command{Line: "show on"}).Text; got != "on\n" {
						t.Errorf("the next command's output is %q", got)
					}
				})
			})
		}
	}
}

// Two prompts in the first output of a shell, and a long stop behind the second:
// this is not a device that shows no blanks.
func TestStopBehindSecondPrompt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh, _ := open(t, &cli{commands: map[string]func(*cli, *box){
			"show it": func(_ *cli, b *box) {
				b.write("one\r\nlon-probe-01 # ")
				time.Sleep(time.Millisecond)
				b.write("\r\nlon-probe-01 # ")
				time.Sleep(3 * time.Second)
				b.write("\r\ntwo\r\n")
			},
		}})
		if got := run(t, sh, device.Command{Line: "show it"}).Text; got != "one\nlon-probe-01 # \nlon-probe-01 # \ntwo\n" {
			t.Errorf("output %q", got)
		}
	})
}

// A command that ends at somebody else's prompt, as a login elsewhere does, is
// not answered.
func TestForeignPrompt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh, _ := open(t, &cli{commands: map[string]func(*cli, *box){
			"slogin lon-probe-02": func(c *cli, _ *box) { c.host = "lon-probe-02" },
		}})
		_, err := sh.Run(t.Context(), device.Command{Line: "slogin lon-probe-02"})
		wantKind(t, err, fault.Timeout)
		if !strings.Contains(err.Error(), `stands at "lon-probe-02 # "`) {
			t.Errorf("error %v", err)
		}
	})
}

// Many prompt-like lines in a long output, and reads that end anywhere.
func TestOutputCutAnywhere(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 6 {
		fmt.Fprintf(&b, "line %d\r\nlon-probe-01 # \r\nlon-probe-01 # show log\r\n", i)
	}
	whole := b.String()
	want := device.CleanText([]byte(whole))
	for cut := 1; cut < len(whole); cut += 3 {
		synctest.Test(t, func(t *testing.T) {
			sh, _ := open(t, &cli{commands: map[string]func(*cli, *box){
				"show it": func(_ *cli, b *box) {
					b.write(whole[:cut])
					time.Sleep(time.Second)
					b.write(whole[cut:])
				},
			}})
			if got := run(t, sh, device.Command{Line: "show it"}).Text; got != want {
				t.Errorf("cut at %d, behind %q: output differs:\n%s", cut, whole[max(0, cut-20):cut], cmp.Diff(want, got))
			}
		})
	}
}

// The prompt is learned, so a banner may hold lines like one.
func TestLoginBanner(t *testing.T) {
	t.Parallel()
	for name, motd := range map[string]string{
		"none":                 "",
		"words":                "Welcome to EndaceProbe\r\nLast login: Mon Jan  5 from 192.0.2.1\r\n\r\n",
		"a line like a prompt": "Restricted:\r\nlab > \r\nonly for staff\r\n",
		"escapes":              "\x1b[2J\x1b[H\x1b]0;probe\x07",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := &cli{commands: map[string]func(*cli, *box){"show it": prints("it\n")}}
				ch, _ := newBox(t, func(b *box) {
					for part := range strings.SplitAfterSeq(motd, " ") {
						b.write(part)
						time.Sleep(time.Second)
					}
					c.run(b)
				})
				sh, err := openOn(t, ch)
				if err != nil {
					t.Fatal(err)
				}
				if got := run(t, sh, device.Command{Line: "show it"}).Text; got != "it\n" {
					t.Errorf("output %q", got)
				}
				if sh.Prompt() != "lon-probe-01 #" || sh.Mode() != "enable" {
					t.Errorf("prompt %q, mode %q", sh.Prompt(), sh.Mode())
				}
			})
		})
	}
}

// A terminal that echoes what is typed by itself, while the message of the day
// with a line like a prompt is still under way.
func TestLoginEchoedByTerminal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &cli{commands: map[string]func(*cli, *box){"show it": prints("it\n")}}
		ch, _ := newBox(t, func(b *box) {
			b.write("Restricted:\r\nlab > ")
			time.Sleep(time.Second)
			typed := <-b.keys
			b.write(typed + "\r\n")
			time.Sleep(time.Second)
			b.write("\r\n")
			b.write(osmPrompt(&cli{host: "lon-probe-01", mode: "standard"}))
			time.Sleep(time.Second)
			b.write(typed + "\r\n") // the line editor comes to read it
			c.run(b)
		})
		sh, err := openOn(t, ch)
		if err != nil {
			t.Fatal(err)
		}
		if got := run(t, sh, device.Command{Line: "show it"}).Text; got != "it\n" || sh.Prompt() != "lon-probe-01 #" {
			t.Errorf("output %q, prompt %q", got, sh.Prompt())
		}
	})
}

// A BIG-IP's prompt says what state it is in, and that changes while connected.
func TestPromptChanges(t *testing.T) {
	t.Parallel()
	states := []string{"cfg-sync In Sync)(Standby", "cfg-sync In Sync)(Active", "cfg-sync Changes Pending)(Active",
		"cfg-sync Disconnected)(ForcedOffline", "cfg-sync )(INOPERATIVE"}
	n := 0
	c := &cli{
		prompt: func(*cli) string {
			n++
			return "admin@(bigip02)(" + states[n%len(states)] + ")(/Common)(tmos)# "
		},
		commands: map[string]func(*cli, *box){
			"show sys failover": prints("Failover active for 1d 23:19:21\n"),
			"show log":          prints("admin@(bigip02)(cfg-sync In Sync)(Standby)(/Common)(tmos)# \nadmin@(bigip09)(cfg-sync In Sync)(Active)(/Common)(tmos)# \n"),
			"modify cli preference pager disabled display-threshold 0": prints(""),
		},
	}
	ch, _ := newBox(t, c.run)
	sh, err := openWith(t, ch, f5(t), options())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 * len(states) {
		if got := run(t, sh, device.Command{Line: "show sys failover"}).Text; got != "Failover active for 1d 23:19:21\n" {
			t.Fatalf("output %q", got)
		}
		if got := run(t, sh, device.Command{Line: "show log"}).Text; strings.Count(got, "\n") != 2 {
			t.Fatalf("output %q", got)
		}
	}
}

// The echo is followed however the device draws it, and is no part of the output.
func TestEcho(t *testing.T) {
	t.Parallel()
	long := "show log matching " + strings.Repeat("very ", 40) + "long"
	for name, echo := range map[string]string{
		"plain":                     long + "\r\n",
		"wrapped with space and CR": long[:80] + " \r" + long[80:] + "\r\n",
		"wrapped with line ends":    long[:80] + "\r\n" + long[80:160] + "\r\n" + long[160:] + "\r\n",
		"drawn again":               "show lo" + "\rlon-probe-01 # " + long + "\r\n",
		"corrected":                 "shox\b \bw" + long[4:] + "\r\n",
		"behind escapes":            "\x1b[?2004l" + long + "\x1b[K\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ch, _ := newBox(t, func(b *box) {
				b.write("lon-probe-01 # ")
				for line := range b.keys {
					if line == long {
						b.write(echo + "  Bytes Free 3\r\nlon-probe-01 # ")
						continue
					}
					b.write(line + "\r\nlon-probe-01 # ")
				}
			})
			sh, err := openOn(t, ch)
			if err != nil {
				t.Fatal(err)
			}
			if got := run(t, sh, device.Command{Line: long}).Text; got != "  Bytes Free 3\n" {
				t.Errorf("output %q", got)
			}
		})
	}
}
