package ledger

import (
	"errors"
	"runtime"

	bolt "go.etcd.io/bbolt"

	"capfleet/internal/fault"
)

// The bounds of one commit keep the wait of the first caller short and the
// dirty pages few.
const (
	maxBatch      = 4096
	maxBatchBytes = 16 << 20
	// gatherYields is how often the writer lets other goroutines run before it
	// commits less than the last time. The callers of the last commit are about
	// to come back, and a commit without them costs as much as one with them.
	gatherYields = 8
)

// request is one Update that waits for its answer.
type request struct {
	fn   func(*Tx) error
	err  error // of fn
	done chan error
}

// write is the writer's loop.
func (db *DB) write() {
	defer close(db.written)
	last := 1
	for {
		select {
		case r := <-db.requests:
			last = db.commit(r, last)
		case <-db.closing:
			return
		}
	}
}

// commit runs r and everyone who comes meanwhile in one transaction, makes it
// durable and answers them. It returns how many there were.
func (db *DB) commit(r *request, last int) int {
	batch := []*request{r}
	if err := db.broken.Load(); err != nil {
		answer(batch, err)
		return 1
	}
	var btx *bolt.Tx
	err := guard(func() (err error) {
		btx, err = db.bolt.Begin(true)
		return err
	})
	if err != nil {
		answer(batch, db.breakdown(err))
		return 1
	}

	tx := newTx(db, btx)
	size, wrote := 0, false
	run := func(r *request) (spoilt bool) {
		tx = tx.next()
		if r.err = db.call(r.fn, tx); r.err == nil {
			size += tx.size
			wrote = wrote || len(tx.undo) > 0
			return false
		}
		return tx.spoilt || tx.rollback() != nil
	}
	spoilt := run(r)
	for yields := 0; !spoilt && len(batch) < maxBatch && size < maxBatchBytes; {
		select {
		case r := <-db.requests:
			batch = append(batch, r)
			spoilt = run(r)
			continue
		default:
		}
		if len(batch) >= last || yields == gatherYields {
			break
		}
		yields++
		runtime.Gosched()
	}

	switch {
	case spoilt:
		err := damaged("write ledger "+db.path, errors.New("a page could not be changed"))
		if rollback := guard(btx.Rollback); rollback != nil {
			err = db.breakdown(rollback)
		}
		answer(batch, err)
	case !wrote:
		_ = guard(btx.Rollback) // nothing to write, nothing to lose
		answer(batch, nil)
	default:
		db.reach("commit begins")
		if err := guard(btx.Commit); err != nil {
			answer(batch, db.breakdown(err))
			break
		}
		db.reach("commit done")
		answer(batch, nil)
	}
	return len(batch)
}

// answer tells everyone how the commit ended; those whose function failed get
// their own error.
func answer(batch []*request, err error) {
	for _, r := range batch {
		if r.err == nil {
			r.err = err
		}
		r.done <- r.err
	}
}

// breakdown gives a failed begin or commit its meaning. After an error of the
// disk bbolt is where it was before, and the next commit may succeed. After a
// panic nothing is known of its locks and its free list: no more is written.
func (db *DB) breakdown(err error) error {
	if !isDamage(err) {
		return storage("write ledger "+db.path, err)
	}
	var broken *fault.Error
	errors.As(damaged("write ledger "+db.path, err), &broken)
	db.broken.Store(broken)
	return broken
}
