package jobs_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/jobs/runnertest"
)

func coordinated(devices ...string) jobs.Request {
	req := request("read", nil, devices...)
	req.Coordinated = true
	return req
}

// TestTogether: all units go at once, after the last is ready, and stop when one
// of them asks for it.
func TestTogether(t *testing.T) {
	var prepared, going atomic.Int32
	h := newHarness(t, runnertest.Func(func(ctx context.Context, w jobs.Work, j jobs.Journal) jobs.Result {
		prepared.Add(1)
		if err := j.Ready(ctx); err != nil {
			t.Errorf("%s: %v", w.Unit, err)
		}
		if n := prepared.Load(); n != 4 {
			t.Errorf("%s goes when %d are prepared", w.Unit, n)
		}
		if going.Add(1) == 4 { // its trigger fires, once all are going
			if err := j.Stop(ctx, "the trigger fired"); err != nil {
				t.Error(err)
			}
		}
		<-j.Stopped()
		return result(w, succeeds(`1`))
	}), func(o *jobs.Options) { o.Limits.Global = 4 }).start()
	job := h.submit(coordinated("a", "b", "c", "d"))
	if got, s := h.finish(job.ID); s != jobs.Succeeded || got.Counts[jobs.Succeeded] != 4 || !got.Coordinated {
		t.Errorf("%s %+v", s, got)
	}
}

// TestNotPrepared: when one unit cannot be prepared nothing is started, and every
// task says which one it was. None is begun again alone.
func TestNotPrepared(t *testing.T) {
	var started atomic.Int32
	runs := map[string]int{}
	var mu sync.Mutex
	h := newHarness(t, runnertest.Func(func(ctx context.Context, w jobs.Work, j jobs.Journal) jobs.Result {
		mu.Lock()
		runs[w.Unit]++
		mu.Unlock()
		if w.Unit == "b" {
			return result(w, fails(fault.Unreachable)) // of a kind that is retried elsewhere
		}
		if err := j.Ready(ctx); err != nil {
			return result(w, jobs.TaskResult{State: jobs.Canceled, Failure: &jobs.Failure{Stage: "ready", Kind: fault.KindOf(err), Message: err.Error()}})
		}
		started.Add(1)
		return result(w, succeeds())
	})).start()
	job := h.submit(coordinated("a", "b", "c"))
	got, s := h.finish(job.ID)
	if s != jobs.Canceled || got.Counts[jobs.Failed] != 1 || got.Counts[jobs.Canceled] != 2 || started.Load() != 0 {
		t.Errorf("%s %+v, %d started", s, got.Counts, started.Load())
	}
	if f := h.task(job.ID, "a").Failure; f == nil || f.Kind != fault.Canceled || f.Message != "unit b was not ready: it failed: unreachable: nothing was started" {
		t.Errorf("%+v", f)
	}
	if fmt.Sprint(runs) != "map[a:1 b:1 c:1]" {
		t.Errorf("runs %v", runs)
	}
}

// TestOneEndsAllStop: whatever ends one unit after the go stops the others.
func TestOneEndsAllStop(t *testing.T) {
	h := newHarness(t, runnertest.Func(func(ctx context.Context, w jobs.Work, j jobs.Journal) jobs.Result {
		if err := j.Ready(ctx); err != nil {
			t.Error(err)
		}
		if w.Unit == "a" {
			return result(w, fails(fault.Disconnected))
		}
		<-j.Stopped()
		return result(w, succeeds(`1`))
	})).start()
	job := h.submit(coordinated("a", "b", "c"))
	if got, s := h.finish(job.ID); s != jobs.Partial || got.Counts[jobs.Succeeded] != 2 || got.Counts[jobs.Failed] != 1 {
		t.Errorf("%s %+v", s, got.Counts)
	}
}

// TestTogetherAfterRestartAndCancel: what fleetd's end cut short goes together
// again, and a cancel reaches those who wait for the go.
func TestTogetherAfterRestartAndCancel(t *testing.T) {
	waiting := make(chan struct{}, 8)
	h := newHarness(t, runnertest.Func(func(ctx context.Context, w jobs.Work, j jobs.Journal) jobs.Result {
		waiting <- struct{}{}
		if w.Unit == "a" {
			<-ctx.Done() // is never ready
		} else if err := j.Ready(ctx); err == nil {
			t.Errorf("%s was let go", w.Unit)
		}
		return result(w, jobs.TaskResult{State: jobs.Canceled})
	})).start()
	job := h.submit(coordinated("a", "b"))
	for range 2 {
		<-waiting
		<-waiting
		h.stop()
		if got, s, err := h.Job(t.Context(), job.ID); err != nil || s != jobs.Pending || got.Counts[jobs.Pending] != 2 {
			t.Fatalf("after a stop: %v %s %+v", err, s, got.Counts)
		}
		h.reopen()
		h.start()
	}
	<-waiting
	<-waiting
	if _, err := h.Cancel(t.Context(), job.ID, "bob"); err != nil {
		t.Fatal(err)
	}
	if got, s := h.finish(job.ID); s != jobs.Canceled || got.Counts[jobs.Canceled] != 2 {
		t.Errorf("%s %+v", s, got.Counts)
	}
}

// TestTogetherRefused: what could never be handed out is not taken.
func TestTogetherRefused(t *testing.T) {
	h := newHarness(t, &runnertest.Fake{}, func(o *jobs.Options) { o.Limits = jobs.Limits{Global: 3, PerSite: 2} })
	waves := coordinated("a", "b")
	waves.Targets[1].Wave = 1
	for name, req := range map[string]jobs.Request{
		"more than there are places":        coordinatedAt([]string{"1", "2", "3", "4"}, "a", "b", "c", "d"),
		"more than there are at their site": coordinated("a", "b", "c"),
		"in waves":                          waves,
	} {
		if _, err := h.Submit(t.Context(), req); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func coordinatedAt(sites []string, devices ...string) jobs.Request {
	req := coordinated(devices...)
	for i := range req.Targets {
		req.Targets[i].Site = sites[i]
	}
	return req
}
