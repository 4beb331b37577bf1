package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/operation"
)

// outcomeTimeout bounds the writing of an outcome, which is written although the
// work was cancelled: it is what the next attempt goes by.
const outcomeTimeout = 5 * time.Second

// task is one unit on its way through its steps.
type task struct {
	work    jobs.Work
	journal jobs.Journal
	log     *slog.Logger
	env     *env
	// acted is set once something was changed, so that the task is not "unchanged". It
	// is remembered: an earlier attempt or phase is this job's doing, too.
	acted bool
	// changes is set where some step acts: what the others saw is kept, too. Of work
	// that only reads, the rows tell.
	changes bool
	// held is set while a cancel is held back.
	held bool
}

// keyActed is where acted is remembered.
const keyActed = reserved + "acted"

// intended reports whether the once-only act of a step has, or may have, been sent:
// by an earlier attempt, or by this one.
func (t *task) intended(s operation.Step) bool {
	_, ok := t.env.Intended(s.Name)
	return ok
}

// step observes and, where the wanted state is proven absent, acts.
func (t *task) step(ctx context.Context, s operation.Step) error {
	if err := t.journal.Step(ctx, s.Name); err != nil {
		return err
	}
	if s.Once && s.Observe == nil {
		// No device shows whether it was done; only the journal keeps it from being
		// done twice.
		if t.intended(s) {
			return inconclusive(s, operation.Observation{Detail: "no device shows it"}, true)
		}
		return t.act(ctx, s, operation.Observation{})
	}
	seen, err := t.observe(ctx, s)
	if err != nil {
		return err
	}
	if s.Act == nil {
		if seen.Verdict == operation.Inconclusive {
			return inconclusive(s, seen, false)
		}
		if t.changes && seen.Detail != "" {
			// What a change was based on, and what it was proven by.
			return t.journal.Note(ctx, s.Name, string(seen.Verdict)+": "+line(seen.Detail))
		}
		return nil
	}
	if err := t.journal.Note(ctx, s.Name, string(seen.Verdict)+": "+line(seen.Detail)); err != nil {
		return err
	}
	switch seen.Verdict {
	case operation.Done:
		t.acted = t.acted || t.intended(s)
		return nil
	case operation.Needed:
		return t.act(ctx, s, seen)
	case operation.Inconclusive:
		return inconclusive(s, seen, t.intended(s))
	default:
		return fault.New(fault.Internal, "step %s observed %q, which is no verdict", s.Name, seen.Verdict)
	}
}

func (t *task) observe(ctx context.Context, s operation.Step) (operation.Observation, error) {
	var seen operation.Observation
	err := t.call(s, func() (err error) {
		if s.Observe == nil {
			return fault.New(fault.Internal, "step %s does not observe", s.Name)
		}
		seen, err = s.Observe(ctx, t.env)
		return err
	})
	if err != nil && t.intended(s) && !fault.KindOf(err).Retryable() && ctx.Err() == nil {
		// Trying again will not show it, and the act may have been done.
		return seen, operation.Attention(fault.Wrap(fault.Internal, "cannot see whether "+s.Name+" was done", err))
	}
	return seen, err
}

func (t *task) act(ctx context.Context, s operation.Step, seen operation.Observation) error {
	// Durable before anything is sent: without it nothing is.
	if !t.acted {
		if err := t.env.Remember(ctx, keyActed, true); err != nil {
			return err
		}
		t.acted = true
	}
	if s.Hold && !t.held {
		if err := t.journal.Hold(ctx, s.Name); err != nil {
			return err
		}
		t.held = true
	}
	if s.Once {
		if err := t.journal.Intent(ctx, s.Name, line(seen.Detail)); err != nil {
			return err
		}
		t.env.intend(s.Name)
	}
	err := t.call(s, func() error { return s.Act(ctx, t.env) })
	if s.Once {
		octx, cancel := context.WithTimeout(context.WithoutCancel(ctx), outcomeTimeout)
		defer cancel()
		if jerr := t.journal.Outcome(octx, s.Name, outcome(err), err); jerr != nil {
			err = errors.Join(err, jerr)
		}
		if err != nil && ctx.Err() != nil && !errors.Is(context.Cause(ctx), jobs.ErrStopping) {
			// Nobody will look at the device again by himself. When fleetd stops, the
			// next start does.
			return operation.Attention(fault.Wrap(fault.Canceled, "stopped during "+s.Name+", which may have been done", err))
		}
	}
	return err
}

// release lets a cancel through again, once the unit is known to be safe.
func (t *task) release(ctx context.Context, s operation.Step) error {
	if !t.held {
		return nil
	}
	rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), outcomeTimeout)
	defer cancel()
	if err := t.journal.Release(rctx, s.Name); err != nil {
		return err
	}
	t.held = false
	return nil
}

// call runs a part of a step; what the step put into the environment that cannot
// be kept is its error as well.
func (t *task) call(s operation.Step, f func() error) error {
	err := recovered(t.log, s.Name, f)
	if bad := t.env.takeError(); bad != nil && err == nil {
		err = bad
	}
	return err
}

func outcome(err error) string {
	if err != nil {
		return "the act ended with an error"
	}
	return "done"
}

func inconclusive(s operation.Step, seen operation.Observation, intended bool) error {
	detail := line(seen.Detail)
	if detail == "" {
		detail = "the device does not show its state"
	}
	if intended {
		detail = fmt.Sprintf("%s may have been done: %s", s.Name, detail)
	}
	return operation.Attention(&fault.Error{Kind: fault.Conflict, Act: detail, Stage: s.Name,
		Next: "look at the device, then retry the job"})
}

// done is the result of a unit that went through all steps. It is unchanged
// where there was something to act on and nothing needed it.
func (t *task) done(steps []operation.Step) jobs.Result {
	state := jobs.Succeeded
	for _, s := range steps {
		if s.Act != nil && !t.acted {
			state = jobs.Unchanged
		}
	}
	return t.result(func(device string) jobs.TaskResult {
		r := t.env.keep(device)
		r.State = state
		r.Rows = t.env.rowsOf(device)
		return r
	})
}

// ended is the result of a unit whose step gave an error.
func (t *task) ended(ctx context.Context, s operation.Step, err error) jobs.Result {
	kind := fault.KindOf(err)
	switch {
	case operation.NeedsAttention(err):
		return t.with(jobs.Attention, s.Name, err)
	case operation.IsSecured(err):
		if rerr := t.release(ctx, s); rerr != nil {
			err = errors.Join(err, rerr)
		}
		return t.failed(s.Name, err)
	case ctx.Err() != nil && (kind == fault.Canceled || kind.Retryable()):
		// The connection was cut because the work was told to stop.
		return t.canceled(s.Name)
	default:
		return t.failed(s.Name, err)
	}
}

func (t *task) failed(step string, err error) jobs.Result { return t.with(jobs.Failed, step, err) }

func (t *task) canceled(step string) jobs.Result {
	return t.with(jobs.Canceled, step, fault.New(fault.Canceled, "stopped before the end of %s", step))
}

func (t *task) with(state jobs.State, step string, err error) jobs.Result {
	return t.result(func(device string) jobs.TaskResult {
		r := jobs.TaskResult{}
		if t.env != nil {
			r = t.env.keep(device)
		}
		r.State = state
		r.Failure = failure(device, step, err)
		return r
	})
}

func (t *task) result(of func(device string) jobs.TaskResult) jobs.Result {
	res := jobs.Result{Tasks: make(map[string]jobs.TaskResult, len(t.work.Targets))}
	for _, target := range t.work.Targets {
		res.Tasks[target.Device] = of(target.Device)
	}
	return res
}

// failure is the row of a device. A peer's trouble names the peer.
func failure(device, step string, err error) *jobs.Failure {
	stage := fault.StageOf(err)
	if stage == "" {
		stage = step
	}
	return &jobs.Failure{Device: device, Stage: stage, Kind: fault.KindOf(err), Message: line(err.Error())}
}
