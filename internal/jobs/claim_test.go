package jobs

import (
	"context"
	"path/filepath"
	"testing"

	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// TestStaleClaimIsRefused: a runner that lost its place, because the unit was set
// back and handed out anew, cannot write any more.
func TestStaleClaimIsRefused(t *testing.T) {
	db, err := ledger.Open(filepath.Join(t.TempDir(), "ledger.db"), ledger.Options{Namespaces: Namespaces()})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx := t.Context()
	e, err := Open(ctx, Options{Ledger: db})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Submit(ctx, Request{Operation: "fake", Access: accessRead, Targets: []Target{{Device: "a"}}}); err != nil {
		t.Fatal(err)
	}
	handOut := func() (*unit, *claim) {
		t.Helper()
		s := newSchedule(e.limits)
		if err := e.fill(ctx, s); err != nil {
			t.Fatal(err)
		}
		u := s.next(e.now())
		if u == nil {
			t.Fatal("nothing to hand out")
		}
		cl, err := claimOne(ctx, e, u)
		if err != nil {
			t.Fatal(err)
		}
		return u, cl
	}
	write := func(cl *claim) map[string]error {
		j := &journal{engine: e, claim: cl, part: &attendee{}}
		return map[string]error{
			"step":    j.Step(ctx, "upload"),
			"intent":  j.Intent(ctx, "install", "x"),
			"outcome": j.Outcome(ctx, "install", "x", nil),
			"note":    j.Note(ctx, "install", "x"),
		}
	}

	u, old := handOut()
	if _, err := claimOne(ctx, e, u); !fault.Is(err, fault.Conflict) {
		t.Errorf("a running unit was claimed again: %v", err)
	}
	_, held := handOut() // fill sets back, as the next process does
	if held.fence <= old.fence || held.attempt != 2 {
		t.Errorf("claimed with %+v after %+v", held, old)
	}
	for what, err := range write(old) {
		if !fault.Is(err, fault.Conflict) {
			t.Errorf("%s of the one that lost its place: %v", what, err)
		}
	}
	endings := func(cl *claim) map[string]ending {
		return finish(cl, Result{Tasks: map[string]TaskResult{"a": {State: Succeeded}}})
	}
	if _, err := e.settle(ctx, old, endings(old), false); !fault.Is(err, fault.Conflict) {
		t.Errorf("its result: %v", err)
	}
	for what, err := range write(held) {
		if err != nil {
			t.Errorf("%s of the one that holds it: %v", what, err)
		}
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	j := &journal{engine: e, claim: held}
	if err := j.Intent(gone, "install", "x"); !fault.Is(err, fault.Canceled) {
		t.Errorf("an intent under a context that has ended: %v", err)
	}
	if err := j.Outcome(gone, "install", "x", nil); err != nil {
		t.Errorf("an outcome under a context that has ended: %v", err)
	}
	if _, err := e.settle(ctx, held, endings(held), false); err != nil {
		t.Errorf("its result: %v", err)
	}
	if _, err := e.settle(ctx, held, endings(held), false); !fault.Is(err, fault.Conflict) {
		t.Errorf("its result a second time: %v", err)
	}
	job, state, err := e.Job(ctx, "1")
	if err != nil || state != Succeeded || job.FinishedAt == nil {
		t.Errorf("%v %s %+v", err, state, job)
	}
}

func TestClip(t *testing.T) {
	long := make([]rune, 1000)
	for i := range long {
		long[i] = '语'
	}
	got := clip(string(long))
	if len(got) > 2100 || clip("short") != "short" {
		t.Errorf("%d bytes", len(got))
	}
	for _, r := range got {
		if r == '\uFFFD' {
			t.Fatal("a character was cut in two")
		}
	}
}

// claimOne claims a unit on its own.
func claimOne(ctx context.Context, e *Engine, u *unit) (*claim, error) {
	claims, err := e.claim(ctx, u.job.id, []*unit{u})
	if err != nil {
		return nil, err
	}
	return claims[0], nil
}
