package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"capfleet/internal/demo"
)

// TestMain lets the scripts run the real main of this package as a command.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"fleetctl": main})
}

// TestScripts runs what operators type, each script against a fleetd with a
// simulated fleet of its own, started here: real sockets, real SSH, a process for
// each command.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:  filepath.Join("testdata", "script"),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		Setup: func(e *testscript.Env) error {
			// Not in the script's own directory: the path of a Unix socket must be short.
			dir, err := os.MkdirTemp("", "fleetctl-") //nolint:usetesting // see above
			if err != nil {
				return err
			}
			env, err := demo.Start(context.Background(), demo.Options{Dir: dir, Devices: 8})
			if err != nil {
				return errors.Join(err, os.RemoveAll(dir))
			}
			e.Defer(func() {
				if err := errors.Join(env.Close(), os.RemoveAll(dir)); err != nil {
					e.T().Log(err)
					e.T().FailNow()
				}
			})
			e.Setenv("FLEET_SERVER", env.Socket())
			e.Setenv("FLEET_DIR", dir)
			// Captures of the packages' own tests.
			captures, err := filepath.Abs(filepath.Join("..", "..", "internal", "pcap"))
			if err != nil {
				return err
			}
			e.Setenv("PCAP", captures)
			e.Setenv("NO_COLOR", "1")
			// A process built with the race detector waits a second before it ends, for
			// reports of others; each command here is a process.
			e.Setenv("GORACE", "atexit_sleep_ms=0")
			return nil
		},
	})
}

// startDemo starts a fleetd with a simulated fleet in this process. It ends with
// the test, after its parallel parts.
func startDemo(t *testing.T, devices int, faults ...string) *demo.Env {
	t.Helper()
	env, err := demo.Start(context.Background(), demo.Options{Dir: shortDir(t), Devices: devices, Faults: faults})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.Close(); err != nil {
			t.Error(err)
		}
	})
	return env
}

// shortDir is t.TempDir with a name short enough for Unix sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fleetctl-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// exits is the script command "exits CODE PROGRAM ARGUMENT...": the program must
// end with exactly that code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGUMENT...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%v ended with %d, want %d\nstdout:\n%s\nstderr:\n%s", args[1:], got, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}
