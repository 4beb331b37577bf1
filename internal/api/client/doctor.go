package client

import (
	"context"

	"capfleet/internal/api"
)

// Examine has fleetd look on its host for what would stop work.
func (c *Client) Examine(ctx context.Context) (api.Examination, error) {
	return post[api.Examination](ctx, c, "/v1/examine", nil)
}
