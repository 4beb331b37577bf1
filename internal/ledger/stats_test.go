package ledger_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capfleet/internal/ledger"
)

func TestStats(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	db := open(t, path)
	stats := func() ledger.Stats {
		t.Helper()
		s, err := db.Stats()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := stats()
	if err := db.Update(t.Context(), set("a", strings.Repeat("x", 1<<20))); err != nil {
		t.Fatal(err)
	}
	after := stats()
	if info, err := os.Stat(path); err != nil || after.Bytes < 1<<20 || after.Bytes > info.Size() {
		t.Errorf("%d bytes, the file has %d (%v)", after.Bytes, info.Size(), err)
	}
	if after.Commits != before.Commits+1 || after.WriteTime <= before.WriteTime || !after.Writable || after.Readers != 0 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if err := db.Update(t.Context(), set("a", "")); err != nil {
		t.Fatal(err)
	}
	if err := db.Update(t.Context(), set("b", "")); err != nil { // the pages are free once no snapshot needs them
		t.Fatal(err)
	}
	if s := stats(); s.FreeBytes < 1<<20 {
		t.Errorf("%d bytes are free after a MiB went", s.FreeBytes)
	}
	_ = db.View(func(*ledger.Tx) error {
		if s := stats(); s.Readers != 1 {
			t.Errorf("%d readers", s.Readers)
		}
		return nil
	})
}
