package schedule

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"slices"
	"time"

	"capfleet/internal/audit"
	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// Jobs is the engine as schedules see it: the one way in for work.
type Jobs interface {
	// Start makes a job for somebody and gives its id. The same request id gives the
	// same job and starts nothing. An error of a kind that may pass by itself (storage,
	// unavailable, busy, timeout, canceled) is tried again; any other decides the
	// occurrence.
	Start(ctx context.Context, by, requestID string, request json.RawMessage) (job string, err error)
	// Finished reports whether a job has ended. One that does not exist has.
	Finished(ctx context.Context, job string) (bool, error)
}

// Options are what a Scheduler is made of.
type Options struct {
	Ledger *ledger.DB // opened with Namespaces(); stays the caller's to close
	Jobs   Jobs
	// Decided, when set, is called in the transaction of each decision: what it writes
	// is there exactly when the decision is. It must be quick.
	Decided func(tx *ledger.Tx, def Schedule, run Run) error
	// Committed, when set, is called after each such transaction.
	Committed func()
	// LookEvery bounds a wait, so that a host's clock that was set is noticed; 0 is 15
	// seconds.
	LookEvery time.Duration
	Logger    *slog.Logger     // nil discards
	Now       func() time.Time // nil is time.Now
}

// Scheduler starts what is due. All methods may be called at once.
type Scheduler struct {
	ledger  *ledger.DB
	jobs    Jobs
	decided func(*ledger.Tx, Schedule, Run) error
	after   func()
	log     *slog.Logger
	now     func() time.Time
	every   time.Duration
	woken   chan struct{} // holds a token while there may be something to decide
}

// New makes a Scheduler. Nothing is started before Run.
func New(opts Options) *Scheduler {
	s := &Scheduler{ledger: opts.Ledger, jobs: opts.Jobs, decided: opts.Decided, after: opts.Committed, log: opts.Logger, now: opts.Now,
		every: opts.LookEvery, woken: make(chan struct{}, 1)}
	if s.every <= 0 {
		s.every = lookEvery
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.decided == nil {
		s.decided = func(*ledger.Tx, Schedule, Run) error { return nil }
	}
	return s
}

// The pauses of Run.
const (
	lookEvery = 15 * time.Second
	// tryAgain is the pause after something that may pass.
	tryAgain = 5 * time.Second
)

// Run decides what is due until ctx ends. One Run at a time.
func (s *Scheduler) Run(ctx context.Context) {
	for ctx.Err() == nil {
		wait := s.Tick(ctx)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-s.woken:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// Wake has Run look again: a job has finished, or the clock was set.
func (s *Scheduler) Wake() { s.wake() }

func (s *Scheduler) wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// Tick decides everything that is due now, once, and gives how long nothing will be
// to do, at most Options.LookEvery. Run calls it.
func (s *Scheduler) Tick(ctx context.Context) time.Duration {
	defs, states, err := s.load(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.log.Error("schedules cannot be read; trying again", "err", err)
		}
		return tryAgain
	}
	wait := s.every
	for i := range defs {
		if ctx.Err() != nil {
			return wait
		}
		again, err := s.attend(ctx, defs[i], states[i])
		switch {
		case err != nil && ctx.Err() == nil && !fault.Is(err, fault.NotFound):
			s.log.Error("schedule cannot be followed; trying again", "schedule", defs[i].Name, "err", err)
			wait = min(wait, tryAgain)
		case err == nil && !again.IsZero():
			wait = min(wait, max(again.Sub(s.now()), 0))
		}
	}
	return wait
}

// attend brings one schedule up to date.
func (s *Scheduler) attend(ctx context.Context, def Schedule, st State) (again time.Time, err error) {
	e, err := def.Expression()
	if err != nil {
		return again, err
	}
	if st.Starting != nil {
		if st, err = s.start(ctx, def, st); err != nil {
			return again, err
		}
	}
	busy := false
	if st.Job != "" {
		finished, err := s.jobs.Finished(ctx, st.Job)
		if err != nil {
			return again, err
		}
		busy = !finished
	}
	d := decide(&def, e, st, s.now().UTC(), busy)
	if !same(d.state, st) || len(d.runs) > 0 {
		if st.Decided.After(d.state.Decided) {
			s.log.Warn("the clock was set back far; the schedule goes on from now", "schedule", def.Name, "decided", st.Decided)
		}
		if err := s.write(ctx, def, &d.state, d.runs); err != nil {
			return again, err
		}
	}
	if d.state.Starting != nil {
		if d.state, err = s.start(ctx, def, d.state); err != nil {
			return again, err
		}
		return s.now(), nil // there may be more
	}
	return d.again, nil
}

// start makes the job of the occurrence that is being started and remembers it.
func (s *Scheduler) start(ctx context.Context, def Schedule, st State) (State, error) {
	occurrence := *st.Starting
	run := Run{Schedule: def.Name, Occurrence: occurrence, At: s.now().UTC()}
	job, err := s.jobs.Start(ctx, def.CreatedBy, def.requestID(occurrence), def.Request)
	switch {
	case err == nil:
		run.Outcome, run.Job = Started, job
		st.Job = job
	case ctx.Err() != nil || mayPass(err):
		return st, err
	default:
		run.Outcome, run.Reason = Failed, err.Error()
	}
	st.Starting = nil
	return st, s.write(ctx, def, &st, []Run{run})
}

// mayPass reports whether a job that could not be made may be made later by itself.
func mayPass(err error) bool {
	switch fault.KindOf(err) {
	case fault.Storage, fault.Unavailable, fault.Busy, fault.Timeout, fault.Canceled:
		return true
	default:
		return false
	}
}

// write keeps a new state and what was decided with it, all or nothing.
func (s *Scheduler) write(ctx context.Context, def Schedule, st *State, runs []Run) error {
	err := s.ledger.Update(ctx, func(tx *ledger.Tx) error {
		// It may have been removed meanwhile, and with it everything that is to be done.
		have, err := readState(tx, def.UID)
		if err != nil {
			return err
		}
		started := slices.ContainsFunc(runs, func(r Run) bool { return r.Outcome == Started })
		if !started {
			st.Job = have.Job // a run by hand may have come between
		}
		st.Last = have.Last
		for _, run := range runs {
			if err := record(tx, def.UID, run); err != nil {
				return err
			}
			if err := s.decided(tx, def, run); err != nil {
				return err
			}
			st.Last = &run
		}
		return put(tx, nsState, []byte(def.UID), st)
	})
	if err != nil {
		return err
	}
	if len(runs) > 0 && s.after != nil {
		s.after()
	}
	for _, run := range runs {
		level := slog.LevelInfo
		if run.Outcome == Missing || run.Outcome == Failed {
			level = slog.LevelWarn
		}
		s.log.Log(ctx, level, "schedule", "schedule", def.Name, "occurrence", run.Occurrence, "outcome", string(run.Outcome),
			"job", run.Job, "count", max(run.Count, 1), "reason", run.Reason)
	}
	return nil
}

// RunNow runs a schedule once by hand, beside its times and whatever its overlap
// policy says. The token makes a repeated call the same run.
func (s *Scheduler) RunNow(ctx context.Context, name, by, token string) (job string, err error) {
	l, err := s.Get(ctx, name)
	if err != nil {
		return "", err
	}
	if l.Change && l.ApprovedBy == "" {
		return "", &fault.Error{Kind: fault.Denied, Act: "run schedule " + name,
			Err: fault.New(fault.Denied, "it changes devices and nobody has approved it"), Next: "fleetctl schedule approve " + name + ", by another user than " + l.CreatedBy}
	}
	if token == "" {
		token = rand.Text()
	}
	now := s.now().UTC()
	if job, err = s.jobs.Start(ctx, by, l.manualID(token), l.Request); err != nil {
		return "", err
	}
	run := Run{Schedule: name, Occurrence: now, At: now, Outcome: Started, Job: job, By: by}
	// The job is there; that it is remembered here must not hang on who asked.
	err = s.ledger.Update(context.WithoutCancel(ctx), func(tx *ledger.Tx) error {
		st, err := readState(tx, l.UID)
		if err != nil {
			return err
		}
		if st.Job == job {
			return nil
		}
		st.Job, st.Last = job, &run
		if err := record(tx, l.UID, run); err != nil {
			return err
		}
		if err := audit.Add(tx, audit.Entry{Time: now, By: by, Action: audit.ScheduleRun, Job: job, Detail: name}); err != nil {
			return err
		}
		return put(tx, nsState, []byte(l.UID), st)
	})
	if fault.Is(err, fault.NotFound) { // removed meanwhile; the job goes on
		err = nil
	}
	return job, err
}

// same reports whether two states are alike in what decides.
func same(a, b State) bool {
	at := func(a, b *time.Time) bool { return a == b || a != nil && b != nil && a.Equal(*b) }
	return a.Decided.Equal(b.Decided) && at(a.Starting, b.Starting) && at(a.Queued, b.Queued) && a.Job == b.Job
}
