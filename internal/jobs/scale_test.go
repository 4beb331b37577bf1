package jobs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"capfleet/internal/jobs"
	"capfleet/internal/jobs/runnertest"
)

// wide is a request for many devices over many sites, with snapshots of the size
// that real ones have.
func wide(n int) jobs.Request {
	req := jobs.Request{Operation: "fake", Access: "read", Spec: spec(runnertest.Succeeds)}
	snapshot := json.RawMessage(`{"padding":"` + strings.Repeat("x", 500) + `"}`)
	for i, d := range names(n) {
		req.Targets = append(req.Targets, jobs.Target{Device: d, Site: fmt.Sprint("site", i%200), Snapshot: snapshot})
	}
	return req
}

// TestLargeJob: a job for thousands of devices is taken, begun and stopped; the
// benchmarks below say how fast.
func TestLargeJob(t *testing.T) {
	const devices = 5000
	h := newHarness(t, &runnertest.Fake{}).start()
	job := h.submit(wide(devices))
	h.await(job.ID, 0, func(ev jobs.Event) bool { return ev.State == jobs.Running })
	if _, err := h.Cancel(t.Context(), job.ID, ""); err != nil {
		t.Fatal(err)
	}
	got, _ := h.finish(job.ID)
	if n := got.Counts[jobs.Canceled] + got.Counts[jobs.Succeeded]; n != devices || got.Counts[jobs.Canceled] == 0 {
		t.Errorf("%+v", got.Counts)
	}
}

// BenchmarkTask is the engine's and the ledger's whole cost of one task that
// itself does nothing: claim, one step, result with one row.
func BenchmarkTask(b *testing.B) {
	h := newHarness(b, &runnertest.Fake{}).start()
	job := h.submit(wide(max(1, b.N)))
	h.finish(job.ID)
}

// BenchmarkSubmit20000 is the submission of a job for 20,000 devices until the
// first task has begun.
func BenchmarkSubmit20000(b *testing.B) {
	h := newHarness(b, &runnertest.Fake{}).start()
	req := wide(20_000)
	for b.Loop() {
		job := h.submit(req)
		h.await(job.ID, 0, func(ev jobs.Event) bool { return ev.State == jobs.Running })
		b.StopTimer()
		if _, err := h.Cancel(context.Background(), job.ID, ""); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
