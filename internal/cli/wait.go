package cli

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

// jobFlags are the flags of commands that start work.
type jobFlags struct {
	outputFlags
	detach bool
}

func (j *jobFlags) register(cmd *cobra.Command) {
	j.outputFlags.register(cmd)
	cmd.Flags().BoolVar(&j.detach, "detach", false, "do not wait: print the job's id and end")
}

// submit makes a job and does with it what the flags say.
func (a *app) submit(ctx context.Context, f fleet, j *jobFlags, operation string, spec any, sel api.Selection) error {
	if _, err := j.format(); err != nil {
		return err
	}
	return a.submitRollout(ctx, f, j, operation, spec, sel, nil)
}

// submitRollout is submit for a change that goes over the devices as a rollout says.
func (a *app) submitRollout(ctx context.Context, f fleet, j *jobFlags, operation string, spec any, sel api.Selection, rollout *api.Rollout) error {
	if _, err := j.format(); err != nil {
		return err
	}
	job, err := a.startRollout(ctx, f, operation, spec, sel, rollout)
	if err != nil {
		return err
	}
	return a.attendOrLeave(ctx, f, j, job)
}

// start makes a job and passes on what fleetd warns of.
func (a *app) start(ctx context.Context, f fleet, operation string, spec any, sel api.Selection) (api.Job, error) {
	return a.startRollout(ctx, f, operation, spec, sel, nil)
}

func (a *app) startRollout(ctx context.Context, f fleet, operation string, spec any, sel api.Selection, rollout *api.Rollout) (api.Job, error) {
	raw, err := json.Marshal(spec)
	if err != nil {
		return api.Job{}, fault.Wrap(fault.Internal, "write the request", err)
	}
	job, err := f.Submit(ctx, api.JobRequest{Operation: operation, Spec: raw, Selection: sel, Rollout: rollout})
	if err != nil {
		if ctx.Err() != nil {
			a.say("interrupted before fleetd answered; whether a job was made, says: fleetctl job list")
		}
		return api.Job{}, err
	}
	for _, w := range job.Warnings {
		a.note(job.ID, w)
	}
	return job, nil
}

// printDetached prints the job's id, or in other formats than a table the job.
func (a *app) printDetached(o *outputFlags, job api.Job) error {
	if format, _ := o.format(); !format.ForPeople() {
		return a.printJobs(o, []api.Job{job}, "")
	}
	a.remark("job %s goes on; come back with: fleetctl job watch %s", job.ID, job.ID)
	_, err := fmt.Fprintln(a.streams.Out, job.ID)
	return err
}

// attendOrLeave waits for a job and prints what it produced, or with --detach says
// how to come back to it.
func (a *app) attendOrLeave(ctx context.Context, f fleet, j *jobFlags, job api.Job) error {
	if j.detach {
		return a.printDetached(&j.outputFlags, job)
	}
	return a.attend(ctx, f, &j.outputFlags, job)
}

// attend waits for a job, then prints what it produced. The error carries the
// exit code that the job deserves. When ctx ends first the job goes on, and the
// operator is told how to come back.
func (a *app) attend(ctx context.Context, f fleet, o *outputFlags, job api.Job) error {
	res, err := a.await(ctx, f, job)
	if err != nil {
		return a.detached(ctx, job, err)
	}
	if err := a.printResults(o, res); err != nil {
		return err
	}
	a.reportFailures(res)
	return statusOf(jobCode(res.Job))
}

// await waits for a job and gives what it produced.
func (a *app) await(ctx context.Context, f fleet, job api.Job) (api.Results, error) {
	if _, err := a.follow(ctx, f, job); err != nil {
		return api.Results{}, err
	}
	return f.Results(ctx, job.ID)
}

// printResults prints what a job produced.
func (a *app) printResults(o *outputFlags, res api.Results) error {
	ans, err := resultAnswer(res)
	if err != nil {
		return err
	}
	return a.print(o, ans)
}

// detached says how to come back to a job that an interrupt left behind; any
// other error stays what it is.
func (a *app) detached(ctx context.Context, job api.Job, err error) error {
	if ctx.Err() == nil {
		return err
	}
	a.say("job %s goes on; come back with: fleetctl job watch %s", job.ID, job.ID)
	return status(fault.ExitInterrupted)
}

// follow shows a job's progress until the job has ended.
func (a *app) follow(ctx context.Context, f fleet, job api.Job) (api.Job, error) {
	if job.FinishedAt != nil {
		return job, nil
	}
	p := a.newProgress(job)
	defer p.Close()
	for {
		for ev, err := range f.Events(ctx, job.ID, 0) {
			if err != nil {
				return job, err
			}
			p.Event(ev)
		}
		// The stream ends with the job. Somebody may have retried it just then.
		now, err := f.Job(ctx, job.ID)
		if err != nil || now.FinishedAt != nil {
			return now, err
		}
	}
}

// screenErr describes the terminal at Err.
func (a *app) screenErr() output.Screen {
	s := output.Screen{Terminal: a.streams.ErrTerminal, Color: a.color(a.streams.ErrTerminal)}
	if s.Terminal {
		s.Width = a.width()
	}
	return s
}
