package client

import (
	"context"
	"net/url"
	"strconv"

	"capfleet/internal/api"
)

// Audit tells who changed what, newest first.
func (c *Client) Audit(ctx context.Context, query api.AuditQuery) (api.AuditList, error) {
	q := url.Values{}
	for name, value := range map[string]string{"by": query.By, "action": query.Action, "job": query.Job, "device": query.Device} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if query.Before != 0 {
		q.Set("before", strconv.FormatUint(query.Before, 10))
	}
	if query.Limit != 0 {
		q.Set("limit", strconv.Itoa(query.Limit))
	}
	return get[api.AuditList](ctx, c, path(q, "audit"))
}
