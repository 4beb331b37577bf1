package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

const ns ledger.Namespace = "things"

func open(t *testing.T, path string, opts ...func(*ledger.Options)) *ledger.DB {
	t.Helper()
	o := ledger.Options{Namespaces: []ledger.Namespace{ns}}
	for _, opt := range opts {
		opt(&o)
	}
	db, err := ledger.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func newLedger(t *testing.T) *ledger.DB { return open(t, filepath.Join(t.TempDir(), "ledger.db")) }

func set(key, value string) func(*ledger.Tx) error {
	return func(tx *ledger.Tx) error { return tx.Put(ns, []byte(key), []byte(value)) }
}

func read(t *testing.T, db *ledger.DB, key string) string {
	t.Helper()
	value := "(absent)"
	if err := db.View(func(tx *ledger.Tx) error {
		if v := tx.Get(ns, []byte(key)); v != nil {
			value = string(v)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return value
}

func TestKeepsAcrossOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	db := open(t, path)
	if err := db.Update(t.Context(), set("a", "1")); err != nil {
		t.Fatal(err)
	}
	if err := db.Update(t.Context(), set("empty", "")); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, path)
	if got := read(t, db, "a"); got != "1" {
		t.Errorf("a is %q", got)
	}
	if got := read(t, db, "empty"); got != "" {
		t.Errorf("empty is %q", got)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("files left beside the ledger: %v %v", entries, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
}

// hold blocks the writer inside an Update until release is called, so that what
// is queued meanwhile shares the next commit.
func hold(t *testing.T, db *ledger.DB) (release func()) {
	t.Helper()
	inside, leave := make(chan struct{}), make(chan struct{})
	done := make(chan error)
	go func() {
		done <- db.Update(context.Background(), func(*ledger.Tx) error {
			close(inside)
			<-leave
			return nil
		})
	}()
	<-inside
	return func() {
		close(leave)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestFailureTouchesNobodyElse(t *testing.T) {
	db := newLedger(t)
	if err := db.Update(t.Context(), func(tx *ledger.Tx) error {
		return errors.Join(tx.Put(ns, []byte("kept"), []byte("old")), tx.Put(ns, []byte("gone"), []byte("x")))
	}); err != nil {
		t.Fatal(err)
	}
	sentinel := errors.New("no")
	spoil := func(tx *ledger.Tx) error {
		n, err := tx.Sequence(ns)
		return errors.Join(err,
			tx.Put(ns, []byte("kept"), []byte("new")), tx.Put(ns, []byte("kept"), []byte("newer")),
			tx.Delete(ns, []byte("gone")), tx.Put(ns, []byte("gone"), []byte("back")),
			tx.Put(ns, []byte("fresh"), fmt.Append(nil, n)), sentinel)
	}

	release := hold(t, db)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := db.Update(context.Background(), set(fmt.Sprint("good", i), "1")); err != nil {
				t.Errorf("a neighbour failed: %v", err)
			}
		})
		wg.Go(func() {
			if err := db.Update(context.Background(), spoil); !errors.Is(err, sentinel) {
				t.Errorf("the failing one got %v", err)
			}
		})
		wg.Go(func() {
			err := db.Update(context.Background(), func(tx *ledger.Tx) error {
				_ = spoil(tx)
				var none []int
				_ = none[len(none)]
				return nil
			})
			if !fault.Is(err, fault.Internal) {
				t.Errorf("the panicking one got %v", err)
			}
		})
	}
	release()
	wg.Wait()

	for key, want := range map[string]string{"kept": "old", "gone": "x", "fresh": "(absent)", "good7": "1"} {
		if got := read(t, db, key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if err := db.Update(t.Context(), func(tx *ledger.Tx) error {
		if n, err := tx.Sequence(ns); n != 1 || err != nil {
			t.Errorf("sequence %d %v, want 1: the failed ones' numbers come back", n, err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestErrorOfACallDecidesTheTransaction(t *testing.T) {
	db := newLedger(t)
	tests := map[string]func(*ledger.Tx) error{
		"undeclared namespace": func(tx *ledger.Tx) error {
			tx.Get("nobody", []byte("x"))
			return tx.Put(ns, []byte("a"), nil)
		},
		"empty key": func(tx *ledger.Tx) error {
			_ = tx.Put(ns, nil, nil)
			return nil
		},
		"key too long": func(tx *ledger.Tx) error { return tx.Put(ns, make([]byte, 40000), nil) },
		"write in a scan": func(tx *ledger.Tx) error {
			_ = tx.Put(ns, []byte("a"), nil)
			return tx.Scan(ns, nil, nil, func(k, _ []byte) bool {
				_ = tx.Delete(ns, k)
				return true
			})
		},
	}
	for name, fn := range tests {
		t.Run(name, func(t *testing.T) {
			if err := db.Update(t.Context(), fn); !fault.Is(err, fault.Internal) {
				t.Errorf("got %v", err)
			}
			if got := read(t, db, "a"); got != "(absent)" {
				t.Errorf("a is %q", got)
			}
		})
	}
	if err := db.View(set("a", "1")); !fault.Is(err, fault.Internal) {
		t.Errorf("a write in a View: %v", err)
	}
	var leaked *ledger.Tx
	if err := db.View(func(tx *ledger.Tx) error { leaked = tx; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := leaked.Scan(ns, nil, nil, nil); !fault.Is(err, fault.Internal) {
		t.Errorf("a transaction used after its end: %v", err)
	}
}

func TestScanBounds(t *testing.T) {
	db := newLedger(t)
	if err := db.Update(t.Context(), func(tx *ledger.Tx) error {
		for _, k := range []string{"b", "d", "f"} {
			if err := tx.Put(ns, []byte(k), nil); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ from, to, want string }{
		{"", "", "bdf"}, {"b", "f", "bd"}, {"c", "e", "d"}, {"d", "d", ""}, {"g", "", ""}, {"", "a", ""}, {"a", "z", "bdf"}, {"", "d", "b"},
	} {
		var up, down string
		bound := func(s string) []byte {
			if s == "" {
				return nil
			}
			return []byte(s)
		}
		err := db.View(func(tx *ledger.Tx) error {
			return errors.Join(
				tx.Scan(ns, bound(tc.from), bound(tc.to), func(k, _ []byte) bool { up += string(k); return true }),
				tx.ScanReverse(ns, bound(tc.from), bound(tc.to), func(k, _ []byte) bool { down = string(k) + down; return true }))
		})
		if err != nil || up != tc.want || down != tc.want {
			t.Errorf("[%s,%s): up %q, down reversed %q, want %q (%v)", tc.from, tc.to, up, down, tc.want, err)
		}
	}
}

func TestContextIsHonouredWhileQueuing(t *testing.T) {
	db := newLedger(t)
	release := hold(t, db)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- db.Update(ctx, set("a", "1")) }()
	cancel()
	if err := <-done; !fault.Is(err, fault.Canceled) {
		t.Errorf("got %v", err)
	}
	release()
	if got := read(t, db, "a"); got != "(absent)" {
		t.Errorf("it was written all the same: %q", got)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if err := db.Update(late, set("a", "1")); !fault.Is(err, fault.Timeout) {
		t.Errorf("a passed deadline: %v", err)
	}
}

func TestCloseAnswersEveryone(t *testing.T) {
	db := newLedger(t)
	release := hold(t, db)
	done := make(chan error)
	const waiting = 10
	for range waiting {
		go func() { done <- db.Update(context.Background(), set("a", "1")) }()
	}
	closed := make(chan error)
	go func() { closed <- db.Close() }()
	for range waiting {
		// Those that the closing writer had not taken are answered while it is still held.
		if err := <-done; !errors.Is(err, ledger.ErrClosed) || !fault.Is(err, fault.Storage) {
			t.Errorf("got %v", err)
		}
	}
	release()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{
		"update": db.Update(t.Context(), set("a", "1")),
		"view":   db.View(func(*ledger.Tx) error { return nil }),
		"backup": db.Backup(t.Context(), &bytes.Buffer{}),
	} {
		if !errors.Is(err, ledger.ErrClosed) {
			t.Errorf("%s after close: %v", what, err)
		}
	}
}

func TestSecondOpenIsConflict(t *testing.T) {
	db := newLedger(t)
	_, err := ledger.Open(db.Path(), ledger.Options{LockTimeout: time.Millisecond})
	if !fault.Is(err, fault.Conflict) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{db.Path(), "fleetd"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %q", err, want)
		}
	}
}

func TestBackup(t *testing.T) {
	db := newLedger(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { // pairs of keys that are always equal
		for i := 0; ctx.Err() == nil; i++ {
			_ = db.Update(ctx, func(tx *ledger.Tx) error {
				return errors.Join(tx.Put(ns, []byte("a"), fmt.Append(nil, i)), tx.Put(ns, []byte("b"), fmt.Append(nil, i)))
			})
		}
	})
	for i := range 5 {
		name := filepath.Join(t.TempDir(), "copy.db")
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Backup(t.Context(), f), f.Close()); err != nil {
			t.Fatal(err)
		}
		restored := open(t, name)
		if a, b := read(t, restored, "a"), read(t, restored, "b"); a != b {
			t.Errorf("copy %d: %s and %s", i, a, b)
		}
	}
	cancel()
	wg.Wait()
	if err := db.Backup(ctx, &bytes.Buffer{}); !fault.Is(err, fault.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}
