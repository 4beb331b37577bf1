package api

import (
	"context"
	"encoding/json"
	"io"
	"iter"
)

// Service is what the routes need. The daemon implements it; errors are
// *fault.Error, and their kind decides the status. All methods may be called at
// once.
type Service interface {
	// Version tells which fleetd this is.
	Version(ctx context.Context) (Version, error)
	DeviceService
	JobService
	ArtifactService
	AuditService
	TemplateService
	DoctorService
	StreamService
	ScheduleService
	NotifyService
	HistoryService
}

// DeviceService answers for the inventory.
type DeviceService interface {
	// Devices gives the selected devices in order of name, each a Device as JSON; an
	// empty selection is all of them. What is wrong with the selection is the error; the
	// sequence itself ends at its first one. The bodies are for reading only.
	Devices(ctx context.Context, sel Selection) (iter.Seq2[json.RawMessage, error], error)
	Device(ctx context.Context, name string) (Device, error)
	// PinHostKeys trusts keys from now on, for devices of the inventory. By is who
	// asked.
	PinHostKeys(ctx context.Context, by string, req PinRequest) (PinResult, error)
}

// JobService answers for the engine. A job that does not exist is
// fault.NotFound.
type JobService interface {
	// Start is the one way in: it resolves the selection, lets the operation check
	// the spec, and makes the job. The same request id gives the same job.
	Start(ctx context.Context, by string, req JobRequest) (Job, error)
	Jobs(ctx context.Context, q JobQuery) (JobList, error)
	Job(ctx context.Context, id string) (Job, error)
	// Tasks gives a job's tasks in order of device.
	Tasks(ctx context.Context, id string) ([]Task, error)
	// Rows calls fn for each device that has rows, in order of device. It does not
	// hold all rows in memory.
	Rows(ctx context.Context, id string, fn func(device string, rows []json.RawMessage) error) error
	// Journal gives what was done to the unit of a device, oldest first.
	Journal(ctx context.Context, id, device string) ([]JournalEntry, error)
	Cancel(ctx context.Context, id, by string) (Job, error)
	Retry(ctx context.Context, id, by string) (Job, error)
	JobPauser
	RolloutService
	// Events replays what the ledger has after a sequence number, of one job or
	// with "" of all, and then follows: without a gap and nothing twice. It ends
	// when ctx does.
	Events(ctx context.Context, job string, after uint64) iter.Seq2[Event, error]
	// Over reports whether a job has finished and Events has nothing of it after a
	// sequence number any more.
	Over(ctx context.Context, job string, after uint64) (bool, error)
}

// ArtifactService answers for kept files.
type ArtifactService interface {
	// Artifacts lists a job's artifacts, or with "" all.
	Artifacts(ctx context.Context, job string) ([]Artifact, error)
	// Artifact opens one by its digest.
	Artifact(ctx context.Context, sha256 string) (io.ReadCloser, Artifact, error)
	ArtifactStore
}

// EventEnd is the name of the server-sent event that ends a job's stream: the
// job has finished and nothing more will come. It has no id.
const EventEnd = "end"
