package client

import (
	"context"
	"errors"
	"io"
	"net/http"
)

// Stream reads a live capture as it comes; the capture begins when it is read.
// Reading ends with io.EOF when the capture does. Closing it, or the end of ctx,
// ends the capture.
func (c *Client) Stream(ctx context.Context, id string) (io.ReadCloser, error) {
	resp, err := c.do(ctx, http.MethodGet, path(nil, "jobs", id, "stream"), nil, nil) //nolint:bodyclose // the reader that is given out closes it
	if err != nil {
		return nil, err
	}
	return &live{ReadCloser: resp.Body, broken: func(err error) error { return c.broken(ctx, err) }}, nil
}

// live words the errors of a stream that was cut.
type live struct {
	io.ReadCloser
	broken func(error) error
}

func (l *live) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = l.broken(err)
	}
	return n, err
}
