package ledger

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"syscall"

	bolterrors "go.etcd.io/bbolt/errors"

	"capfleet/internal/fault"
)

// damageError is a panic or a memory fault that came out of bbolt or out of
// reading a page: the file is not what it should be.
type damageError struct{ cause any }

func (e *damageError) Error() string {
	if isMemoryFault(e.cause) {
		return "a page lies outside the file"
	}
	return fmt.Sprint(e.cause)
}

// isMemoryFault reports whether a recovered value is a fault on a bad address,
// as debug.SetPanicOnFault describes it.
func isMemoryFault(r any) bool {
	_, ok := r.(interface{ Addr() uintptr })
	return ok
}

func isDamage(err error) bool {
	var d *damageError
	return errors.As(err, &d)
}

// guard runs fn, which calls bbolt, and turns a panic into a damageError. Reading
// a mapping behind the end of a shortened file is a memory fault, which is made a
// panic too. It must run in the goroutine that reads.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = &damageError{r}
		}
	}()
	return fn()
}

// call runs a caller's function. Its panic is its own defect and becomes an
// error, unless it met damage while it looked at a value.
func (db *DB) call(fn func(*Tx) error, tx *Tx) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		tx.end()
		switch r := recover(); {
		case r == nil && tx.failed != nil:
			err = tx.failed
		case r == nil:
		case isMemoryFault(r):
			err = damaged("read ledger "+db.path, &damageError{r})
		default:
			db.log.Error("ledger transaction panicked", "panic", r, "stack", string(debug.Stack()))
			err = fault.New(fault.Internal, "ledger transaction panicked: %v", r)
		}
	}()
	return fn(tx)
}

// errUnusable is in the chain when another file has to take the ledger's place.
var errUnusable = errors.New("the file cannot be used")

// damaged is about a file that is not a ledger any more. Open says which backup
// can take its place.
func damaged(act string, err error) error {
	return &fault.Error{Kind: fault.Storage, Act: act, Err: unusable{fmt.Errorf("the file is damaged: %w", err)},
		Next: "stop fleetd and put a backup in its place with fleetd --restore; starting it again names the newest sound one"}
}

// unusable marks an error without changing what it says.
type unusable struct{ error }

func (u unusable) Unwrap() []error { return []error{u.error, errUnusable} }

// openError gives the errors of opening and checking a file their meaning.
func openError(act string, err error) error {
	var have *fault.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &have):
		return err
	case isDamage(err), errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum):
		return damaged(act, err)
	case errors.Is(err, bolterrors.ErrVersionMismatch):
		return &fault.Error{Kind: fault.Storage, Act: act,
			Err: unusable{fmt.Errorf("it was written by another generation of the file format: %w", err)}}
	}
	return storage(act, err)
}

// storage is an error of the disk or the file system.
func storage(act string, err error) error {
	e := &fault.Error{Kind: fault.Storage, Act: act, Err: err}
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		// bbolt keeps the text of some errors and drops the chain.
		if errors.Is(err, full) || strings.HasSuffix(err.Error(), full.Error()) {
			e.Next = "free some space on its file system; what is stored already is safe"
		}
	}
	return e
}
