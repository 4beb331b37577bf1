package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"capfleet/internal/childtest"
	"capfleet/internal/device/sshconn/sshdtest"
	"capfleet/internal/fault"
)

// remote is fleetd on a host behind a real sshd, where the real fleetctl is
// installed, and the environment of a person who has it in their ssh
// configuration as "hub".
type remote struct {
	sshd *sshdtest.Server
	env  []string
}

func newRemote(t *testing.T, config ...string) *remote {
	t.Helper()
	fleetctl, err := exec.LookPath("fleetctl")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r := &remote{sshd: sshdtest.Start(t, sshdtest.Options{Config: append(config, "SetEnv PATH="+filepath.Dir(fleetctl)+":/usr/bin:/bin")})}
	settings := fmt.Sprintf("Host hub\n  HostName %s\n  Port %d\n  User %s\n  IdentityFile %s\n  IdentitiesOnly yes\n  UserKnownHostsFile %s\n  StrictHostKeyChecking yes\n",
		r.sshd.Host, r.sshd.Port, r.sshd.User, r.sshd.ClientKey, r.sshd.KnownHosts)
	// ssh takes the home from the user database, not from HOME; so it is told.
	for name, text := range map[string]string{
		"config": settings,
		"ssh":    "#!/bin/sh\nexec /usr/bin/ssh -F '" + filepath.Join(dir, "config") + "' \"$@\"\n",
	} {
		childtest.Executable(t, filepath.Join(dir, name), strings.NewReader(text))
	}
	r.env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "FLEET_SERVER=", "FLEET_CONTEXT=", "NO_COLOR=1", "XDG_CONFIG_HOME="+dir)
	return r
}

// fleetctl runs a command line and gives what it printed.
func (r *remote) fleetctl(t *testing.T, args ...string) (code int, out, said string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "fleetctl", args...)
	cmd.Env = r.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

func TestServerThroughSSH(t *testing.T) {
	t.Parallel()
	env := startDemo(t, 4)
	r := newRemote(t)
	hub := "ssh://hub" + env.Socket()

	code, out, said := r.fleetctl(t, "--server", hub, "report", "filesystem", "--all", "-o", "csv")
	if code != 0 || strings.Count(out, "\n") < 5 || !strings.HasPrefix(out, "Device,") {
		t.Errorf("report: %d %q %s", code, out, said)
	}
	here := *r
	here.env = append(here.env, "FLEET_SERVER="+env.Socket())
	if _, local, said := here.fleetctl(t, "job", "list", "-o", "json"); local == "" {
		t.Error(said)
	} else if _, far, _ := r.fleetctl(t, "--server", hub, "job", "list", "-o", "json"); far != local {
		t.Errorf("through SSH:\n%s\nhere:\n%s", far, local)
	}
	// Errors of the fleetd there keep their kind.
	if code, _, said := r.fleetctl(t, "--server", hub, "job", "show", "99"); code != fault.ExitUsage || !strings.Contains(said, "99") {
		t.Errorf("a job that is not there: %d %s", code, said)
	}
	code, _, said = r.fleetctl(t, "--server", "ssh://hub/nowhere/s", "job", "list")
	if code != fault.ExitUnavailable || !strings.Contains(said, "on hub: ") || !strings.Contains(said, "/nowhere/s") {
		t.Errorf("no socket: %d %s", code, said)
	}
	code, _, said = r.fleetctl(t, "--server", "ssh://nobody@hub"+env.Socket(), "job", "list")
	if code != fault.ExitUnavailable || !strings.Contains(said, "Permission denied") {
		t.Errorf("somebody else: %d %s", code, said)
	}
	if n := r.sshd.Peak(); n > 3 {
		t.Errorf("%d connections at once", n)
	}
}

// A key can be bound to reaching fleetd.
func TestForcedCommand(t *testing.T) {
	t.Parallel()
	env := startDemo(t, 2)
	r := newRemote(t, "ForceCommand fleetctl proxy --server "+env.Socket(), "DisableForwarding yes")
	code, out, said := r.fleetctl(t, "--server", "ssh://hub", "device", "list", "-o", "json")
	if code != 0 || !strings.Contains(out, "lon-probe-01") {
		t.Errorf("%d %q %s", code, out, said)
	}
}
