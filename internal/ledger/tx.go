package ledger

import (
	"bytes"
	"errors"

	bolt "go.etcd.io/bbolt"

	"capfleet/internal/fault"
)

// Tx is one function's view of the ledger, with its own writes in it. It is for
// the goroutine that got it and ends when the function returns. Keys and values
// that it gives out are valid until then and must not be changed; those given to
// it may be reused at once.
//
// A transaction in which any call failed is not committed, whatever the function
// makes of the error.
type Tx struct {
	db      *DB
	bolt    *bolt.Tx
	buckets map[Namespace]*bolt.Bucket // shared by the functions of one commit

	undo     []undo
	size     int // bytes put
	scanning int
	ended    bool
	failed   error
	spoilt   bool // bbolt panicked in a write: the whole commit is lost
}

// undo is what was there before one write.
type undo struct {
	bucket   *bolt.Bucket
	key      []byte
	value    []byte // nil: the key was absent
	sequence uint64
	isSeq    bool
}

func newTx(db *DB, btx *bolt.Tx) *Tx {
	return &Tx{db: db, bolt: btx, buckets: make(map[Namespace]*bolt.Bucket)}
}

// next gives a Tx for the next function in the same commit.
func (tx *Tx) next() *Tx { return &Tx{db: tx.db, bolt: tx.bolt, buckets: tx.buckets} }

func (tx *Tx) end() { tx.ended = true }

// fail keeps the first error; it decides the transaction.
func (tx *Tx) fail(err error) error {
	if tx.failed == nil {
		tx.failed = err
	}
	return tx.failed
}

// guard runs one call into bbolt.
func (tx *Tx) guard(fn func() error) error {
	if tx.failed != nil {
		return tx.failed
	}
	if tx.ended {
		return fault.New(fault.Internal, "ledger transaction used after its function returned")
	}
	err := guard(fn)
	switch {
	case err == nil:
		return nil
	case isDamage(err):
		return tx.fail(damaged("read ledger "+tx.db.path, err))
	}
	var have *fault.Error
	if errors.As(err, &have) {
		return tx.fail(err)
	}
	return tx.fail(&fault.Error{Kind: fault.Internal, Act: "write ledger " + tx.db.path, Err: err})
}

func (tx *Tx) bucket(ns Namespace) (*bolt.Bucket, error) {
	if b := tx.buckets[ns]; b != nil {
		return b, nil
	}
	if _, ok := tx.db.namespaces[ns]; !ok {
		return nil, fault.New(fault.Internal, "ledger namespace %q was not declared", ns)
	}
	b := tx.bolt.Bucket([]byte(ns))
	if b == nil {
		return nil, damaged("read ledger "+tx.db.path, errors.New("namespace "+string(ns)+" is missing"))
	}
	tx.buckets[ns] = b
	return b, nil
}

// Get gives the value of a key, or nil if there is none.
func (tx *Tx) Get(ns Namespace, key []byte) []byte {
	var value []byte
	_ = tx.guard(func() error { // kept in tx.failed
		b, err := tx.bucket(ns)
		if err != nil {
			return err
		}
		value = b.Get(key)
		return nil
	})
	return value
}

// write runs one change, which leaves an undo behind before it alters anything.
func (tx *Tx) write(ns Namespace, fn func(*bolt.Bucket) error) error {
	return tx.guard(func() error {
		switch {
		case !tx.bolt.Writable():
			return fault.New(fault.Internal, "ledger write in a View")
		case tx.scanning > 0:
			return fault.New(fault.Internal, "ledger write inside a Scan: a cursor does not survive it")
		}
		b, err := tx.bucket(ns)
		if err != nil {
			return err
		}
		return fn(b)
	})
}

// change runs the part of a write that alters bbolt's pages in memory. The pages
// have been read by then, so that damage is met before anything is altered; a
// panic in here leaves them in doubt.
func (tx *Tx) change(fn func() error) error {
	tx.spoilt = true
	err := fn()
	tx.spoilt = false
	return err
}

// Put sets a key. Keys are 1 to 32768 bytes; a value may be empty.
func (tx *Tx) Put(ns Namespace, key, value []byte) error {
	return tx.write(ns, func(b *bolt.Bucket) error {
		key := bytes.Clone(key)
		tx.undo = append(tx.undo, undo{bucket: b, key: key, value: b.Get(key)})
		tx.size += len(key) + len(value)
		// bbolt keeps the value until the commit, and nil would read as absent.
		return tx.change(func() error { return b.Put(key, append([]byte{}, value...)) })
	})
}

// Delete removes a key; one that is absent is no error.
func (tx *Tx) Delete(ns Namespace, key []byte) error {
	return tx.write(ns, func(b *bolt.Bucket) error {
		old := b.Get(key)
		if old == nil {
			return nil
		}
		key := bytes.Clone(key)
		tx.undo = append(tx.undo, undo{bucket: b, key: key, value: old})
		return tx.change(func() error { return b.Delete(key) })
	})
}

// Sequence gives the next number of a namespace, from 1, without gaps: a number
// of a function that failed is given out again.
func (tx *Tx) Sequence(ns Namespace) (uint64, error) {
	var n uint64
	err := tx.write(ns, func(b *bolt.Bucket) (err error) {
		tx.undo = append(tx.undo, undo{bucket: b, sequence: b.Sequence(), isSeq: true})
		return tx.change(func() error {
			n, err = b.NextSequence()
			return err
		})
	})
	return n, err
}

// rollback takes back what the function wrote, newest first.
func (tx *Tx) rollback() error {
	return guard(func() error {
		for i := len(tx.undo) - 1; i >= 0; i-- {
			u := tx.undo[i]
			var err error
			switch {
			case u.isSeq:
				err = u.bucket.SetSequence(u.sequence)
			case u.value == nil:
				err = u.bucket.Delete(u.key)
			default:
				err = u.bucket.Put(u.key, u.value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Scan gives the keys from (inclusive) to (exclusive) in ascending order until fn
// returns false. A nil bound is open. fn may read but not write: collect first.
func (tx *Tx) Scan(ns Namespace, from, to []byte, fn func(key, value []byte) (more bool)) error {
	return tx.scan(ns, fn,
		func(c *bolt.Cursor) ([]byte, []byte) {
			if from == nil {
				return c.First()
			}
			return c.Seek(from)
		},
		(*bolt.Cursor).Next,
		func(key []byte) bool { return to == nil || bytes.Compare(key, to) < 0 })
}

// ScanReverse gives the same range as Scan, [from, to), in descending order.
func (tx *Tx) ScanReverse(ns Namespace, from, to []byte, fn func(key, value []byte) (more bool)) error {
	return tx.scan(ns, fn,
		func(c *bolt.Cursor) ([]byte, []byte) {
			if to == nil {
				return c.Last()
			}
			if k, _ := c.Seek(to); k == nil {
				return c.Last()
			}
			return c.Prev()
		},
		(*bolt.Cursor).Prev,
		func(key []byte) bool { return from == nil || bytes.Compare(key, from) >= 0 })
}

func (tx *Tx) scan(ns Namespace, fn func(key, value []byte) bool,
	first, next func(*bolt.Cursor) (key, value []byte), within func(key []byte) bool) error {
	var (
		c    *bolt.Cursor
		k, v []byte
	)
	err := tx.guard(func() error {
		b, err := tx.bucket(ns)
		if err != nil {
			return err
		}
		c = b.Cursor()
		k, v = first(c)
		return nil
	})
	tx.scanning++
	defer func() { tx.scanning-- }()
	for err == nil && k != nil && within(k) && fn(k, v) {
		err = tx.guard(func() error {
			k, v = next(c)
			return nil
		})
	}
	if err == nil {
		err = tx.failed // fn's own calls
	}
	return err
}
