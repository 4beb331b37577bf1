package jobs

import (
	"context"
	"errors"

	"capfleet/internal/audit"
	"capfleet/internal/fault"
)

// Leaver is a Journal whose unit can leave a coordinated job early.
type Leaver interface {
	// Leave says that the unit takes no part in what the units do together, any
	// more or at all: the others neither wait for it nor stop when it ends. In a job
	// that is not coordinated it changes nothing.
	Leave(ctx context.Context, why string) error
}

var _ Leaver = (*journal)(nil)

// Leave implements Leaver.
func (j *journal) Leave(ctx context.Context, why string) error {
	err := j.Note(ctx, "leave", why)
	j.part.excuse() // also when it could not be written down: the others must not hang
	return err
}

// Stop asks the units of a coordinated job to stop what they do together and to
// bring it to its end, as one of them can by Journal.Stop: it is no cancel. A job
// that is not coordinated, or whose units are not at work, is fault.Conflict. By is
// who asked.
func (e *Engine) Stop(ctx context.Context, id, by string) (Job, error) {
	n, err := parseID(id)
	if err != nil {
		return Job{}, err
	}
	var m *meeting
	err = e.change(ctx, n, func(c *change) error {
		refuse := func(why, next string) error {
			return &fault.Error{Kind: fault.Conflict, Act: "stop job " + id, Err: errors.New(why), Next: next}
		}
		if c.job.FinishedAt != nil {
			return refuse("it is finished", "")
		}
		e.mu.Lock()
		m = e.meetings[n]
		e.mu.Unlock()
		if m == nil {
			return refuse("its devices do nothing together, or have not begun to", "cancel it instead")
		}
		return c.audit(audit.JobStop, by, "")
	})
	if err != nil {
		return Job{}, err
	}
	m.mu.Lock()
	m.end()
	m.mu.Unlock()
	job, _, err := e.Job(ctx, id)
	return job, err
}

// convene lets Stop find a meeting until the returned function is called.
func (e *Engine) convene(id number, m *meeting) (adjourn func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.meetings[id] = m
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.meetings, id)
	}
}
