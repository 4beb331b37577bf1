package jobs

import (
	"context"
	"fmt"
	"slices"
	"time"

	"capfleet/internal/audit"
	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// progress is the part of a job that changes.
type progress struct {
	Counts     map[State]int `json:"counts"`
	StartedAt  *time.Time    `json:"started_at,omitempty"`
	FinishedAt *time.Time    `json:"finished_at,omitempty"`
	CanceledBy string        `json:"canceled_by,omitempty"`
	CanceledAt *time.Time    `json:"canceled_at,omitempty"`
	PausedBy   string        `json:"paused_by,omitempty"`
	PausedAt   *time.Time    `json:"paused_at,omitempty"`
	// GateSeq is the number of the last event that paused or resumed the job.
	GateSeq    uint64     `json:"gate_seq,omitempty"`
	ApprovedBy string     `json:"approved_by,omitempty"`
	ApprovedAt *time.Time `json:"approved_at,omitempty"`
	// CanaryPaused says that the pause after a rollout's canary has been made.
	CanaryPaused bool `json:"canary_paused,omitempty"`
	// RetriedAt is when an operator last retried the job.
	RetriedAt *time.Time `json:"retried_at,omitempty"`
	// Round grows with each retry by an operator.
	Round int `json:"round,omitempty"`
}

// open counts the tasks that are not final.
func (p *progress) open() int { return p.Counts[Pending] + p.Counts[Waiting] + p.Counts[Running] }

// fill puts what changes into a job.
func (p *progress) fill(job *Job) {
	job.Counts = p.Counts
	job.StartedAt, job.FinishedAt = p.StartedAt, p.FinishedAt
	job.CanceledBy, job.CanceledAt = p.CanceledBy, p.CanceledAt
	job.PausedBy, job.PausedAt = p.PausedBy, p.PausedAt
	job.ApprovedBy, job.ApprovedAt = p.ApprovedBy, p.ApprovedAt
}

// asJob is as much of a job as its state is computed from.
func (p *progress) asJob() (job Job) {
	p.fill(&job)
	return job
}

// taskRecord is a task as it is stored: Job is in its key.
type taskRecord struct {
	Task
	// Base is the number of attempts that do not count against the retry policy:
	// those before an operator's retry, and those that a crash cut short.
	Base int `json:"base,omitempty"`
	// Retries is how often an operator took the task up again.
	Retries int `json:"retries,omitempty"`
}

// change is one transaction on a job. Every move of a task goes through it, so
// that the counts, the times, the index of active jobs and the events are always
// of one mind with the tasks.
type change struct {
	tx  *ledger.Tx
	id  number
	now time.Time
	job progress
	// changed says that the progress has to be stored.
	changed bool
	seq     uint64 // of the last event
}

// change runs fn on a job in one transaction and wakes those who watch.
func (e *Engine) change(ctx context.Context, id number, fn func(*change) error) error {
	now := e.now()
	err := e.ledger.Update(ctx, func(tx *ledger.Tx) error {
		job, ok, err := get[progress](tx, nsProgress, id.key())
		if err != nil {
			return err
		}
		if !ok {
			return noJob(id.String())
		}
		c := &change{tx: tx, id: id, now: now, job: job}
		if err := fn(c); err != nil {
			return err
		}
		return c.close()
	})
	if err == nil {
		e.watchers.wake(id.String())
	}
	return err
}

// close ends the job with its last task and stores its progress.
func (c *change) close() error {
	if c.job.open() == 0 && c.job.FinishedAt == nil {
		c.job.FinishedAt = &c.now
		c.job.PausedBy, c.job.PausedAt = "", nil // a retry begins anew
		if err := c.tx.Delete(nsActive, c.id.key()); err != nil {
			return err
		}
		if err := c.event(Event{Type: EventJobFinished, State: JobState(c.job.asJob())}); err != nil {
			return err
		}
	}
	if !c.changed {
		return nil
	}
	return put(c.tx, nsProgress, c.id.key(), c.job)
}

// event stores one event under the next number.
func (c *change) event(ev Event) error {
	seq, err := c.tx.Sequence(nsEvents)
	if err != nil {
		return err
	}
	c.seq = seq
	ev.Seq, ev.Time, ev.Job = seq, c.now, c.id.String()
	if err := put(c.tx, nsEvents, seqKey(seq), ev); err != nil {
		return err
	}
	return c.tx.Put(nsJobEvents, jobEventKey(c.id, seq), nil)
}

func (c *change) task(device string) (*taskRecord, error) {
	t, ok, err := get[taskRecord](c.tx, nsTasks, c.id.under(device))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fault.New(fault.NotFound, "job %s has no task for device %q", c.id, device)
	}
	return &t, nil
}

// tasks gives the job's tasks whose state fn wants, in order of device.
func (c *change) tasks(want func(State) bool) (found []*taskRecord, err error) {
	err = each(c.tx, nsTasks, c.id.key(), c.id.end(), func(_ []byte, t taskRecord) bool {
		if want(t.State) {
			found = append(found, &t)
		}
		return true
	})
	return found, err
}

func (c *change) put(t *taskRecord) error {
	return put(c.tx, nsTasks, c.id.under(t.Device), t)
}

// move takes a task to another state, if the table lets the mover, and stores it.
// The caller has set what else changes; Reason and Until are of the new state.
func (c *change) move(t *taskRecord, to State, by Mover) error {
	if !allowed(t.State, to, by) {
		return fault.New(fault.Conflict, "task %s of job %s is %s: the %s cannot make it %s", t.Device, c.id, t.State, by, to)
	}
	c.changed = true
	c.count(t.State, to)
	t.State = to
	t.FinishedAt = nil
	if to.Final() {
		t.FinishedAt = &c.now
	}
	if to == Running && t.StartedAt == nil {
		t.StartedAt = &c.now
	}
	if to == Running && c.job.StartedAt == nil {
		c.job.StartedAt = &c.now
	}
	if to != Waiting {
		t.Until = nil
	}
	if err := c.put(t); err != nil {
		return err
	}
	return c.event(Event{Type: EventTaskState, Device: t.Device, State: to, Step: t.Step, Attempt: t.Attempt, Reason: t.Reason, Until: t.Until})
}

// count keeps the counts; a state without tasks is not named in them.
func (c *change) count(from, to State) {
	if c.job.Counts == nil {
		c.job.Counts = make(map[State]int)
	}
	if c.job.Counts[from]--; c.job.Counts[from] <= 0 {
		delete(c.job.Counts, from)
	}
	c.job.Counts[to]++
}

// audit remembers who asked for the change.
func (c *change) audit(action audit.Action, by, detail string) error {
	return audit.Add(c.tx, audit.Entry{Time: c.now, By: by, Action: action, Job: c.id.String(), Detail: detail})
}

// note adds a line to a unit's journal.
func (c *change) note(entry Entry) error {
	n, err := c.tx.Sequence(nsJournal)
	if err != nil {
		return err
	}
	entry.Time = c.now
	return put(c.tx, nsJournal, append(unitPrefix(c.id, entry.Unit), seqKey(n)...), entry)
}

// setBack returns the tasks that a process left running to pending. The attempt
// was begun and is shown, but it does not count against the retry policy: the
// work did not fail.
func (c *change) setBack() error {
	running, err := c.tasks(func(s State) bool { return s == Running })
	if err != nil {
		return err
	}
	for _, t := range running {
		to := Pending
		t.Base++
		t.Reason = "fleetd ended while it ran"
		if c.job.CanceledAt != nil && !t.Held {
			to, t.Reason = Canceled, canceledBy(c.job.CanceledBy)
			t.Failure = &Failure{Device: t.Device, Stage: t.Step, Kind: fault.Canceled, Message: t.Reason}
		}
		if err := c.note(Entry{Kind: EntryNote, Unit: t.Unit, Step: t.Step, Attempt: t.Attempt, Fence: t.Fence,
			Detail: t.Device + ": " + t.Reason}); err != nil {
			return err
		}
		if err := c.move(t, to, Recovery); err != nil {
			return err
		}
	}
	return nil
}

// merge joins two lists, keeping the order and leaving out what is there twice.
func merge(a, b []string) []string {
	for _, s := range b {
		if !slices.Contains(a, s) {
			a = append(a, s)
		}
	}
	return a
}

// clip bounds a text that came from outside, at a character's border.
func clip(s string) string {
	const most = 2000
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && s[cut]&0xC0 == 0x80 {
		cut--
	}
	return fmt.Sprintf("%s ... (%d bytes more)", s[:cut], len(s)-cut)
}
