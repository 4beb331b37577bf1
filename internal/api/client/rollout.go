package client

import (
	"context"

	"capfleet/internal/api"
)

// Plan says how the rollout of a request would go, and starts nothing.
func (c *Client) Plan(ctx context.Context, req api.JobRequest) (api.Plan, error) {
	return post[api.Plan](ctx, c, path(nil, "plan"), req)
}

// Approve lets a rollout begin that waits for it.
func (c *Client) Approve(ctx context.Context, id string) (api.Job, error) {
	return post[api.Job](ctx, c, path(nil, "jobs", id, "approve"), nil)
}
