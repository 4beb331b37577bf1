package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

// fakeFleet answers as a fleetd would whose jobs end in results that the test
// has given. It is the real client's interface, so what is tested here is all
// that fleetctl does by itself.
type fakeFleet struct {
	down    error // what every call gives when set
	version api.Version
	devices []api.Device
	jobs    []api.Job // newest first
	tasks   []api.Task
	journal []api.JournalEntry
	results map[string]api.Results // by job
	events  []api.Event
	kept    []keptFile
	// found is what Examine gives
	found []api.Finding
	// templates in force
	templates templatesOf
	// hang keeps the event stream open until the context ends.
	hang bool
	// waiting, when set, is closed once somebody waits on a hanging stream.
	waiting chan struct{}

	// outcome of the next submitted job
	outcome api.Results

	submitted []api.JobRequest
	pinned    []api.PinRequest
	stopped   []string
	offsets   []int64 // of ArtifactFrom
	cuts      []int64 // how much it gives, call by call
	canceled  []string
	schedules []api.Schedule
	receivers []api.Receiver
	history   []api.HistorySeries
	stream    string // what a live capture gives
	plan      api.Plan
}

func (f *fakeFleet) Version(context.Context) (api.Version, error) { return f.version, f.down }

func (f *fakeFleet) Devices(_ context.Context, sel api.Selection) ([]api.Device, error) {
	if f.down != nil {
		return nil, f.down
	}
	var out []api.Device
	for _, d := range f.devices {
		if len(sel.Names) == 0 || slices.Contains(sel.Names, d.Name) {
			out = append(out, d)
		}
	}
	if len(out) == 0 {
		return nil, fault.New(fault.Invalid, "no device matches")
	}
	return out, nil
}

func (f *fakeFleet) Device(_ context.Context, name string) (api.Device, error) {
	for _, d := range f.devices {
		if d.Name == name {
			return d, f.down
		}
	}
	return api.Device{}, fault.New(fault.NotFound, "no device is called %q", name)
}

func (f *fakeFleet) Stream(context.Context, string) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(f.stream)), f.down
}

func (f *fakeFleet) PinHostKeys(_ context.Context, req api.PinRequest) (api.PinResult, error) {
	f.pinned = append(f.pinned, req)
	return api.PinResult{Added: req.Keys}, f.down
}

func (f *fakeFleet) Submit(_ context.Context, req api.JobRequest) (api.Job, error) {
	if f.down != nil {
		return api.Job{}, f.down
	}
	f.submitted = append(f.submitted, req)
	job := f.outcome.Job
	job.ID, job.Operation, job.Spec, job.State, job.FinishedAt = "12", req.Operation, req.Spec, "pending", nil
	done := f.outcome
	done.Job = job
	done.Job.State, done.Job.FinishedAt = f.outcome.Job.State, &testTime
	f.jobs = append([]api.Job{done.Job}, f.jobs...)
	if f.results == nil {
		f.results = map[string]api.Results{}
	}
	f.results[job.ID] = done
	return job, nil
}

func (f *fakeFleet) Job(_ context.Context, id string) (api.Job, error) {
	for _, j := range f.jobs {
		if j.ID == id {
			return j, f.down
		}
	}
	return api.Job{}, fault.New(fault.NotFound, "there is no job %s", id)
}

func (f *fakeFleet) Jobs(context.Context, api.JobQuery) (api.JobList, error) {
	return api.JobList{Rows: f.jobs, Next: ""}, f.down
}

func (f *fakeFleet) Tasks(context.Context, string) ([]api.Task, error) { return f.tasks, f.down }

func (f *fakeFleet) Results(ctx context.Context, id string) (api.Results, error) {
	return f.results[id], ctx.Err()
}

func (f *fakeFleet) Journal(context.Context, string, string) ([]api.JournalEntry, error) {
	return f.journal, f.down
}

func (f *fakeFleet) Cancel(ctx context.Context, id string) (api.Job, error) {
	f.canceled = append(f.canceled, id)
	return f.Job(ctx, id)
}

func (f *fakeFleet) Retry(ctx context.Context, id string) (api.Job, error) { return f.Job(ctx, id) }

func (f *fakeFleet) Pause(ctx context.Context, id string) (api.Job, error) {
	return f.gate(ctx, id, &testTime)
}

func (f *fakeFleet) Stop(ctx context.Context, id string) (api.Job, error) {
	f.stopped = append(f.stopped, id)
	return f.Job(ctx, id)
}

func (f *fakeFleet) Resume(ctx context.Context, id string) (api.Job, error) {
	return f.gate(ctx, id, nil)
}

func (f *fakeFleet) Plan(context.Context, api.JobRequest) (api.Plan, error) { return f.plan, f.down }

func (f *fakeFleet) Approve(ctx context.Context, id string) (api.Job, error) {
	for i := range f.jobs {
		if j := &f.jobs[i]; j.ID == id {
			j.ApprovedAt, j.ApprovedBy = &testTime, "bob"
		}
	}
	return f.Job(ctx, id)
}

// gate pauses a job, or lets it go on.
func (f *fakeFleet) gate(ctx context.Context, id string, at *time.Time) (api.Job, error) {
	for i := range f.jobs {
		if j := &f.jobs[i]; j.ID == id {
			j.PausedAt, j.PausedBy, j.State = at, "", "running"
			if at != nil {
				j.PausedBy, j.State = "bob", "paused"
			}
		}
	}
	return f.Job(ctx, id)
}

// Audit has an entry for each number up to 5, and looks at two of them at a time.
func (f *fakeFleet) Audit(_ context.Context, q api.AuditQuery) (list api.AuditList, err error) {
	if q.Before == 0 {
		q.Before = 6
	}
	for id := q.Before - 1; id > 0 && len(list.Rows) < min(q.Limit, 2); id-- {
		list.Rows = append(list.Rows, api.AuditEntry{ID: id, Time: testTime, By: "alice", Action: "job.submit", Result: "done", Job: "7"})
		list.Next = id
	}
	if list.Next == 1 {
		list.Next = 0
	}
	return list, f.down
}

func (f *fakeFleet) Events(ctx context.Context, _ string, _ uint64) iter.Seq2[api.Event, error] {
	return func(yield func(api.Event, error) bool) {
		for _, ev := range f.events {
			if !yield(ev, nil) {
				return
			}
		}
		if f.hang {
			if f.waiting != nil {
				close(f.waiting)
			}
			<-ctx.Done()
			yield(api.Event{}, fault.Wrap(fault.Canceled, "watch events", ctx.Err()))
		}
	}
}

var testTime = time.Date(2024, 5, 1, 10, 11, 12, 0, time.UTC)

// session is one run of fleetctl in a test.
type session struct {
	fleet    *fakeFleet
	stdin    string
	terminal bool // all streams are a terminal of 80 columns
	env      map[string]string
}

type outcome struct {
	code        int
	out, errOut string
}

// run runs a command line against the fake.
func (s session) run(ctx context.Context, t *testing.T, args ...string) outcome {
	t.Helper()
	var out, errOut bytes.Buffer
	streams := Streams{
		In: strings.NewReader(s.stdin), Out: &out, Err: &errOut,
		InTerminal: s.terminal, OutTerminal: s.terminal, ErrTerminal: s.terminal,
		Width:  func() int { return 80 },
		Getenv: func(key string) string { return s.env[key] },
		Now:    func() time.Time { return testTime.Add(26*time.Hour + 12*time.Minute) },
	}
	fl := s.fleet
	if fl == nil {
		fl = &fakeFleet{}
	}
	code := run(ctx, args, streams, Build{Version: "v1.2.3", Commit: "abc"}, func(string) (fleet, error) { return fl, nil })
	return outcome{code, out.String(), errOut.String()}
}

func rows(t *testing.T, list ...string) []json.RawMessage {
	t.Helper()
	out := make([]json.RawMessage, len(list))
	for i, text := range list {
		if !json.Valid([]byte(text)) {
			t.Fatalf("not JSON: %s", text)
		}
		out[i] = json.RawMessage(text)
	}
	return out
}
