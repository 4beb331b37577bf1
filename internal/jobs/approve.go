package jobs

import (
	"context"

	"capfleet/internal/audit"
	"capfleet/internal/fault"
)

// Approve lets a rollout begin that waits for it. By is who approves, and has to be
// another user than the one who asked for the job (fault.Denied). A job that is
// approved stays as it is; one that wants no approval or is finished is
// fault.Conflict.
func (e *Engine) Approve(ctx context.Context, id, by string) (Job, error) {
	n, err := parseID(id)
	if err != nil {
		return Job{}, err
	}
	asked, _, err := e.Job(ctx, id)
	if err != nil {
		return Job{}, err
	}
	switch {
	case asked.Rollout == nil || !asked.Rollout.Approve:
		return Job{}, fault.New(fault.Conflict, "job %s wants no approval", id)
	case by == "" || by == asked.CreatedBy:
		return Job{}, &fault.Error{Kind: fault.Denied, Act: "approve job " + id,
			Err:  fault.New(fault.Denied, "%s asked for it", asked.CreatedBy),
			Next: "another user has to approve it"}
	}
	err = e.change(ctx, n, func(c *change) error {
		switch {
		case c.job.FinishedAt != nil:
			return fault.New(fault.Conflict, "job %s is finished: there is nothing to approve", id)
		case c.job.CanceledAt != nil:
			return fault.New(fault.Conflict, "job %s was %s", id, canceledBy(c.job.CanceledBy))
		case c.job.ApprovedAt != nil:
			return nil
		}
		c.changed = true
		c.job.ApprovedBy, c.job.ApprovedAt = by, &c.now
		if err := c.audit(audit.JobApprove, by, ""); err != nil {
			return err
		}
		return c.event(Event{Type: EventJobApproved, State: JobState(c.job.asJob()), Reason: byWhom("approved", by)})
	})
	if err != nil {
		return Job{}, err
	}
	e.mail.post(message{approved: true, job: n})
	job, _, err := e.Job(ctx, id)
	return job, err
}
