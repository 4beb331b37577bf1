package daemon

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"capfleet/internal/api"
	"capfleet/internal/config"
	"capfleet/internal/fault"
	"capfleet/internal/history"
	"capfleet/internal/ledger"
	"capfleet/internal/notify"
	"capfleet/internal/secret"
)

// receiver is a webhook's receiver.
type hookReceiver struct {
	*httptest.Server
	mu     sync.Mutex
	posts  map[string]string // body by id
	twice  []string
	header map[string]http.Header
}

func newHookReceiver(t *testing.T) *hookReceiver {
	h := &hookReceiver{posts: map[string]string{}, header: map[string]http.Header{}}
	h.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		defer h.mu.Unlock()
		id := r.Header.Get("Idempotency-Key")
		if _, ok := h.posts[id]; ok {
			h.twice = append(h.twice, id)
		}
		h.posts[id], h.header[id] = string(body), r.Header
	}))
	t.Cleanup(h.Close)
	return h
}

// messages gives what was told on a condition.
func (h *hookReceiver) messages(on notify.Condition) (found []notify.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, body := range h.posts {
		var m notify.Message
		if json.Unmarshal([]byte(body), &m) == nil && m.Condition == on {
			found = append(found, m)
		}
	}
	return found
}

// eventually waits for a condition, generously.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	timeout := time.NewTimer(time.Minute)
	defer timeout.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-timeout.C:
			t.Fatalf("it did not come: %s", what)
		}
	}
}

func scheduleOf(name, cron, rep string, names ...string) api.ScheduleRequest {
	return api.ScheduleRequest{Name: name, Cron: cron, Request: api.JobRequest{Operation: "report",
		Spec: json.RawMessage(`{"report":"` + rep + `"}`), Selection: api.Selection{Names: names, All: len(names) == 0}}}
}

// TestSchedulesDeliver: a schedule's report comes as a CSV file and to a webhook, a
// device that is dead is told of and in a file of its own, and what was missed while
// fleetd was away is reported, each once over a restart.
func TestSchedulesDeliver(t *testing.T) {
	t.Parallel()
	f := fleet(t, 12, "lon-probe-02:down")
	h := newHookReceiver(t)
	dir := place(t)
	files := filepath.Join(dir, "reports")
	opts := options(t, dir, f.Inventory())
	opts.Notifications = &config.Notifications{
		Receivers: []config.Receiver{{Name: "files", Directory: &config.Directory{Path: files, Keep: 5}}, {Name: "hook", Webhook: &config.Webhook{URL: h.URL}}},
		Rules: []config.Rule{{On: []string{"job_failed", "schedule_missed"}, To: []string{"hook"}},
			{On: []string{"capacity_below"}, To: []string{"hook"}, FreePercent: 99}},
	}
	var ahead atomic.Int64 // of the real clock
	opts.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	opts.LookEvery = 10 * time.Millisecond
	c, stop := run(t, opts)
	ctx := t.Context()

	req := scheduleOf("nightly", "0 6 * * *", "filesystem", "lon-probe-01", "lon-probe-02")
	req.Missed = "report"
	req.Deliver = []string{"nobody"}
	if _, err := c.AddSchedule(ctx, req); !fault.Is(err, fault.Invalid) {
		t.Errorf("delivered to nobody: %v", err)
	}
	req.Deliver = []string{"files", "hook"}
	s, err := c.AddSchedule(ctx, req)
	if err != nil || s.Access != "read" || len(s.Next) != 3 {
		t.Fatalf("%+v %v", s, err)
	}

	// Its time comes.
	ahead.Store(int64(time.Until(*s.NextAt) + time.Second))
	var names []string
	eventually(t, "two files", func() bool {
		names, err = filepath.Glob(filepath.Join(files, "nightly_*_job1*.csv"))
		return err == nil && len(names) == 2
	})
	text := ""
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".failures.csv") {
			if !strings.Contains(string(raw), "lon-probe-02,") {
				t.Errorf("%s", raw)
			}
			continue
		}
		text = string(raw)
	}
	if !strings.HasPrefix(text, "Device,Total Space (GB),Used Space (GB),Usable Space (GB),Free Space (GB)") || !strings.Contains(text, "\nlon-probe-01,") {
		t.Errorf("%s", text)
	}
	eventually(t, "the result at the webhook", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return slices.ContainsFunc(mapValues(h.posts), func(body string) bool { return body == text })
	})
	eventually(t, "that a job failed", func() bool { return len(h.messages(notify.JobFailed)) == 1 })
	eventually(t, "that there is little room", func() bool {
		return slices.ContainsFunc(h.messages(notify.CapacityBelow), func(m notify.Message) bool { return m.Device == "lon-probe-01" })
	})
	eventually(t, "the end of what was to be told", func() bool {
		receivers, err := c.Receivers(ctx)
		return err == nil && !slices.ContainsFunc(receivers, func(r api.Receiver) bool { return r.Waiting > 0 })
	})
	fallen := len(h.messages(notify.CapacityBelow))
	if m := h.messages(notify.JobFailed)[0]; m.Schedule != "nightly" || m.Job != "1" || m.Severity != notify.Warning {
		t.Errorf("%+v", m)
	}

	// fleetd is away for two days and a quarter.
	stop()
	ahead.Add(int64(54 * time.Hour))
	c, _ = run(t, opts)
	eventually(t, "that runs were missed", func() bool { return len(h.messages(notify.ScheduleMissed)) == 1 })
	if m := h.messages(notify.ScheduleMissed)[0]; !strings.Contains(m.Summary, "2 runs") || m.Schedule != "nightly" {
		t.Errorf("%+v", m)
	}
	// By hand the same again: the level was told of already.
	job, err := c.RunSchedule(ctx, "nightly")
	if err != nil {
		t.Fatal(err)
	}
	wait(ctx, t, c, job.ID)
	eventually(t, "that the second job failed", func() bool { return len(h.messages(notify.JobFailed)) == 2 })
	if n := len(h.messages(notify.CapacityBelow)); n != fallen {
		t.Errorf("told %d times of what fell once", n-fallen+1)
	}
	series, err := c.History(ctx, "lon-probe-01", 365)
	if err != nil || len(series) == 0 || len(series[0].Points) == 0 || *series[0].Points[0].UsedBytes == 0 {
		t.Errorf("%+v %v", series, err)
	}
	runs, err := c.ScheduleRuns(ctx, "nightly", 10)
	if err != nil || len(runs) != 3 || runs[1].Outcome != "missed" || runs[1].Count != 2 {
		t.Errorf("%+v %v", runs, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.twice) > 0 {
		t.Errorf("told twice: %v", h.twice)
	}
}

func mapValues(m map[string]string) (values []string) {
	for _, v := range m {
		values = append(values, v)
	}
	return values
}

// TestReservedRequests: what schedules are known by is theirs.
func TestReservedRequests(t *testing.T) {
	t.Parallel()
	c, _ := run(t, options(t, place(t), ""))
	_, err := c.Submit(t.Context(), api.JobRequest{Operation: "check", Selection: api.Selection{All: true}, RequestID: "schedule:a:b:1"})
	if !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
}

// TestCheckLooksAtReceivers: what a start would stumble over, or a receiver later on.
func TestCheckLooksAtReceivers(t *testing.T) {
	t.Parallel()
	opts := options(t, place(t), "")
	opts.Notifications = &config.Notifications{Receivers: []config.Receiver{
		{Name: "hook", Webhook: &config.Webhook{URL: "http://h/", Token: secret.Ref{File: "/none/token"}}},
		{Name: "siem", Syslog: &config.Syslog{Network: "tls", Address: "h:6514", CA: "/none/ca.pem"}},
	}}
	checked, err := Check(t.Context(), opts)
	if err == nil || !strings.Contains(err.Error(), "siem") || !strings.Contains(err.Error(), "/none/ca.pem") {
		t.Errorf("%v", err)
	}
	if text := strings.Join(checked.Warnings, "\n"); !strings.Contains(text, "/none/token") || !strings.Contains(text, "over http") {
		t.Errorf("%s", text)
	}
}

// TestAlarm: an error of the PCI bus is written into a BMC's log, and within one
// period of a schedule whoever is to know does, once, over restarts and however often
// the log is checked.
func TestAlarm(t *testing.T) {
	t.Parallel()
	f := fleet(t, 12)
	h := newHookReceiver(t)
	opts := options(t, place(t), f.Inventory())
	opts.Notifications = &config.Notifications{
		Receivers: []config.Receiver{{Name: "hook", Webhook: &config.Webhook{URL: h.URL}}},
		Rules:     []config.Rule{{On: []string{"pci_error"}, To: []string{"hook"}}},
	}
	var ahead atomic.Int64 // of the real clock
	opts.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	opts.LookEvery = 10 * time.Millisecond
	c, stop := run(t, opts)
	ctx := t.Context()
	s, err := c.AddSchedule(ctx, api.ScheduleRequest{Name: "sel", Cron: "*/15 * * * *",
		Request: api.JobRequest{Operation: "sel", Spec: json.RawMessage(`{}`), Selection: api.Selection{Names: []string{"lon-probe-01"}}}})
	if err != nil {
		t.Fatal(err)
	}
	// period lets one period of the schedule pass and its check end.
	period := func() {
		t.Helper()
		before, err := c.ScheduleRuns(ctx, "sel", 200)
		if err != nil {
			t.Fatal(err)
		}
		if s, err = c.Schedule(ctx, "sel", 1); err != nil {
			t.Fatal(err)
		}
		ahead.Store(int64(time.Until(*s.NextAt) + time.Second))
		var runs []api.ScheduleRun
		eventually(t, "a run", func() bool {
			runs, err = c.ScheduleRuns(ctx, "sel", 200)
			return err == nil && len(runs) > len(before)
		})
		wait(ctx, t, c, runs[0].Job)
		if job, err := c.Job(ctx, runs[0].Job); err != nil || job.State != "succeeded" {
			t.Fatalf("%+v %v", job, err)
		}
		if _, err := c.History(ctx, "lon-probe-01", 1); err != nil { // comes once what happened was made use of
			t.Fatal(err)
		}
		eventually(t, "the end of what was to be told", func() bool {
			receivers, err := c.Receivers(ctx)
			return err == nil && receivers[0].Waiting == 0
		})
	}
	period() // the first check counts everything as new
	told := len(h.messages(notify.PCIError))
	if err := f.Order("lon-probe-01", "sel_pci"); err != nil {
		t.Fatal(err)
	}
	period()
	if n := len(h.messages(notify.PCIError)); n != told+1 {
		t.Fatalf("%d messages of one record, after %d of those that were there", n-told, told)
	}
	stop()
	c, _ = run(t, opts)
	period()
	period()
	if n := len(h.messages(notify.PCIError)); n != told+1 {
		t.Errorf("%d messages of one record", n-told)
	}
	for _, m := range h.messages(notify.PCIError) {
		if m.Device != "lon-probe-01" || !strings.Contains(m.Summary, "pci") {
			t.Errorf("%+v", m)
		}
	}
}

// TestHistoryOfBefore: a fleetd that begins to derive makes its history of the reports
// that are still there, and tells nobody of what is long known.
func TestHistoryOfBefore(t *testing.T) {
	t.Parallel()
	f := fleet(t, 12, "lon-probe-02:down")
	h := newHookReceiver(t)
	opts := options(t, place(t), f.Inventory())
	c, stop := run(t, opts)
	ctx := t.Context()
	runReport(ctx, t, c, api.Selection{Names: []string{"lon-probe-01", "lon-probe-02"}})
	stop()

	// As a fleetd of before has left it.
	db, err := ledger.Open(opts.ledgerPath(), opts.ledgerOptions())
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(ctx, func(tx *ledger.Tx) error {
		for _, ns := range append(history.Namespaces(), nsDerived) {
			var keys [][]byte
			if err := tx.Scan(ns, nil, nil, func(k, _ []byte) bool { keys = append(keys, slices.Clone(k)); return true }); err != nil {
				return err
			}
			for _, k := range keys {
				if err := tx.Delete(ns, k); err != nil {
					return err
				}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	opts.Notifications = &config.Notifications{Receivers: []config.Receiver{{Name: "hook", Webhook: &config.Webhook{URL: h.URL}}},
		Rules: []config.Rule{{On: []string{"job_failed"}, To: []string{"hook"}}, {On: []string{"capacity_below"}, FreePercent: 99, To: []string{"hook"}}}}
	c, _ = run(t, opts)
	series, err := c.History(ctx, "lon-probe-01", 365)
	if err != nil || len(series) == 0 || len(series[0].Points) != 1 {
		t.Errorf("%+v %v", series, err)
	}
	receivers, err := c.Receivers(ctx)
	if err != nil || receivers[0].Waiting != 0 || len(h.posts) != 0 {
		t.Errorf("told of what was before: %+v %v %v", receivers, h.posts, err)
	}
}
