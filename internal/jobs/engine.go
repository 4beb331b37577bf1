package jobs

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// Engine keeps jobs and runs them. All methods may be called at once, before,
// during and after Run; what is submitted while Run does not run waits for it.
type Engine struct {
	ledger *ledger.DB
	runner Runner
	limits Limits
	retry  RetryPolicy
	log    *slog.Logger
	now    func() time.Time

	watchers *watchers
	mail     *mailbox[message]
	running  atomic.Bool

	mu       sync.Mutex
	meetings map[number]*meeting // of the coordinated jobs at work
	answers  chan struct{}       // closed when the loop of Run ends; nil while there is none
}

// Open makes an engine over a ledger and sets back what a dead process left
// running. Nothing is handed out before Run.
func Open(ctx context.Context, opts Options) (*Engine, error) {
	limits, err := opts.Limits.WithDefaults()
	if err != nil {
		return nil, err
	}
	retry, err := opts.Retry.withDefaults()
	if err != nil {
		return nil, err
	}
	e := &Engine{
		ledger:   opts.Ledger,
		runner:   opts.Runner,
		limits:   limits,
		retry:    retry,
		log:      opts.Logger,
		now:      opts.Now,
		watchers: newWatchers(),
		mail:     newMailbox[message](),
		meetings: map[number]*meeting{},
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.now == nil {
		e.now = time.Now
	}
	if err := e.recover(ctx); err != nil {
		return nil, fault.Wrap(fault.Storage, "take up unfinished jobs", err)
	}
	return e, nil
}

// recover sets the running tasks of every unfinished job back. It must not run
// beside workers.
func (e *Engine) recover(ctx context.Context) error {
	active, err := e.active()
	if err != nil {
		return err
	}
	for _, id := range active {
		var counts map[State]int
		err := e.ledger.View(func(tx *ledger.Tx) error {
			p, _, err := get[progress](tx, nsProgress, id.key())
			counts = p.Counts
			return err
		})
		if err != nil {
			return err
		}
		if counts[Running] == 0 {
			continue
		}
		if err := e.change(ctx, id, (*change).setBack); err != nil {
			return err
		}
		e.log.Info("interrupted tasks set back", "job", id.String(), "tasks", counts[Running])
	}
	return nil
}

// active gives the numbers of the unfinished jobs, oldest first.
func (e *Engine) active() (ids []number, err error) {
	err = e.ledger.View(func(tx *ledger.Tx) error {
		return tx.Scan(nsActive, nil, nil, func(k, _ []byte) bool {
			ids = append(ids, numberOf(k))
			return true
		})
	})
	return ids, err
}

// load makes the scheduler's index of a job from the ledger; nil when the job
// has no unfinished task.
func (e *Engine) load(id number) (*activeJob, error) {
	var job *activeJob
	err := e.ledger.View(func(tx *ledger.Tx) error {
		if tx.Get(nsActive, id.key()) == nil {
			return nil
		}
		j, ok, err := get[Job](tx, nsJobs, id.key())
		if err != nil || !ok {
			return err
		}
		p, _, err := get[progress](tx, nsProgress, id.key())
		if err != nil {
			return err
		}
		job = newActiveJob(id, j, p.Round)
		job.gate = p.gate()
		if p.CanceledAt != nil {
			job.canceled = canceledError(id, p.CanceledBy)
		}
		targets := make(map[string]Target)
		if j.Access == accessChange {
			if err := each(tx, nsTargets, id.key(), id.end(), func(_ []byte, t Target) bool {
				t.Snapshot = nil
				targets[t.Device] = t
				return true
			}); err != nil {
				return err
			}
		}
		if err := each(tx, nsTasks, id.key(), id.end(), func(_ []byte, t taskRecord) bool {
			job.add(t.Task, targets[t.Device].Prepares)
			return true
		}); err != nil {
			return err
		}
		if j.Rollout == nil || job.canceled != nil {
			return nil //nolint:nilerr // that the job was canceled is no failure to read it
		}
		return job.follow(j, p, slices.Collect(maps.Values(targets)))
	})
	return job, err
}
