package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"runtime/debug"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// The pauses between tries of a worker whose ledger cannot be written, such as
// on a full disk. It holds its place meanwhile, so that no more work is begun
// than can be written down.
const (
	storePause    = 250 * time.Millisecond
	storePauseMax = 10 * time.Second
)

// errGone means that a unit has no task left to be claimed: it was canceled
// between the decision and the claim.
var errGone = errors.New("the unit was taken back")

// pausedError means that a job was paused between the decision and the claim.
type pausedError struct{ gate gate }

func (pausedError) Error() string { return "the job is paused" }

// claim is the place that a worker has on a unit: the tasks it set running, and
// the fence that shows it still holds them.
type claim struct {
	job       number
	operation string
	unit      string
	devices   []string // whose tasks are being worked on
	fence     uint64
	attempt   int
	// together says that the unit is of a coordinated job.
	together bool
	held     bool // from an earlier attempt
	phase    Phase
	cut      bool // its preparation was stopped, being of no use any more
	retries  int  // by an operator
	beside   bool
	changes  bool // the job is not one that only reads
	loaded   loaded
}

// work takes one unit from claim to result. The unit's context ends when its job
// is canceled or fleetd stops, ctx only when fleetd stops.
func (e *Engine) work(ctx, unitCtx context.Context, u *unit, b *brake) outcome {
	if u.members != nil {
		return e.workTogether(ctx, unitCtx, u, b)
	}
	claims, err := e.claim(unitCtx, u.job.id, []*unit{u})
	if err != nil {
		return e.notClaimed(unitCtx, u, err)
	}
	return e.carryOut(ctx, unitCtx, u, claims[0], nil, b)
}

// notClaimed says what becomes of a unit whose claim failed.
func (e *Engine) notClaimed(unitCtx context.Context, u *unit, err error) outcome {
	var paused pausedError
	switch {
	case errors.As(err, &paused):
		return outcome{again: true, gate: paused.gate}
	case errors.Is(err, errGone), fault.Is(err, fault.Conflict):
		return outcome{}
	case unitCtx.Err() != nil:
		return outcome{again: true} // nothing was begun
	default:
		e.log.Error("unit could not be handed out; trying again", "job", u.job.id.String(), "unit", u.name, "op", u.job.operation, "err", err)
		return outcome{again: true, until: e.now().Add(storePauseMax)}
	}
}

// carryOut takes a claimed unit to its result; m is where it meets the other units
// of a coordinated job, or nil.
func (e *Engine) carryOut(ctx, unitCtx context.Context, u *unit, claim *claim, m *meeting, b *brake) outcome {
	log := e.log.With("job", u.job.id.String(), "unit", u.name, "op", u.job.operation)
	part := &attendee{meeting: m, unit: u.name}
	var result Result
	if work, err := e.describe(u, claim); err != nil {
		result = failAll(claim.devices, err)
	} else {
		result = e.attempt(unitCtx, work, &journal{engine: e, claim: claim, part: part, brake: b})
	}
	part.leave(result)
	finished := finish(claim, result)
	for pause := storePause; ; pause = min(2*pause, storePauseMax) {
		claim.cut = context.Cause(unitCtx) == errStopped //nolint:errorlint // it is the one value
		how, err := e.settle(context.WithoutCancel(ctx), claim, finished, ctx.Err() != nil)
		switch {
		case err == nil:
			return how
		case fault.Is(err, fault.Conflict):
			log.Warn("result refused: the unit was handed out anew", "err", err)
			return outcome{}
		case ctx.Err() != nil:
			log.Error("result lost, fleetd stops: the next start does the work again", "err", err)
			return outcome{}
		}
		log.Error("result could not be stored; trying again", "err", err)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// claim sets the open tasks of units of a job running, each unit's under a new
// fence, all in one transaction. The ledger is asked again whether they may: the
// schedule can be behind.
func (e *Engine) claim(ctx context.Context, job number, units []*unit) (claims []*claim, err error) {
	err = e.change(ctx, job, func(c *change) error {
		claims = nil
		for _, u := range units {
			if c.job.PausedAt != nil && !u.begun { // what was begun goes on to its end
				return pausedError{c.job.gate()}
			}
			cl, err := c.claim(u)
			if err != nil {
				return err
			}
			claims = append(claims, cl)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return claims, nil
}

// claim sets one unit's open tasks running.
func (c *change) claim(u *unit) (*claim, error) {
	cl := &claim{job: u.job.id, operation: u.job.operation, unit: u.name, together: u.job.together, beside: u.job.beside, changes: u.job.access == accessChange, phase: u.phase}
	var open []*taskRecord
	for _, device := range u.devices {
		t, err := c.task(device)
		if err != nil {
			return nil, err
		}
		cl.fence = max(cl.fence, t.Fence+1)
		if !t.State.Final() {
			open = append(open, t)
			cl.attempt = max(cl.attempt, t.Attempt+1)
		}
	}
	if len(open) == 0 {
		return nil, errGone
	}
	for _, t := range open {
		t.Attempt, t.Fence = cl.attempt, cl.fence
		t.Step, t.Reason, t.Failure = "", "", nil
		if err := c.move(t, Running, Scheduler); err != nil {
			return nil, err
		}
		cl.devices = append(cl.devices, t.Device)
		cl.held = cl.held || t.Held
		cl.retries = max(cl.retries, t.Retries)
	}
	return cl, nil
}

// describe reads what the runner is given. All devices of the unit are in it,
// also one whose task is done already: the others may need it (an HA peer).
func (e *Engine) describe(u *unit, cl *claim) (Work, error) {
	work := Work{Job: u.job.id.String(), Operation: u.job.operation, Spec: u.job.spec, Unit: u.name,
		Attempt: cl.attempt, Retries: cl.retries, Fence: cl.fence, Held: cl.held, Phase: cl.phase}
	err := e.ledger.View(func(tx *ledger.Tx) (err error) {
		for _, device := range u.devices {
			t, ok, err := get[Target](tx, nsTargets, u.job.id.under(device))
			if err != nil {
				return err
			}
			if !ok {
				return fault.New(fault.Storage, "job %s has no target for device %q", u.job.id, device)
			}
			work.Targets = append(work.Targets, t)
		}
		if work.History, err = readJournal(tx, u.job.id, u.name); err != nil {
			return err
		}
		work.Memory, err = readMemory(tx, u.job.id, u.name)
		return err
	})
	return work, err
}

// readMemory gives what a unit's steps remember.
func readMemory(tx *ledger.Tx, id number, unit string) (memory map[string]json.RawMessage, err error) {
	prefix := unitPrefix(id, unit)
	err = tx.Scan(nsMemory, prefix, unitEnd(id, unit), func(k, v []byte) bool {
		if memory == nil {
			memory = make(map[string]json.RawMessage)
		}
		memory[string(k[len(prefix):])] = bytes.Clone(v)
		return true
	})
	return memory, err
}

// attempt runs the runner and contains its panic.
func (e *Engine) attempt(ctx context.Context, work Work, j Journal) (result Result) {
	defer func() {
		if r := recover(); r != nil {
			e.log.Error("runner panicked", "job", work.Job, "unit", work.Unit, "op", work.Operation,
				"panic", r, "stack", string(debug.Stack()))
			result = failTargets(work.Targets, fault.New(fault.Internal, "the runner panicked: %v", r))
		}
	}()
	return e.runner.Run(ctx, work, j)
}

func failTargets(targets []Target, err error) Result {
	devices := make([]string, 0, len(targets))
	for _, t := range targets {
		devices = append(devices, t.Device)
	}
	return failAll(devices, err)
}

// failAll is a result in which every device failed in the same way.
func failAll(devices []string, err error) Result {
	tasks := make(map[string]TaskResult, len(devices))
	for _, device := range devices {
		tasks[device] = TaskResult{State: Failed, Failure: &Failure{Device: device, Stage: fault.StageOf(err),
			Kind: fault.KindOf(err), Message: err.Error()}}
	}
	return Result{Tasks: tasks}
}
