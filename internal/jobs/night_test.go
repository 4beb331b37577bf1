package jobs_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/jobs/runnertest"
	"capfleet/internal/rollout"
)

// tellNight is the child of TestRolloutKilledAtEachCommit: a night of changes with
// approval, preparation, canary, a pause after it and waves.
func tellNight(dir string) error {
	db, opts, err := openDir(dir)
	if err != nil {
		return err
	}
	opts.Runner = runnertest.Func(nightWork(fileWorld{filepath.Join(dir, "world")}))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	engine, err := jobs.Open(ctx, opts)
	if err != nil {
		return err
	}
	ran := make(chan error, 1)
	go func() { ran <- engine.Run(ctx) }()
	canary := 1
	req := request("change", nil, names(4)...)
	req.RequestID = "night"
	req.Rollout = &rollout.Policy{Canary: &canary, Wave: rollout.Units(2), PauseAfterCanary: true, Approve: true}
	for i := range req.Targets {
		req.Targets[i].Prepares = true
	}
	job, err := engine.Submit(ctx, req)
	if err != nil {
		return err
	}
	if job.FinishedAt == nil {
		if _, err := engine.Approve(ctx, job.ID, "bob"); err != nil && !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	for ev, err := range engine.Watch(ctx, jobs.WatchOptions{Job: job.ID}) {
		if err != nil || ev.Type == jobs.EventJobFinished {
			cancel()
			return errors.Join(err, <-ran, db.Close())
		}
		if ev.Type == jobs.EventJobPaused {
			if _, err := engine.Resume(ctx, job.ID, "bob"); err != nil && !fault.Is(err, fault.Conflict) {
				return err
			}
		}
	}
	return errors.New("the watch ended by itself")
}

// nightWork takes a unit out of use, changes it once and brings it back. What the
// world shows decides.
func nightWork(world fileWorld) func(context.Context, jobs.Work, jobs.Journal) jobs.Result {
	return func(ctx context.Context, w jobs.Work, j jobs.Journal) jobs.Result {
		do := func(what string) error {
			if done, err := world.Done(w.Unit + " " + what); done || err != nil {
				return err
			}
			return world.Do(w.Unit + " " + what)
		}
		steps := func() error {
			if w.Phase == jobs.PhasePrepare {
				return do("uploaded")
			}
			if !w.Held {
				if back, err := world.Done(w.Unit + " back"); back || err != nil {
					return err
				}
				if err := j.Hold(ctx, "out"); err != nil {
					return err
				}
			}
			if err := do("out"); err != nil {
				return err
			}
			if done, err := world.Done(w.Unit + " changed"); err != nil {
				return err
			} else if !done {
				if slices.ContainsFunc(w.History, func(e jobs.Entry) bool { return e.Kind == jobs.EntryOutcome }) {
					return fault.New(fault.Internal, "the journal says that it was changed, and it was not")
				}
				if err := j.Intent(ctx, "change", ""); err != nil {
					return err
				}
				err := do("changed")
				if err := j.Outcome(ctx, "change", "", err); err != nil {
					return err
				}
			}
			if err := do("back"); err != nil {
				return err
			}
			return j.Release(ctx, "back")
		}
		if err := steps(); err != nil {
			return result(w, jobs.TaskResult{State: jobs.Failed, Failure: &jobs.Failure{Kind: fault.KindOf(err), Message: err.Error()}})
		}
		return result(w, succeeds(`1`))
	}
}
