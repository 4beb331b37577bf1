package client

import (
	"context"
	"net/url"
	"strconv"

	"capfleet/internal/api"
)

// Receivers tells who is told what happens, and how that goes.
func (c *Client) Receivers(ctx context.Context) ([]api.Receiver, error) {
	l, err := get[api.ReceiverList](ctx, c, "/v1/receivers")
	return l.Rows, err
}

// TestReceiver sends a receiver a message.
func (c *Client) TestReceiver(ctx context.Context, name string) (api.Notification, error) {
	return post[api.Notification](ctx, c, path(nil, "receivers", name, "test"), nil)
}

// History gives what reports said of a device's storage over some days.
func (c *Client) History(ctx context.Context, device string, days int) ([]api.HistorySeries, error) {
	l, err := get[api.HistoryList](ctx, c, path(url.Values{"days": {strconv.Itoa(days)}}, "devices", device, "history"))
	return l.Rows, err
}
