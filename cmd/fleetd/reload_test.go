package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"capfleet/internal/api"
	"capfleet/internal/fault"
	"capfleet/internal/sim"
)

// A hangup puts a changed inventory into force and refuses a bad one, while a job
// that was made before goes on with the devices that it was resolved to.
func TestSIGHUP(t *testing.T) {
	t.Parallel()
	f := fleet(t, sim.Options{Devices: 3, TurnDelay: 60 * time.Millisecond})
	p := start(t, place(t), f.Inventory(), "--limit", "1")
	full, err := os.ReadFile(f.Inventory())
	if err != nil {
		t.Fatal(err)
	}
	second := bytes.Index(full, []byte("  - name: lon-probe-02"))
	if second < 0 {
		t.Fatalf("the simulator's inventory has another form:\n%s", full)
	}
	devices := func(want int) {
		t.Helper()
		v, err := p.client.Version(t.Context())
		if err != nil || v.Devices != want {
			t.Errorf("%d devices (%v), want %d", v.Devices, err, want)
		}
	}
	job := p.submit()

	p.inventory(f, full[:second])
	p.logged("inventory reloaded", `"added":0,"removed":2,"changed":0`)
	devices(1)
	if j, err := p.client.Job(t.Context(), job); err != nil || j.FinishedAt != nil {
		t.Errorf("the job was to outlast the change: %+v %v", j, err)
	}
	if _, err := p.client.Device(t.Context(), "lon-probe-02"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a removed device: %v", err)
	}

	p.inventory(f, append(bytes.Clone(full), "  - {name: extra, platfrom: linux, address: 127.0.0.1:1}\n"...))
	line := bytes.Count(full, []byte("\n")) + 1
	refused := p.logged("inventory refused", "platfrom")
	if at := f.Inventory() + ":" + strconv.Itoa(line) + ":"; !strings.Contains(refused, at) {
		t.Errorf("%s does not name %s", refused, at)
	}
	devices(1)

	if err := os.Remove(f.Inventory()); err != nil {
		t.Fatal(err)
	}
	p.hangup()
	p.logged("inventory refused", "does not exist")
	devices(1)

	p.inventory(f, full)
	p.logged("inventory reloaded", `"added":2`)
	devices(3)

	p.wait(job, nil)
	if j, err := p.client.Job(t.Context(), job); err != nil || j.State != "succeeded" || j.Counts["succeeded"] != 3 {
		t.Errorf("the job ended with %+v %v", j, err)
	}
	if code, _, _ := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("ended with %d", code)
	}
}

// inventory writes a new one and tells fleetd.
func (p *process) inventory(f *sim.Fleet, text []byte) {
	p.t.Helper()
	if err := os.WriteFile(f.Inventory(), text, 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.hangup()
}

func (p *process) hangup() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		p.t.Fatal(err)
	}
}

// Hangups by the hundred neither end it nor pile up.
func TestManyHangups(t *testing.T) {
	t.Parallel()
	f := fleet(t, sim.Options{Devices: 2})
	p := start(t, place(t), f.Inventory())
	for range 200 {
		p.hangup()
	}
	p.logged("inventory reloaded")
	if _, err := p.client.Devices(t.Context(), api.Selection{All: true}); err != nil {
		t.Error(err)
	}
	if code, _, _ := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("ended with %d", code)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(path, text string) string {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("good.yaml", "version: 1\ncredentials:\n  default: {username: fleet, agent: true}\ndevices:\n  - {name: a, platform: linux, address: 127.0.0.1:1}\n")
	bad := file("bad.yaml", "version: 1\ncredentials:\n  default: {username: fleet, agent: true}\ndevices:\n  - {name: a, platform: windows, address: 127.0.0.1:1}\n  - {name: a, platform: linux, address: 127.0.0.1:1}\n")
	badConfig := file("fleetd.yaml", "sate: /x\n")
	file("template/templates/linux/kernel.textfsm", "Value KERNEL (\\S+)\n\nStart\n  ^${KERNAL}\n")
	file("layout/templates/linux/reports.yaml", "version: 1\nreprots: {}\n")
	file("platform/platforms/linux.yaml", "platform: linux\nmoods: {}\n")
	odd := filepath.Dir(filepath.Dir(filepath.Dir(file("odd/templates/linux/kernel.textfsm", "Value Release (\\S+)\n\nStart\n  ^${Release} -> Record\n"))))
	state := filepath.Join(dir, "state")

	for name, tc := range map[string]struct {
		args []string
		code int
		says []string
	}{
		"good":         {[]string{"--inventory", good}, 0, []string{"devices: 1", "platforms: 3"}},
		"inventory":    {[]string{"--inventory", bad}, fault.ExitUsage, []string{"bad.yaml:5:", "windows", "bad.yaml:6:"}},
		"no inventory": {[]string{"--inventory", "/nowhere/i.yaml"}, fault.ExitUsage, []string{"/nowhere/i.yaml"}},
		"config":       {[]string{"--inventory", good, "--config", badConfig}, fault.ExitUsage, []string{"fleetd.yaml:1:", "sate"}},
		"template":     {[]string{"--inventory", good, "--overrides", filepath.Join(dir, "template")}, fault.ExitUsage, []string{"kernel", "KERNAL"}},
		"layout":       {[]string{"--inventory", good, "--overrides", filepath.Join(dir, "layout")}, fault.ExitUsage, []string{"reports.yaml", "reprots"}},
		"platform":     {[]string{"--inventory", good, "--overrides", filepath.Join(dir, "platform")}, fault.ExitUsage, []string{"linux.yaml", "moods"}},
		"two at once":  {[]string{"--inventory", bad, "--overrides", filepath.Join(dir, "layout")}, fault.ExitUsage, []string{"windows", "reprots"}},
		"a warning":    {[]string{"--inventory", good, "--overrides", odd}, 0, []string{"warning: ", "kernel"}},
	} {
		var out, errOut bytes.Buffer
		code := run(append([]string{"--check", "--state", state, "--socket", filepath.Join(dir, "s")}, tc.args...), &out, &errOut)
		if code != tc.code {
			t.Errorf("%s: exit code %d, want %d: %s", name, code, tc.code, &errOut)
		}
		for _, part := range tc.says {
			if !strings.Contains(out.String()+errOut.String(), part) {
				t.Errorf("%s: %q is not in %q %q", name, part, &out, &errOut)
			}
		}
	}
	if _, err := os.Stat(state); !os.IsNotExist(err) {
		t.Errorf("a check left something in the state directory: %v", err)
	}
}
