package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"capfleet/internal/ledger"
)

// step is one call of a transaction.
type step struct {
	op       string
	ns       ledger.Namespace
	key, end string
	value    string
}

// script is one transaction: what it does and how it ends.
type script struct {
	steps []step
	end   string // ok, error or panic
}

var errScript = errors.New("as asked for")

// model is what the ledger should hold.
type model struct {
	keys map[ledger.Namespace]map[string]string
	seq  map[ledger.Namespace]uint64
}

func (m model) clone() model {
	c := model{make(map[ledger.Namespace]map[string]string), maps.Clone(m.seq)}
	for ns, keys := range m.keys {
		c.keys[ns] = maps.Clone(keys)
	}
	return c
}

func (m model) scan(ns ledger.Namespace, from, to string) (found []string) {
	for _, k := range slices.Sorted(maps.Keys(m.keys[ns])) {
		if k >= from && k < to {
			found = append(found, k+"="+m.keys[ns][k])
		}
	}
	return found
}

// play runs a script on the ledger and on the model and compares what it reads.
func play(tx *ledger.Tx, m model, s script) error {
	for _, st := range s.steps {
		switch st.op {
		case "put":
			if err := tx.Put(st.ns, []byte(st.key), []byte(st.value)); err != nil {
				return err
			}
			m.keys[st.ns][st.key] = st.value
		case "delete":
			if err := tx.Delete(st.ns, []byte(st.key)); err != nil {
				return err
			}
			delete(m.keys[st.ns], st.key)
		case "sequence":
			n, err := tx.Sequence(st.ns)
			if err != nil {
				return err
			}
			if m.seq[st.ns]++; n != m.seq[st.ns] {
				return fmt.Errorf("sequence of %s: %d, want %d", st.ns, n, m.seq[st.ns])
			}
		case "get":
			want, ok := m.keys[st.ns][st.key]
			if got := tx.Get(st.ns, []byte(st.key)); ok != (got != nil) || string(got) != want {
				return fmt.Errorf("get %s/%s: %q, want %q (%t)", st.ns, st.key, got, want, ok)
			}
		case "scan":
			if err := sameScan(tx, m, st.ns, st.key, st.end); err != nil {
				return err
			}
		}
	}
	switch s.end {
	case "error":
		return errScript
	case "panic":
		panic(errScript)
	}
	return nil
}

func sameScan(tx *ledger.Tx, m model, ns ledger.Namespace, from, to string) error {
	want := m.scan(ns, from, to)
	var up, down []string
	add := func(list *[]string) func(k, v []byte) bool {
		return func(k, v []byte) bool {
			*list = append(*list, string(k)+"="+string(v))
			return true
		}
	}
	if err := tx.Scan(ns, []byte(from), []byte(to), add(&up)); err != nil {
		return err
	}
	if err := tx.ScanReverse(ns, []byte(from), []byte(to), add(&down)); err != nil {
		return err
	}
	slices.Reverse(down)
	if !slices.Equal(up, want) || !slices.Equal(down, want) {
		return fmt.Errorf("scan %s [%q,%q): up %q, down %q, want %q", ns, from, to, up, down, want)
	}
	return nil
}

// TestAgreesWithModel lets several writers run transactions of which some fail
// or panic, side by side. Functions of the writer run one after the other, so
// each compares what it reads, its own writes included, with a model that only
// those that end well change.
func TestAgreesWithModel(t *testing.T) {
	namespaces := []ledger.Namespace{"x", "y"}
	key := rapid.StringMatching(`[a-d]{1,3}`)
	steps := rapid.Custom(func(t *rapid.T) step {
		return step{
			op:    rapid.SampledFrom([]string{"put", "put", "put", "delete", "delete", "get", "scan", "sequence"}).Draw(t, "op"),
			ns:    rapid.SampledFrom(namespaces).Draw(t, "namespace"),
			key:   key.Draw(t, "key"),
			end:   key.Draw(t, "end"),
			value: rapid.StringN(0, 20, 300).Draw(t, "value"),
		}
	})
	scripts := rapid.Custom(func(t *rapid.T) script {
		return script{
			steps: rapid.SliceOfN(steps, 0, 12).Draw(t, "steps"),
			end:   rapid.SampledFrom([]string{"ok", "ok", "ok", "error", "panic"}).Draw(t, "end"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		writers := rapid.SliceOfN(rapid.SliceOfN(scripts, 1, 5), 1, 6).Draw(t, "writers")
		dir, err := os.MkdirTemp("", "ledger")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		opts := ledger.Options{Namespaces: namespaces}
		path := filepath.Join(dir, "ledger.db")
		db, err := ledger.Open(path, opts)
		if err != nil {
			t.Fatal(err)
		}
		m := model{make(map[ledger.Namespace]map[string]string), make(map[ledger.Namespace]uint64)}
		for _, ns := range namespaces {
			m.keys[ns] = make(map[string]string)
		}
		var wg sync.WaitGroup
		for _, list := range writers {
			wg.Go(func() {
				for _, s := range list {
					err := db.Update(context.Background(), func(tx *ledger.Tx) error {
						mine := m.clone()
						if err := play(tx, mine, s); err != nil {
							return err
						}
						m = mine
						return nil
					})
					switch {
					case s.end == "ok" && err != nil,
						s.end == "error" && !errors.Is(err, errScript),
						s.end == "panic" && (err == nil || !bytes.Contains([]byte(err.Error()), []byte("panicked"))):
						t.Errorf("a script that ends with %s: %v", s.end, err)
					}
				}
			})
		}
		wg.Wait()
		for range 2 { // as it is, and after opening the file again
			for _, ns := range namespaces {
				if err := db.View(func(tx *ledger.Tx) error { return sameScan(tx, m, ns, "", "e") }); err != nil {
					t.Error(err)
				}
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			if db, err = ledger.Open(path, opts); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
