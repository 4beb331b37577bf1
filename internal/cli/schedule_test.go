package cli

import (
	"context"
	"strings"
	"testing"
	"unicode/utf8"

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

func (f *fakeFleet) Receivers(context.Context) ([]api.Receiver, error) { return f.receivers, f.down }

func (f *fakeFleet) TestReceiver(_ context.Context, name string) (api.Notification, error) {
	return api.Notification{ID: "test-1", Receiver: name, Summary: "a test"}, f.down
}

func (f *fakeFleet) History(context.Context, string, int) ([]api.HistorySeries, error) {
	return f.history, f.down
}

func TestCapacityChartOfAYear(t *testing.T) {
	f := &fakeFleet{devices: []api.Device{{Name: "lon-probe-01"}}}
	full, filling := api.HistorySeries{Device: "lon-probe-01", Name: "Main", Kind: "rotation-file"}, api.HistorySeries{Device: "lon-probe-01", Name: "Two", Kind: "rotation-file"}
	for d := range int64(365) {
		at, limit, used, retention := testTime.AddDate(0, 0, int(d)), int64(1000), 2*d, 86400*(40-d/20)
		full.Points = append(full.Points, api.HistoryPoint{Time: at, UsedBytes: &limit, LimitBytes: &limit, RetentionSeconds: &retention})
		filling.Points = append(filling.Points, api.HistoryPoint{Time: at, UsedBytes: &used, LimitBytes: &limit})
	}
	f.history = []api.HistorySeries{full, filling}
	for _, terminal := range []bool{true, false} { // and in a pipe
		got := session{fleet: f, terminal: terminal}.run(t.Context(), t, "report", "capacity", "lon-probe-01", "--chart")
		if got.code != 0 || len(f.submitted) != 0 {
			t.Fatalf("%+v", got)
		}
		for _, want := range []string{"lon-probe-01 Main: days that Vision reaches back", "lon-probe-01 Two: used", "2024-05-01", "2025-04-30", "40d", "100%"} {
			if !strings.Contains(got.out, want) {
				t.Errorf("%q is not in\n%s", want, got.out)
			}
		}
		for line := range strings.Lines(got.out) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
				t.Errorf("%d columns: %s", n, line)
			}
		}
	}
}

func TestCapacityRequest(t *testing.T) {
	f := &fakeFleet{outcome: api.Results{Job: api.Job{State: "succeeded", Devices: 1, Counts: map[string]int{"succeeded": 1}}}}
	got := session{fleet: f}.run(t.Context(), t, "report", "capacity", "lon-probe-01", "--forecast", "30d", "--limit", "168h")
	if got.code != 0 || len(f.submitted) != 1 || f.submitted[0].Operation != "capacity" ||
		string(f.submitted[0].Spec) != `{"forecast_seconds":2592000,"limit_seconds":604800}` {
		t.Errorf("%+v %+v", got, f.submitted)
	}
	for _, bad := range [][]string{{"--forecast", "x"}, {"--limit", "-3d"}, {"--chart", "--days", "1"}, {"--chart", "-o", "csv"}, {"--chart", "--detach"}} {
		f := &fakeFleet{}
		if got := (session{fleet: f}).run(t.Context(), t, append([]string{"report", "capacity", "a"}, bad...)...); got.code != fault.ExitUsage || len(f.submitted) != 0 {
			t.Errorf("%v: %+v", bad, got)
		}
	}
}

func TestNotifyCommands(t *testing.T) {
	f := &fakeFleet{receivers: []api.Receiver{{Name: "ops", Kind: "webhook", Target: "https://h", Conditions: []string{"pci_error"}, Waiting: 3, OldestAt: &testTime, LastError: "it answered 503"}}}
	if got := (session{fleet: f, terminal: true}).run(t.Context(), t, "notify", "list"); got.code != 0 || !strings.Contains(got.out, "ops") || !strings.Contains(got.out, "503") {
		t.Errorf("%+v", got)
	}
	if got := (session{fleet: f}).run(t.Context(), t, "notify", "test", "ops", "-o", "json"); got.code != 0 || !strings.Contains(got.out, `"test-1"`) {
		t.Errorf("%+v", got)
	}
}
