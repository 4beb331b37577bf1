package metrics

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/leaktest"
	"capfleet/internal/ledger"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var testTime = time.Date(2024, 5, 1, 10, 11, 12, 0, time.UTC)

func options() Options {
	return Options{
		Version: "v1", Commit: "abc", Go: "go1", Operations: []string{"report", "check"},
		Limits: jobs.Limits{Global: 64, PerSite: 32, PerDevice: 4},
		Queue: func(context.Context) (jobs.Stats, error) {
			return jobs.Stats{Jobs: 2, Paused: 1, Tasks: map[jobs.State]int{jobs.Pending: 5, jobs.Running: 3}, Oldest: testTime}, nil
		},
		Ledger: func() (ledger.Stats, error) {
			return ledger.Stats{Bytes: 4096, FreeBytes: 1024, Commits: 17, WriteTime: 1500 * time.Millisecond, Readers: 1, Writable: true}, nil
		},
		Fleet: func(context.Context) (map[string]Fleet, error) {
			return map[string]Fleet{"linux": {Devices: 7, Failing: 2}, "f5_bigip": {}}, nil
		},
	}
}

// series gives our own figures as Prometheus reads them: name{labels} to value.
func series(t *testing.T, m *Metrics) map[string]string {
	t.Helper()
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	body, err := io.ReadAll(rec.Body)
	if err != nil || rec.Code != 200 {
		t.Fatalf("%d %v %s", rec.Code, err, body)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(body)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if ok && strings.HasPrefix(name, "fleetd_") {
			out[name] = value
		}
	}
	return out
}

func expect(t *testing.T, got map[string]string, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s is %q, want %q", name, got[name], value)
		}
	}
}

func TestState(t *testing.T) {
	t.Parallel()
	m := New(options())
	m.InventoryRead(testTime, nil)
	m.InventoryRead(testTime.Add(time.Hour), errors.New("bad"))
	expect(t, series(t, m), map[string]string{
		`fleetd_build_info{commit="abc",go_version="go1",version="v1"}`: "1",
		`fleetd_tasks{state="pending"}`:                                 "5",
		`fleetd_tasks{state="waiting"}`:                                 "0",
		`fleetd_tasks{state="running"}`:                                 "3",
		`fleetd_jobs_unfinished`:                                        "2",
		`fleetd_jobs_paused`:                                            "1",
		`fleetd_oldest_unfinished_job_timestamp_seconds`:                "1.714558272e+09",
		`fleetd_ledger_size_bytes`:                                      "4096",
		`fleetd_ledger_free_bytes`:                                      "1024",
		`fleetd_ledger_commits_total`:                                   "17",
		`fleetd_ledger_write_seconds_total`:                             "1.5",
		`fleetd_ledger_writable`:                                        "1",
		`fleetd_devices{platform="linux"}`:                              "7",
		`fleetd_devices_last_task_failed{platform="linux"}`:             "2",
		`fleetd_devices{platform="f5_bigip"}`:                           "0",
		`fleetd_limit_units{scope="site"}`:                              "32",
		`fleetd_inventory_last_reload_successful`:                       "0",
		`fleetd_inventory_last_reload_success_timestamp_seconds`:        "1.714558272e+09",
		`fleetd_ssh_dials_total{result="auth"}`:                         "0",
	})
}

// A source that cannot answer takes nothing else with it.
func TestBrokenSource(t *testing.T) {
	t.Parallel()
	opts := options()
	opts.Queue = func(context.Context) (jobs.Stats, error) { return jobs.Stats{}, errors.New("closed") }
	got := series(t, New(opts))
	if _, there := got["fleetd_jobs_unfinished"]; there {
		t.Error("a figure nobody gave")
	}
	expect(t, got, map[string]string{`fleetd_ledger_size_bytes`: "4096", `fleetd_devices{platform="linux"}`: "7"})
}

// Names, units and help are as Prometheus wants them, by its own linter.
func TestConventions(t *testing.T) {
	t.Parallel()
	opts := options()
	least := 86400.0
	opts.Capacity = func() []Capacity {
		return []Capacity{{Kind: "rotation-file", States: map[string]int{"full": 1}, FullWithin: map[int]int{7: 1}, Shortest: &least}}
	}
	opts.Outbox = func(context.Context) (map[string]int, error) { return map[string]int{"webhook": 1}, nil }
	families, err := New(opts).Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, namespace) {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// engine plays events.
type engine struct {
	events []jobs.Event
	ops    map[string]string
	asked  int
}

func (e *engine) Watch(_ context.Context, opts jobs.WatchOptions) iter.Seq2[jobs.Event, error] {
	return func(yield func(jobs.Event, error) bool) {
		for _, ev := range e.events {
			if ev.Seq > opts.After && !yield(ev, nil) {
				return
			}
		}
	}
}

func (e *engine) Job(_ context.Context, id string) (jobs.Job, jobs.State, error) {
	e.asked++
	op, ok := e.ops[id]
	if !ok {
		return jobs.Job{}, "", fault.New(fault.NotFound, "no job %s", id)
	}
	return jobs.Job{ID: id, Operation: op}, jobs.Running, nil
}

func TestFollow(t *testing.T) {
	t.Parallel()
	at := func(seconds int) time.Time { return testTime.Add(time.Duration(seconds) * time.Second) }
	move := func(job, device string, s jobs.State, seconds int) jobs.Event {
		return jobs.Event{Type: jobs.EventTaskState, Job: job, Device: device, State: s, Time: at(seconds)}
	}
	e := &engine{ops: map[string]string{"1": "report", "2": "report", "3": "hotfix"}, events: []jobs.Event{
		{Type: jobs.EventJobCreated, Job: "1"}, // before: not counted
		{Type: jobs.EventJobCreated, Job: "2"},
		move("2", "a", jobs.Running, 0), move("2", "b", jobs.Running, 0),
		{Type: jobs.EventTaskStep, Job: "2", Device: "a", State: jobs.Running},
		move("2", "a", jobs.Waiting, 10), move("2", "b", jobs.Succeeded, 2),
		move("2", "a", jobs.Running, 20), move("2", "a", jobs.Failed, 21),
		move("1", "a", jobs.Canceled, 5), // never began
		{Type: jobs.EventJobFinished, Job: "2", State: jobs.Partial},
		{Type: jobs.EventJobCreated, Job: "3"}, // an operation that this fleetd lacks
		{Type: jobs.EventJobCreated, Job: "4"}, // a job that is gone
		{Type: jobs.EventProgress, Job: "2", Device: "a"},
	}}
	for i := range e.events {
		e.events[i].Seq = uint64(i + 1)
	}
	m := New(options())
	m.Follow(t.Context(), e, 1)
	expect(t, series(t, m), map[string]string{
		`fleetd_jobs_created_total{operation="report"}`:                      "1",
		`fleetd_jobs_created_total{operation="other"}`:                       "2",
		`fleetd_jobs_finished_total{operation="report",state="partial"}`:     "1",
		`fleetd_tasks_ended_total{operation="report",state="succeeded"}`:     "1",
		`fleetd_tasks_ended_total{operation="report",state="failed"}`:        "1",
		`fleetd_tasks_ended_total{operation="report",state="canceled"}`:      "1",
		`fleetd_task_retries_total{operation="report"}`:                      "1",
		`fleetd_task_attempt_duration_seconds_count{operation="report"}`:     "3",
		`fleetd_task_attempt_duration_seconds_sum{operation="report"}`:       "13",
		`fleetd_tasks_ended_total{operation="check",state="succeeded"}`:      "0",
		`fleetd_task_attempt_duration_seconds_count{operation="unheard of"}`: "",
	})
	if e.asked != 4 {
		t.Errorf("the engine was asked for %d jobs, want each once", e.asked)
	}
}

// fakes of a connection.
type fakeDialer struct{ err error }

func (f fakeDialer) Dial(context.Context, *device.Device) (device.Conn, error) {
	return &fakeConn{}, f.err
}

type fakeConn struct {
	device.Conn
	during func()
	err    error
}

func (c *fakeConn) Shell(context.Context, *device.Definition) (device.Shell, error) {
	return fakeShell{}, c.err
}

func (c *fakeConn) Exec(context.Context, device.ExecRequest) (device.ExecResult, error) {
	if c.during != nil {
		c.during()
	}
	return device.ExecResult{}, c.err
}
func (c *fakeConn) Files(context.Context) (device.Files, error) { return fakeFiles{}, c.err }
func (c *fakeConn) Close() error                                { return nil }

type fakeShell struct{ device.Shell }

func (fakeShell) Close() error { return nil }

type fakeFiles struct{ device.Files }

func (fakeFiles) Close() error { return nil }

func TestSSH(t *testing.T) {
	t.Parallel()
	m := New(options())
	ctx := t.Context()
	if _, err := m.Dialer(fakeDialer{fault.New(fault.Auth, "no")}).Dial(ctx, nil); !fault.Is(err, fault.Auth) {
		t.Errorf("got %v", err)
	}
	c, err := m.Dialer(fakeDialer{}).Dial(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	s1, _ := c.Shell(ctx, nil)
	_, _ = c.Shell(ctx, nil)
	f, _ := c.Files(ctx)
	inner := c.(*conn).Conn.(*fakeConn)
	inner.during = func() {
		expect(t, series(t, m), map[string]string{`fleetd_ssh_sessions{type="exec"}`: "1"})
	}
	if _, err := c.Exec(ctx, device.ExecRequest{}); err != nil {
		t.Error(err)
	}
	inner.err = fault.New(fault.Busy, "full")
	if _, err := c.Shell(ctx, nil); !fault.Is(err, fault.Busy) {
		t.Errorf("got %v", err)
	}
	_, _ = s1.Close(), s1.Close()
	expect(t, series(t, m), map[string]string{
		`fleetd_ssh_dials_total{result="auth"}`:                    "1",
		`fleetd_ssh_dials_total{result="success"}`:                 "1",
		`fleetd_ssh_dial_duration_seconds_count`:                   "1",
		`fleetd_ssh_connections`:                                   "1",
		`fleetd_ssh_sessions{type="shell"}`:                        "1",
		`fleetd_ssh_sessions{type="sftp"}`:                         "1",
		`fleetd_ssh_sessions{type="exec"}`:                         "0",
		`fleetd_ssh_sessions_total{result="success",type="shell"}`: "2",
		`fleetd_ssh_sessions_total{result="busy",type="shell"}`:    "1",
		`fleetd_ssh_sessions_total{result="success",type="exec"}`:  "1",
	})
	// The connection's end is that of what is open on it; ends after it count nothing.
	_, _ = c.Close(), c.Close()
	_ = f.Close()
	got := series(t, m)
	want := map[string]string{}
	for _, name := range []string{`fleetd_ssh_connections`, `fleetd_ssh_sessions{type="shell"}`, `fleetd_ssh_sessions{type="sftp"}`, `fleetd_ssh_sessions{type="exec"}`} {
		want[name] = "0"
	}
	expect(t, got, want)
}

// Two of them do not meet.
func TestNoGlobals(t *testing.T) {
	t.Parallel()
	a, b := New(options()), New(options())
	a.queue.created.WithLabelValues("report").Inc()
	if diff := cmp.Diff("0", series(t, b)[`fleetd_jobs_created_total{operation="report"}`]); diff != "" {
		t.Error(diff)
	}
}
