package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
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

// backupFile makes a copy under name that is on the disk, reads back as it was
// written and is sound to its last page. It replaces an earlier one only then.
// The snapshot is held for the writing alone, not for the checks.
func (db *DB) backupFile(ctx context.Context, name string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	written := sha256.New()
	err = db.Backup(ctx, io.MultiWriter(f, written))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	db.reach("backup written")
	switch have, err := digest(ctx, f.Name()); {
	case err != nil:
		return err
	case !bytes.Equal(have, written.Sum(nil)):
		return fmt.Errorf("the copy %s does not read back as it was written", f.Name())
	}
	if _, err := Inspect(ctx, f.Name()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	db.reach("backup named")
	return syncDir(filepath.Dir(name))
}

func digest(ctx context.Context, name string) (sum []byte, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	until := writerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return h.Write(p)
	})
	if _, err := io.Copy(until, f); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}

func fileSize(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
