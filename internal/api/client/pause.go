package client

import (
	"context"

	"capfleet/internal/api"
)

// Pause has a job hand out nothing new; what runs goes on to its end.
func (c *Client) Pause(ctx context.Context, id string) (api.Job, error) {
	return post[api.Job](ctx, c, path(nil, "jobs", id, "pause"), nil)
}

// Resume lets a paused job go on.
func (c *Client) Resume(ctx context.Context, id string) (api.Job, error) {
	return post[api.Job](ctx, c, path(nil, "jobs", id, "resume"), nil)
}

// Stop has the devices of a coordinated job stop together and finish.
func (c *Client) Stop(ctx context.Context, id string) (api.Job, error) {
	return post[api.Job](ctx, c, path(nil, "jobs", id, "stop"), nil)
}
