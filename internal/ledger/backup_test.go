package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

func at(minute int) time.Time { return time.Date(2026, 3, 1, 12, minute, 0, 0, time.UTC) }

// A backup is of one moment, whatever is written meanwhile: both halves of each
// change are in it or neither.
func TestBackupWhileWriting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	db := open(t, path)
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := db.Update(context.Background(), func(tx *ledger.Tx) error {
					v := fmt.Append(nil, i, strings.Repeat("x", i%3000))
					return errors.Join(tx.Put(ns, fmt.Appendf(nil, "a%d", w), v), tx.Put(ns, fmt.Appendf(nil, "b%d", w), v))
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	b := ledger.Backups{Dir: filepath.Join(t.TempDir(), "backups"), Keep: 3}
	for i := range 6 {
		if _, err := b.Make(t.Context(), db, at(i)); err != nil {
			t.Error(err)
		}
	}
	stop()
	writers.Wait()
	entries, err := os.ReadDir(b.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		copied := open(t, filepath.Join(b.Dir, e.Name()))
		for w := range 4 {
			if x, y := read(t, copied, fmt.Sprint("a", w)), read(t, copied, fmt.Sprint("b", w)); x != y {
				t.Errorf("%s has half a change: %.20q and %.20q", e.Name(), x, y)
			}
		}
	}
	want := []string{"ledger-20260301T120300Z.db", "ledger-20260301T120400Z.db", "ledger-20260301T120500Z.db"}
	if !slices.Equal(names, want) {
		t.Errorf("kept %v, want the newest three: %v", names, want)
	}
	if last, err := b.Last(); err != nil || !last.Equal(at(5)) {
		t.Errorf("the newest is of %v, %v", last, err)
	}
}

// Each page of a copy is spoilt in turn. Where the check finds nothing, nothing
// can be read wrongly either.
func TestInspectFindsDamage(t *testing.T) {
	good := filled(t)
	if _, err := ledger.Inspect(t.Context(), write(t, good)); err != nil {
		t.Fatal(err)
	}
	size := os.Getpagesize()
	pages, found := int(used(t, good))/size, 0
	for page := range pages {
		bad := slices.Clone(good)
		for i := range bad[page*size : (page+1)*size] {
			bad[page*size+i] = 0xa5 * byte(page%2)
		}
		switch _, err := ledger.Inspect(t.Context(), write(t, bad)); {
		case err == nil:
		case fault.Is(err, fault.Storage):
			found++
		default:
			t.Errorf("page %d: %v", page, err)
		}
	}
	t.Logf("%d of %d damages found; the others are free pages or the older head", found, pages)
	if found < pages/2 {
		t.Error("the check does not reach the pages")
	}
}

// A ledger that cannot be used is refused with the command that helps, and the
// command does.
func TestRefusalNamesTheNewestSoundBackup(t *testing.T) {
	state := filepath.Join(t.TempDir(), "my state")
	b := ledger.Backups{Dir: filepath.Join(state, "backups"), Keep: 9}
	if err := os.MkdirAll(b.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(state, "ledger.db")
	opts := ledger.Options{Namespaces: []ledger.Namespace{ns}, Backups: b.Dir}
	db := open(t, path, func(o *ledger.Options) { o.Backups = b.Dir })
	var made []string
	for i := range 3 {
		if err := db.Update(t.Context(), set("k", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		name, err := b.Make(t.Context(), db, at(i))
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, name)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, made[2]} { // the newest copy is no good either
		if err := os.Truncate(name, 5000); err != nil {
			t.Fatal(err)
		}
	}
	_, err := ledger.Open(path, opts)
	want := fmt.Sprintf("fleetd --state '%s' --restore '%s' goes back to the newest sound backup, of 2026-03-01T12:01:00Z", state, made[1])
	if !fault.Is(err, fault.Storage) || !strings.Contains(err.Error(), "damaged") || !strings.Contains(err.Error(), want) {
		t.Fatalf("refused with %v\nwant %s", err, want)
	}

	if _, err := ledger.Restore(t.Context(), path, made[2], opts, at(9)); !fault.Is(err, fault.Storage) {
		t.Errorf("a damaged backup was restored: %v", err)
	}
	if _, err := ledger.Restore(t.Context(), path, path, opts, at(9)); !fault.Is(err, fault.Invalid) {
		t.Errorf("the ledger was restored from itself: %v", err)
	}
	replaced, err := ledger.Restore(t.Context(), path, made[1], opts, at(9))
	if err != nil || replaced != path+".replaced-20260301T120900Z" {
		t.Fatalf("%q, %v", replaced, err)
	}
	if info, err := os.Stat(replaced); err != nil || info.Size() != 5000 {
		t.Errorf("the damaged ledger was not kept: %v", err)
	}
	again, err := ledger.Restore(t.Context(), path, made[1], opts, at(9)) // within the same second
	if err != nil || again != replaced+"-2" {
		t.Fatalf("%q, %v", again, err)
	}
	if got := read(t, open(t, path), "k"); got != "1" {
		t.Errorf("restored %q", got)
	}
	for _, name := range made[:2] {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRefusalWithoutBackup(t *testing.T) {
	dir := t.TempDir()
	_, err := ledger.Open(write(t, []byte("no ledger")), ledger.Options{Backups: dir})
	if err == nil || !strings.Contains(err.Error(), "there is no sound backup in "+dir) {
		t.Errorf("%v", err)
	}
}

// Of a ledger of a newer fleetd, the copy from before its change is named.
func TestDowngrade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	db := open(t, path)
	if err := errors.Join(db.Update(t.Context(), set("k", "old")), db.Close()); err != nil {
		t.Fatal(err)
	}
	next := migrations(ledger.Migration{To: 2, Name: "next", Apply: appendTo("k", "+new")})
	if err := open(t, path, next).Close(); err != nil {
		t.Fatal(err)
	}
	opts := ledger.Options{Namespaces: []ledger.Namespace{ns}}
	if _, err := ledger.Open(path, opts); err == nil || !strings.Contains(err.Error(), "--restore "+path+".schema-1") {
		t.Errorf("%v", err)
	}
	copied := filepath.Join(t.TempDir(), "ledger-20260301T120000Z.db")
	data, err := os.ReadFile(path)
	if err := errors.Join(err, os.WriteFile(copied, data, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Restore(t.Context(), path, copied, opts, at(0)); err == nil || !strings.Contains(err.Error(), "schema 2") {
		t.Errorf("a newer backup was restored: %v", err)
	}
	if _, err := ledger.Restore(t.Context(), path, path+".schema-1", opts, at(0)); err != nil {
		t.Fatal(err)
	}
	if got := read(t, open(t, path), "k"); got != "old" {
		t.Errorf("k is %q", got)
	}
}

// A backup that fails for any reason leaves the earlier ones alone.
func TestFailedBackup(t *testing.T) {
	path := write(t, filled(t))
	free := uint64(1 << 40)
	db := open(t, path, ledger.WithFree(func(string) (uint64, bool, error) { return free, true, nil }))
	b := ledger.Backups{Dir: t.TempDir(), Keep: 1}
	first, err := b.Make(t.Context(), db, at(0))
	if err != nil {
		t.Fatal(err)
	}
	failed := func(why string) {
		t.Helper()
		entries, err := os.ReadDir(b.Dir)
		if err != nil || len(entries) != 1 || entries[0].Name() != filepath.Base(first) {
			t.Errorf("%s: the directory has %v, %v", why, entries, err)
		}
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Make(canceled, db, at(1)); !fault.Is(err, fault.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	failed("canceled")
	free = 4 << 10
	if _, err := b.Make(t.Context(), db, at(2)); !fault.Is(err, fault.Storage) || !strings.Contains(err.Error(), "free some space") {
		t.Errorf("no room: %v", err)
	}
	failed("no room")
	free = 1 << 40
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	size := os.Getpagesize()
	for page := 4; page < 20; page++ {
		clear(data[page*size : (page+1)*size])
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(data[4*size:20*size], int64(4*size))
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Make(t.Context(), db, at(3)); !fault.Is(err, fault.Storage) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged ledger: %v", err)
	}
	failed("damaged")
}

func TestRoom(t *testing.T) {
	free := uint64(1 << 30)
	db := open(t, filepath.Join(t.TempDir(), "ledger.db"), func(o *ledger.Options) { o.Reserve = 64 << 20 },
		ledger.WithFree(func(string) (uint64, bool, error) { return free, true, nil }))
	if err := db.Room(); err != nil {
		t.Error(err)
	}
	free = 63 << 20
	if err := db.Room(); !fault.Is(err, fault.Storage) || !strings.Contains(err.Error(), "63 MiB free, and 64 MiB are wanted") {
		t.Errorf("%v", err)
	}
	if err := db.Update(t.Context(), set("k", "the reserve is for this")); err != nil {
		t.Error(err)
	}
	free = 64 << 20
	if err := db.Room(); err != nil {
		t.Error("it does not end by itself:", err)
	}
	real := open(t, filepath.Join(t.TempDir(), "ledger.db"), func(o *ledger.Options) { o.Reserve = 1 << 62 })
	if err := real.Room(); !fault.Is(err, fault.Storage) {
		t.Errorf("the file system's own figure: %v", err)
	}
}
