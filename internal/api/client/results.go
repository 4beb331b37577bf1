package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"capfleet/internal/api"
	"capfleet/internal/rows"
)

// Results gives what a job produced so far: rows of the devices that are done,
// failures of those that could not be.
func (c *Client) Results(ctx context.Context, id string) (api.Results, error) {
	resp, err := c.do(ctx, http.MethodGet, path(nil, "jobs", id, "results"), nil, nil)
	if err != nil {
		return api.Results{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return api.Results{}, c.broken(ctx, fmt.Errorf("read the answer: %w", err))
	}
	out, err := results(text)
	if err != nil {
		return api.Results{}, c.broken(ctx, fmt.Errorf("read the answer: %w", err))
	}
	return out, nil
}

// results reads the answer of Results. Its rows may be hundreds of thousands, so
// they are left as they are.
func results(text []byte) (out api.Results, err error) {
	fields, err := rows.Fields(text)
	if err != nil {
		return out, err
	}
	if list := fields["rows"]; list != nil {
		if out.Rows, err = rows.Split(list); err != nil {
			return out, err
		}
	}
	for name, into := range map[string]any{"job": &out.Job, "failures": &out.Failures, "warnings": &out.Warnings} {
		if value := fields[name]; value != nil {
			if err := json.Unmarshal(value, into); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}
