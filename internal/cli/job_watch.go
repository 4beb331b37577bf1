package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func (a *app) jobWatchCommand() *cobra.Command {
	var out outputFlags
	cmd := &cobra.Command{
		Use:   "watch JOB",
		Short: "wait for a job, then print its result",
		Long: `Waits for a job as the command that started it would have, and prints the same
result with the same exit code. A job that has finished is printed at once.
Ctrl-C leaves the job to go on.

JSON: one object with job, rows, failures and warnings; the keys of a row are
those of the operation's own command.
` + failureKeysHelp + `

` + workExits(),
		Args:              oneArg,
		ValidArgsFunction: a.completeJobs,
	}
	out.register(cmd)
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		if _, err := out.format(); err != nil {
			return err
		}
		job, err := f.Job(ctx, args[0])
		if err != nil {
			return err
		}
		return a.attend(ctx, f, &out, job)
	})
	return cmd
}
