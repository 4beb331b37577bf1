package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capfleet/internal/childtest"
	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// grown makes a closed ledger of mostly free pages.
func grown(t *testing.T) (path string, size int64) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "ledger.db")
	db := open(t, path)
	for i := range 8 {
		if err := db.Update(t.Context(), func(tx *ledger.Tx) error {
			for k := range 100 {
				if err := tx.Put(ns, fmt.Appendf(nil, "%d/%03d", i, k), []byte(strings.Repeat("v", 2000))); err != nil {
					return err
				}
			}
			_, err := tx.Sequence(ns)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Update(t.Context(), func(tx *ledger.Tx) error {
		for i := 1; i < 8; i++ {
			for k := range 100 {
				if err := tx.Delete(ns, fmt.Appendf(nil, "%d/%03d", i, k)); err != nil {
					return err
				}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path, sizeOf(t, path)
}

func sizeOf(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// complete checks that a ledger of grown is all there.
func complete(t *testing.T, db *ledger.DB) {
	t.Helper()
	if err := db.View(func(tx *ledger.Tx) error {
		n := 0
		if err := tx.Scan(ns, nil, nil, func(k, v []byte) bool {
			if len(v) == 2000 && k[0] == '0' {
				n++
			}
			return true
		}); err != nil {
			return err
		}
		if n != 100 {
			return fmt.Errorf("%d of 100 keys are there", n)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if err := db.Update(t.Context(), func(tx *ledger.Tx) error {
		n, err := tx.Sequence(ns)
		if err == nil && n < 9 {
			err = fmt.Errorf("the sequence is at %d, want 9 or more", n)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

func TestCompacts(t *testing.T) {
	path, before := grown(t)
	db := open(t, path, ledger.WithCompactAbove(1<<20))
	after := sizeOf(t, path)
	t.Logf("%d KiB before, %d KiB after", before>>10, after>>10)
	if after > before/3 {
		t.Errorf("%d bytes before, %d after", before, after)
	}
	complete(t, db)
	if _, err := ledger.Open(path, ledger.Options{}); !fault.Is(err, fault.Conflict) {
		t.Errorf("the compacted file is not locked: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	complete(t, open(t, path))
}

func TestDoesNotCompact(t *testing.T) {
	full := func(string) (uint64, bool, error) { return 1 << 10, true, nil }
	for name, opts := range map[string][]func(*ledger.Options){
		"little to gain": nil,
		"no room":        {ledger.WithCompactAbove(1 << 20), ledger.WithFree(full)},
	} {
		path, before := grown(t)
		db := open(t, path, opts...)
		if after := sizeOf(t, path); after != before {
			t.Errorf("%s: %d bytes before, %d after", name, before, after)
		}
		complete(t, db)
	}
}

// compactUntilKilled is the child of TestKilledWhileCompacting.
func compactUntilKilled(arg string) error {
	path, point, _ := strings.Cut(arg, "|")
	opts := ledger.Options{Namespaces: []ledger.Namespace{ns}}
	ledger.WithCompactAbove(1 << 20)(&opts)
	ledger.At(func(at string) {
		if at == point {
			if self, err := os.FindProcess(os.Getpid()); err == nil {
				_ = self.Kill()
			}
			select {}
		}
	})(&opts)
	db, err := ledger.Open(path, opts)
	if err != nil {
		return err
	}
	b := ledger.Backups{Dir: filepath.Dir(path), Keep: 1}
	if _, err := b.Make(context.Background(), db, at(1)); err != nil {
		return err
	}
	return errors.New("it was not killed")
}

// A process is killed at each point of a compaction and of a backup. The next one
// finds everything, and nothing half-made stays.
func TestKilledWhileCompacting(t *testing.T) {
	for _, point := range []string{"compact written", "compact verified", "compact named", "backup written", "backup named"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			path, before := grown(t)
			child := childtest.Command(t, "compact", path+"|"+point)
			if out, err := child.CombinedOutput(); child.ProcessState.ExitCode() != -1 {
				t.Fatalf("%v\n%s", err, out)
			}
			if _, err := ledger.Inspect(t.Context(), path); err != nil {
				t.Errorf("what it left: %v", err)
			}
			db := open(t, path, ledger.WithCompactAbove(1<<20))
			if after := sizeOf(t, path); after > before/3 {
				t.Errorf("it was not compacted in the end: %d of %d bytes", after, before)
			}
			complete(t, db)
			if _, err := (ledger.Backups{Dir: filepath.Dir(path), Keep: 1}).Make(t.Context(), db, at(2)); err != nil {
				t.Error(err)
			}
			entries, err := os.ReadDir(filepath.Dir(path))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if e.Name() != "ledger.db" && e.Name() != "ledger-20260301T120200Z.db" {
					t.Errorf("%s was left", e.Name())
				}
			}
		})
	}
}

// Who waits for the ledger while it is compacted must not get the old file, whose
// lock is let go of: what it wrote there would be lost.
func TestOpenDuringCompaction(t *testing.T) {
	path, _ := grown(t)
	begun, other := make(chan struct{}), make(chan error, 1)
	go func() {
		<-begun
		db, err := ledger.Open(path, ledger.Options{Namespaces: []ledger.Namespace{ns}, LockTimeout: 2 * time.Second})
		if err == nil {
			err = errors.Join(errors.New("it was opened"), db.Close())
		}
		other <- err
	}()
	db := open(t, path, ledger.WithCompactAbove(1<<20), ledger.At(func(point string) {
		switch point {
		case "compact written":
			close(begun)
		case "compact named":
			<-time.After(200 * time.Millisecond) // the other one is waiting by now
		}
	}))
	if err := <-other; !fault.Is(err, fault.Conflict) {
		t.Errorf("%v", err)
	}
	complete(t, db)
}

// What is deleted is used again: the file of a ledger whose content comes and goes
// stays within a small multiple of what it holds.
func TestFileIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	db := open(t, path)
	const held = 20
	var early, late int64
	for cycle := range 150 {
		if err := db.Update(t.Context(), func(tx *ledger.Tx) error {
			for k := range 50 {
				if err := tx.Put(ns, fmt.Appendf(nil, "%06d/%03d", cycle, k), []byte(strings.Repeat("v", 6000+cycle*37%1500))); err != nil {
					return err
				}
				if err := tx.Delete(ns, fmt.Appendf(nil, "%06d/%03d", cycle-held, k)); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		switch cycle {
		case 60:
			early = sizeOf(t, path)
		case 149:
			late = sizeOf(t, path)
		}
	}
	t.Logf("%d KiB after 60 cycles, %d KiB after 150", early>>10, late>>10)
	if late > early*3/2 {
		t.Errorf("the file grows: %d bytes after 60 cycles, %d after 150", early, late)
	}
}
