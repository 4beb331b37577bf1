package endace_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/device"
	"capfleet/internal/device/drivertest"
	"capfleet/internal/device/endace"
	"capfleet/internal/fault"
	"capfleet/internal/leaktest"
	"capfleet/internal/sim"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const probe = "lon-probe-01"

func driver(t *testing.T) device.Driver {
	t.Helper()
	d, err := endace.New("")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestContract(t *testing.T) {
	t.Parallel()
	target := drivertest.Simulate(t, sim.Options{}).Target(t, driver(t), probe)
	target.Good = device.Command{Line: "show files system"}
	target.Want = regexp.MustCompile(`\A\s*Statistics for /\S* filesystem:\n(?s:.*)Bytes Usable(?s:.*)\n\z`)
	target.Other = device.Command{Line: "show hosts"}
	target.Refused = device.Command{Line: "show nothing"}
	version := regexp.MustCompile(`(?m)^Product release: +6\.`)
	target.ByMode = map[string]drivertest.ModeCommand{
		"standard": {Line: "show version", Want: version},
		"enable":   {Line: "show packages", Want: regexp.MustCompile(`\AInstalled packages:\n`)},
		"config":   {Line: "configuration write", Want: regexp.MustCompile(`Done!\n\z`)},
	}
	drivertest.Run(t, target)
}

// A maintenance window as an operation would walk it, by commands alone: into
// config mode and maintenance mode, saved there, and seen in the prompt.
func TestMaintenance(t *testing.T) {
	t.Parallel()
	for _, word := range []string{"config", "configuration"} {
		t.Run(word, func(t *testing.T) {
			t.Parallel()
			f := drivertest.Simulate(t, sim.Options{Faults: []string{probe + ":config_prompt=" + word}})
			s := f.Open(t, driver(t), probe)
			for _, step := range []struct {
				cmd    device.Command
				prompt string
			}{
				{device.Command{Line: "show version"}, "lon-probe-01 #"},
				{device.Command{Line: "maintenance-mode noconfirm", Mode: "config", NewMode: "config"}, "lon-probe-01 (" + word + ") #"},
				{device.Command{Line: "configuration write", Mode: "config"}, "(maintenance) lon-probe-01 (" + word + ") #"},
				{device.Command{Line: "show version"}, "(maintenance) lon-probe-01 #"},
				{device.Command{Line: "show version", Mode: "standard"}, "(maintenance) lon-probe-01 >"},
			} {
				out, err := s.Run(t.Context(), step.cmd)
				if err != nil {
					t.Fatal(err)
				}
				if out.Prompt != step.prompt {
					t.Errorf("%s was typed at %q, want %q", step.cmd.Line, out.Prompt, step.prompt)
				}
				if step.cmd.Line == "configuration write" && out.Text != "Saving configuration file ... Done!\n" {
					t.Errorf("%s printed %q", step.cmd.Line, out.Text)
				}
			}
		})
	}
}

// Somebody else in config mode stays there unless the caller says otherwise.
func TestTakeover(t *testing.T) {
	t.Parallel()
	f := drivertest.Simulate(t, sim.Options{Faults: []string{probe + ":takeover"}})
	s := f.Open(t, driver(t), probe)
	save := device.Command{Line: "configuration write", Mode: "config"}
	out, err := s.Run(t.Context(), save)
	if !fault.Is(err, fault.Refused) || len(out.Questions) != 1 || out.Questions[0] != "takeover" {
		t.Fatalf("error %v, questions %q", err, out.Questions)
	}
	save.Answers = map[string]string{"takeover": "YES"}
	if out, err = s.Run(t.Context(), save); err != nil || !strings.HasSuffix(out.Text, "Done!\n") {
		t.Fatalf("output %q, %v", out.Text, err)
	}
}

func TestEnablePassword(t *testing.T) {
	t.Parallel()
	f := drivertest.Simulate(t, sim.Options{Faults: []string{"*-probe-*:enable_password"}})
	s := f.Open(t, driver(t), probe)
	if out, err := s.Run(t.Context(), device.Command{Line: "show files system"}); err != nil || out.Prompt != "lon-probe-01 #" {
		t.Fatalf("prompt %q, %v", out.Prompt, err)
	}
}

// Banners with lines like prompts, prompts in colour: the login gets through.
func TestLogin(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"banner", "ansi", "drip=2ms", "slow=50ms", "units=space"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := drivertest.Simulate(t, sim.Options{Faults: []string{probe + ":" + what}})
			s := f.Open(t, driver(t), probe)
			for range 2 {
				out, err := s.Run(t.Context(), device.Command{Line: "show files system"})
				if err != nil || out.Prompt != "lon-probe-01 #" || !strings.HasSuffix(out.Text, "\n") || strings.Contains(out.Text, "lon-probe") {
					t.Fatalf("prompt %q, %v\n%s", out.Prompt, err, out.Text)
				}
			}
		})
	}
}

// A reboot that asks first, and one that does not.
func TestReload(t *testing.T) {
	t.Parallel()
	f := drivertest.Simulate(t, sim.Options{Faults: []string{probe + ":reload_prompt=confirm"}})
	s := f.Open(t, driver(t), probe)
	out, err := s.Run(t.Context(), device.Command{Line: "reload"})
	if !fault.Is(err, fault.Refused) || len(out.Questions) != 1 || out.Questions[0] != "confirm" {
		t.Fatalf("error %v, questions %q, output %q", err, out.Questions, out.Text)
	}
	_, err = s.Run(t.Context(), device.Command{Line: "reload", Answers: map[string]string{"confirm": "yes"}})
	if !fault.Is(err, fault.Disconnected) {
		t.Fatalf("error %v", err)
	}
}

// Where paging cannot be switched off, a small terminal is paged through and the
// output is the same.
func TestPager(t *testing.T) {
	t.Parallel()
	f := drivertest.Simulate(t, sim.Options{Faults: []string{probe + ":refuse_command=no cli"}})
	want, err := f.Open(t, driver(t), probe).Run(t.Context(), device.Command{Line: "show files system"})
	if err != nil {
		t.Fatal(err)
	}
	small, err := endace.New(drivertest.Override(t, driver(t), "terminal_height: 6"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.Open(t, small, probe).Run(t.Context(), device.Command{Line: "show files system"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Text, got.Text); diff != "" || strings.Count(got.Text, "\n") < 12 {
		t.Errorf("output (-whole +paged):\n%s", diff)
	}
}
