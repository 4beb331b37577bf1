package client

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/url"
	"strconv"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

// Schedules lists what starts by the clock, in order of name.
func (c *Client) Schedules(ctx context.Context) ([]api.Schedule, error) {
	l, err := get[api.ScheduleList](ctx, c, "/v1/schedules")
	return l.Rows, err
}

// Schedule gives one schedule with its next times.
func (c *Client) Schedule(ctx context.Context, name string, next int) (api.Schedule, error) {
	return get[api.Schedule](ctx, c, path(url.Values{"next": {strconv.Itoa(next)}}, "schedules", name))
}

// AddSchedule keeps a request that is started at its times.
func (c *Client) AddSchedule(ctx context.Context, req api.ScheduleRequest) (api.Schedule, error) {
	return post[api.Schedule](ctx, c, "/v1/schedules", req)
}

// ApproveSchedule lets a schedule that changes devices run.
func (c *Client) ApproveSchedule(ctx context.Context, name string) (api.Schedule, error) {
	return post[api.Schedule](ctx, c, path(nil, "schedules", name, "approve"), nil)
}

// RemoveSchedule forgets a schedule and gives what it was.
func (c *Client) RemoveSchedule(ctx context.Context, name string) (api.Schedule, error) {
	return exchange[api.Schedule](ctx, c, http.MethodDelete, path(nil, "schedules", name), nil)
}

// RunSchedule runs a schedule now. After a cut connection it is asked once more and
// still started once only.
func (c *Client) RunSchedule(ctx context.Context, name string) (api.Job, error) {
	to := path(url.Values{"token": {rand.Text()}}, "schedules", name, "run")
	job, err := post[api.Job](ctx, c, to, nil)
	if fault.Is(err, fault.Disconnected) && ctx.Err() == nil {
		job, err = post[api.Job](ctx, c, to, nil)
	}
	return job, err
}

// ScheduleRuns gives what became of a schedule's occurrences, newest first.
func (c *Client) ScheduleRuns(ctx context.Context, name string, limit int) ([]api.ScheduleRun, error) {
	l, err := get[api.ScheduleRunList](ctx, c, path(url.Values{"limit": {strconv.Itoa(limit)}}, "schedules", name, "runs"))
	return l.Rows, err
}
