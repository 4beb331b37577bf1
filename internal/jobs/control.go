package jobs

import (
	"context"
	"errors"
	"fmt"

	"capfleet/internal/audit"
	"capfleet/internal/fault"
)

var errUnfinished = errors.New("it is not finished")

// Cancel stops a job: what has not begun is canceled at once, in one
// transaction, and what runs is told to end and is given the time it needs. A
// unit that is held (Journal.Hold) is brought to its end first, over restarts too. A
// job that was asked to stop before stays as it is; one that is finished is
// fault.Conflict. By is who asked.
func (e *Engine) Cancel(ctx context.Context, id, by string) (Job, error) {
	n, err := parseID(id)
	if err != nil {
		return Job{}, err
	}
	var round int
	err = e.change(ctx, n, func(c *change) error {
		round = c.job.Round
		switch {
		case c.job.FinishedAt != nil:
			return fault.New(fault.Conflict, "job %s is finished: there is nothing to cancel", id)
		case c.job.CanceledAt != nil:
			return nil
		}
		c.changed = true
		c.job.CanceledBy, c.job.CanceledAt = by, &c.now
		if err := c.audit(audit.JobCancel, by, ""); err != nil {
			return err
		}
		c.job.PausedBy, c.job.PausedAt = "", nil // nothing is left that it held back
		if err := c.event(Event{Type: EventJobCanceled, State: JobState(c.job.asJob()), Reason: canceledBy(by)}); err != nil {
			return err
		}
		left, err := c.tasks(func(s State) bool { return !s.Final() })
		if err != nil {
			return err
		}
		for _, t := range left {
			switch {
			case t.Held:
				t.Reason = canceledBy(by) + "; it is brought to a safe end first"
				if err := c.put(t); err != nil {
					return err
				}
				continue
			case t.State == Running:
				continue
			}
			t.Reason = canceledBy(by)
			t.Failure = &Failure{Device: t.Device, Kind: fault.Canceled, Message: t.Reason}
			if err := c.move(t, Canceled, Operator); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Job{}, err
	}
	e.mail.post(message{cancel: n, round: round, cause: canceledError(n, by)})
	job, _, err := e.Job(ctx, id)
	return job, err
}

func canceledError(id number, by string) error {
	return fault.New(fault.Canceled, "job %s was %s", id, canceledBy(by))
}

func canceledBy(by string) string { return byWhom("canceled", by) }

// Retry takes a finished job's tasks up again that did not end well: failed,
// attention, skipped and canceled. The others keep their state and rows. The
// runner begins with looking at the device and is given the journal, so it goes
// on at the step that failed. A job that is not finished, or in which everything
// is done, is fault.Conflict.
func (e *Engine) Retry(ctx context.Context, id, by string) (Job, error) {
	n, err := parseID(id)
	if err != nil {
		return Job{}, err
	}
	err = e.change(ctx, n, func(c *change) error {
		if c.job.FinishedAt == nil {
			return &fault.Error{Kind: fault.Conflict, Act: "retry job " + id, Err: errUnfinished,
				Next: "wait for it (fleetctl job watch " + id + ") or cancel it first"}
		}
		again, err := c.tasks(State.retried)
		if err != nil {
			return err
		}
		if len(again) == 0 {
			return fault.New(fault.Conflict, "retry job %s: every task succeeded", id)
		}
		c.job.FinishedAt, c.job.CanceledAt, c.job.CanceledBy = nil, nil, ""
		c.job.RetriedAt = &c.now
		c.job.Round++
		if err := c.tx.Put(nsActive, c.id.key(), nil); err != nil {
			return err
		}
		if err := c.audit(audit.JobRetry, by, fmt.Sprintf("%d devices", len(again))); err != nil {
			return err
		}
		reason := byWhom("retried", by)
		if err := c.event(Event{Type: EventJobRetried, State: Pending, Reason: reason}); err != nil {
			return err
		}
		asked, _, err := get[Job](c.tx, nsJobs, c.id.key())
		if err != nil {
			return err
		}
		told := make(map[string]bool) // units, in their journals
		for _, t := range again {
			if asked.Access == accessChange && t.Attempt > 0 && !told[t.Unit] {
				told[t.Unit] = true
				if err := c.note(Entry{Kind: EntryNote, Unit: t.Unit, Step: t.Step, Attempt: t.Attempt, Fence: t.Fence, Detail: reason}); err != nil {
					return err
				}
			}
			t.Base, t.Reason, t.Failure, t.Rows = t.Attempt, reason, nil, 0
			t.Begun, t.Prepared = t.Held, false // one that may be out of use goes on at once
			t.Retries++
			if err := c.tx.Delete(nsRows, c.id.under(t.Device)); err != nil {
				return err
			}
			if err := c.move(t, Pending, Operator); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Job{}, err
	}
	// It is in the ledger; what follows concerns this process alone.
	active, err := e.load(n)
	if err != nil {
		return Job{}, err
	}
	if active != nil {
		e.mail.post(message{add: active})
	}
	job, _, err := e.Job(ctx, id)
	return job, err
}
