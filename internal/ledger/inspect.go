package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"capfleet/internal/fault"
)

// Inspect reads a ledger that nobody writes to the last page and gives its
// schema. It is fault.Storage when the file is not a ledger or not sound, and
// fault.Conflict when a process has it open for writing. The file is not changed.
func Inspect(ctx context.Context, path string) (schema int, err error) {
	act := "check ledger " + path
	db, err := openFile(path, &bolt.Options{ReadOnly: true, PreLoadFreelist: true, Timeout: 500 * time.Millisecond})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return 0, &fault.Error{Kind: fault.Conflict, Act: act, Err: errors.New("another process has it open")}
	case err != nil:
		return 0, openError(act, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := checkFile(db, path); err != nil {
		return 0, openError(act, err)
	}
	err = guard(func() error {
		return db.View(func(tx *bolt.Tx) error {
			schema = schemaIn(tx)
			if err := walk(ctx, tx); err != nil {
				return err
			}
			return checkPages(tx)
		})
	})
	if err != nil && ctx.Err() != nil {
		return 0, fault.Wrap(fault.KindOf(ctx.Err()), act, context.Cause(ctx))
	}
	return schema, openError(act, err)
}

func schemaIn(tx *bolt.Tx) int {
	return int(binary.BigEndian.Uint64(tx.Bucket([]byte(metaNamespace)).Get([]byte(metaSchema))))
}

// walk reads every key and value. It comes before bbolt's own check, which looks
// at pages in a goroutine where a memory fault could not be caught.
func walk(ctx context.Context, tx *bolt.Tx) error {
	var sum byte
	return tx.ForEach(func(ns []byte, b *bolt.Bucket) error {
		var last []byte
		n := 0
		return b.ForEach(func(k, v []byte) error {
			if n++; n%1024 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			if last != nil && bytes.Compare(last, k) >= 0 {
				return &damageError{fmt.Sprintf("namespace %s: its keys are out of order", ns)}
			}
			last = k
			for i := 0; i < len(v); i += 512 { // touches each page of the value
				sum ^= v[i]
			}
			return nil
		})
	})
}

// checkPages is bbolt's own check: each page is in use once or free once.
func checkPages(tx *bolt.Tx) error {
	var first error
	for err := range tx.Check() { // to the end, or its goroutine would stay
		if first == nil {
			first = &damageError{err}
		}
	}
	return first
}
