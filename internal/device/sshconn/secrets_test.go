package sshconn_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"capfleet/internal/device/sshconn"
	"capfleet/internal/fault"
	"capfleet/internal/secret"
)

func shellCommand(t testing.TB, args ...string) secret.Ref {
	t.Helper()
	c, err := secret.NewCommand(append([]string{"/bin/sh", "-c"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return secret.Ref{Command: c}
}

// A fleet that is dialled at once starts the program that has its password once.
func TestManyDialsRunACommandOnce(t *testing.T) {
	srv := newServer(t).start(t)
	d := newDialer(t, sshconn.Options{})
	dev := srv.device(t, "probe")
	dev.SSH.ConnectTimeout = time.Minute
	log := filepath.Join(t.TempDir(), "log")
	dev.Credentials.Password = shellCommand(t, `echo run >> "$0"; echo correct`, log)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			conn, err := d.Dial(t.Context(), dev)
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.Close()
		})
	}
	wg.Wait()
	raw, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(raw), "run\n"); n != 1 {
		t.Errorf("the command ran %d times", n)
	}
}

func TestPasswordCommandThatFails(t *testing.T) {
	srv := newServer(t).start(t)
	d := newDialer(t, sshconn.Options{})
	dev := srv.device(t, "probe")
	dev.Credentials.Password = shellCommand(t, "echo 'the vault is sealed' >&2; exit 2")
	_, err := d.Dial(t.Context(), dev)
	wantFault(t, err, fault.Invalid, "credentials", "credentials default: command /bin/sh failed: exit status 2: the vault is sealed")

	gate := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	go func() {
		defer close(started)
		_, _ = os.ReadFile(gate) // until the command has opened and closed it
	}()
	dev.Credentials.Password = shellCommand(t, `: > "$0"; sleep 600`, gate)
	ctx := cancelOn(t, started)
	soon(t, 5*time.Second, "leaving a command that does not end", func() { _, err = d.Dial(ctx, dev) })
	wantFault(t, err, fault.Canceled, "credentials")
	if srv.dialled() != 0 {
		t.Error("the server was dialled without a password")
	}
}
