package cli

import (
	"context"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
)

func (a *app) jobCancelCommand() *cobra.Command {
	var out jobFlags
	cmd := &cobra.Command{
		Use:   "cancel JOB",
		Short: "stop a job",
		Long: `Asks fleetd to stop a job and waits until it has stopped: tasks that have not
started are canceled, running ones are ended safely. What finished before keeps
its result. --detach does not wait.

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
		job, err := f.Cancel(ctx, args[0])
		if err != nil {
			return err
		}
		if !out.detach {
			ended, err := a.follow(ctx, f, job)
			if err != nil {
				return a.detached(ctx, job, err)
			}
			job = ended
		}
		return a.printJobs(&out.outputFlags, []api.Job{job}, "")
	})
	return cmd
}
