package api_test

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"capfleet/internal/api"
	"capfleet/internal/api/client"
	"capfleet/internal/fault"
	"capfleet/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// fake is a Service that keeps what it was asked and answers from its fields.
type fake struct {
	mu      sync.Mutex
	asked   []any // arguments in order
	err     error // every call ends with it when set
	devices []api.Device
	job     api.Job
	tasks   []api.Task
	rows    []row
	rowsErr error // after all rows
	journal []api.JournalEntry
	kept    map[string]string // content by digest, as the store believes
	panics  bool
	log     *eventLog
}

type row struct {
	device string
	rows   []json.RawMessage
}

var _ api.Service = (*fake)(nil)

func (f *fake) Stream(_ context.Context, id string) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader("stream of " + id)), f.note("stream", id)
}

func (f *fake) note(args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, args...)
	return f.err
}

func (f *fake) take() []any {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.asked
	f.asked = nil
	return a
}

func (f *fake) Version(context.Context) (api.Version, error) {
	if f.panics {
		panic("index out of range")
	}
	return api.Version{Version: "1.2.3"}, f.note("version")
}

func (f *fake) Devices(_ context.Context, sel api.Selection) (iter.Seq2[json.RawMessage, error], error) {
	return func(yield func(json.RawMessage, error) bool) {
		for _, d := range f.devices {
			if raw, err := json.Marshal(d); !yield(raw, err) {
				return
			}
		}
	}, f.note(sel)
}

func (f *fake) Device(_ context.Context, name string) (api.Device, error) {
	return api.Device{Name: name}, f.note(name)
}

func (f *fake) PinHostKeys(_ context.Context, by string, req api.PinRequest) (api.PinResult, error) {
	return api.PinResult{Added: req.Keys}, f.note(by, req)
}

func (f *fake) Start(_ context.Context, by string, req api.JobRequest) (api.Job, error) {
	return f.job, f.note(by, req)
}

func (f *fake) Jobs(_ context.Context, q api.JobQuery) (api.JobList, error) {
	return api.JobList{Rows: []api.Job{f.job}, Next: "7"}, f.note(q)
}

func (f *fake) Job(_ context.Context, id string) (api.Job, error) {
	if f.log != nil {
		return f.log.job(), f.note("job", id)
	}
	return f.job, f.note("job", id)
}

func (f *fake) Tasks(_ context.Context, id string) ([]api.Task, error) {
	return f.tasks, f.note("tasks", id)
}

func (f *fake) Rows(_ context.Context, id string, fn func(string, []json.RawMessage) error) error {
	for _, r := range f.rows {
		if err := fn(r.device, r.rows); err != nil {
			return err
		}
	}
	return f.rowsErr
}

func (f *fake) Journal(_ context.Context, id, device string) ([]api.JournalEntry, error) {
	return f.journal, f.note("journal", id, device)
}

func (f *fake) Cancel(_ context.Context, id, by string) (api.Job, error) {
	return f.job, f.note("cancel", id, by)
}

func (f *fake) Retry(_ context.Context, id, by string) (api.Job, error) {
	return f.job, f.note("retry", id, by)
}

func (f *fake) Pause(_ context.Context, id, by string) (api.Job, error) {
	return f.job, f.note("pause", id, by)
}

func (f *fake) Resume(_ context.Context, id, by string) (api.Job, error) {
	return f.job, f.note("resume", id, by)
}

func (f *fake) Stop(_ context.Context, id, by string) (api.Job, error) {
	return f.job, f.note("stop", id, by)
}

func (f *fake) Plan(_ context.Context, by string, req api.JobRequest) (api.Plan, error) {
	return api.Plan{Operation: req.Operation}, f.note("plan", by, req)
}

func (f *fake) Approve(_ context.Context, id, by string) (api.Job, error) {
	return f.job, f.note("approve", id, by)
}

func (f *fake) Audit(_ context.Context, q api.AuditQuery) (api.AuditList, error) {
	return api.AuditList{Next: 3}, f.note(q)
}

func (f *fake) Over(_ context.Context, _ string, after uint64) (bool, error) {
	return f.log != nil && f.log.over(after), nil
}

func (f *fake) Events(ctx context.Context, job string, after uint64) iter.Seq2[api.Event, error] {
	_ = f.note("events", job, after)
	return f.log.events(ctx, after)
}

func (f *fake) Artifacts(_ context.Context, job string) ([]api.Artifact, error) {
	return nil, f.note("artifacts", job)
}

func (f *fake) Artifact(_ context.Context, sha string) (io.ReadCloser, api.Artifact, error) {
	if err := f.note("artifact", sha); err != nil {
		return nil, api.Artifact{}, err
	}
	content, ok := f.kept[sha]
	if !ok {
		return nil, api.Artifact{}, fault.New(fault.NotFound, "no artifact %s", sha)
	}
	return io.NopCloser(strings.NewReader(content)), api.Artifact{SHA256: sha, Size: int64(len(content))}, nil
}

// eventLog is a ledger of events that can be replayed and followed.
type eventLog struct {
	mu       sync.Mutex
	list     []api.Event
	finished *time.Time
	changed  chan struct{}
	gate     chan struct{} // when set, nothing is read before it is closed
}

func newEventLog() *eventLog { return &eventLog{changed: make(chan struct{})} }

// add appends an event; the engine writes a job's end and its time together.
func (l *eventLog) add(ev api.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ev.Type != "progress" {
		ev.Seq = uint64(10 * (len(l.list) + 1)) // sequence numbers have holes: other jobs' events
	}
	ev.Time = time.Unix(1_700_000_000+int64(len(l.list)), 0).UTC()
	ev.Job = "1"
	switch ev.Type {
	case "job_finished":
		at := ev.Time
		l.finished = &at
	case "job_retried":
		l.finished = nil
	}
	l.list = append(l.list, ev)
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *eventLog) steps(n int) {
	for i := range n {
		l.add(api.Event{Type: "task_step", Step: "s" + strconv.Itoa(i)})
	}
}

func (l *eventLog) job() api.Job {
	l.mu.Lock()
	defer l.mu.Unlock()
	return api.Job{ID: "1", FinishedAt: l.finished}
}

func (l *eventLog) events(ctx context.Context, after uint64) iter.Seq2[api.Event, error] {
	return func(yield func(api.Event, error) bool) {
		if l.gate != nil {
			select {
			case <-l.gate:
			case <-ctx.Done():
				return
			}
		}
		for next := 0; ; {
			l.mu.Lock()
			todo, changed := l.list[next:], l.changed
			next = len(l.list)
			l.mu.Unlock()
			for _, ev := range todo {
				if (ev.Seq == 0 || ev.Seq > after) && !yield(ev, nil) {
					return
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
		}
	}
}

func (l *eventLog) over(after uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.finished != nil && !slices.ContainsFunc(l.list, func(ev api.Event) bool { return ev.Seq > after })
}

// serve runs a server for a Service on a socket until the test ends.
func serve(t *testing.T, svc api.Service, opts ...func(*api.Options)) (socket string, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cf") // a socket's path may have 107 bytes; t.TempDir's are longer
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	o := api.Options{Service: svc, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	for _, opt := range opts {
		opt(&o)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- api.New(o).Serve(ctx, ln) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return socket, stop
}

func dial(t *testing.T, socket string) *client.Client {
	t.Helper()
	c, err := client.New(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}
