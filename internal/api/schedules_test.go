package api_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

func (f *fake) Schedules(context.Context) ([]api.Schedule, error) { return nil, f.note("schedules") }

func (f *fake) Schedule(_ context.Context, name string, next int) (api.Schedule, error) {
	return api.Schedule{Name: name}, f.note("schedule", name, next)
}

func (f *fake) AddSchedule(_ context.Context, _ string, req api.ScheduleRequest) (api.Schedule, error) {
	return api.Schedule{Name: req.Name}, f.note("add", req)
}

func (f *fake) ApproveSchedule(_ context.Context, name, _ string) (api.Schedule, error) {
	return api.Schedule{Name: name}, f.note("approve", name)
}

func (f *fake) RemoveSchedule(_ context.Context, name, _ string) error { return f.note("remove", name) }

func (f *fake) RunSchedule(_ context.Context, name, _, token string) (api.Job, error) {
	return f.job, f.note("run", name, len(token))
}

func (f *fake) ScheduleRuns(_ context.Context, name string, limit int) ([]api.ScheduleRun, error) {
	return nil, f.note("runs", name, limit)
}

func TestSchedules(t *testing.T) {
	t.Parallel()
	f := &fake{job: api.Job{ID: "12"}}
	socket, _ := serve(t, f)
	c := dial(t, socket)
	ctx := t.Context()
	req := api.ScheduleRequest{Name: "nightly", Cron: "0 6 * * *", TimeZone: "Europe/London", Overlap: "queue", Missed: "report", JitterSeconds: 60,
		Deliver: []string{"files"}, Request: api.JobRequest{Operation: "report", Spec: []byte(`{"report":"filesystem"}`), Selection: api.Selection{All: true}}}
	for _, call := range []func() error{
		func() error { _, err := c.Schedules(ctx); return err },
		func() error { _, err := c.Schedule(ctx, "nightly", 7); return err },
		func() error { _, err := c.AddSchedule(ctx, req); return err },
		func() error { _, err := c.ApproveSchedule(ctx, "nightly"); return err },
		func() error { _, err := c.RemoveSchedule(ctx, "nightly"); return err },
		func() error { _, err := c.RunSchedule(ctx, "nightly"); return err },
		func() error { _, err := c.ScheduleRuns(ctx, "nightly", 3); return err },
	} {
		if err := call(); err != nil {
			t.Error(err)
		}
	}
	want := []any{"schedules", "schedule", "nightly", 7, "add", req, "approve", "nightly", "schedule", "nightly", 0, "remove", "nightly",
		"run", "nightly", 26, "runs", "nightly", 3}
	if diff := cmp.Diff(want, f.take()); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []api.ScheduleRequest{{Name: "a b", Cron: "0 6 * * *"}, {Name: "a", Cron: "0 6 * * *", JitterSeconds: -1}} {
		bad.Request = req.Request
		if _, err := c.AddSchedule(ctx, bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if len(f.take()) != 0 {
		t.Error("what does not fit its form came through")
	}
}
