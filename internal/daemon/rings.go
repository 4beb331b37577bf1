package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"capfleet/internal/capture"
	"capfleet/internal/device"
	"capfleet/internal/jobs"
	"capfleet/internal/secret"
	"capfleet/internal/sel"
	"capfleet/internal/transfer"
)

// rings gives captures what they need of the rest of fleetd. The engine is there
// by the time that a job asks.
func (d *Daemon) rings(secrets *secret.Resolver, through sel.Through, buffers *transfer.Buffers) capture.RingOptions {
	watcher := sel.NewWatcher(sel.Options{Secrets: secrets, Through: through})
	return capture.RingOptions{
		Spool:   filepath.Join(d.opts.StateDir, "captures"),
		Buffers: buffers,
		Job:     d.jobNews,
		Events: func(ctx context.Context, dev *device.Device) ([]capture.Event, error) {
			records, err := watcher.Records(ctx, dev)
			if err != nil {
				return nil, err
			}
			events := make([]capture.Event, 0, len(records))
			for _, r := range records {
				at := "-"
				if r.Time != nil {
					at = r.Time.UTC().Format(time.RFC3339)
				}
				events = append(events, capture.Event{
					ID:   fmt.Sprintf("%d %s %s", r.RecordID, at, r.Raw),
					Text: fmt.Sprintf("%s %s %s %s: %s", at, r.Severity, r.Kind, r.SensorType, r.Event),
				})
			}
			return events, nil
		},
	}
}

// jobNews tells how a job is doing that somebody waits for.
func (d *Daemon) jobNews(ctx context.Context, id string) (capture.JobNews, error) {
	job, state, err := d.engine.Job(ctx, id)
	if err != nil {
		return capture.JobNews{}, err
	}
	bad := job.Counts[jobs.Failed] + job.Counts[jobs.Attention]
	return capture.JobNews{Failed: bad > 0, Ended: job.FinishedAt != nil, Why: fmt.Sprintf("%s, %d failed or need attention", state, bad)}, nil
}
