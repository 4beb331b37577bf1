package jobs_test

import (
	"context"
	"testing"

	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/jobs/runnertest"
)

// TestPause: a paused job hands nothing new out, what runs finishes, a restart
// changes nothing about it, and resume lets it go on to its end.
func TestPause(t *testing.T) {
	began, release := make(chan string, 3), make(chan struct{})
	runner := runnertest.Func(func(_ context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
		began <- w.Unit
		<-release
		return result(w, succeeds(`1`))
	})
	h := newHarness(t, runner, func(o *jobs.Options) { o.Limits.Global = 1 }).start()
	job := h.submit(request("change", nil, "a", "b", "c"))
	if got := <-began; got != "a" {
		t.Fatalf("%s began first", got)
	}
	for _, by := range []string{"bob", "carol"} { // the second changes nothing
		got, err := h.Pause(t.Context(), job.ID, by)
		if err != nil || got.PausedBy != "bob" || got.PausedAt == nil || jobs.JobState(got) != jobs.Paused {
			t.Fatalf("%v %+v", err, got)
		}
	}
	release <- struct{}{}
	h.await(job.ID, 0, state("a", jobs.Succeeded))

	// Another job gets the place that became free: nothing of the paused one does.
	other := h.submit(request("read", nil, "z"))
	if got := <-began; got != "z" {
		t.Fatalf("%s began though its job is paused", got)
	}
	release <- struct{}{}
	h.finish(other.ID)

	h.stop()
	h.reopen()
	h.start()
	other = h.submit(request("read", nil, "y"))
	if got := <-began; got != "y" {
		t.Fatalf("after a restart %s began though its job is paused", got)
	}
	release <- struct{}{}
	h.finish(other.ID)
	if got, s, err := h.Job(t.Context(), job.ID); err != nil || s != jobs.Paused || got.Counts[jobs.Pending] != 2 {
		t.Fatalf("%v %s %+v", err, s, got)
	}

	for range 2 { // the second changes nothing
		got, err := h.Resume(t.Context(), job.ID, "dave")
		if err != nil || got.PausedBy != "" || got.PausedAt != nil {
			t.Fatalf("%v %+v", err, got)
		}
	}
	close(release)
	if got, s := h.finish(job.ID); s != jobs.Succeeded || got.PausedAt != nil {
		t.Errorf("%s %+v", s, got)
	}
	events := h.events(job.ID)
	if count(events, jobs.EventJobPaused) != 1 || count(events, jobs.EventJobResumed) != 1 {
		t.Errorf("events %+v", events)
	}
	for _, ev := range events {
		if ev.Type == jobs.EventJobPaused && (ev.State != jobs.Paused || ev.Reason != "paused by bob") ||
			ev.Type == jobs.EventJobResumed && (ev.State != jobs.Running || ev.Reason != "resumed by dave") {
			t.Errorf("%+v", ev)
		}
	}
	for what, fn := range map[string]func(context.Context, string, string) (jobs.Job, error){"pause": h.Pause, "resume": h.Resume} {
		if _, err := fn(t.Context(), job.ID, "bob"); !fault.Is(err, fault.Conflict) {
			t.Errorf("%s of a finished job: %v", what, err)
		}
		if _, err := fn(t.Context(), "99", "bob"); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s of no job: %v", what, err)
		}
	}
}

// TestPausedBeforeAnythingRan: what waits for a time of its own is held back too,
// and a cancel ends a pause.
func TestPausedBeforeAnythingRan(t *testing.T) {
	h := newHarness(t, &runnertest.Fake{})
	job := h.submit(request("read", spec(runnertest.Succeeds), "a", "b"))
	if _, err := h.Pause(t.Context(), job.ID, ""); err != nil {
		t.Fatal(err)
	}
	h.start()
	other := h.submit(request("read", spec(runnertest.Succeeds), "a"))
	h.finish(other.ID)
	if _, s, _ := h.Job(t.Context(), job.ID); s != jobs.Paused {
		t.Errorf("it is %s", s)
	}
	got, err := h.Cancel(t.Context(), job.ID, "bob")
	if err != nil || jobs.JobState(got) != jobs.Canceled || got.PausedAt != nil {
		t.Errorf("%v %+v", err, got)
	}
}

// TestPauseWhileLastRuns: a job whose last task ends while it is paused is done.
func TestPauseWhileLastRuns(t *testing.T) {
	began, release := make(chan struct{}, 2), make(chan struct{})
	fail := true
	h := newHarness(t, runnertest.Func(func(_ context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
		began <- struct{}{}
		<-release
		if fail {
			return result(w, fails(fault.Auth))
		}
		return result(w, succeeds())
	})).start()
	job := h.submit(request("read", nil, "a"))
	<-began
	if _, err := h.Pause(t.Context(), job.ID, "bob"); err != nil {
		t.Fatal(err)
	}
	release <- struct{}{}
	if got, s := h.finish(job.ID); s != jobs.Failed || got.PausedAt != nil {
		t.Errorf("%s %+v", s, got)
	}
	fail = false
	if _, err := h.Retry(t.Context(), job.ID, "bob"); err != nil {
		t.Fatal(err)
	}
	<-began // the retry is not held back by the old pause
	release <- struct{}{}
	if _, s := h.finish(job.ID); s != jobs.Succeeded {
		t.Errorf("after the retry %s", s)
	}
}
