package jobs

import (
	"context"
	"fmt"
	"time"

	"capfleet/internal/audit"
	"capfleet/internal/fault"
)

// clerk writes into the ledger what rollouts decide about units that are not begun:
// why they wait, that they are skipped, that the job pauses. It has a goroutine of its
// own, since the loop of Run must not wait for the ledger. What it has not written
// when fleetd ends is decided again at the next start.
type clerk struct {
	engine *Engine
	mail   *mailbox[note]
}

func newClerk(e *Engine) *clerk { return &clerk{e, newMailbox[note]()} }

// take takes over what the schedule has decided.
func (k *clerk) take(s *schedule) {
	for _, n := range s.notes {
		k.mail.post(n)
	}
	s.notes = nil
}

// clerkBatch is how many tasks are written in one transaction, so that nobody waits
// long for theirs.
const clerkBatch = 200

// run writes until ctx ends.
func (k *clerk) run(ctx context.Context) {
	for {
		select {
		case <-k.mail.ready:
		case <-ctx.Done():
			return
		}
		for notes := k.mail.take(); len(notes) > 0; {
			n := batch(notes)
			if !k.write(ctx, notes[0].job, notes[:n]) {
				return
			}
			notes = notes[n:]
		}
	}
}

// batch counts the notes that go into one transaction.
func batch(notes []note) (n int) {
	tasks := 0
	for n < len(notes) && notes[n].job == notes[0].job && tasks < clerkBatch {
		tasks += max(1, len(notes[n].devices))
		n++
	}
	return n
}

// write stores notes of one job, and tries until it can.
func (k *clerk) write(ctx context.Context, job number, notes []note) (more bool) {
	e := k.engine
	for pause := storePause; ; pause = min(2*pause, storePauseMax) {
		var g *gate
		err := e.change(ctx, job, func(c *change) (err error) {
			g = nil
			for _, n := range notes {
				if n.pause {
					g, err = c.pauseAfterCanary()
				} else {
					err = c.tell(n)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		switch {
		case err == nil:
			if g != nil {
				e.mail.post(message{gate: g, job: job})
			}
			return true
		case ctx.Err() != nil:
			return false
		case fault.Is(err, fault.NotFound), fault.Is(err, fault.Conflict):
			e.log.Error("decision of a rollout could not be kept", "job", job.String(), "err", err)
			return true
		}
		e.log.Error("decision of a rollout could not be stored; trying again", "job", job.String(), "err", err)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// tell has the tasks of a unit say why they wait, or that they are skipped. Those that
// are at work by now, or done, say something else already.
func (c *change) tell(n note) error {
	for _, device := range n.devices {
		t, err := c.task(device)
		if err != nil {
			return err
		}
		if t.State != Pending && t.State != Waiting {
			continue
		}
		t.Reason, t.Until = n.reason, nil
		if !n.until.IsZero() {
			t.Until = &n.until
		}
		switch {
		case n.skip:
			t.Failure = &Failure{Device: t.Device, Stage: "rollout", Kind: fault.Conflict, Message: t.Reason}
			err = c.move(t, Skipped, Scheduler)
		case t.State == Pending:
			err = c.move(t, Waiting, Scheduler)
		default:
			if err = c.put(t); err == nil {
				err = c.event(Event{Type: EventTaskState, Device: t.Device, State: t.State, Step: t.Step, Attempt: t.Attempt, Reason: t.Reason, Until: t.Until})
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// itself is who fleetd is in the audit.
const itself = "fleetd"

// pauseAfterCanary pauses the job, unless somebody has already.
func (c *change) pauseAfterCanary() (*gate, error) {
	c.changed, c.job.CanaryPaused = true, true
	if c.job.PausedAt == nil && c.job.CanceledAt == nil && c.job.FinishedAt == nil {
		c.job.PausedBy, c.job.PausedAt = itself, &c.now
		reason := fmt.Sprintf("paused by %s: the canary is through", itself)
		if err := c.turnGate(audit.JobPause, itself, Event{Type: EventJobPaused, Reason: reason}); err != nil {
			return nil, err
		}
	}
	g := c.job.gate()
	return &g, nil
}
