//go:build linux

package capture_test

import (
	"context"
	"encoding/json"
	"io"

	"capfleet/internal/api"
	"capfleet/internal/api/client"
	"capfleet/internal/fault"
)

// startLive starts a live capture and reads it, as fleetctl does.
func startLive(ctx context.Context, c *client.Client, device, filter string) (string, io.ReadCloser, error) {
	spec, err := json.Marshal(map[string]any{"live": map[string]any{"interface": "eth0", "filter": filter}})
	if err != nil {
		return "", nil, fault.Wrap(fault.Internal, "write the spec", err)
	}
	job, err := c.Submit(ctx, api.JobRequest{Operation: "capture", Spec: spec, Selection: api.Selection{Names: []string{device}}})
	if err != nil {
		return "", nil, err
	}
	r, err := c.Stream(ctx, job.ID)
	return job.ID, r, err
}
