package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
)

// compactAbove is how many bytes of free pages make a file worth writing anew;
// they must also be more than half of it. Pages that are free are used again, so
// this is for a file that was once much larger than what it holds now.
const compactAbove = 32 << 20

// compact writes the file anew without its free pages, where that is worth it,
// and reports whether it did: the ledger must be opened again then. It runs in
// Open, before anybody reads or writes, and under the old file's lock.
//
// The new file is made beside the old one, compared with it to the last value,
// made durable, and then renamed over it: the name stands for one complete ledger
// at each instant, and what a crash leaves behind is removed by the next Open. A
// process that waits for the old file's lock meanwhile sees that it has lost its
// name, see openLocked.
func (db *DB) compact(above int64) (done bool, err error) {
	free, size := db.pages()
	if free < above || free <= size/2 {
		return false, nil
	}
	act := "compact ledger " + db.path
	if err := db.room(act, filepath.Dir(db.path), uint64(size-free)); err != nil {
		return false, err
	}
	began := time.Now()
	db.log.Info("ledger is being compacted", "file", db.path, "bytes", size, "free", free)
	name, err := db.compactInto(filepath.Base(db.path) + ".compact-*")
	if name != "" {
		defer func() { _ = os.Remove(name) }() // gone when it got its name
	}
	if err != nil {
		return false, openError(act, err)
	}
	db.reach("compact verified")
	if err := os.Rename(name, db.path); err != nil {
		return false, storage(act, err)
	}
	db.reach("compact named")
	after, _ := fileSize(db.path)
	db.log.Info("ledger compacted", "file", db.path, "bytes_before", size, "bytes_after", after, "took", time.Since(began))
	return true, openError(act, syncDir(filepath.Dir(db.path)))
}

// compactInto makes the new file, complete, compared and on the disk.
func (db *DB) compactInto(pattern string) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(db.path), pattern)
	if err != nil {
		return "", err
	}
	name = f.Name()
	if err := f.Close(); err != nil {
		return name, err
	}
	fresh, err := openFile(name, &bolt.Options{FreelistType: bolt.FreelistMapType, NoSync: true}) // synced once, below
	if err != nil {
		return name, err
	}
	defer func() { err = errors.Join(err, fresh.Close()) }()
	const batch = 16 << 20 // bytes in one transaction
	if err := guard(func() error { return bolt.Compact(fresh, db.bolt, batch) }); err != nil {
		return name, err
	}
	db.reach("compact written")
	return name, errors.Join(fresh.Sync(), sameContent(db.bolt, fresh))
}

// pages gives the bytes of free pages and of all pages.
func (db *DB) pages() (free, size int64) {
	info := db.bolt.Info()
	stats := db.bolt.Stats()
	free = int64(stats.FreePageN+stats.PendingPageN) * int64(info.PageSize)
	_ = db.bolt.View(func(tx *bolt.Tx) error { // it cannot fail
		size = tx.Size()
		return nil
	})
	return free, size
}

// sameContent reads two files side by side to the last value.
func sameContent(a, b *bolt.DB) error {
	return guard(func() error {
		return a.View(func(left *bolt.Tx) error {
			return b.View(func(right *bolt.Tx) error {
				return errors.Join(sameNamespaces(left, right), sameNamespaces(right, left))
			})
		})
	})
}

func sameNamespaces(a, b *bolt.Tx) error {
	return a.ForEach(func(ns []byte, in *bolt.Bucket) error {
		out := b.Bucket(ns)
		if out == nil || out.Sequence() != in.Sequence() {
			return fmt.Errorf("the copy differs in namespace %s", ns)
		}
		ca, cb := in.Cursor(), out.Cursor()
		ka, va := ca.First()
		kb, vb := cb.First()
		for ka != nil || kb != nil {
			if !bytes.Equal(ka, kb) || !bytes.Equal(va, vb) {
				return fmt.Errorf("the copy differs in namespace %s", ns)
			}
			ka, va = ca.Next()
			kb, vb = cb.Next()
		}
		return nil
	})
}
