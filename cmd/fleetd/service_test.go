package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"capfleet/internal/config"
)

// What systemd leaves in the environment is used and is not handed on.
func TestServiceManager(t *testing.T) {
	for name, tc := range map[string]struct {
		env      map[string]string
		socket   string
		watchdog time.Duration
	}{
		"none":           {map[string]string{}, "", 0},
		"ready only":     {map[string]string{"NOTIFY_SOCKET": "/run/n"}, "/run/n", 0},
		"watchdog":       {map[string]string{"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "60000000"}, "@n", time.Minute},
		"our watchdog":   {map[string]string{"WATCHDOG_USEC": "1000", "WATCHDOG_PID": strconv.Itoa(os.Getpid())}, "", time.Millisecond},
		"not ours":       {map[string]string{"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}, "", 0},
		"not a number":   {map[string]string{"WATCHDOG_USEC": "soon"}, "", 0},
		"not that often": {map[string]string{"WATCHDOG_USEC": "-5"}, "", 0},
	} {
		for _, key := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
			t.Setenv(key, tc.env[key])
		}
		if got := serviceManager(); got.Socket != tc.socket || got.Watchdog != tc.watchdog {
			t.Errorf("%s: %+v", name, got)
		}
		for key := range tc.env {
			if value, set := os.LookupEnv(key); set {
				t.Errorf("%s: %s=%s is left for other programs", name, key, value)
			}
		}
	}
}

// The unit starts a fleetd of this version: its flags exist, and the places are
// those where root's fleetctl looks.
func TestUnit(t *testing.T) {
	t.Parallel()
	unit, err := os.ReadFile("../../packaging/fleetd.service")
	if err != nil {
		t.Fatal(err)
	}
	settings, env := map[string]string{}, map[string]string{}
	for line := range strings.Lines(string(unit)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		settings[key] = value
		if key == "Environment" {
			for _, assignment := range strings.Fields(value) {
				name, v, _ := strings.Cut(assignment, "=")
				env[name] = v
			}
		}
	}
	program, args, _ := strings.Cut(settings["ExecStart"], " ")
	if _, err := parse(strings.Fields(args), io.Discard); err != nil || program != "/usr/bin/fleetd" {
		t.Fatalf("%s: %v", settings["ExecStart"], err)
	}
	in := func(uid int, env map[string]string) config.System {
		return config.System{OS: "linux", UID: uid, Home: "/var/lib/fleetd", Getenv: func(k string) string { return env[k] }}
	}
	started, err := config.Load(config.Request{System: in(999, env)})
	if err != nil {
		t.Fatal(err)
	}
	paths, err := in(0, nil).Paths()
	if err != nil {
		t.Fatal(err)
	}
	got := config.Paths{Config: paths.Config, Inventory: started.Inventory, Overrides: started.Overrides, State: started.State, Socket: started.Socket}
	if got != paths {
		t.Errorf("the unit has %+v, root's places are %+v", got, paths)
	}
	for key, want := range map[string]string{"Type": "notify", "ExecReload": "/bin/kill -HUP $MAINPID", "StateDirectory": "fleetd", "RuntimeDirectory": "fleetd", "Group": started.SocketGroup,
		// What comes last adds to the filter: without it the socket cannot be given away.
		"SystemCallFilter": "@chown"} {
		if settings[key] != want {
			t.Errorf("%s=%s, want %s", key, settings[key], want)
		}
	}
}

// TestUnitForSystemd has systemd itself read the unit: it knows every setting, and
// finds that the service is locked in.
func TestUnitForSystemd(t *testing.T) {
	t.Parallel()
	unit, err := os.ReadFile("../../packaging/fleetd.service")
	if err != nil {
		t.Fatal(err)
	}
	// The program need not be installed where the tests run.
	path := filepath.Join(t.TempDir(), "fleetd.service")
	text := strings.Replace(string(unit), "ExecStart=/usr/bin/fleetd\n", "ExecStart=/bin/true\n", 1)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// It looks at the units of the host as well, which are no concern of ours.
	said, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", path).CombinedOutput()
	if lines := string(said); strings.Contains(lines, "fleetd.service") || err != nil && strings.TrimSpace(lines) == "" {
		t.Errorf("%v: %s", err, lines)
	}
	if said, err := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=20", path).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, said)
	}
}
