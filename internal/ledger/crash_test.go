package ledger_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"capfleet/internal/childtest"
	"capfleet/internal/ledger"
)

// writeAndAcknowledge is the child of TestKill: writers that put a key, wait for
// the ledger's answer and say so on standard output, until the process is killed.
func writeAndAcknowledge(path string) error {
	db, err := ledger.Open(path, ledger.Options{Namespaces: []ledger.Namespace{ns}})
	if err != nil {
		return err
	}
	var (
		wg  sync.WaitGroup
		out sync.Mutex
	)
	for w := range 8 {
		wg.Go(func() {
			for i := 1; ; i++ {
				var n uint64
				err := db.Update(context.Background(), func(tx *ledger.Tx) (err error) {
					if n, err = tx.Sequence(ns); err != nil {
						return err
					}
					key := fmt.Sprintf("%d/%d", w, n)
					if i%7 == 0 {
						key = "taken back"
					}
					if err := tx.Put(ns, []byte(key), []byte(strings.Repeat("x", int(n%2000)))); err != nil {
						return err
					}
					if i%7 == 0 {
						return errors.New("take it back")
					}
					return nil
				})
				if err != nil {
					continue
				}
				out.Lock()
				fmt.Printf("%d/%d\n", w, n)
				out.Unlock()
			}
		})
	}
	wg.Wait()
	return nil
}

// TestKill kills a writing process again and again. What it acknowledged is
// there, and what it took back is not.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	acknowledged := make(map[string]bool)
	for round := range 20 {
		child := childtest.Command(t, "write", path)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		killAfter := 1 + rand.IntN(400)
		for n := 0; ; n++ {
			line, err := lines.ReadString('\n')
			if err != nil {
				break // half a line is no acknowledgement
			}
			if key := strings.TrimSpace(line); acknowledged[key] {
				t.Fatalf("round %d: number %s was given out twice", round, key)
			} else {
				acknowledged[key] = true
			}
			if n == killAfter {
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = child.Wait() // it was killed

		db := open(t, path)
		found := make(map[string]bool)
		if err := db.View(func(tx *ledger.Tx) error {
			return tx.Scan(ns, nil, nil, func(k, v []byte) bool {
				var w, n int
				if _, err := fmt.Sscanf(string(k), "%d/%d", &w, &n); err != nil || len(v) != n%2000 {
					t.Errorf("round %d: key %q with %d bytes: %v", round, k, len(v), err)
				}
				found[string(k)] = true
				return true
			})
		}); err != nil {
			t.Fatal(err)
		}
		for key := range acknowledged {
			if !found[key] {
				t.Fatalf("round %d: %s was acknowledged and is lost", round, key)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d changes acknowledged in 20 rounds, none lost", len(acknowledged))
}
