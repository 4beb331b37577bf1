package jobs_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/jobs"
	"capfleet/internal/jobs/runnertest"
)

func TestStats(t *testing.T) {
	h := newHarness(t, &runnertest.Fake{})
	stats := func() jobs.Stats {
		t.Helper()
		s, err := h.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	idle := map[jobs.State]int{jobs.Pending: 0, jobs.Waiting: 0, jobs.Running: 0}
	if diff := cmp.Diff(jobs.Stats{Tasks: idle}, stats()); diff != "" {
		t.Error(diff)
	}
	first := h.submit(request("read", spec(runnertest.Succeeds), "a", "b"))
	second := h.submit(request("read", spec(runnertest.Succeeds), "a", "b", "c"))
	if _, err := h.Pause(t.Context(), second.ID, "bob"); err != nil {
		t.Fatal(err)
	}
	got := stats()
	if got.Jobs != 2 || got.Paused != 1 || got.Tasks[jobs.Pending] != 5 || !got.Oldest.Equal(first.CreatedAt) || got.LastEvent == 0 {
		t.Errorf("%+v", got)
	}
	// What follows the last event is what has not happened yet.
	before := got.LastEvent
	h.start()
	h.finish(first.ID)
	for ev, err := range h.Watch(t.Context(), jobs.WatchOptions{After: before}) {
		if err != nil || ev.Job != first.ID || ev.Type == jobs.EventJobCreated {
			t.Errorf("%+v %v", ev, err)
		}
		break
	}
	got = stats()
	if got.Jobs != 1 || got.Tasks[jobs.Pending] != 3 || !got.Oldest.Equal(second.CreatedAt) || got.LastEvent <= before {
		t.Errorf("%+v", got)
	}
}
