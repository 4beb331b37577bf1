package runner

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/jobs/runnertest"
	"capfleet/internal/operation"
)

// TestMemory: what a step remembers is there in the next attempt, what it stores is
// in the result, and a failed write is an error before anything else happens.
func TestMemory(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	j := &runnertest.Recorder{Stored: map[string][]byte{"last": []byte("41")}}
	first := observe(func(ctx context.Context, env operation.Env) error {
		var pid int
		if ok, err := env.Recall("pid", &pid); ok || err != nil {
			t.Errorf("remembered before: %t, %v", ok, err)
		}
		if err := env.Remember(ctx, "pid", 4711); err != nil {
			return err
		}
		last, err := env.Load(ctx, "last")
		env.Store(env.Unit().Devices[0], "last", append(last, '+'))
		return err
	})
	work := unit("a", "a")
	r := n.runner(first).Run(t.Context(), work, j).Tasks["a"]
	if r.State != jobs.Succeeded || string(r.Stores["last"]) != "41+" {
		t.Fatalf("%+v", r)
	}
	work.Memory = j.Memory()
	r = n.runner(observe(func(_ context.Context, env operation.Env) error {
		var pid int
		if ok, err := env.Recall("pid", &pid); !ok || err != nil || pid != 4711 {
			t.Errorf("%t %d %v", ok, pid, err)
		}
		return nil
	})).Run(t.Context(), work, j).Tasks["a"]
	if r.State != jobs.Succeeded {
		t.Errorf("%+v", r)
	}

	for name, bad := range map[string]func(context.Context, operation.Env) error{
		"too large": func(ctx context.Context, env operation.Env) error {
			return env.Remember(ctx, "x", strings.Repeat("x", operation.MaxRemembered))
		},
		"no key": func(ctx context.Context, env operation.Env) error { return env.Remember(ctx, "", 1) },
		"too large to store": func(_ context.Context, env operation.Env) error {
			env.Store(env.Unit().Devices[0], "x", make([]byte, operation.MaxStored+1))
			return nil
		},
		"a stranger's": func(_ context.Context, env operation.Env) error {
			env.Store(&device.Device{Name: "b"}, "x", nil)
			return nil
		},
	} {
		if r := n.runner(observe(bad)).Run(t.Context(), unit("a", "a"), &runnertest.Recorder{}).Tasks["a"]; r.State != jobs.Failed {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// steps that take a device out and bring it back, with what each of them does.
func outAndBack(acts map[string]func(context.Context) error) []operation.Step {
	var steps []operation.Step
	for _, s := range []operation.Step{{Name: "preflight"}, {Name: "upload", Prepare: true}, {Name: "out", Hold: true}, {Name: "install", Once: true, Hold: true},
		{Name: "back", Hold: true}, {Name: "after"}} {
		s.Observe = func(context.Context, operation.Env) (operation.Observation, error) {
			return operation.Observation{Verdict: operation.Needed}, nil
		}
		s.Act = func(ctx context.Context, _ operation.Env) error {
			if f := acts[s.Name]; f != nil {
				return f(ctx)
			}
			return nil
		}
		steps = append(steps, s)
	}
	return steps
}

// TestHold: a cancel is held back from before the first act of a Hold step until
// the last is through, and is not where the journal cannot say so.
func TestHold(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	j := &runnertest.Recorder{}
	var held []string
	acts := map[string]func(context.Context) error{}
	for _, name := range []string{"preflight", "upload", "out", "install", "back", "after"} {
		acts[name] = func(context.Context) error {
			if j.Held() {
				held = append(held, name)
			}
			return nil
		}
	}
	if r := n.runner(outAndBack(acts)...).Run(t.Context(), unit("a", "a"), j).Tasks["a"]; r.State != jobs.Succeeded {
		t.Fatalf("%+v", r)
	}
	if !slices.Equal(held, []string{"out", "install", "back"}) || len(j.Entries(jobs.EntryHold)) != 1 || len(j.Entries(jobs.EntryRelease)) != 1 {
		t.Errorf("held in %q", held)
	}

	acts["out"] = func(context.Context) error { t.Error("it was begun"); return nil }
	j = &runnertest.Recorder{Before: func(kind jobs.EntryKind, _ string) error {
		if kind == jobs.EntryHold {
			return fault.New(fault.Canceled, "job 1 was canceled by bob")
		}
		return nil
	}}
	if r := n.runner(outAndBack(acts)...).Run(t.Context(), unit("a", "a"), j).Tasks["a"]; r.State != jobs.Failed || r.Failure.Kind != fault.Canceled {
		t.Errorf("%+v", r)
	}
}

// TestHeldFailure: a failure between leaves the unit held, unless its error says
// that the device was brought back; and an error can ask for a person.
func TestHeldFailure(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	broken := errors.New("% Installation failed")
	for name, tc := range map[string]struct {
		err  error
		want jobs.State
		held bool
	}{
		"plain":     {broken, jobs.Failed, true}, // the engine makes attention of it
		"secured":   {operation.Secured(broken), jobs.Failed, false},
		"attention": {operation.Attention(broken), jobs.Attention, true},
	} {
		j := &runnertest.Recorder{}
		acts := map[string]func(context.Context) error{"install": func(context.Context) error { return tc.err }}
		r := n.runner(outAndBack(acts)...).Run(t.Context(), unit("a", "a"), j).Tasks["a"]
		if r.State != tc.want || j.Held() != tc.held || r.Failure == nil || !strings.Contains(r.Failure.Message, "Installation failed") {
			t.Errorf("%s: %s, held %t, %+v", name, r.State, j.Held(), r.Failure)
		}
	}
}

// TestPreparePhase: only what prepares is done, and what was done counts later.
func TestPreparePhase(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	var did []string
	acts := map[string]func(context.Context) error{}
	steps := outAndBack(acts)
	for _, s := range steps {
		acts[s.Name] = func(context.Context) error { did = append(did, s.Name); return nil }
	}
	work, j := unit("a", "a"), &runnertest.Recorder{}
	work.Phase = jobs.PhasePrepare
	if r := n.runner(steps...).Run(t.Context(), work, j).Tasks["a"]; r.State != jobs.Succeeded || !slices.Equal(did, []string{"upload"}) {
		t.Fatalf("%+v after %q", r, did)
	}
	for i := range steps {
		steps[i].Observe = func(context.Context, operation.Env) (operation.Observation, error) {
			return operation.Observation{Verdict: operation.Done}, nil
		}
	}
	work.Phase, work.Memory = jobs.PhaseChange, j.Memory()
	if r := n.runner(steps...).Run(t.Context(), work, j).Tasks["a"]; r.State != jobs.Succeeded {
		t.Errorf("what was uploaded is this job's doing: %s", r.State)
	}
	if len(did) != 1 {
		t.Errorf("acts %q", did)
	}
}

// TestIntended: intents of this attempt and of earlier ones are told with their time.
func TestIntended(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	steps := outAndBack(nil)
	steps[3].Act = func(_ context.Context, env operation.Env) error {
		if at, ok := env.Intended("install"); !ok || !at.Equal(env.Now()) {
			t.Errorf("own intent: %v %t", at, ok)
		}
		if at, ok := env.Intended("reload"); !ok || at.Unix() != 77 {
			t.Errorf("earlier intent: %v %t", at, ok)
		}
		_, ok := env.Intended("out")
		if ok {
			t.Error("a step that may be repeated has an intent")
		}
		return nil
	}
	work := unit("a", "a")
	work.History = []jobs.Entry{{Kind: jobs.EntryIntent, Step: "reload", Time: time.Unix(77, 0)}}
	if r := n.runner(steps...).Run(t.Context(), work, &runnertest.Recorder{}).Tasks["a"]; r.State != jobs.Succeeded {
		t.Errorf("%+v", r)
	}
}
