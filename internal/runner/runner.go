// Package runner takes units of work through their operations' steps, in this
// process. It joins an operation with a driver and a connection and says how it
// ended; it decides nothing about when, and never tries again by itself.
//
// The device is authoritative: a step is always observed before it acts, also
// after a crash, and what the journal says about an earlier attempt only tells
// what may have happened. What cannot be shown goes to a person.
package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"capfleet/internal/artifact"
	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/operation"
)

// Artifacts keeps files; *artifact.Store does.
type Artifacts interface {
	Put(ctx context.Context, meta artifact.Meta, r io.Reader) (artifact.Artifact, error)
	// OpenAt gives a file that was checked against its digest, to read anywhere.
	OpenAt(ctx context.Context, sha256 string) (*artifact.File, error)
}

// Options is what a Runner is made of. All of it is required but Logger and Now.
type Options struct {
	Operations []operation.Operation
	Drivers    []device.Driver
	Dialer     device.Dialer
	Artifacts  Artifacts
	Logger     *slog.Logger
	Now        func() time.Time
}

// Runner runs units of work. It holds no state between them and is safe for
// concurrent use.
type Runner struct {
	operations map[string]operation.Operation
	drivers    map[string]device.Driver
	dialer     device.Dialer
	artifacts  Artifacts
	log        *slog.Logger
	now        func() time.Time
}

var _ jobs.Runner = (*Runner)(nil)

// New makes a Runner of the operations and drivers given, found by their names.
func New(opts Options) *Runner {
	r := &Runner{
		operations: map[string]operation.Operation{},
		drivers:    map[string]device.Driver{},
		dialer:     opts.Dialer,
		artifacts:  opts.Artifacts,
		log:        opts.Logger,
		now:        opts.Now,
	}
	for _, op := range opts.Operations {
		r.operations[op.Name()] = op
	}
	for _, d := range opts.Drivers {
		r.drivers[d.Platform()] = d
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = time.Now
	}
	return r
}

// Run implements jobs.Runner. Sessions and connections are opened when a step
// first asks for them, are shared by all steps, and are closed before it returns.
func (r *Runner) Run(ctx context.Context, work jobs.Work, journal jobs.Journal) jobs.Result {
	log := r.log.With("job", work.Job, "op", work.Operation, "unit", work.Unit)
	t := &task{work: work, journal: journal, log: log, held: work.Held}
	steps, env, err := r.prepare(work, journal, log)
	if err != nil {
		return t.failed(stagePrepare, err)
	}
	defer env.close()
	t.env = env
	if _, err := env.Recall(keyActed, &t.acted); err != nil {
		return t.failed(stagePrepare, err)
	}
	t.changes = slices.ContainsFunc(steps, func(s operation.Step) bool { return s.Act != nil })
	steps = inPhase(steps, work.Phase)
	last := lastHold(steps)
	for i, step := range steps {
		if ctx.Err() != nil {
			return t.canceled(step.Name)
		}
		if err := t.step(ctx, step); err != nil {
			return t.ended(ctx, step, err)
		}
		if i == last {
			if err := t.release(ctx, step); err != nil {
				return t.ended(ctx, step, err)
			}
		}
	}
	return t.done(steps)
}

// stagePrepare is the stage of a failure before the first step.
const stagePrepare = "prepare"

func (r *Runner) prepare(work jobs.Work, journal jobs.Journal, log *slog.Logger) ([]operation.Step, *env, error) {
	op, ok := r.operations[work.Operation]
	if !ok {
		return nil, nil, fault.New(fault.Unsupported, "no operation %q in this fleetd", work.Operation)
	}
	unit := operation.Unit{Name: work.Unit}
	for _, target := range work.Targets {
		dev := new(device.Device)
		if err := json.Unmarshal(target.Snapshot, dev); err != nil {
			return nil, nil, &fault.Error{Kind: fault.Internal, Act: "read the job's copy of the device", Device: target.Device, Err: err}
		}
		unit.Devices = append(unit.Devices, dev)
	}
	var steps []operation.Step
	err := recovered(log, "", func() (err error) {
		steps, err = op.Steps(work.Spec, unit)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return steps, newEnv(r, unit, work, journal, log), nil
}

// recovered calls f and turns a panic into an error of kind Internal. The stack
// is for the log alone.
func recovered(log *slog.Logger, step string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			log.Error("operation panicked", "step", step, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			err = &fault.Error{Kind: fault.Internal, Act: "the operation panicked", Stage: step,
				Err: fmt.Errorf("%v", v), Next: "fleetd's log has the stack; please report it"}
		}
	}()
	return f()
}

// inPhase gives the steps of a phase. Those that prepare are in the change phase,
// too: what they prepared days ago may be gone.
func inPhase(steps []operation.Step, phase jobs.Phase) []operation.Step {
	if phase != jobs.PhasePrepare {
		return steps
	}
	return slices.DeleteFunc(slices.Clone(steps), func(s operation.Step) bool { return !s.Prepare })
}

// lastHold is the place of the last step that a cancel waits for; -1 for none.
func lastHold(steps []operation.Step) int {
	for i, s := range slices.Backward(steps) {
		if s.Hold {
			return i
		}
	}
	return -1
}

// intents gives when the last intent of each once-only step was written, whose act
// may have been done by an earlier attempt.
func intents(history []jobs.Entry) map[string]time.Time {
	m := map[string]time.Time{}
	for _, e := range history {
		if e.Kind == jobs.EntryIntent {
			m[e.Step] = e.Time
		}
	}
	return m
}
