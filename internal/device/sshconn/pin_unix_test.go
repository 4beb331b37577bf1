//go:build unix && !solaris && !aix

package sshconn_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"capfleet/internal/device"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/fault"
)

func TestPinWaitsForAnotherProcess(t *testing.T) {
	// A lock belongs to an open file, so one of ours does as another process's.
	path := fileOf(t, "known_hosts", "")
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	pinned := make(chan error, 1)
	go func() {
		_, _, err := sshconn.PinHostKeys(t.Context(), path, []device.HostKey{hostKey("a", newKey(t).PublicKey())}, false)
		pinned <- err
	}()
	line := xknownhosts.Line([]string{"b"}, newKey(t).PublicKey()) + "\n"
	if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-pinned:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if err := <-pinned; err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(read(t, path), line) {
		t.Error("the other process's line was lost")
	}
}

// TestPinEndsWithItsContext: who asked has gone, and the lock is still somebody
// else's.
func TestPinEndsWithItsContext(t *testing.T) {
	path := fileOf(t, "known_hosts", "")
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = sshconn.PinHostKeys(ctx, path, []device.HostKey{hostKey("a", newKey(t).PublicKey())}, false)
	if !fault.Is(err, fault.Canceled) || read(t, path) != "" {
		t.Errorf("%v", err)
	}
}
