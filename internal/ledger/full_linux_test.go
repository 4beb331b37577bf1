package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"capfleet/internal/childtest"
	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// writeUntilFull is the child of TestDiskFull. A limit on the size of its files
// stands for the full disk, since it needs no file system of its own.
func writeUntilFull(path string) error {
	signal.Ignore(syscall.SIGXFSZ)
	db, err := ledger.Open(path, ledger.Options{Namespaces: []ledger.Namespace{ns}})
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := db.Update(ctx, set("before", "1")); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	var unlimited syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &unlimited); err != nil {
		return err
	}
	limited := unlimited
	limited.Cur = uint64(info.Size())
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limited); err != nil {
		return err
	}
	big := set("big", strings.Repeat("x", 4<<20))
	for range 3 {
		if err := db.Update(ctx, big); !fault.Is(err, fault.Storage) || !strings.Contains(err.Error(), "free some space") {
			return fmt.Errorf("with no space left: %v", err)
		}
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &unlimited); err != nil {
		return err
	}
	return errors.Join(db.Update(ctx, big), db.Update(ctx, set("after", "1")), db.Close())
}

func TestDiskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	child := childtest.Command(t, "full", path)
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	db := open(t, path)
	for key, want := range map[string]int{"before": 1, "big": 4 << 20, "after": 1} {
		if got := len(read(t, db, key)); got != want {
			t.Errorf("%s has %d bytes, want %d", key, got, want)
		}
	}
}
