package cli

import (
	"context"
	"strings"
	"testing"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

func (f *fakeFleet) Schedules(context.Context) ([]api.Schedule, error) { return f.schedules, f.down }

func (f *fakeFleet) Schedule(_ context.Context, name string, _ int) (api.Schedule, error) {
	for _, s := range f.schedules {
		if s.Name == name {
			return s, f.down
		}
	}
	return api.Schedule{}, fault.New(fault.NotFound, "there is no schedule %q", name)
}

func (f *fakeFleet) AddSchedule(_ context.Context, req api.ScheduleRequest) (api.Schedule, error) {
	s := api.Schedule{Name: req.Name, Cron: req.Cron, TimeZone: req.TimeZone, Request: req.Request, Overlap: req.Overlap, Missed: req.Missed,
		JitterSeconds: req.JitterSeconds, Deliver: req.Deliver, Access: "read", CreatedBy: "alice", CreatedAt: testTime, NextAt: &testTime}
	f.schedules = append(f.schedules, s)
	return s, f.down
}

func (f *fakeFleet) ApproveSchedule(ctx context.Context, name string) (api.Schedule, error) {
	return f.Schedule(ctx, name, 0)
}

func (f *fakeFleet) RemoveSchedule(ctx context.Context, name string) (api.Schedule, error) {
	return f.Schedule(ctx, name, 0)
}

func (f *fakeFleet) RunSchedule(ctx context.Context, name string) (api.Job, error) {
	s, err := f.Schedule(ctx, name, 0)
	if err != nil {
		return api.Job{}, err
	}
	return f.Submit(ctx, s.Request)
}

func (f *fakeFleet) ScheduleRuns(context.Context, string, int) ([]api.ScheduleRun, error) {
	return []api.ScheduleRun{{Schedule: "nightly", Occurrence: testTime, At: testTime, Outcome: "missed", Reason: "fleetd did not run", Count: 3}}, f.down
}

// TestScheduleKeepsWhatACommandWouldStart: nothing is started, and the request is
// that of the command, selection and all.
func TestScheduleKeepsWhatACommandWouldStart(t *testing.T) {
	for line, want := range map[string]string{
		"report filesystem -l site=lon":           `report {"report":"filesystem"} -l 'site=lon'`,
		"report software":                         `report {"report":"software"} --all`,
		"command run lon-1 lon-2 -- show version": `command {"command":"show version"} lon-1 lon-2`,
	} {
		f := &fakeFleet{}
		args := append([]string{"schedule", "add", "nightly", "--cron", "0 6 * * *", "--jitter", "90s", "--"}, strings.Fields(line)...)
		got := session{fleet: f}.run(t.Context(), t, args...)
		if got.code != 0 || len(f.submitted) != 0 || len(f.schedules) != 1 {
			t.Fatalf("%s: %+v, %d started", line, got, len(f.submitted))
		}
		s := f.schedules[0]
		if text := s.Request.Operation + " " + string(s.Request.Spec) + " " + selectionText(s.Request.Selection); text != want || s.JitterSeconds != 90 ||
			s.Request.RequestID != "" || s.TimeZone != "UTC" || s.Overlap != "skip" || s.Missed != "run" {
			t.Errorf("%s: %s %+v", line, text, s)
		}
		if !strings.Contains(got.out, "nightly") || !strings.Contains(got.out, "0 6 * * * UTC") {
			t.Errorf("%s", got.out)
		}
	}
}

func TestScheduleRefusals(t *testing.T) {
	for line, want := range map[string]string{
		"add nightly --cron x -- job cancel 12":                "cannot be put on a schedule",
		"add nightly --cron x -- report":                       "starts no work",
		"add nightly --cron x -- report filesystem --bad":      "unknown flag",
		"add nightly --cron x -- report nothing":               "unknown command",
		"add nightly --cron x -- command run -- show":          "no devices were chosen",
		"add nightly --cron x":                                 "after --",
		"add --cron x -- report software":                      "after --",
		"add nightly -- report software":                       "cron",
		"add nightly --jitter 1ms --cron x -- report software": "--jitter",
		"show weekly": "there is no schedule",
		"run weekly":  "there is no schedule",
	} {
		f := &fakeFleet{}
		got := session{fleet: f}.run(t.Context(), t, append([]string{"schedule"}, strings.Fields(line)...)...)
		if got.code != fault.ExitUsage || !strings.Contains(strings.Join(strings.Fields(got.errOut), " "), want) {
			t.Errorf("%s: %+v", line, got)
		}
		if len(f.schedules)+len(f.submitted)+len(f.canceled) != 0 {
			t.Errorf("%s: something was done", line)
		}
	}
}

func TestScheduleShow(t *testing.T) {
	f := &fakeFleet{schedules: []api.Schedule{{Name: "nightly", Cron: "0 6 * * *", TimeZone: "UTC", Access: "change", Overlap: "skip", Missed: "run",
		Request: api.JobRequest{Operation: "hotfix", Selection: api.Selection{Selector: "site=lon"}}, CreatedBy: "alice", CreatedAt: testTime}}}
	got := session{fleet: f, terminal: true}.run(t.Context(), t, "schedule", "show", "nightly")
	for _, want := range []string{"hotfix on -l 'site=lon'", "not yet", "missed", "fleetd did not run"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("%q is not in\n%s", want, got.out)
		}
	}
	if got := (session{fleet: f}).run(t.Context(), t, "schedule", "list"); !strings.Contains(got.out, "not approved") {
		t.Errorf("%+v", got)
	}
}

func (f *fakeFleet) Receivers(context.Context) ([]api.Receiver, error) { return nil, f.down }

func (f *fakeFleet) TestReceiver(_ context.Context, name string) (api.Notification, error) {
	return api.Notification{ID: "test-1", Receiver: name, Summary: "a test"}, f.down
}

func (f *fakeFleet) History(context.Context, string, int) ([]api.HistorySeries, error) {
	return nil, f.down
}
