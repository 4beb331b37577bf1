package cli

import (
	"context"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
)

// rolloutFleet is what rollouts need of fleetd.
type rolloutFleet interface {
	Plan(ctx context.Context, req api.JobRequest) (api.Plan, error)
	Approve(ctx context.Context, id string) (api.Job, error)
}

func (a *app) jobApproveCommand() *cobra.Command {
	return a.gateCommand("approve JOB", "let a change begin that waits for approval",
		`Approves a job that was started with --approve: until then it does nothing. The
one who approves has to be another user than the one who started it, as fleetd
sees them at the other end of its socket. Both are in the audit.`, fleet.Approve)
}
