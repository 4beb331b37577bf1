package runnertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"capfleet/internal/fault"
	"capfleet/internal/jobs"
)

// Func is a runner made of a function, for tests that want to say what happens.
type Func func(ctx context.Context, work jobs.Work, journal jobs.Journal) jobs.Result

// Run calls the function.
func (f Func) Run(ctx context.Context, work jobs.Work, journal jobs.Journal) jobs.Result {
	return f(ctx, work, journal)
}

// Spec is what Fake's jobs ask for.
type Spec struct {
	Behaviour Behaviour `json:"behaviour"`
	Rows      int       `json:"rows,omitempty"` // of Succeeds, for each device; default 1
}

// JSON is the spec as a request has it.
func (s Spec) JSON() json.RawMessage {
	data, err := json.Marshal(s)
	if err != nil {
		panic(err) // two plain fields always encode
	}
	return data
}

// World is the devices of Fake, as far as once-only acts change them. It outlives
// runners, as devices do.
type World interface {
	// Done tells whether the act was done on a unit.
	Done(unit string) (bool, error)
	// Do does the act.
	Do(unit string) error
}

// Fake is a runner without devices: each unit behaves as its job's Spec says. It
// keeps the contract.
type Fake struct {
	World World
}

var _ jobs.Runner = (*Fake)(nil)

// fakeStep is the name of the one step.
const fakeStep = "act"

// Run takes a unit through the one step of its behaviour.
func (f *Fake) Run(ctx context.Context, work jobs.Work, journal jobs.Journal) (result jobs.Result) {
	defer func() {
		if r := recover(); r != nil {
			result = failed(work, fault.New(fault.Internal, "the operation panicked: %v", r))
		}
	}()
	var spec Spec
	if err := json.Unmarshal(work.Spec, &spec); err != nil {
		return failed(work, fault.Wrap(fault.Invalid, "read spec", err))
	}
	if err := journal.Step(ctx, fakeStep); err != nil {
		return failed(work, err)
	}
	switch spec.Behaviour {
	case Succeeds:
		return succeeded(work, jobs.Succeeded, max(1, spec.Rows))
	case Fails:
		return failed(work, &fault.Error{Kind: fault.Refused, Stage: "command", Act: "run", Err: errors.New("% Unknown command")})
	case Blocks:
		<-ctx.Done()
		return failed(work, fault.Wrap(fault.Canceled, "wait", context.Cause(ctx)))
	case Meets:
		if err := journal.Ready(ctx); err != nil {
			return failed(work, err)
		}
		select {
		case <-journal.Stopped():
			return succeeded(work, jobs.Succeeded, 1)
		case <-ctx.Done():
			return failed(work, fault.Wrap(fault.Canceled, "wait for the stop", context.Cause(ctx)))
		}
	case ActsOnce:
		return f.actOnce(ctx, work, journal)
	case Holds:
		return f.outAndBack(ctx, work, journal)
	case Unproven:
		return jobs.Result{Tasks: each(work, func(device string) jobs.TaskResult {
			return jobs.TaskResult{State: jobs.Attention, Failure: &jobs.Failure{Device: device, Stage: fakeStep,
				Kind: fault.Internal, Message: "the device does not show whether the act was done"}}
		})}
	case Panics:
		panic("as asked for")
	default:
		return failed(work, fault.New(fault.Invalid, "behaviour %q", spec.Behaviour))
	}
}

// actOnce looks, announces, acts, and looks again.
func (f *Fake) actOnce(ctx context.Context, work jobs.Work, journal jobs.Journal) jobs.Result {
	done, err := f.World.Done(work.Unit)
	switch {
	case err != nil:
		return failed(work, err)
	case done:
		return succeeded(work, jobs.Unchanged, 1)
	}
	if err := journal.Intent(ctx, fakeStep, "act on "+work.Unit); err != nil {
		return failed(work, err)
	}
	err = f.World.Do(work.Unit)
	if err := journal.Outcome(ctx, fakeStep, "acted on "+work.Unit, err); err != nil {
		return failed(work, err)
	}
	if done, look := f.World.Done(work.Unit); err == nil && (look != nil || !done) {
		err = fault.New(fault.Internal, "the act left no trace")
	}
	if err != nil {
		return failed(work, err)
	}
	return succeeded(work, jobs.Succeeded, 1)
}

// outAndBack takes the unit out of use, if it is not, and brings it back.
func (f *Fake) outAndBack(ctx context.Context, work jobs.Work, journal jobs.Journal) jobs.Result {
	if !work.Held {
		if err := journal.Hold(ctx, fakeStep); err != nil {
			return failed(work, err)
		}
		if err := f.World.Do(work.Unit); err != nil {
			return failed(work, err)
		}
	}
	if err := journal.Release(ctx, fakeStep); err != nil {
		return failed(work, err)
	}
	return succeeded(work, jobs.Succeeded, 1)
}

func each(work jobs.Work, fn func(device string) jobs.TaskResult) map[string]jobs.TaskResult {
	tasks := make(map[string]jobs.TaskResult, len(work.Targets))
	for _, t := range work.Targets {
		tasks[t.Device] = fn(t.Device)
	}
	return tasks
}

func succeeded(work jobs.Work, state jobs.State, rows int) jobs.Result {
	return jobs.Result{Tasks: each(work, func(device string) jobs.TaskResult {
		r := jobs.TaskResult{State: state, Facts: map[string]string{"version": "1"}}
		name, _ := json.Marshal(device) // a string always encodes
		for i := range rows {
			r.Rows = append(r.Rows, fmt.Appendf(nil, `{"device":%s,"row":%d,"attempt":%d}`, name, i, work.Attempt))
		}
		return r
	})}
}

func failed(work jobs.Work, err error) jobs.Result {
	stage := fault.StageOf(err)
	if stage == "" {
		stage = fakeStep
	}
	return jobs.Result{Tasks: each(work, func(device string) jobs.TaskResult {
		return jobs.TaskResult{State: jobs.Failed, Failure: &jobs.Failure{Device: device, Stage: stage,
			Kind: fault.KindOf(err), Message: err.Error()}}
	})}
}

// Memory is a World in memory.
type Memory struct {
	mu   sync.Mutex
	acts map[string]int
}

var _ World = (*Memory)(nil)

// Acts counts the acts on a unit.
func (m *Memory) Acts(unit string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.acts[unit]
}

// Done is World's.
func (m *Memory) Done(unit string) (bool, error) { return m.Acts(unit) > 0, nil }

// Do is World's.
func (m *Memory) Do(unit string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.acts == nil {
		m.acts = make(map[string]int)
	}
	m.acts[unit]++
	return nil
}
