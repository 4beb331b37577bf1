package jobs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/ledger"
)

// harness is an engine over a ledger of its own.
type harness struct {
	*jobs.Engine
	t    testing.TB
	db   *ledger.DB
	opts jobs.Options
	stop func() // ends Run and waits for it; nil while it does not run
}

// tempDir prefers memory: these tests are about order, not about disks.
func tempDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "jobs")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func newHarness(t testing.TB, runner jobs.Runner, opts ...func(*jobs.Options)) *harness {
	t.Helper()
	db, err := ledger.Open(filepath.Join(tempDir(t), "ledger.db"), ledger.Options{Namespaces: jobs.Namespaces()})
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{t: t, db: db, opts: jobs.Options{Ledger: db, Runner: runner}}
	for _, opt := range opts {
		opt(&h.opts)
	}
	h.reopen()
	t.Cleanup(func() {
		if h.stop != nil {
			h.stop()
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// reopen makes a new engine over the same ledger, as a new process would.
func (h *harness) reopen() {
	h.t.Helper()
	engine, err := jobs.Open(context.Background(), h.opts)
	if err != nil {
		h.t.Fatal(err)
	}
	h.Engine = engine
}

// start lets Run run until stop.
func (h *harness) start() *harness {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	h.stop = func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Error(err)
		}
		h.stop = nil
	}
	return h
}

func request(access string, spec json.RawMessage, devices ...string) jobs.Request {
	req := jobs.Request{Operation: "fake", Spec: spec, Access: access, CreatedBy: "alice"}
	for _, d := range devices {
		req.Targets = append(req.Targets, jobs.Target{Device: d, Site: "lon", Snapshot: json.RawMessage(`{"name":"` + d + `"}`)})
	}
	return req
}

func names(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("d%04d", i))
	}
	return list
}

func (h *harness) submit(req jobs.Request) jobs.Job {
	h.t.Helper()
	job, err := h.Submit(context.Background(), req)
	if err != nil {
		h.t.Fatal(err)
	}
	return job
}

// await follows a job's events until one is as wanted.
func (h *harness) await(id string, after uint64, want func(jobs.Event) bool) jobs.Event {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for ev, err := range h.Watch(ctx, jobs.WatchOptions{Job: id, After: after}) {
		if err != nil {
			h.t.Fatal(err)
		}
		if want(ev) {
			return ev
		}
	}
	h.t.Fatal("the watch ended by itself")
	return jobs.Event{}
}

// finish waits for the end of a job.
func (h *harness) finish(id string) (jobs.Job, jobs.State) {
	h.t.Helper()
	for {
		known := h.events(id)
		job, state, err := h.Job(context.Background(), id)
		if err != nil {
			h.t.Fatal(err)
		}
		if job.FinishedAt != nil {
			return job, state
		}
		h.await(id, known[len(known)-1].Seq, func(ev jobs.Event) bool { return ev.Seq > 0 })
	}
}

func state(device string, s jobs.State) func(jobs.Event) bool {
	return func(ev jobs.Event) bool {
		return ev.Type == jobs.EventTaskState && ev.Device == device && ev.State == s
	}
}

func (h *harness) task(id, device string) jobs.Task {
	h.t.Helper()
	tasks, err := h.Tasks(context.Background(), id)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, task := range tasks {
		if task.Device == device {
			return task
		}
	}
	h.t.Fatalf("job %s has no task for %s", id, device)
	return jobs.Task{}
}

// rows gives how many rows each device has.
func (h *harness) rows(id string) map[string]int {
	h.t.Helper()
	counts := make(map[string]int)
	if err := h.Rows(context.Background(), id, func(device string, rows []json.RawMessage) error {
		if counts[device] != 0 {
			return errors.New("device " + device + " came twice")
		}
		counts[device] = len(rows)
		return nil
	}); err != nil {
		h.t.Fatal(err)
	}
	return counts
}

// events gives the stored events of a job, or of all with "", as the ledger has
// them and not as Watch tells them.
func (h *harness) events(id string) (list []jobs.Event) {
	h.t.Helper()
	if err := h.db.View(func(tx *ledger.Tx) error {
		return tx.Scan("events", nil, nil, func(_, v []byte) bool {
			var ev jobs.Event
			if err := json.Unmarshal(v, &ev); err != nil {
				h.t.Error(err)
			}
			if id == "" || ev.Job == id {
				list = append(list, ev)
			}
			return true
		})
	}); err != nil {
		h.t.Fatal(err)
	}
	return list
}

func count(list []jobs.Event, kind jobs.EventType) (n int) {
	for _, ev := range list {
		if ev.Type == kind {
			n++
		}
	}
	return n
}

// result gives every device of a unit the same ending.
func result(work jobs.Work, r jobs.TaskResult) jobs.Result {
	tasks := make(map[string]jobs.TaskResult)
	for _, t := range work.Targets {
		tasks[t.Device] = r
	}
	return jobs.Result{Tasks: tasks}
}

func fails(kind fault.Kind) jobs.TaskResult {
	return jobs.TaskResult{State: jobs.Failed, Failure: &jobs.Failure{Stage: "dial", Kind: kind, Message: "it failed: " + string(kind)}}
}

func succeeds(rows ...string) jobs.TaskResult {
	r := jobs.TaskResult{State: jobs.Succeeded}
	for _, row := range rows {
		r.Rows = append(r.Rows, json.RawMessage(row))
	}
	return r
}
