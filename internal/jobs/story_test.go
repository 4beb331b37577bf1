package jobs_test

import (
	"context"
	"errors"

	"capfleet/internal/jobs"
	"capfleet/internal/jobs/runnertest"
)

// tellStory is the child of TestKilledAtEachCommit: a job with a once-only act, some
// reports, and the removal of the older jobs.
func tellStory(dir string) error {
	db, opts, err := openDir(dir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	engine, err := jobs.Open(ctx, opts)
	if err != nil {
		return err
	}
	ran := make(chan error, 1)
	go func() { ran <- engine.Run(ctx) }()
	await := func(id string) error {
		for ev, err := range engine.Watch(ctx, jobs.WatchOptions{Job: id}) {
			if err != nil || ev.Type == jobs.EventJobFinished {
				return err
			}
		}
		return errors.New("the watch ended by itself")
	}
	finish := func(req jobs.Request) error {
		job, err := engine.Submit(ctx, req)
		if err != nil {
			return err
		}
		return await(job.ID)
	}
	act := request("change", runnertest.Spec{Behaviour: runnertest.ActsOnce}.JSON(), names(2)...)
	act.RequestID = "act"
	if err := finish(act); err != nil {
		return err
	}
	for range 2 {
		if err := finish(request("read", runnertest.Spec{Behaviour: runnertest.Succeeds, Rows: 2}.JSON(), names(2)...)); err != nil {
			return err
		}
	}
	left, _, err := engine.List(ctx, jobs.ListOptions{Active: true}) // by an earlier process
	if err != nil {
		return err
	}
	for _, job := range left {
		if err := await(job.ID); err != nil {
			return err
		}
	}
	if _, err := jobs.NewPruner(engine, jobs.Retention{Jobs: 1}).Prune(ctx); err != nil {
		return err
	}
	cancel()
	return errors.Join(<-ran, db.Close())
}
