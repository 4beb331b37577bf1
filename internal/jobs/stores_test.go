package jobs_test

import (
	"context"
	"sync"
	"testing"

	"capfleet/internal/fault"
	"capfleet/internal/jobs"
)

// counter stores one more than it loads. The first two attempts meet between the
// two.
type counter struct {
	mu   sync.Mutex
	met  int
	both chan struct{}
	seen []string
}

func (r *counter) Run(ctx context.Context, work jobs.Work, journal jobs.Journal) jobs.Result {
	device := work.Targets[0].Device
	have, err := journal.Load(ctx, "count")
	if err != nil {
		return jobs.Result{Tasks: map[string]jobs.TaskResult{device: {State: jobs.Failed, Failure: &jobs.Failure{Device: device, Kind: fault.Internal, Message: err.Error()}}}}
	}
	r.mu.Lock()
	if r.met++; r.met == 2 {
		close(r.both)
	}
	r.seen = append(r.seen, string(have))
	r.mu.Unlock()
	<-r.both
	return jobs.Result{Tasks: map[string]jobs.TaskResult{device: {State: jobs.Succeeded, Stores: map[string][]byte{"count": append(have, '+')}}}}
}

// TestStoringOverEachOther: of two jobs that load the same value, the one that
// ends later is done again from what the other stored.
func TestStoringOverEachOther(t *testing.T) {
	t.Parallel()
	r := &counter{both: make(chan struct{})}
	h := newHarness(t, r, func(o *jobs.Options) { o.Retry.Base = 1 }).start()
	a, b := h.submit(request("read", nil, "a")), h.submit(request("read", nil, "a"))
	for _, id := range []string{a.ID, b.ID} {
		if _, state := h.finish(id); state != jobs.Succeeded {
			t.Errorf("job %s: %s", id, state)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.seen) != 3 || r.seen[0] != "" || r.seen[1] != "" || r.seen[2] != "+" {
		t.Errorf("loaded %q", r.seen)
	}
}
