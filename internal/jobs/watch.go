package jobs

import (
	"context"
	"iter"
	"math"
	"sync"

	"capfleet/internal/ledger"
)

// WatchOptions choose events.
type WatchOptions struct {
	Job   string // of one job; "" is of all
	After uint64 // only those with a greater number; 0 is from the beginning
}

// watchBatch is how many events are read at a time; progressKept how many
// progress events a slow reader can fall behind before it misses the oldest.
const (
	watchBatch   = 256
	progressKept = 64
)

// Watch gives the stored events after a number in order, without a gap and none
// twice, and follows until the context ends. Events are always read from the
// ledger; what happens only wakes the reader, so a slow one holds up nobody and
// needs no buffer. Progress events (Seq 0) come in between as they happen and
// may be dropped. An error ends it; so does a job that does not exist.
func (e *Engine) Watch(ctx context.Context, opts WatchOptions) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		var job number
		if opts.Job != "" {
			var err error
			if job, err = parseID(opts.Job); err == nil {
				_, _, err = e.Job(ctx, opts.Job)
			}
			if err != nil {
				if ctx.Err() == nil {
					yield(Event{}, err)
				}
				return
			}
		}
		w := e.watchers.add(opts.Job) // before the first read: nothing falls between
		defer e.watchers.remove(w)
		after := opts.After
		for ctx.Err() == nil {
			batch, err := e.events(job, opts.Job != "", after)
			if err != nil {
				yield(Event{}, err)
				return
			}
			for _, ev := range batch {
				if ctx.Err() != nil || !yield(ev, nil) {
					return
				}
				after = ev.Seq
			}
			if len(batch) == watchBatch {
				continue
			}
			for _, ev := range w.takeProgress() {
				if !yield(ev, nil) {
					return
				}
			}
			select {
			case <-w.woken:
			case <-ctx.Done():
			}
		}
	}
}

// Over reports whether a job has finished and no stored event of it has a number
// greater than after: who has seen that one has seen the end. Both are of one moment.
func (e *Engine) Over(ctx context.Context, id string, after uint64) (over bool, err error) {
	n, err := parseID(id)
	if err != nil {
		return false, err
	}
	err = e.view(ctx, func(tx *ledger.Tx) error {
		job, err := readJob(tx, n)
		if err != nil || job.FinishedAt == nil {
			return err
		}
		over = true
		if after == math.MaxUint64 {
			return nil
		}
		return tx.Scan(nsJobEvents, jobEventKey(n, after+1), n.end(), func(_, _ []byte) bool {
			over = false
			return false
		})
	})
	return over && err == nil, err
}

// events reads the next stored events after a number.
func (e *Engine) events(job number, one bool, after uint64) (batch []Event, err error) {
	if after == math.MaxUint64 {
		return nil, nil // nothing comes after the last number that there is
	}
	err = e.ledger.View(func(tx *ledger.Tx) error {
		if !one {
			return each(tx, nsEvents, seqKey(after+1), nil, func(_ []byte, ev Event) bool {
				batch = append(batch, ev)
				return len(batch) < watchBatch
			})
		}
		var bad error
		err := tx.Scan(nsJobEvents, jobEventKey(job, after+1), job.end(), func(k, _ []byte) bool {
			ev, ok, err := get[Event](tx, nsEvents, k[8:])
			if err != nil {
				bad = err
				return false
			}
			if ok {
				batch = append(batch, ev)
			}
			return len(batch) < watchBatch
		})
		if err != nil {
			return err
		}
		return bad
	})
	return batch, err
}

// watchers are the readers that follow.
type watchers struct {
	mu  sync.Mutex
	all map[*watcher]struct{}
}

// watcher is one reader.
type watcher struct {
	job   string
	woken chan struct{} // holds a token while there may be something to read

	mu       sync.Mutex
	progress []Event
}

func newWatchers() *watchers { return &watchers{all: make(map[*watcher]struct{})} }

func (ws *watchers) add(job string) *watcher {
	w := &watcher{job: job, woken: make(chan struct{}, 1)}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.all[w] = struct{}{}
	return w
}

func (ws *watchers) remove(w *watcher) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.all, w)
}

// of calls fn for each reader of a job's events.
func (ws *watchers) of(job string, fn func(*watcher)) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for w := range ws.all {
		if w.job == "" || w.job == job {
			fn(w)
		}
	}
}

// wake says that events of a job were stored.
func (ws *watchers) wake(job string) { ws.of(job, (*watcher).wake) }

// tell hands a progress event to those who watch.
func (ws *watchers) tell(ev Event) {
	ws.of(ev.Job, func(w *watcher) {
		w.keep(ev)
		w.wake()
	})
}

func (w *watcher) wake() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

// keep remembers a progress event; a newer one of the same device takes its place.
func (w *watcher) keep(ev Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.progress {
		if w.progress[i].Device == ev.Device && w.progress[i].Job == ev.Job {
			w.progress[i] = ev
			return
		}
	}
	if len(w.progress) == progressKept {
		w.progress = append(w.progress[:0], w.progress[1:]...)
	}
	w.progress = append(w.progress, ev)
}

func (w *watcher) takeProgress() []Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	progress := w.progress
	w.progress = nil
	return progress
}
