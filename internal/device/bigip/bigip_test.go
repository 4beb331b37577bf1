package bigip_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/device"
	"capfleet/internal/device/bigip"
	"capfleet/internal/device/drivertest"
	"capfleet/internal/fault"
	"capfleet/internal/leaktest"
	"capfleet/internal/sim"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func driver(t *testing.T) device.Driver {
	t.Helper()
	d, err := bigip.New("")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// logins has a device of each kind of login.
func logins() map[string]string {
	return map[string]string{"bash": "lon-ltm-01", "tmsh": "nyc-ltm-01"}
}

func TestContract(t *testing.T) {
	t.Parallel()
	for login, name := range logins() {
		t.Run(login, func(t *testing.T) {
			t.Parallel()
			target := drivertest.Simulate(t, sim.Options{}).Target(t, driver(t), name)
			target.Good = device.Command{Line: "df -P", Mode: bigip.ModeBash}
			target.Want = regexp.MustCompile(`\AFilesystem +(?s:.*) /\n(?s:.*)\n\z`)
			target.Other = device.Command{Line: "show sys software status"}
			target.Refused = device.Command{Line: "show sys nothing"}
			target.ByMode = map[string]drivertest.ModeCommand{
				bigip.ModeBash: {Line: "df -P", Want: target.Want},
				bigip.ModeTmsh: {Line: "show sys version", Want: regexp.MustCompile(`(?m)^ +Product +BIG-IP$`)},
			}
			drivertest.Run(t, target)
		})
	}
}

// What a command prints does not depend on the login's shell.
func TestLoginsAgree(t *testing.T) {
	t.Parallel()
	f := drivertest.Simulate(t, sim.Options{})
	root := f.Device(t, "lon-ltm-01")
	admin := *root
	admin.Credentials = f.Device(t, "nyc-ltm-01").Credentials
	for _, cmd := range []device.Command{
		{Line: "show sys version"},
		{Line: "tmsh show sys version"},
		{Line: "list sys db tcpdump.sslprovider", Mode: bigip.ModeTmsh},
		{Line: "df -P", Mode: bigip.ModeBash},
		{Line: `echo "a  b" $((1 + 2))`, Mode: bigip.ModeBash},
		{Line: "echo 'a  b' c", Mode: bigip.ModeBash},
	} {
		var texts []string
		for _, dev := range []*device.Device{root, &admin} {
			out, err := f.TargetOf(driver(t), dev).Open(t).Run(t.Context(), cmd)
			if err != nil {
				t.Fatalf("%s, %s: %v\n%s", dev.Credentials.Username, cmd.Line, err, out.Text)
			}
			if out.Command != cmd.Line || out.Prompt != "" {
				t.Errorf("%s, %s: command %q, prompt %q", dev.Credentials.Username, cmd.Line, out.Command, out.Prompt)
			}
			texts = append(texts, out.Text)
		}
		if diff := cmp.Diff(texts[0], texts[1]); diff != "" || strings.TrimSpace(texts[0]) == "" {
			t.Errorf("%s (-bash +tmsh):\n%s", cmd.Line, diff)
		}
	}
}

// What cannot be passed through tmsh unharmed is not sent.
func TestUnquotable(t *testing.T) {
	t.Parallel()
	f := drivertest.Simulate(t, sim.Options{})
	s := f.Open(t, driver(t), "nyc-ltm-01")
	for _, line := range []string{`echo 'a' "b"`, "echo 'a' $HOME", "echo 'a' `id`", `echo 'a' \n`} {
		if _, err := s.Run(t.Context(), device.Command{Line: line, Mode: bigip.ModeBash}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// The prompt of tmsh changes before every command, and nothing is lost.
func TestFailoverWhileConnected(t *testing.T) {
	t.Parallel()
	f := drivertest.Simulate(t, sim.Options{Faults: []string{"nyc-ltm-01:failover_flap", "nyc-ltm-01:ansi"}})
	s := f.Open(t, driver(t), "nyc-ltm-01")
	var first string
	for i := range 10 {
		out, err := s.Run(t.Context(), device.Command{Line: "show sys version"})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = out.Text
		} else if out.Text != first {
			t.Fatalf("output %q, before %q", out.Text, first)
		}
	}
}

// Where the pager cannot be switched off, a small terminal is paged through and
// the output is the same.
func TestPager(t *testing.T) {
	t.Parallel()
	f := drivertest.Simulate(t, sim.Options{Faults: []string{"nyc-ltm-01:refuse_command=modify"}})
	small, err := bigip.New(drivertest.Override(t, driver(t), "terminal_height: 5"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := device.Command{Line: "show sys software status"}
	want, err := f.Open(t, driver(t), "nyc-ltm-01").Run(t.Context(), cmd)
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.Open(t, small, "nyc-ltm-01").Run(t.Context(), cmd)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Text, got.Text); diff != "" || strings.Count(got.Text, "\n") < 6 {
		t.Errorf("output (-whole +paged):\n%s", diff)
	}
}
