package jobs_test

import (
	"context"
	"sync"
	"testing"

	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/jobs/runnertest"
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

// TestStoresOfEndings: what a change has learned of a device is kept however it
// ended, since it was done all the same; of what only reads it is not.
func TestStoresOfEndings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		access string
		state  jobs.State
		want   string
	}{
		{"read", jobs.Succeeded, "new"},
		{"read", jobs.Failed, ""},
		{"change", jobs.Succeeded, "new"},
		{"change", jobs.Attention, "new"},
		{"change", jobs.Failed, "new"},
		{"change", jobs.Canceled, "new"},
	} {
		var loaded string
		last := false
		h := newHarness(t, runnertest.Func(func(ctx context.Context, work jobs.Work, journal jobs.Journal) jobs.Result {
			res := jobs.TaskResult{State: c.state, Stores: map[string][]byte{"what": []byte("new")}}
			switch {
			case last:
				have, err := journal.Load(ctx, "what")
				if err != nil {
					t.Error(err)
				}
				loaded = string(have)
				res = jobs.TaskResult{State: jobs.Succeeded}
			case c.state != jobs.Succeeded:
				res.Failure = &jobs.Failure{Device: "a", Kind: fault.Refused, Message: "refused"}
			}
			return jobs.Result{Tasks: map[string]jobs.TaskResult{"a": res}}
		})).start()
		h.finish(h.submit(request(c.access, nil, "a")).ID)
		last = true
		h.finish(h.submit(request("read", nil, "a")).ID)
		if loaded != c.want {
			t.Errorf("after a %s that %s, %q is kept, want %q", c.access, c.state, loaded, c.want)
		}
	}
}
