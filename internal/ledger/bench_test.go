package ledger_test

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	bolt "go.etcd.io/bbolt"

	"capfleet/internal/ledger"
)

// BenchmarkUpdate compares durable changes of 200 bytes: one writer of plain
// bbolt, and 1, 64 and 1024 callers that share the ledger's commits. The ratio of
// the first to the third is the figure that counts.
func BenchmarkUpdate(b *testing.B) {
	value := bytes.Repeat([]byte("v"), 200)
	b.Run("bbolt", func(b *testing.B) {
		db, err := bolt.Open(filepath.Join(b.TempDir(), "bolt.db"), 0o600, nil)
		if err != nil {
			b.Fatal(err)
		}
		defer db.Close()
		if err := db.Update(func(tx *bolt.Tx) error {
			_, err := tx.CreateBucket([]byte(ns))
			return err
		}); err != nil {
			b.Fatal(err)
		}
		n := uint64(0)
		for b.Loop() {
			n++
			if err := db.Update(func(tx *bolt.Tx) error {
				return tx.Bucket([]byte(ns)).Put(binary.BigEndian.AppendUint64(nil, n), value)
			}); err != nil {
				b.Fatal(err)
			}
		}
	})
	for name, callers := range map[string]int{"ledger-1": 1, "ledger-64": 64, "ledger-1024": 1024} {
		b.Run(name, func(b *testing.B) {
			db, err := ledger.Open(filepath.Join(b.TempDir(), "ledger.db"), ledger.Options{Namespaces: []ledger.Namespace{ns}})
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			var (
				next atomic.Int64
				wg   sync.WaitGroup
			)
			b.ResetTimer()
			for range callers {
				wg.Go(func() {
					for {
						n := next.Add(1)
						if n > int64(b.N) {
							return
						}
						if err := db.Update(b.Context(), func(tx *ledger.Tx) error {
							return tx.Put(ns, binary.BigEndian.AppendUint64(nil, uint64(n)), value)
						}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
