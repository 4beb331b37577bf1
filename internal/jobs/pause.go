package jobs

import (
	"context"

	"capfleet/internal/audit"
	"capfleet/internal/fault"
)

// Pause has a job hand out nothing new; what runs goes on to its end. It holds
// until Resume, also over restarts of fleetd. A job that is paused already stays
// as it is; one that is finished or asked to stop is fault.Conflict. By is who
// asked.
func (e *Engine) Pause(ctx context.Context, id, by string) (Job, error) {
	return e.gate(ctx, id, func(c *change) error {
		switch {
		case c.job.FinishedAt != nil:
			return fault.New(fault.Conflict, "job %s is finished: there is nothing to pause", id)
		case c.job.CanceledAt != nil:
			return fault.New(fault.Conflict, "job %s was %s: nothing new is begun any more", id, canceledBy(c.job.CanceledBy))
		case c.job.PausedAt != nil:
			return nil
		}
		c.job.PausedBy, c.job.PausedAt = by, &c.now
		return c.turnGate(audit.JobPause, by, Event{Type: EventJobPaused, Reason: byWhom("paused", by)})
	})
}

// Resume lets a paused job go on. One that is not paused stays as it is; one that
// is finished is fault.Conflict. By is who asked.
func (e *Engine) Resume(ctx context.Context, id, by string) (Job, error) {
	return e.gate(ctx, id, func(c *change) error {
		switch {
		case c.job.FinishedAt != nil:
			return fault.New(fault.Conflict, "job %s is finished: there is nothing to resume", id)
		case c.job.PausedAt == nil:
			return nil
		}
		c.job.PausedBy, c.job.PausedAt = "", nil
		return c.turnGate(audit.JobResume, by, Event{Type: EventJobResumed, Reason: byWhom("resumed", by)})
	})
}

// gate runs a pause or a resume and tells the schedule what the ledger says now.
func (e *Engine) gate(ctx context.Context, id string, fn func(*change) error) (Job, error) {
	n, err := parseID(id)
	if err != nil {
		return Job{}, err
	}
	var g gate
	err = e.change(ctx, n, func(c *change) error {
		if err := fn(c); err != nil {
			return err
		}
		g = c.job.gate()
		return nil
	})
	if err != nil {
		return Job{}, err
	}
	e.mail.post(message{gate: &g, job: n})
	job, _, err := e.Job(ctx, id)
	return job, err
}

// turnGate stores that a job was paused or resumed.
func (c *change) turnGate(action audit.Action, by string, ev Event) error {
	c.changed = true
	if err := c.audit(action, by, ""); err != nil {
		return err
	}
	ev.State = JobState(c.job.asJob())
	if err := c.event(ev); err != nil {
		return err
	}
	c.job.GateSeq = c.seq
	return nil
}

// gate is whether a job's units may be handed out. Since is the number of the
// event that turned it: messages about it can overtake each other on their way
// to the schedule, and the later event counts.
type gate struct {
	shut  bool
	since uint64
}

func (p *progress) gate() gate { return gate{p.PausedAt != nil, p.GateSeq} }

// turn opens or shuts a job's gate.
func (s *schedule) turnGate(id number, g gate) {
	if j := s.jobs[id]; j != nil && g.since > j.gate.since {
		j.gate = g
		if g.shut {
			s.standBack(j, false)
		} else if j.roll != nil {
			j.roll.dirty = true
		}
	}
}

// byWhom adds to a deed who asked for it.
func byWhom(deed, by string) string {
	if by == "" {
		return deed
	}
	return deed + " by " + by
}
