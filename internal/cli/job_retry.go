package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func (a *app) jobRetryCommand() *cobra.Command {
	var flags jobFlags
	cmd := &cobra.Command{
		Use:   "retry JOB",
		Short: "take the failed devices of a job up again",
		Long: `Takes the tasks of a finished job that did not succeed up again, at the step
that failed, on the devices as the job was first resolved to. The result of all
its devices is printed, as by job watch.

` + waitHelp + `

JSON: one object with job, rows, failures and warnings; the keys of a row are
those of the operation's own command.
` + failureKeysHelp + `

` + workExits(),
		Args:              oneArg,
		ValidArgsFunction: a.completeJobs,
	}
	flags.register(cmd)
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		if _, err := flags.format(); err != nil {
			return err
		}
		job, err := f.Retry(ctx, args[0])
		if err != nil {
			return err
		}
		return a.attendOrLeave(ctx, f, &flags, job)
	})
	return cmd
}
