package jobs

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// Retention says which finished jobs are kept; zero is no bound. Jobs that are not
// finished are always kept, and so are the facts about devices.
type Retention struct {
	Age   time.Duration // since it finished
	Jobs  int           // the newest so many
	Bytes int64         // what they take in the ledger together; the newest stays whatever it takes
}

// Pruned is what a Prune removed.
type Pruned struct {
	Jobs    int
	Entries int   // of the ledger
	Bytes   int64 // of keys and values; the file keeps the pages for what comes next
}

// Pruner removes the jobs that a Retention does not keep, with all that the ledger
// has of them: tasks, rows, journal, events and request id.
//
// A job goes in one transaction first, which takes its record: from then on there
// is no such job for anybody. What was under it follows in transactions that are
// short enough for nobody to wait; what a crash leaves of it is found by the first
// Prune of the next process. The number of a job is never used again.
type Pruner struct {
	engine *Engine
	keep   Retention

	mu    sync.Mutex
	sizes map[number]size
	swept bool // nothing is left of jobs that are gone
}

// size is what a finished job takes. One that is retried finishes again later.
type size struct {
	finished time.Time
	bytes    int64
}

// NewPruner makes a Pruner over an engine.
func NewPruner(e *Engine, keep Retention) *Pruner {
	return &Pruner{engine: e, keep: keep, sizes: make(map[number]size)}
}

// The bounds of one transaction: reads hold back the reuse of pages, writes hold
// up everybody who writes.
const (
	pruneReads  = 2000
	pruneWrites = 500
)

// underJob are the namespaces whose keys begin with a job's number. Events are
// apart: job_events says which are a job's.
var underJob = [...]ledger.Namespace{nsTargets, nsTasks, nsRows, nsJournal, nsMemory}

// Prune removes what is not to be kept now. It ends early with ctx, and the next
// one goes on. It may be called again, one at a time works.
func (p *Pruner) Prune(ctx context.Context) (done Pruned, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.engine.now()
	if !p.swept {
		gone, err := p.leftovers(ctx)
		if err != nil {
			return done, err
		}
		for _, id := range gone {
			if err := p.clear(ctx, id, &done); err != nil {
				return done, err
			}
		}
		p.swept = true
	}
	list, err := p.finished(ctx)
	if err != nil {
		return done, err
	}
	for _, job := range p.keep.drop(list, now) {
		ok, err := p.removeRecord(ctx, job, &done)
		if err != nil {
			return done, err
		}
		delete(p.sizes, job.id)
		if !ok {
			continue // it was retried meanwhile
		}
		p.swept = false // until it has all gone
		if err := p.clear(ctx, job.id, &done); err != nil {
			return done, err
		}
		p.swept = true
		done.Jobs++
	}
	return done, nil
}

// finishedJob is what a job is judged by.
type finishedJob struct {
	id number
	size
}

// drop chooses among finished jobs those that are not kept, oldest first.
func (r Retention) drop(list []finishedJob, now time.Time) []finishedJob {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b finishedJob) int {
		return cmp.Or(a.finished.Compare(b.finished), cmp.Compare(a.id, b.id))
	})
	var total int64
	cut := len(list) // those before it go
	for cut > 0 {
		job := list[cut-1]
		total += job.bytes
		newest := cut == len(list)
		switch {
		case r.Age > 0 && now.Sub(job.finished) > r.Age,
			r.Jobs > 0 && len(list)-cut >= r.Jobs,
			r.Bytes > 0 && total > r.Bytes && !newest:
			return list[:cut]
		}
		cut--
	}
	return nil
}

// finished gives the finished jobs with their sizes, which are measured once.
func (p *Pruner) finished(ctx context.Context) (list []finishedJob, err error) {
	from := []byte{}
	for from != nil {
		var batch []finishedJob
		batch, from, err = p.finishedFrom(ctx, from)
		if err != nil {
			return nil, err
		}
		list = append(list, batch...)
	}
	if p.keep.Bytes == 0 {
		return list, nil
	}
	for i := range list {
		job := &list[i]
		known, ok := p.sizes[job.id]
		if !ok || !known.finished.Equal(job.finished) {
			if known.bytes, err = p.measure(ctx, job.id); err != nil {
				return nil, err
			}
			known.finished = job.finished
			p.sizes[job.id] = known
		}
		job.bytes = known.bytes
	}
	return list, nil
}

// finishedFrom reads one batch and gives the key to go on from, nil at the end.
func (p *Pruner) finishedFrom(ctx context.Context, from []byte) (batch []finishedJob, next []byte, err error) {
	n := 0
	err = p.engine.view(ctx, func(tx *ledger.Tx) error {
		return each(tx, nsProgress, from, nil, func(k []byte, pr progress) bool {
			if n++; n > pruneReads {
				next = bytes.Clone(k)
				return false
			}
			if pr.FinishedAt != nil {
				batch = append(batch, finishedJob{numberOf(k), size{finished: *pr.FinishedAt}})
			}
			return true
		})
	})
	return batch, next, err
}

// measure adds up keys and values of a job.
func (p *Pruner) measure(ctx context.Context, id number) (total int64, err error) {
	for _, ns := range underJob {
		err := p.scan(ctx, ns, id.key(), id.end(), func(_ *ledger.Tx, k, v []byte) { total += int64(len(k) + len(v)) })
		if err != nil {
			return 0, err
		}
	}
	err = p.scan(ctx, nsJobEvents, id.key(), id.end(), func(tx *ledger.Tx, k, _ []byte) {
		total += int64(len(k) + len(k[8:]) + len(tx.Get(nsEvents, k[8:])))
	})
	return total, err
}

// scan reads a range in batches, each a snapshot of its own.
func (p *Pruner) scan(ctx context.Context, ns ledger.Namespace, from, to []byte, fn func(tx *ledger.Tx, k, v []byte)) error {
	for from != nil {
		var next []byte
		n := 0
		err := p.engine.view(ctx, func(tx *ledger.Tx) error {
			return tx.Scan(ns, from, to, func(k, v []byte) bool {
				if n++; n > pruneReads {
					next = bytes.Clone(k)
					return false
				}
				fn(tx, k, v)
				return true
			})
		})
		if err != nil {
			return err
		}
		from = next
	}
	return nil
}

// removeRecord takes a job's record and its request id, if it is still as it was.
func (p *Pruner) removeRecord(ctx context.Context, job finishedJob, done *Pruned) (ok bool, err error) {
	var count Pruned
	err = p.engine.ledger.Update(ctx, func(tx *ledger.Tx) error {
		now, have, err := get[progress](tx, nsProgress, job.id.key())
		if err != nil || !have || now.FinishedAt == nil || !now.FinishedAt.Equal(job.finished) || tx.Get(nsActive, job.id.key()) != nil {
			return err
		}
		record, _, err := get[Job](tx, nsJobs, job.id.key())
		if err != nil {
			return err
		}
		ok = true
		if bytes.Equal(tx.Get(nsRequests, []byte(record.RequestID)), job.id.key()) {
			if err := count.remove(tx, nsRequests, []byte(record.RequestID)); err != nil {
				return err
			}
		}
		if err := count.remove(tx, nsProgress, job.id.key()); err != nil {
			return err
		}
		return count.remove(tx, nsJobs, job.id.key())
	})
	if err != nil {
		return false, fault.Wrap(fault.Storage, "remove job "+job.id.String(), err)
	}
	done.add(count)
	return ok, nil
}

// clear removes everything under a job that is gone.
func (p *Pruner) clear(ctx context.Context, id number, done *Pruned) error {
	for _, ns := range underJob {
		if err := p.clearIn(ctx, ns, id, nil, done); err != nil {
			return err
		}
	}
	return p.clearIn(ctx, nsJobEvents, id, func(count *Pruned, tx *ledger.Tx, k []byte) error {
		return count.remove(tx, nsEvents, k[8:])
	}, done)
}

// clearIn removes a job's keys in one namespace, and first what also hangs on each.
func (p *Pruner) clearIn(ctx context.Context, ns ledger.Namespace, id number, also func(*Pruned, *ledger.Tx, []byte) error, done *Pruned) error {
	for more := true; more; {
		var count Pruned
		err := p.engine.ledger.Update(ctx, func(tx *ledger.Tx) error {
			var keys [][]byte
			if err := tx.Scan(ns, id.key(), id.end(), func(k, _ []byte) bool {
				keys = append(keys, bytes.Clone(k))
				return len(keys) < pruneWrites
			}); err != nil {
				return err
			}
			more = len(keys) == pruneWrites
			for _, k := range keys {
				if also != nil {
					if err := also(&count, tx, k); err != nil {
						return err
					}
				}
				if err := count.remove(tx, ns, k); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fault.Wrap(fault.Storage, "remove what is left of job "+id.String(), err)
		}
		done.add(count)
	}
	return nil
}

// leftovers finds the jobs that are gone while something is still under them. It
// looks at one key of each job in each namespace.
func (p *Pruner) leftovers(ctx context.Context) (gone []number, err error) {
	for _, ns := range append(underJob[:], nsJobEvents) {
		from := []byte{}
		for from != nil {
			var next []byte
			err := p.engine.view(ctx, func(tx *ledger.Tx) error {
				for range pruneReads {
					var id number
					found := false
					if err := tx.Scan(ns, from, nil, func(k, _ []byte) bool {
						id, found = numberOf(k), true
						return false
					}); err != nil || !found {
						next = nil
						return err
					}
					if tx.Get(nsJobs, id.key()) == nil && !slices.Contains(gone, id) {
						gone = append(gone, id)
					}
					from, next = id.end(), id.end()
				}
				return nil
			})
			if err != nil {
				return nil, err
			}
			from = next
		}
	}
	slices.Sort(gone)
	return gone, nil
}

// remove deletes a key and counts it.
func (c *Pruned) remove(tx *ledger.Tx, ns ledger.Namespace, key []byte) error {
	value := tx.Get(ns, key)
	if value == nil {
		return nil
	}
	c.Entries++
	c.Bytes += int64(len(key) + len(value))
	return tx.Delete(ns, key)
}

func (c *Pruned) add(o Pruned) {
	c.Jobs += o.Jobs
	c.Entries += o.Entries
	c.Bytes += o.Bytes
}
