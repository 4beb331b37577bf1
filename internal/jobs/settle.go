package jobs

import (
	"context"
	"fmt"
	"maps"

	"capfleet/internal/fault"
	"capfleet/internal/rows"
)

// ending is a task's result, checked and ready to be stored.
type ending struct {
	TaskResult
	rows []byte // JSON array; nil when there are none
}

// finish checks a runner's result: each claimed device has exactly one ending,
// and each that did not end well says why.
func finish(cl *claim, result Result) map[string]ending {
	endings := make(map[string]ending, len(cl.devices))
	for _, device := range cl.devices {
		r, ok := result.Tasks[device]
		switch {
		case !ok:
			r = brokenResult("the runner gave no result for the device")
		case !allowed(Running, r.State, Worker):
			r = brokenResult("the runner gave %q as the task's state", r.State)
		}
		end := ending{TaskResult: r}
		switch r.State {
		case Succeeded, Unchanged, Attention:
			if len(r.Rows) > 0 {
				joined, err := rows.Join(r.Rows)
				if err != nil {
					end.TaskResult = brokenResult("the runner gave a row that is not JSON: %v", err)
					break
				}
				end.rows = joined
			}
		default:
			end.Rows = nil // a failed attempt leaves none behind
		}
		switch {
		case end.State == Succeeded || end.State == Unchanged:
			end.Failure = nil
		case end.Failure == nil && end.State == Canceled:
			end.Failure = &Failure{Kind: fault.Canceled, Message: "canceled"}
		case end.Failure == nil:
			end.Failure = &Failure{Kind: fault.Internal, Message: "the runner did not say why"}
		}
		if end.Failure != nil {
			f := *end.Failure
			f.Device, f.Message = device, clip(f.Message)
			end.Failure = &f
		}
		endings[device] = end
	}
	return endings
}

func brokenResult(format string, args ...any) TaskResult {
	return TaskResult{State: Failed, Failure: &Failure{Kind: fault.Internal, Message: fault.New(fault.Internal, format, args...).Error()}}
}

// mayPass reports whether an ending is none of the device's doing: the work was
// cut short, or failed in a way that may pass by itself.
func (e ending) mayPass() bool {
	return (e.State == Failed || e.State == Canceled) && (e.Failure.Kind.Retryable() || e.Failure.Kind == fault.Canceled)
}

// settle writes how the work on a unit ended, all of it in one transaction. It is
// fault.Conflict when the claim does not hold any more. Stopping says that the
// work was cut short by fleetd itself.
func (e *Engine) settle(ctx context.Context, cl *claim, endings map[string]ending, stopping bool) (outcome, error) {
	var how outcome
	err := e.change(ctx, cl.job, func(c *change) error {
		how = outcome{}
		tasks, err := c.held(cl)
		if err != nil {
			return err
		}
		canceled := c.job.CanceledAt != nil
		endings := c.overtaken(cl, endings)
		tries, again := e.again(tasks, endings)
		again = again && !cl.together // one unit alone is not begun again
		if again && !stopping {
			how.until = c.now.Add(e.retry.delay(tries)) // one time for the unit
		}
		told := "" // of the unit, in its journal
		for _, t := range tasks {
			end := endings[t.Device]
			if t.Prepared {
				t.Warnings = merge(t.Warnings, end.Warnings)
			} else {
				t.Warnings = end.Warnings
			}
			t.Artifacts = merge(t.Artifacts, end.Artifacts)
			t.Failure, t.Reason, t.Rows = end.Failure, "", len(end.Rows)
			if end.Failure != nil {
				t.Reason = end.Failure.Message
			}
			to, by := end.State, Worker
			cutShort := end.mayPass() && (stopping || again && !cl.cut)
			if cl.phase == PhasePrepare && !canceled && !cutShort {
				how.prepared = true
				if err := c.prepared(cl, t, end); err != nil {
					return err
				}
				if last, ok := contactOf(end.Failure); ok && !cl.beside {
					how.tell(t.Device, last)
				}
				continue
			}
			switch {
			case canceled && cl.phase == PhasePrepare, canceled && end.mayPass() && !t.Held:
				to, t.Reason = Canceled, canceledBy(c.job.CanceledBy)
				t.Failure = &Failure{Device: t.Device, Stage: t.Step, Kind: fault.Canceled, Message: t.Reason}
				if end.Failure != nil {
					t.Failure.Stage = end.Failure.Stage
				}
				if t.Failure.Stage != "" && cl.changes { // how far it came is how the device is
					t.Reason += " before the end of " + t.Failure.Stage
					t.Failure.Message = t.Reason
				}
			case !end.mayPass():
			case stopping:
				to, by, t.Reason, t.Failure = Pending, Scheduler, "fleetd stopped while it ran", nil
				t.Attempt--
				how.again = true
				how.held = how.held || t.Held
			case again:
				how.held = how.held || t.Held
				to, by = Waiting, Scheduler
				t.Reason = fmt.Sprintf("attempt %d of %d failed: %s", t.Attempt-t.Base, e.retry.Attempts, end.Failure.Message)
				t.Until = &how.until
				how.again = true
			}
			if t.Held && (to == Failed || to == Canceled) {
				// It is not known to be in use again, and nobody will look by himself.
				to = Attention
			}
			if cl.changes && (to == Failed || to == Attention || to == Canceled) && t.Reason != told {
				// The record of a change says how each attempt at it ended.
				told = t.Reason
				if err := c.note(Entry{Kind: EntryNote, Unit: t.Unit, Step: t.Step, Attempt: t.Attempt, Fence: t.Fence,
					Detail: string(to) + ": " + t.Reason}); err != nil {
					return err
				}
			}
			t.Held = t.Held && to != Succeeded && to != Unchanged
			how.begun = how.begun || t.Begun
			if err := c.conclude(cl, t, end, to, by); err != nil {
				return err
			}
			how.state = worse(how.state, stateOf(t.Task))
			if last, ok := contactOf(end.Failure); ok && !cl.beside {
				how.tell(t.Device, last)
			}
		}
		return nil
	})
	return how, err
}

// prepared ends the prepare phase of a task. Preparing decides nothing: what failed
// in it is made good in the unit's wave, or fails there, where failures are counted.
func (c *change) prepared(cl *claim, t *taskRecord, end ending) error {
	t.Prepared, t.Attempt, t.Rows = true, t.Base, 0 // the change has attempts of its own
	t.Failure, t.Reason = nil, "prepared; waits for its turn"
	if end.Failure != nil && !cl.cut {
		t.Reason = "its preparation failed and is made good in its turn: " + end.Failure.Message
		t.Warnings = merge(t.Warnings, []string{clip("preparation failed: " + end.Failure.Message)})
		if err := c.note(Entry{Kind: EntryNote, Unit: t.Unit, Step: t.Step, Attempt: t.Attempt, Fence: t.Fence,
			Detail: t.Device + ": " + t.Reason}); err != nil {
			return err
		}
	}
	if err := c.learn(cl, t, end, Waiting); err != nil {
		return err
	}
	return c.move(t, Waiting, Scheduler)
}

// again decides whether a unit is begun again by itself: when each of its failed
// tasks may pass and has attempts left. One that cannot pass settles the unit,
// since its devices are worked on together. Tries is how many attempts failed.
func (e *Engine) again(tasks []*taskRecord, endings map[string]ending) (tries int, again bool) {
	for _, t := range tasks {
		end := endings[t.Device]
		if end.State != Failed && end.State != Canceled {
			continue
		}
		if !end.Failure.Kind.Retryable() || t.Attempt-t.Base >= e.retry.Attempts {
			return 0, false
		}
		tries = max(tries, t.Attempt-t.Base)
	}
	return tries, tries > 0
}

// held gives the tasks of a claim, if it still holds.
func (c *change) held(cl *claim) ([]*taskRecord, error) {
	tasks := make([]*taskRecord, 0, len(cl.devices))
	for _, device := range cl.devices {
		t, err := c.task(device)
		if err != nil {
			return nil, err
		}
		if t.State != Running || t.Fence != cl.fence {
			return nil, fault.New(fault.Conflict, "unit %s of job %s: the runner lost its place (its fence is %d, task %s is %s with %d)",
				cl.unit, c.id, cl.fence, device, t.State, t.Fence)
		}
		tasks = append(tasks, t)
	}
	return tasks, nil
}

// conclude stores one task's ending with its rows and facts.
func (c *change) conclude(cl *claim, t *taskRecord, end ending, to State, by Mover) error {
	if to == Waiting || to == Pending {
		if err := c.note(Entry{Kind: EntryNote, Unit: t.Unit, Step: t.Step, Attempt: t.Attempt, Fence: t.Fence,
			Detail: t.Device + ": " + t.Reason}); err != nil {
			return err
		}
	}
	if end.rows != nil && to == end.State {
		if err := c.tx.Put(nsRows, c.id.under(t.Device), end.rows); err != nil {
			return err
		}
	}
	if to == end.State && (to == Succeeded || to == Unchanged || to == Attention) ||
		cl.changes && (to == Failed || to == Canceled || to == Attention) {
		// What a change has learned is true of the device however the change ended.
		if err := c.store(cl, end.Stores); err != nil {
			return err
		}
	}
	if err := c.learn(cl, t, end, to); err != nil {
		return err
	}
	return c.move(t, to, by)
}

// store keeps values for later jobs of the operation.
func (c *change) store(cl *claim, values map[string][]byte) error {
	for key, value := range values {
		at := storeKey(cl.operation, key)
		var err error
		if value == nil {
			err = c.tx.Delete(nsStores, at)
		} else {
			err = c.tx.Put(nsStores, at, value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// learn keeps what the task found out about the device.
func (c *change) learn(cl *claim, t *taskRecord, end ending, to State) error {
	d, _, err := get[DeviceFacts](c.tx, nsDevices, []byte(t.Device))
	if err != nil {
		return err
	}
	if len(end.Facts) > 0 && d.Facts == nil {
		d.Facts = make(map[string]string)
	}
	maps.Copy(d.Facts, end.Facts)
	maps.DeleteFunc(d.Facts, func(_, v string) bool { return v == "" })
	if cl.beside {
		if len(end.Facts) == 0 {
			return nil
		}
		return put(c.tx, nsDevices, []byte(t.Device), d)
	}
	switch {
	case to == Canceled || to == Pending:
		if len(end.Facts) == 0 {
			return nil // nothing was learned
		}
	case end.Failure == nil:
		d.LastError = ""
	default:
		d.LastError = end.Failure.Message
	}
	if len(end.Facts) > 0 || end.Failure == nil || reached(end.Failure.Kind) {
		d.LastSeen = &c.now
	}
	if last, ok := contactOf(end.Failure); ok {
		d.Silent = last == silent
	}
	return put(c.tx, nsDevices, []byte(t.Device), d)
}

// reached reports whether a failure of this kind came from the device itself.
func reached(kind fault.Kind) bool {
	switch kind {
	case fault.Auth, fault.Refused, fault.Unparsed, fault.TooLarge, fault.Disconnected:
		return true
	default:
		return false
	}
}
