package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"

	"capfleet/internal/fault"
)

// Backup writes a consistent copy of the ledger to w while work goes on; the
// copy is itself a ledger. Give it a local file: until it has been written, pages
// freed by others are not reused.
func (db *DB) Backup(ctx context.Context, w io.Writer) error {
	act := "back up ledger " + db.path
	select {
	case <-db.closing:
		return db.closedError("back up")
	default:
	}
	checked := writerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return w.Write(p)
	})
	err := guard(func() error {
		return db.bolt.View(func(tx *bolt.Tx) error {
			_, err := tx.WriteTo(checked)
			return err
		})
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fault.Wrap(fault.KindOf(ctx.Err()), act, err)
	}
	return openError(act, err)
}

// writerFunc is an io.Writer made of a function.
type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// backupFile makes a copy under name that is on the disk, opens as a ledger and
// holds the same keys and values. It replaces an earlier one only when complete.
func (db *DB) backupFile(name string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	err = db.Backup(context.Background(), f)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := db.sameAs(f.Name()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

// sameAs reads the file and this ledger side by side to the last value.
func (db *DB) sameAs(name string) (err error) {
	other, err := openFile(name, &bolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, other.Close()) }()
	return guard(func() error {
		return db.bolt.View(func(a *bolt.Tx) error {
			return other.View(func(b *bolt.Tx) error {
				return a.ForEach(func(ns []byte, in *bolt.Bucket) error {
					out := b.Bucket(ns)
					if out == nil || out.Sequence() != in.Sequence() {
						return fmt.Errorf("the copy %s differs in namespace %s", name, ns)
					}
					return sameBucket(in, out, name, ns)
				})
			})
		})
	})
}

func sameBucket(a, b *bolt.Bucket, name string, ns []byte) error {
	ca, cb := a.Cursor(), b.Cursor()
	ka, va := ca.First()
	kb, vb := cb.First()
	for ka != nil || kb != nil {
		if !bytes.Equal(ka, kb) || !bytes.Equal(va, vb) {
			return fmt.Errorf("the copy %s differs in namespace %s", name, ns)
		}
		ka, va = ca.Next()
		kb, vb = cb.Next()
	}
	return nil
}

func fileSize(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
