package jobs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/jobs/runnertest"
)

func TestCancel(t *testing.T) {
	causes := make(chan error, 10)
	h := newHarness(t, runnertest.Func(func(ctx context.Context, w jobs.Work, j jobs.Journal) jobs.Result {
		if w.Unit != "d0000" {
			return result(w, succeeds())
		}
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return result(w, fails(fault.Disconnected)) // what a session that is cut gives
	}), func(o *jobs.Options) { o.Limits.Global = 1 }).start()
	job := h.submit(request("read", nil, names(5)...))
	h.await(job.ID, 0, state("d0000", jobs.Running))

	if _, err := h.Cancel(t.Context(), job.ID, "bob"); err != nil {
		t.Fatal(err)
	}
	if cause := <-causes; !fault.Is(cause, fault.Canceled) || !strings.Contains(cause.Error(), "bob") {
		t.Errorf("the runner was told %v", cause)
	}
	got, s := h.finish(job.ID)
	if s != jobs.Canceled || got.CanceledBy != "bob" || got.CanceledAt == nil || got.Counts[jobs.Canceled] != 5 {
		t.Errorf("%s %+v", s, got)
	}
	tasks, err := h.Tasks(t.Context(), job.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		if task.State != jobs.Canceled || task.Reason != "canceled by bob" || task.Failure == nil || task.Failure.Kind != fault.Canceled {
			t.Errorf("%+v", task)
		}
	}
	if _, err := h.Cancel(t.Context(), job.ID, "bob"); !fault.Is(err, fault.Conflict) {
		t.Errorf("canceled again when finished: %v", err)
	}
	events := h.events(job.ID)
	if count(events, jobs.EventJobCanceled) != 1 || count(events, jobs.EventJobFinished) != 1 {
		t.Errorf("%+v", events)
	}
}

func TestCancelTwiceWhileItEnds(t *testing.T) {
	release := make(chan struct{})
	h := newHarness(t, runnertest.Func(func(_ context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
		<-release // it brings the device to a safe state first
		return result(w, succeeds(`1`))
	})).start()
	job := h.submit(request("change", nil, "a"))
	h.await(job.ID, 0, state("a", jobs.Running))
	for _, by := range []string{"bob", "carol"} {
		got, err := h.Cancel(t.Context(), job.ID, by)
		if err != nil || got.CanceledBy != "bob" || jobs.JobState(got) != jobs.Running {
			t.Errorf("%s: %v %+v", by, err, got)
		}
	}
	if _, err := h.Retry(t.Context(), job.ID, "bob"); !fault.Is(err, fault.Conflict) {
		t.Errorf("retry of a job that is not finished: %v", err)
	}
	close(release)
	if _, s := h.finish(job.ID); s != jobs.Succeeded {
		t.Errorf("what ended well is %s", s)
	}
	if n := count(h.events(job.ID), jobs.EventJobCanceled); n != 1 {
		t.Errorf("%d events say that it was canceled", n)
	}
}

func TestRetryTakesUpWhatFailed(t *testing.T) {
	world := sync.Map{} // devices that work now
	h := newHarness(t, runnertest.Func(func(ctx context.Context, w jobs.Work, j jobs.Journal) jobs.Result {
		if err := j.Step(ctx, "collect"); err != nil {
			t.Error(err)
		}
		if _, ok := world.Load(w.Unit); !ok && w.Unit != "good" {
			if w.Unit == "doubtful" {
				r := succeeds(`"doubtful"`)
				r.State, r.Failure = jobs.Attention, &jobs.Failure{Message: "the device does not show it"}
				return result(w, r)
			}
			return result(w, fails(fault.Auth))
		}
		return result(w, succeeds(fmt.Sprintf(`{"attempt":%d,"history":%d}`, w.Attempt, len(w.History))))
	})).start()
	job := h.submit(request("read", nil, "good", "bad", "doubtful"))
	if got, s := h.finish(job.ID); s != jobs.Attention || got.Counts[jobs.Failed] != 1 {
		t.Fatalf("%s %+v", s, got)
	}
	if got := h.rows(job.ID); !reflect.DeepEqual(got, map[string]int{"good": 1, "doubtful": 1}) {
		t.Errorf("rows %v", got)
	}
	world.Store("bad", true)
	world.Store("doubtful", true)
	got, err := h.Retry(t.Context(), job.ID, "carol")
	if err != nil || got.FinishedAt != nil {
		t.Fatalf("%v %+v", err, got)
	}
	if _, s := h.finish(job.ID); s != jobs.Succeeded {
		t.Fatalf("%s after the retry", s)
	}
	var rows []string
	if err := h.Rows(t.Context(), job.ID, func(device string, list []json.RawMessage) error {
		rows = append(rows, fmt.Sprintf("%s %s", device, list))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want := []string{`bad [{"attempt":2,"history":1}]`, `doubtful [{"attempt":2,"history":1}]`, `good [{"attempt":1,"history":0}]`}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Error(diff)
	}
	if task := h.task(job.ID, "bad"); task.Attempt != 2 || task.Failure != nil || task.Reason != "" {
		t.Errorf("%+v", task)
	}
	events := h.events(job.ID)
	if count(events, jobs.EventJobFinished) != 2 || count(events, jobs.EventJobRetried) != 1 {
		t.Errorf("%+v", events)
	}
	if _, err := h.Retry(t.Context(), job.ID, "carol"); !fault.Is(err, fault.Conflict) {
		t.Errorf("retry of what succeeded: %v", err)
	}
}

func TestRetryOfCanceledJob(t *testing.T) {
	h := newHarness(t, &runnertest.Fake{})
	job := h.submit(request("read", spec(runnertest.Succeeds), names(3)...))
	if got, err := h.Cancel(t.Context(), job.ID, "bob"); err != nil || jobs.JobState(got) != jobs.Canceled || got.FinishedAt == nil {
		t.Fatalf("%v %+v", err, got)
	}
	if got, err := h.Retry(t.Context(), job.ID, "bob"); err != nil || got.CanceledBy != "" || jobs.JobState(got) != jobs.Pending {
		t.Fatalf("%v %+v", err, got)
	}
	h.start()
	if _, s := h.finish(job.ID); s != jobs.Succeeded {
		t.Errorf("%s", s)
	}
}

func TestStopGivesWorkBack(t *testing.T) {
	h := newHarness(t, &runnertest.Fake{}, func(o *jobs.Options) { o.Limits.Global = 2 }).start()
	job := h.submit(request("read", spec(runnertest.Blocks), names(4)...))
	h.await(job.ID, 0, state("d0000", jobs.Running))
	h.await(job.ID, 0, state("d0001", jobs.Running))
	h.stop()
	got, s, err := h.Job(t.Context(), job.ID)
	if err != nil || s != jobs.Pending || got.Counts[jobs.Pending] != 4 || got.StartedAt == nil {
		t.Fatalf("%v %s %+v", err, s, got)
	}
	if task := h.task(job.ID, "d0000"); task.Attempt != 0 || task.Fence != 1 || task.Reason == "" || task.Failure != nil {
		t.Errorf("%+v", task)
	}
	h.opts.Runner = runnertest.Func(func(_ context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
		return result(w, succeeds(`1`))
	})
	h.reopen()
	h.start()
	if _, s := h.finish(job.ID); s != jobs.Succeeded {
		t.Errorf("%s after the next start", s)
	}
	if task := h.task(job.ID, "d0000"); task.Attempt != 1 || task.Fence != 2 || task.Reason != "" {
		t.Errorf("%+v", task)
	}
}

func TestStopKeepsWhatIsCertain(t *testing.T) {
	endings := map[string]jobs.TaskResult{
		"done":      succeeds(`1`),
		"attention": {State: jobs.Attention, Failure: &jobs.Failure{Message: "look at it"}},
		"auth":      fails(fault.Auth),
		"cut":       fails(fault.Disconnected),
		"canceled":  {State: jobs.Canceled},
	}
	h := newHarness(t, runnertest.Func(func(ctx context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
		<-ctx.Done()
		if cause := context.Cause(ctx); !errors.Is(cause, jobs.ErrStopping) {
			t.Errorf("cause %v", cause)
		}
		return result(w, endings[w.Unit])
	})).start()
	var devices []string
	for device := range endings {
		devices = append(devices, device)
	}
	job := h.submit(request("read", nil, devices...))
	for _, device := range devices {
		h.await(job.ID, 0, state(device, jobs.Running))
	}
	h.stop()
	for device, want := range map[string]jobs.State{"done": jobs.Succeeded, "attention": jobs.Attention, "auth": jobs.Failed,
		"cut": jobs.Pending, "canceled": jobs.Pending} {
		if task := h.task(job.ID, device); task.State != want {
			t.Errorf("%s is %s, want %s: %+v", device, task.State, want, task)
		}
	}
}

// TestStopEndsWithoutLedger: a result that cannot be stored does not keep fleetd
// from stopping.
func TestStopEndsWithoutLedger(t *testing.T) {
	release := make(chan struct{})
	h := newHarness(t, runnertest.Func(func(_ context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
		<-release
		return result(w, succeeds(`1`))
	})).start()
	job := h.submit(request("read", nil, "a"))
	h.await(job.ID, 0, state("a", jobs.Running))
	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	close(release)
	h.stop()
}

func TestRunTwiceIsConflict(t *testing.T) {
	h := newHarness(t, &runnertest.Fake{}).start()
	h.finish(h.submit(request("read", spec(runnertest.Succeeds), "a")).ID) // it runs
	if err := h.Run(t.Context()); !fault.Is(err, fault.Conflict) {
		t.Errorf("got %v", err)
	}
	h.stop()
	h.start()
	if _, s := h.finish(h.submit(request("read", spec(runnertest.Succeeds), "a")).ID); s != jobs.Succeeded {
		t.Errorf("%s when run again", s)
	}
}
