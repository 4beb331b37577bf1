package ledger_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	bolt "go.etcd.io/bbolt"

	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// filled makes a closed ledger of some dozen pages and gives its content.
func filled(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger.db")
	db := open(t, path)
	for i := range 10 {
		if err := db.Update(t.Context(), func(tx *ledger.Tx) error {
			for k := range 20 {
				if err := tx.Put(ns, fmt.Appendf(nil, "%04d", i*20+k), []byte(strings.Repeat("v", 300))); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// used is how many bytes of a ledger are pages; the file may be longer.
func used(t *testing.T, data []byte) (size int64) {
	t.Helper()
	db, err := bolt.Open(write(t, data), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.View(func(tx *bolt.Tx) error {
		size = tx.Size()
		return nil
	}), db.Close()); err != nil {
		t.Fatal(err)
	}
	return size
}

func TestRefusesWhatIsNoLedger(t *testing.T) {
	good := filled(t)
	garbage := make([]byte, 64<<10)
	for i := range garbage {
		garbage[i] = byte(rand.Uint32())
	}
	foreign := filepath.Join(t.TempDir(), "foreign.db")
	other, err := bolt.Open(foreign, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(other.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucket([]byte("theirs"))
		return err
	}), other.Close()); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		path string
		want string
	}{
		"empty":               {write(t, nil), "empty"},
		"one byte":            {write(t, []byte{1}), "damaged"},
		"text":                {write(t, []byte(strings.Repeat("this is not a database\n", 1000))), "damaged"},
		"garbage":             {write(t, garbage), "damaged"},
		"zeroes":              {write(t, make([]byte, 64<<10)), "damaged"},
		"cut to its head":     {write(t, good[:8<<10]), "damaged"},
		"without its end":     {write(t, good[:used(t, good)-1]), "damaged"},
		"another's bbolt":     {foreign, "not a ledger"},
		"a directory":         {t.TempDir(), "not a regular file"},
		"no such directory":   {filepath.Join(t.TempDir(), "none", "ledger.db"), "no such file"},
		"both heads are gone": {write(t, append(make([]byte, 8<<10), good[8<<10:]...)), "damaged"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			before, _ := os.ReadFile(tc.path)
			db, err := ledger.Open(tc.path, ledger.Options{Namespaces: []ledger.Namespace{ns}})
			if err == nil {
				_ = db.Close()
				t.Fatal("it was opened")
			}
			if !fault.Is(err, fault.Storage) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), tc.path) {
				t.Errorf("%v\nwant a storage fault that says %q and names the file", err, tc.want)
			}
			after, _ := os.ReadFile(tc.path)
			if string(before) != string(after) {
				t.Error("the file was changed")
			}
		})
	}
}

// TestDamagedPages spoils each page in turn, with zeroes or with garbage.
// Whatever is asked of the file then, the answer is right or a storage fault.
func TestDamagedPages(t *testing.T) {
	good := filled(t)
	size := os.Getpagesize()
	random := rand.New(rand.NewPCG(1, 2))
	pages := int(used(t, good)) / size
	var (
		wg    sync.WaitGroup
		found atomic.Int64
	)
	for page := range pages {
		bad := slices.Clone(good)
		for i := range bad[page*size : (page+1)*size] {
			bad[page*size+i] = byte(random.Uint32()) * byte(page%2)
		}
		path := write(t, bad)
		wg.Go(func() {
			if useDamaged(t, path) {
				found.Add(1)
			}
		})
	}
	wg.Wait()
	t.Logf("%d of %d damages were noticed", found.Load(), pages) // the rest is free space or the other head
	if found.Load() < int64(pages)/2 {
		t.Error("the test does not reach the pages")
	}
}

// useDamaged opens, reads and writes, and reports whether damage was noticed.
func useDamaged(t *testing.T, path string) (noticed bool) {
	t.Helper()
	check := func(act string, err error) {
		if err == nil {
			return
		}
		noticed = true
		if !fault.Is(err, fault.Storage) {
			t.Errorf("%s: %v", act, err)
		}
	}
	db, err := ledger.Open(path, ledger.Options{Namespaces: []ledger.Namespace{ns}})
	if err != nil {
		check("open", err)
		return true
	}
	check("scan", db.View(func(tx *ledger.Tx) error {
		return tx.Scan(ns, nil, nil, func(_, v []byte) bool {
			return len(v) >= 0
		})
	}))
	check("scan back", db.View(func(tx *ledger.Tx) error {
		return tx.ScanReverse(ns, nil, nil, func(_, v []byte) bool { return len(v) >= 0 })
	}))
	check("write", db.Update(t.Context(), func(tx *ledger.Tx) error {
		return errors.Join(tx.Put(ns, []byte("0040"), []byte("new")), tx.Delete(ns, []byte("0100")))
	}))
	check("write elsewhere", db.Update(t.Context(), set("9999", "new")))
	check("close", db.Close())
	return noticed
}

// TestShortenedWhileOpen takes the file away under the ledger's feet.
func TestShortenedWhileOpen(t *testing.T) {
	path := write(t, filled(t))
	db := open(t, path)
	if err := os.Truncate(path, 16<<10); err != nil {
		t.Fatal(err)
	}
	err := db.View(func(tx *ledger.Tx) error {
		return tx.Scan(ns, nil, nil, func(_, v []byte) bool { return string(v) != "" })
	})
	if !fault.Is(err, fault.Storage) {
		t.Errorf("got %v", err)
	}
}
