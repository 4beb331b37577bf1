package cli

import (
	"bufio"
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/api"
)

const (
	unknownKey = `{"device":"a","host":"[127.0.0.1]:2201","type":"ssh-ed25519","sha256":"SHA256:aaaa","public_key":"ssh-ed25519 AAAA","status":"unknown"}`
	pinnedKey  = `{"device":"b","host":"[127.0.0.1]:2202","type":"ssh-ed25519","sha256":"SHA256:bbbb","public_key":"ssh-ed25519 BBBB","status":"pinned"}`
	changedKey = `{"device":"c","host":"[127.0.0.1]:2203","type":"ssh-ed25519","sha256":"SHA256:cccc","public_key":"ssh-ed25519 CCCC","status":"changed"}`
)

func TestTrust(t *testing.T) {
	key := func(device string) api.HostKey {
		up := strings.ToUpper(device)
		n := map[string]string{"a": "1", "b": "2", "c": "3"}[device]
		return api.HostKey{Device: device, Host: "[127.0.0.1]:220" + n, Type: "ssh-ed25519", SHA256: "SHA256:" + strings.Repeat(device, 4), PublicKey: "ssh-ed25519 " + strings.Repeat(up, 4)}
	}
	for name, c := range map[string]struct {
		keys     []string
		args     string
		answer   string // typed at a terminal; "" is no terminal
		code     int
		pinned   []api.PinRequest
		says     string // on stderr
		isShown  string // on stdout
		notShown string
	}{
		"yes pins what was shown": {
			keys: []string{unknownKey, pinnedKey}, answer: "y\n", pinned: []api.PinRequest{{Keys: []api.HostKey{key("a")}}},
			says: "Trust this key of a from now on? [y/N]", isShown: "SHA256:aaaa"},
		"anything else pins nothing": {keys: []string{unknownKey}, answer: "\n", code: 1, says: "nothing was done"},
		"no terminal and no --yes":   {keys: []string{unknownKey}, code: 4, says: "add --yes", notShown: "SHA256:aaaa"},
		"--yes":                      {keys: []string{unknownKey}, args: "--yes", pinned: []api.PinRequest{{Keys: []api.HostKey{key("a")}}}, isShown: "SHA256:aaaa"},
		"all are pinned already":     {keys: []string{pinnedKey}, says: "0 host keys pinned, 1 pinned before", isShown: "pinned"},
		"a changed key is refused and the others pinned": {
			keys: []string{unknownKey, changedKey}, args: "--yes", code: 3, pinned: []api.PinRequest{{Keys: []api.HostKey{key("a")}}},
			says: "next: find out why they changed; then fleetctl device trust --replace c"},
		"only a changed key":              {keys: []string{changedKey}, args: "--yes", code: 1, says: "changed host keys were not pinned: c"},
		"a changed key with --replace":    {keys: []string{changedKey}, args: "--yes --replace", pinned: []api.PinRequest{{Keys: []api.HostKey{key("c")}, Replace: true}}},
		"json says what was added":        {keys: []string{unknownKey}, args: "--yes -o json", pinned: []api.PinRequest{{Keys: []api.HostKey{key("a")}}}, isShown: `"added": [`},
		"json at a terminal asks as well": {keys: []string{unknownKey}, args: "-o json", answer: "yes\n", pinned: []api.PinRequest{{Keys: []api.HostKey{key("a")}}}, says: "SHA256:aaaa"},
	} {
		t.Run(name, func(t *testing.T) {
			fl := &fakeFleet{outcome: api.Results{
				Job:  api.Job{State: "succeeded", Devices: len(c.keys), Counts: map[string]int{"succeeded": len(c.keys)}},
				Rows: rows(t, c.keys...)}}
			got := session{fleet: fl, terminal: c.answer != "", stdin: c.answer, env: map[string]string{"TERM": "dumb"}}.
				run(t.Context(), t, append(strings.Fields("device trust --all"), strings.Fields(c.args)...)...)
			if got.code != c.code {
				t.Errorf("exit code %d, want %d", got.code, c.code)
			}
			if diff := cmp.Diff(c.pinned, fl.pinned); diff != "" {
				t.Errorf("pinned (-want +got):\n%s", diff)
			}
			if !strings.Contains(got.errOut, c.says) || !strings.Contains(got.out, c.isShown) || c.notShown != "" && strings.Contains(got.out, c.notShown) {
				t.Errorf("stdout:\n%s\nstderr:\n%s", got.out, got.errOut)
			}
		})
	}
}

func TestUnsafeCommandRunsOnWhatWasConfirmed(t *testing.T) {
	text := api.Results{Job: api.Job{State: "succeeded", Devices: 1, Counts: map[string]int{"succeeded": 1}}, Rows: rows(t, `{"device":"lon-ltm-01","command":"reboot","output":"ok\u001b[2J\n"}`)}
	fl := devicesFixture()
	fl.outcome = text
	got := session{fleet: fl, terminal: true, stdin: "y\n", env: map[string]string{"TERM": "dumb"}}.
		run(t.Context(), t, "command", "run", "--all", "--unsafe", "--", "tmsh", "save sys config")
	if got.code != 0 || got.out != "ok\\x1b[2J\n" {
		t.Errorf("exit code %d, stdout %q", got.code, got.out)
	}
	if !strings.Contains(got.errOut, `Run "tmsh save sys config" on 2 devices (lon-ltm-01, lon-probe-01)? [y/N]`) {
		t.Errorf("asked %q", got.errOut)
	}
	if diff := cmp.Diff(api.Selection{Names: []string{"lon-ltm-01", "lon-probe-01"}}, fl.submitted[0].Selection); diff != "" {
		t.Error(diff)
	}

	fl = devicesFixture()
	if got := (session{fleet: fl}).run(t.Context(), t, "command", "run", "--all", "--unsafe", "--", "reboot"); got.code != 4 || len(fl.submitted) > 0 {
		t.Errorf("without a terminal: exit code %d, submitted %v", got.code, fl.submitted)
	}
	if got := (session{fleet: fl, terminal: true, stdin: "n\n"}).run(t.Context(), t, "command", "run", "--all", "--unsafe", "--", "reboot"); got.code != 1 || len(fl.submitted) > 0 {
		t.Errorf("after a no: exit code %d, submitted %v", got.code, fl.submitted)
	}
}

func TestInterruptWhileAsking(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	_, err := readLine(ctx, bufio.NewReader(strings.NewReader("y\n")))
	if code := exitCode(ctx, err); err != nil && code != 130 {
		t.Errorf("exit code %d", code)
	}
}
