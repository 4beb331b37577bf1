package main

import (
	"io"
	"os"
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
	for key, want := range map[string]string{"Type": "notify", "ExecReload": "/bin/kill -HUP $MAINPID", "StateDirectory": "fleetd", "RuntimeDirectory": "fleetd", "Group": started.SocketGroup} {
		if settings[key] != want {
			t.Errorf("%s=%s, want %s", key, settings[key], want)
		}
	}
}
