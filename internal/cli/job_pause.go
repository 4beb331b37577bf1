package cli

import (
	"context"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
)

// pauseFleet is what pausing needs of fleetd.
type pauseFleet interface {
	Pause(ctx context.Context, id string) (api.Job, error)
	Resume(ctx context.Context, id string) (api.Job, error)
	Stop(ctx context.Context, id string) (api.Job, error)
}

func (a *app) jobPauseCommand() *cobra.Command {
	return a.gateCommand("pause JOB", "hand out nothing new of a job",
		`Holds a job back: devices that have not been begun wait until job resume, also
over restarts of fleetd. What runs goes on to its end, which this command does
not wait for; the job is paused at once, and its counts tell what still runs.`, fleet.Pause)
}

func (a *app) jobResumeCommand() *cobra.Command {
	return a.gateCommand("resume JOB", "let a paused job go on",
		`Lets a paused job go on where it stopped. To see how it goes: job watch.`, fleet.Resume)
}

// gateCommand makes the command that shuts or opens a job's gate.
func (a *app) gateCommand(use, short, long string, act func(fleet, context.Context, string) (api.Job, error)) *cobra.Command {
	var out outputFlags
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Long: long + `

` + jsonHelp("rows (the job)", "row", jobKeysHelp) + `

` + readExits(),
		Args:              oneArg,
		ValidArgsFunction: a.completeJobs,
	}
	out.register(cmd)
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		if _, err := out.format(); err != nil {
			return err
		}
		job, err := act(f, ctx, args[0])
		if err != nil {
			return err
		}
		return a.printJobs(&out, []api.Job{job}, "")
	})
	return cmd
}
