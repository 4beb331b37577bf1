package jobs

import (
	"bytes"
	"context"
	"encoding/json"

	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// journal is the Journal of one claim, kept in the ledger. Each line is written
// only while the claim holds.
type journal struct {
	engine *Engine
	claim  *claim
	part   *attendee
	brake  *brake
}

var _ Journal = (*journal)(nil)

// Step makes the step the tasks' own, and tells those who watch.
func (j *journal) Step(ctx context.Context, step string) error {
	return j.write(ctx, "enter step "+step, Entry{Kind: EntryStep, Step: step}, func(c *change, tasks []*taskRecord) error {
		for _, t := range tasks {
			t.Step = clip(step)
			if err := c.put(t); err != nil {
				return err
			}
			if err := c.event(Event{Type: EventTaskStep, Device: t.Device, State: t.State, Step: t.Step, Attempt: t.Attempt}); err != nil {
				return err
			}
		}
		return nil
	})
}

// Intent is durable before the act that it announces.
func (j *journal) Intent(ctx context.Context, step, detail string) error {
	return j.write(ctx, "journal intent of "+step, Entry{Kind: EntryIntent, Step: step, Detail: detail}, marked(acting))
}

// Outcome is written even when ctx has ended: what was done was done.
func (j *journal) Outcome(ctx context.Context, step, detail string, err error) error {
	entry := Entry{Kind: EntryOutcome, Step: step, Detail: detail}
	if err != nil {
		entry.Error = clip(err.Error())
	}
	return j.write(context.WithoutCancel(ctx), "journal outcome of "+step, entry, nil)
}

// Note keeps a line.
func (j *journal) Note(ctx context.Context, step, detail string) error {
	return j.write(ctx, "journal note of "+step, Entry{Kind: EntryNote, Step: step, Detail: detail}, nil)
}

// Remember keeps a value of the unit.
func (j *journal) Remember(ctx context.Context, key string, value json.RawMessage) error {
	err := j.engine.change(ctx, j.claim.job, func(c *change) error {
		if _, err := c.held(j.claim); err != nil {
			return err
		}
		at := memoryKey(c.id, j.claim.unit, key)
		if string(value) == "null" {
			return c.tx.Delete(nsMemory, at)
		}
		return c.tx.Put(nsMemory, at, value)
	})
	return fault.Wrap(fault.Storage, "remember "+key, err)
}

// Load reads what the operation has stored.
func (j *journal) Load(ctx context.Context, key string) (value []byte, err error) {
	err = j.engine.view(ctx, func(tx *ledger.Tx) error {
		value = bytes.Clone(tx.Get(nsStores, storeKey(j.claim.operation, key)))
		return nil
	})
	if err == nil {
		j.claim.loaded.note(key, value)
	}
	return value, fault.Wrap(fault.Storage, "load "+key, err)
}

// Hold keeps a cancel back from now on.
func (j *journal) Hold(ctx context.Context, step string) error {
	if err := j.brake.hold(); err != nil {
		return fault.Wrap(fault.Canceled, "begin "+step, err)
	}
	err := j.write(ctx, "journal the beginning of "+step, Entry{Kind: EntryHold, Step: step}, marked(holding))
	if err != nil {
		j.brake.release()
	}
	return err
}

// Release lets a cancel through again. The cancel waits for the ledger: a unit that
// is safe and is not known to be is brought to its end once more.
func (j *journal) Release(ctx context.Context, step string) error {
	err := j.write(context.WithoutCancel(ctx), "journal the end of "+step, Entry{Kind: EntryRelease, Step: step}, marked(releasing))
	if err == nil {
		j.brake.release()
	}
	return err
}

// mark is what an entry says about its unit.
type mark int

const (
	acting    mark = iota // something is done that is not to be done twice
	holding               // and it must be brought to its end
	releasing             // which it was
)

// marked keeps with the tasks what an entry says about their unit.
func marked(m mark) func(*change, []*taskRecord) error {
	return func(c *change, tasks []*taskRecord) error {
		for _, t := range tasks {
			held := m == holding || m == acting && t.Held
			if t.Begun && t.Held == held {
				continue
			}
			t.Begun, t.Held = true, held
			if err := c.put(t); err != nil {
				return err
			}
		}
		return nil
	}
}

// Progress goes to those who watch now.
func (j *journal) Progress(device string, done, total int64, unit string) {
	j.engine.watchers.tell(Event{Time: j.engine.now(), Type: EventProgress, Job: j.claim.job.String(), Device: device,
		Attempt: j.claim.attempt, Done: done, Total: total, Unit: unit})
}

// Ready notes that the unit is prepared and waits for the others of its job.
func (j *journal) Ready(ctx context.Context) error {
	if err := j.Note(ctx, "ready", "prepared; waits for the job's other units"); err != nil {
		return err
	}
	return j.part.arrive(ctx)
}

// Stop has all units of the job stop.
func (j *journal) Stop(ctx context.Context, why string) error {
	err := j.Note(ctx, "stop", why)
	j.part.finish() // also when it could not be written down: stopping is the safe side
	return err
}

// Stopped is closed when all units of the job are to stop.
func (j *journal) Stopped() <-chan struct{} { return j.part.ended() }

// write adds one line to the unit's journal, with what else changes.
func (j *journal) write(ctx context.Context, act string, entry Entry, also func(*change, []*taskRecord) error) error {
	entry.Unit, entry.Attempt, entry.Fence = j.claim.unit, j.claim.attempt, j.claim.fence
	entry.Step, entry.Detail = clip(entry.Step), clip(entry.Detail)
	err := j.engine.change(ctx, j.claim.job, func(c *change) error {
		tasks, err := c.held(j.claim)
		if err != nil {
			return err
		}
		if also != nil {
			if err := also(c, tasks); err != nil {
				return err
			}
		}
		return c.note(entry)
	})
	return fault.Wrap(fault.Storage, act, err)
}
