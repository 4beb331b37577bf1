package cli

import (
	"context"
	"iter"

	"capfleet/internal/api"
	"capfleet/internal/api/client"
)

// fleet is what the commands need of fleetd. Errors are *fault.Error; one that
// cannot be reached is fault.Unavailable on every call.
type fleet interface {
	Version(ctx context.Context) (api.Version, error)

	Devices(ctx context.Context, sel api.Selection) ([]api.Device, error)
	Device(ctx context.Context, name string) (api.Device, error)
	PinHostKeys(ctx context.Context, req api.PinRequest) (api.PinResult, error)

	Submit(ctx context.Context, req api.JobRequest) (api.Job, error)
	Job(ctx context.Context, id string) (api.Job, error)
	Jobs(ctx context.Context, query api.JobQuery) (api.JobList, error)
	Tasks(ctx context.Context, id string) ([]api.Task, error)
	Results(ctx context.Context, id string) (api.Results, error)
	Journal(ctx context.Context, id, device string) ([]api.JournalEntry, error)
	Cancel(ctx context.Context, id string) (api.Job, error)
	Retry(ctx context.Context, id string) (api.Job, error)
	// Events ends by itself once the job has finished.
	Events(ctx context.Context, job string, after uint64) iter.Seq2[api.Event, error]

	artifactFleet
	pauseFleet
	rolloutFleet
	templateFleet
	doctorFleet
	auditFleet
	scheduleFleet
	notifyFleet
	historyFleet
	streamFleet
}

var _ fleet = (*client.Client)(nil)
