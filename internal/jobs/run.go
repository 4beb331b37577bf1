package jobs

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"capfleet/internal/fault"
)

// message tells the scheduler of something; one of its fields is set.
type message struct {
	add      *activeJob
	gate     *gate
	job      number // whose gate it is, or who is approved
	approved bool
	why      chan<- map[string]string // asks why the job's units are not at work
	cancel   number                   // of a job
	round    int                      // in which it was canceled
	cause    error                    // why, for the runners
	ended    *unit
	how      outcome
}

// ErrStopping is the cause that runners see when fleetd stops: the work will be
// handed out again, unlike that of a job that was canceled.
var ErrStopping = &fault.Error{Kind: fault.Canceled, Err: fault.ErrStopping}

// Run hands out work until ctx ends. Then it hands out no more, cancels what
// runs (the cause says that fleetd stops), waits for it, and returns nil: work
// that was cut short is pending again without having spent an attempt. It may be
// called again afterwards, but not twice at a time (fault.Conflict).
func (e *Engine) Run(ctx context.Context) error {
	if !e.running.CompareAndSwap(false, true) {
		return fault.New(fault.Conflict, "the engine runs already")
	}
	defer e.running.Store(false)

	e.mail.take() // the ledger has it all
	s := newSchedule(e.limits)
	if err := e.fill(ctx, s); err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was stopped before it began
		}
		return fault.Wrap(fault.Storage, "take up unfinished jobs", err)
	}

	// Runners end with a cause of our choice and not with ctx itself, so that they
	// see why; the loop stays until the last of them has.
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	var workers errgroup.Group
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	done := ctx.Done()
	clerk := newClerk(e)
	workers.Go(func() error { clerk.run(work); return nil })
	defer e.answer()()
	for stopping := false; !stopping || s.running > 0; {
		if !stopping {
			e.handOut(work, s, &workers)
			clerk.take(s)
			for _, u := range s.cuts {
				u.brake.cancel(errStopped)
			}
			s.cuts = nil
			e.setTimer(timer, s)
		}
		select {
		case <-done:
			done, stopping = nil, true
			stop(ErrStopping)
		case <-timer.C:
		case <-e.mail.ready:
			for _, m := range e.mail.take() {
				s.handle(m)
			}
		}
	}
	return workers.Wait()
}

// fill takes every unfinished job of the ledger into the schedule.
func (e *Engine) fill(ctx context.Context, s *schedule) (err error) {
	if err := e.recover(ctx); err != nil {
		return err
	}
	if s.contacts, err = e.contacts(); err != nil {
		return err
	}
	active, err := e.active()
	if err != nil {
		return err
	}
	for _, id := range active {
		job, err := e.load(id)
		if err != nil {
			return err
		}
		if job != nil {
			s.addJob(job)
		}
	}
	return nil
}

// handOut starts a worker for each unit that there is room for.
func (e *Engine) handOut(ctx context.Context, s *schedule, workers *errgroup.Group) {
	for u := s.next(e.now()); u != nil; u = s.next(e.now()) {
		unitCtx, cancel := context.WithCancelCause(ctx)
		u.brake = &brake{stop: cancel}
		if u.held {
			u.brake.holds, u.brake.asked = 1, u.job.canceled
		}
		b := u.brake
		workers.Go(func() error {
			defer cancel(nil)
			how := e.work(ctx, unitCtx, u, b)
			e.mail.post(message{ended: u, how: how})
			return nil
		})
	}
}

// setTimer wakes the loop when the next waiting unit is due.
func (e *Engine) setTimer(timer *time.Timer, s *schedule) {
	if at, ok := s.wake(); ok {
		timer.Reset(max(0, at.Sub(e.now())))
	} else {
		timer.Stop()
	}
}

func (s *schedule) handle(m message) {
	switch {
	case m.add != nil:
		s.addJob(m.add)
	case m.gate != nil:
		s.turnGate(m.job, *m.gate)
	case m.approved:
		s.approve(m.job)
	case m.why != nil:
		m.why <- s.why(m.job)
	case m.ended != nil:
		s.ended(m.ended, m.how)
	default:
		for _, u := range s.cancel(m.cancel, m.round, m.cause) {
			u.brake.cancel(m.cause)
		}
	}
}
