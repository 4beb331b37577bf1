package jobs_test

import (
	"context"
	"sync/atomic"
	"testing"

	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/jobs/runnertest"
)

// TestLeave: a unit that takes no part keeps nobody from beginning and stops
// nobody, before the go and after it.
func TestLeave(t *testing.T) {
	gone := make(chan struct{})
	var going atomic.Int32
	h := newHarness(t, runnertest.Func(func(ctx context.Context, w jobs.Work, j jobs.Journal) jobs.Result {
		leave := func() {
			if err := j.(jobs.Leaver).Leave(ctx, "it cannot"); err != nil {
				t.Error(err)
			}
		}
		if w.Unit == "early" {
			leave()
			return result(w, fails(fault.Denied))
		}
		if err := j.Ready(ctx); err != nil {
			t.Errorf("%s: %v", w.Unit, err)
		}
		going.Add(1)
		if w.Unit == "late" {
			leave()
			close(gone)
			return result(w, succeeds())
		}
		<-gone
		select {
		case <-j.Stopped():
			t.Errorf("%s was stopped", w.Unit)
		default:
		}
		if w.Unit == "b" {
			if err := j.Stop(ctx, "its time is over"); err != nil {
				t.Error(err)
			}
		}
		<-j.Stopped()
		return result(w, succeeds())
	})).start()
	job := h.submit(coordinated("early", "late", "a", "b"))
	got, s := h.finish(job.ID)
	if s != jobs.Partial || got.Counts[jobs.Failed] != 1 || got.Counts[jobs.Succeeded] != 3 || going.Load() != 3 {
		t.Errorf("%s %+v", s, got.Counts)
	}
}

// TestStop: an operator ends what the units do together, and nothing else.
func TestStop(t *testing.T) {
	ready := make(chan struct{}, 2)
	h := newHarness(t, runnertest.Func(func(ctx context.Context, w jobs.Work, j jobs.Journal) jobs.Result {
		if err := j.Ready(ctx); err != nil {
			t.Error(err)
		}
		ready <- struct{}{}
		select {
		case <-j.Stopped():
		case <-ctx.Done():
			return result(w, fails(fault.Canceled))
		}
		return result(w, succeeds())
	})).start()
	job := h.submit(coordinated("a", "b"))
	<-ready
	<-ready
	if _, err := h.Stop(t.Context(), job.ID, "uma"); err != nil {
		t.Fatal(err)
	}
	if got, s := h.finish(job.ID); s != jobs.Succeeded {
		t.Errorf("%s %+v", s, got.Counts)
	}
	if _, err := h.Stop(t.Context(), job.ID, "uma"); !fault.Is(err, fault.Conflict) {
		t.Errorf("a finished job: %v", err)
	}
	if _, err := h.Stop(t.Context(), "9999", "uma"); !fault.Is(err, fault.NotFound) {
		t.Errorf("no such job: %v", err)
	}
}
