// Package runnertest is the contract of jobs.Runner as a test suite. Every
// runner passes it, and so does Fake, with which the engine itself is tested.
package runnertest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"capfleet/internal/fault"
	"capfleet/internal/jobs"
)

// Behaviour is what the suite needs a unit of work for. Each is one step.
type Behaviour string

// The behaviours.
const (
	// Succeeds gives for each device one row, an object whose "device" is the
	// device's name, and at least one fact.
	Succeeds Behaviour = "succeeds"
	// Fails adds a row for each device and then fails with fault.Refused.
	Fails Behaviour = "fails"
	// Blocks does nothing until its context ends, and then ends with its error.
	Blocks Behaviour = "blocks"
	// ActsOnce has a once-only act; looking at the device tells whether it was done.
	ActsOnce Behaviour = "acts_once"
	// Unproven has a once-only act too, but looking at the device is inconclusive.
	Unproven Behaviour = "unproven"
	// Meets asks for the go, and when it has it waits until all are to stop, and then
	// gives a row for each device.
	Meets Behaviour = "meets"
	// Holds has an act that takes the device out of use and one that brings it back,
	// both repeatable; Acts counts the first.
	Holds Behaviour = "holds"
	// Panics panics while it looks.
	Panics Behaviour = "panics"
)

// Fixture is a runner with units of work for it.
type Fixture struct {
	Runner jobs.Runner
	// Work describes a unit of a behaviour, as the engine would hand it out for the
	// first time.
	Work func(b Behaviour, unit string, devices ...string) jobs.Work
	// Acts counts how often the act of ActsOnce, Unproven or Holds was truly done on a
	// unit.
	Acts func(unit string) int
}

// prompt is how soon a runner must return when its context ends. The contract
// says 100 ms; the rest is for a machine that is busy with other tests.
const prompt = time.Second

// Run holds a runner to its contract. Open is called for each part with a test of
// its own.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	t.Helper()
	parts := []struct {
		name string
		test func(*testing.T, Fixture)
	}{
		{"gives each device its result", givesEachResult},
		{"work and result can be serialised", serialisable},
		{"a failure says what failed and leaves no rows", failureSaysWhat},
		{"ends with its context", endsWithContext},
		{"does nothing when its context has ended already", endedContext},
		{"announces a once-only act before it", announcesAct},
		{"does not act when it cannot be journalled", noJournalNoAct},
		{"stops when it has lost its place", lostPlace},
		{"looks before it acts again", looksFirst},
		{"leaves to a person what the device does not show", inconclusive},
		{"begins with the go and stops with the others", meets},
		{"begins nothing without the go", noGo},
		{"has a cancel held back before it takes a device out", holdsFirst},
		{"takes no device out when a cancel came first", canceledBeforeHold},
		{"contains a panic", containsPanic},
		{"keeps units apart that run at once", keepsApart},
	}
	for _, part := range parts {
		t.Run(part.name, func(t *testing.T) {
			f := open(t)
			before := goleak.IgnoreCurrent()
			part.test(t, f)
			if err := goleak.Find(before); err != nil {
				t.Errorf("Run returned and left something running: %v", err)
			}
		})
	}
}

func givesEachResult(t *testing.T, f Fixture) {
	work := f.Work(Succeeds, "pair", "a", "b")
	j := &Recorder{}
	result := f.Runner.Run(t.Context(), work, j)
	if len(result.Tasks) != 2 {
		t.Fatalf("2 devices, %d results", len(result.Tasks))
	}
	for _, device := range []string{"a", "b"} {
		r := result.Tasks[device]
		if r.State != jobs.Succeeded || r.Failure != nil {
			t.Errorf("%s: %s, %+v", device, r.State, r.Failure)
		}
		if got := rowDevices(t, r); len(got) != 1 || got[0] != device {
			t.Errorf("%s: rows of %q, want one of its own", device, got)
		}
		if len(r.Facts) == 0 {
			t.Errorf("%s: no facts", device)
		}
	}
	if len(j.Entries(jobs.EntryStep)) == 0 {
		t.Error("no step was journalled")
	}
}

func serialisable(t *testing.T, f Fixture) {
	work := f.Work(Succeeds, "a", "a")
	var sent jobs.Work
	transfer(t, work, &sent)
	result := f.Runner.Run(t.Context(), sent, &Recorder{})
	if result.Tasks["a"].State != jobs.Succeeded {
		t.Fatalf("work sent as JSON: %+v", result.Tasks["a"])
	}
	var got jobs.Result
	transfer(t, result, &got)
	if diff := cmp.Diff(result, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("result sent as JSON (-sent +got):\n%s", diff)
	}
}

func transfer(t *testing.T, from, to any) {
	t.Helper()
	data, err := json.Marshal(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, to); err != nil {
		t.Fatal(err)
	}
}

func failureSaysWhat(t *testing.T, f Fixture) {
	result := f.Runner.Run(t.Context(), f.Work(Fails, "a", "a"), &Recorder{})
	r := result.Tasks["a"]
	if r.State != jobs.Failed || r.Failure == nil {
		t.Fatalf("%s without a failure: %+v", r.State, r)
	}
	if r.Failure.Device != "a" || r.Failure.Kind != fault.Refused || r.Failure.Stage == "" || r.Failure.Message == "" {
		t.Errorf("failure %+v: want device, stage, kind %s and message", r.Failure, fault.Refused)
	}
	if len(r.Rows) != 0 {
		t.Errorf("a failed attempt left rows: %s", r.Rows)
	}
}

func endsWithContext(t *testing.T, f Fixture) {
	ctx, cancel := context.WithCancelCause(t.Context())
	j := &Recorder{stepped: make(chan struct{}, 1)}
	done := make(chan jobs.Result, 1)
	go func() { done <- f.Runner.Run(ctx, f.Work(Blocks, "a", "a"), j) }()
	<-j.stepped
	cancel(fault.New(fault.Canceled, "job 1 was canceled by alice"))
	since := time.Now()
	select {
	case result := <-done:
		wantCanceled(t, result)
	case <-time.After(prompt):
		t.Errorf("still running %v after its context ended", time.Since(since))
		<-done
	}
}

func wantCanceled(t *testing.T, result jobs.Result) {
	t.Helper()
	r := result.Tasks["a"]
	if r.State != jobs.Canceled && (r.State != jobs.Failed || r.Failure == nil || r.Failure.Kind != fault.Canceled) {
		t.Errorf("%s, %+v: want canceled", r.State, r.Failure)
	}
}

func endedContext(t *testing.T, f Fixture) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantCanceled(t, f.Runner.Run(ctx, f.Work(ActsOnce, "a", "a"), &Recorder{}))
	if n := f.Acts("a"); n != 0 {
		t.Errorf("acted %d times", n)
	}
}

func announcesAct(t *testing.T, f Fixture) {
	j := &Recorder{}
	var actsAtIntent, actsAtOutcome int
	j.Before = func(kind jobs.EntryKind, _ string) error {
		switch kind {
		case jobs.EntryIntent:
			actsAtIntent = f.Acts("a")
		case jobs.EntryOutcome:
			actsAtOutcome = f.Acts("a")
		default:
		}
		return nil
	}
	result := f.Runner.Run(t.Context(), f.Work(ActsOnce, "a", "a"), j)
	if result.Tasks["a"].State != jobs.Succeeded || f.Acts("a") != 1 {
		t.Fatalf("%+v after %d acts", result.Tasks["a"], f.Acts("a"))
	}
	if len(j.Entries(jobs.EntryIntent)) != 1 || actsAtIntent != 0 {
		t.Errorf("%d intents, %d acts done by then; want 1 and 0", len(j.Entries(jobs.EntryIntent)), actsAtIntent)
	}
	if len(j.Entries(jobs.EntryOutcome)) != 1 || actsAtOutcome != 1 {
		t.Errorf("%d outcomes, %d acts done by then; want 1 and 1", len(j.Entries(jobs.EntryOutcome)), actsAtOutcome)
	}
}

func noJournalNoAct(t *testing.T, f Fixture) {
	j := &Recorder{Before: func(kind jobs.EntryKind, _ string) error {
		if kind == jobs.EntryIntent {
			return fault.New(fault.Storage, "no space left")
		}
		return nil
	}}
	result := f.Runner.Run(t.Context(), f.Work(ActsOnce, "a", "a"), j)
	if n := f.Acts("a"); n != 0 {
		t.Fatalf("acted %d times without an intent", n)
	}
	if r := result.Tasks["a"]; r.State != jobs.Failed || r.Failure == nil || r.Failure.Kind != fault.Storage {
		t.Errorf("%s, %+v: want failed for want of storage", r.State, r.Failure)
	}
}

func lostPlace(t *testing.T, f Fixture) {
	j := &Recorder{Before: func(jobs.EntryKind, string) error {
		return fault.New(fault.Conflict, "the runner lost its place")
	}}
	result := f.Runner.Run(t.Context(), f.Work(ActsOnce, "a", "a"), j)
	if n := f.Acts("a"); n != 0 {
		t.Fatalf("acted %d times", n)
	}
	if s := result.Tasks["a"].State; s == jobs.Succeeded || s == jobs.Unchanged {
		t.Errorf("it is %s", s)
	}
}

func looksFirst(t *testing.T, f Fixture) {
	work := f.Work(ActsOnce, "a", "a")
	j := &Recorder{}
	if r := f.Runner.Run(t.Context(), work, j).Tasks["a"]; r.State != jobs.Succeeded {
		t.Fatalf("%+v", r)
	}
	// The same again, as after a crash between the act and its outcome.
	work.History = append(j.Entries(jobs.EntryStep), j.Entries(jobs.EntryIntent)...)
	work.Attempt, work.Fence = work.Attempt+1, work.Fence+1
	r := f.Runner.Run(t.Context(), work, &Recorder{}).Tasks["a"]
	if r.State != jobs.Succeeded && r.State != jobs.Unchanged {
		t.Errorf("the second time: %+v", r)
	}
	if n := f.Acts("a"); n != 1 {
		t.Errorf("acted %d times", n)
	}
}

func inconclusive(t *testing.T, f Fixture) {
	work := f.Work(Unproven, "a", "a")
	work.History = []jobs.Entry{{Kind: jobs.EntryIntent, Unit: "a", Step: "act", Attempt: 1, Fence: 1}}
	work.Attempt, work.Fence = 2, 2
	r := f.Runner.Run(t.Context(), work, &Recorder{}).Tasks["a"]
	if r.State != jobs.Attention || r.Failure == nil || r.Failure.Message == "" {
		t.Errorf("%s, %+v: want attention, with what was seen", r.State, r.Failure)
	}
	if n := f.Acts("a"); n != 0 {
		t.Errorf("acted %d times", n)
	}
}

func meets(t *testing.T, f Fixture) {
	stop, ready := make(chan struct{}), make(chan struct{})
	j := &Recorder{Stops: stop, Go: func(context.Context) error { close(ready); return nil }}
	done := make(chan jobs.Result, 1)
	go func() { done <- f.Runner.Run(t.Context(), f.Work(Meets, "a", "a"), j) }()
	select {
	case <-ready:
	case result := <-done:
		t.Fatalf("it ended without asking for the go: %+v", result)
	}
	select {
	case result := <-done:
		t.Fatalf("it ended before all were to stop: %+v", result)
	default:
	}
	close(stop)
	if r := (<-done).Tasks["a"]; (r.State != jobs.Succeeded && r.State != jobs.Unchanged) || len(r.Rows) != 1 {
		t.Errorf("%+v: want a row, collected after the stop", r)
	}
}

func noGo(t *testing.T, f Fixture) {
	j := &Recorder{Go: func(context.Context) error { return fault.New(fault.Canceled, "unit b was not ready") }}
	result := f.Runner.Run(t.Context(), f.Work(Meets, "a", "a"), j)
	wantCanceled(t, result)
	if n := len(result.Tasks["a"].Rows); n != 0 {
		t.Errorf("%d rows of what was not to begin", n)
	}
}

func holdsFirst(t *testing.T, f Fixture) {
	j := &Recorder{}
	actsAtHold, actsAtRelease := -1, -1
	j.Before = func(kind jobs.EntryKind, _ string) error {
		switch kind {
		case jobs.EntryHold:
			actsAtHold = f.Acts("a")
		case jobs.EntryRelease:
			actsAtRelease = f.Acts("a")
		default:
		}
		return nil
	}
	work := f.Work(Holds, "a", "a")
	if r := f.Runner.Run(t.Context(), work, j).Tasks["a"]; r.State != jobs.Succeeded {
		t.Fatalf("%+v", r)
	}
	if actsAtHold != 0 || actsAtRelease != 1 || j.Held() {
		t.Errorf("%d acts at the hold, %d at the release, held in the end: %t; want 0, 1 and no", actsAtHold, actsAtRelease, j.Held())
	}
	// The same as after a crash in between: it is held already.
	work.Held, work.Attempt, work.Fence = true, work.Attempt+1, work.Fence+1
	work.History = j.Entries(jobs.EntryHold)
	again := &Recorder{}
	if r := f.Runner.Run(t.Context(), work, again).Tasks["a"]; r.State != jobs.Succeeded && r.State != jobs.Unchanged {
		t.Errorf("the second time: %+v", r)
	}
	if h, r := len(again.Entries(jobs.EntryHold)), len(again.Entries(jobs.EntryRelease)); h != 0 || r != 1 {
		t.Errorf("the second time: %d holds and %d releases, want 0 and 1", h, r)
	}
}

func canceledBeforeHold(t *testing.T, f Fixture) {
	j := &Recorder{Before: func(kind jobs.EntryKind, _ string) error {
		if kind == jobs.EntryHold {
			return fault.New(fault.Canceled, "job 1 was canceled by alice")
		}
		return nil
	}}
	wantCanceled(t, f.Runner.Run(t.Context(), f.Work(Holds, "a", "a"), j))
	if n := f.Acts("a"); n != 0 {
		t.Errorf("acted %d times", n)
	}
}

func containsPanic(t *testing.T, f Fixture) {
	r := f.Runner.Run(t.Context(), f.Work(Panics, "a", "a"), &Recorder{}).Tasks["a"]
	if r.State != jobs.Failed || r.Failure == nil || r.Failure.Kind != fault.Internal {
		t.Errorf("%s, %+v: want failed, internal", r.State, r.Failure)
	}
}

func keepsApart(t *testing.T, f Fixture) {
	var wg sync.WaitGroup
	for i := range 32 {
		device := fmt.Sprintf("d%02d", i)
		behaviour := Succeeds
		if i%4 == 3 {
			behaviour = Fails
		}
		work := f.Work(behaviour, device, device)
		wg.Go(func() {
			result := f.Runner.Run(t.Context(), work, &Recorder{})
			r := result.Tasks[device]
			if behaviour == Fails {
				if len(result.Tasks) != 1 || r.State != jobs.Failed || r.Failure == nil || r.Failure.Device != device {
					t.Errorf("%s: %+v", device, result)
				}
				return
			}
			if got := rowDevices(t, r); len(result.Tasks) != 1 || len(got) != 1 || got[0] != device {
				t.Errorf("%s: %d results, rows of %q", device, len(result.Tasks), got)
			}
		})
	}
	wg.Wait()
}

func rowDevices(t *testing.T, r jobs.TaskResult) (devices []string) {
	t.Helper()
	for _, row := range r.Rows {
		var v struct{ Device string }
		if err := json.Unmarshal(row, &v); err != nil {
			t.Errorf("row %s: %v", row, err)
		}
		devices = append(devices, v.Device)
	}
	return devices
}

// Recorder is a journal in memory.
type Recorder struct {
	// Before, when set, is asked before an entry is kept; its error refuses it.
	Before func(kind jobs.EntryKind, step string) error
	// Go, when set, answers Ready; otherwise the go is given at once.
	Go func(ctx context.Context) error
	// Stops is what Stopped gives.
	Stops <-chan struct{}

	// Stored is what Load gives.
	Stored map[string][]byte

	stepped chan struct{}
	mu      sync.Mutex
	entries []jobs.Entry
	memory  map[string]json.RawMessage
	held    bool
}

var _ jobs.Journal = (*Recorder)(nil)

// Entries gives what was kept of one kind, oldest first.
func (r *Recorder) Entries(kind jobs.EntryKind) (found []jobs.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.entries {
		if e.Kind == kind {
			found = append(found, e)
		}
	}
	return found
}

func (r *Recorder) keep(ctx context.Context, e jobs.Entry) error {
	if ctx.Err() != nil && e.Kind != jobs.EntryOutcome {
		return fault.Wrap(fault.Canceled, "journal", context.Cause(ctx))
	}
	if r.Before != nil {
		if err := r.Before(e.Kind, e.Step); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = append(r.entries, e)
	return nil
}

// Step keeps a step.
func (r *Recorder) Step(ctx context.Context, step string) error {
	err := r.keep(ctx, jobs.Entry{Kind: jobs.EntryStep, Step: step})
	if r.stepped != nil {
		select {
		case r.stepped <- struct{}{}:
		default:
		}
	}
	return err
}

// Intent keeps an intent.
func (r *Recorder) Intent(ctx context.Context, step, detail string) error {
	return r.keep(ctx, jobs.Entry{Kind: jobs.EntryIntent, Step: step, Detail: detail})
}

// Outcome keeps an outcome.
func (r *Recorder) Outcome(ctx context.Context, step, detail string, err error) error {
	return r.keep(ctx, jobs.Entry{Kind: jobs.EntryOutcome, Step: step, Detail: detail, Error: errorText(err)})
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Note keeps a line.
func (r *Recorder) Note(ctx context.Context, step, detail string) error {
	return r.keep(ctx, jobs.Entry{Kind: jobs.EntryNote, Step: step, Detail: detail})
}

// Remember keeps a value for Memory.
func (r *Recorder) Remember(ctx context.Context, key string, value json.RawMessage) error {
	if err := r.keep(ctx, jobs.Entry{Kind: entryRemember, Step: key}); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.memory == nil {
		r.memory = make(map[string]json.RawMessage)
	}
	r.memory[key] = value
	return nil
}

// entryRemember is how Before is asked about a value.
const entryRemember jobs.EntryKind = "remember"

// Memory is what was remembered, as the next attempt's Work has it.
func (r *Recorder) Memory() map[string]json.RawMessage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.memory)
}

// Load gives what Stored has.
func (r *Recorder) Load(_ context.Context, key string) ([]byte, error) { return r.Stored[key], nil }

// Hold keeps an entry.
func (r *Recorder) Hold(ctx context.Context, step string) error {
	err := r.keep(ctx, jobs.Entry{Kind: jobs.EntryHold, Step: step})
	r.setHeld(err == nil)
	return err
}

// Release keeps an entry.
func (r *Recorder) Release(ctx context.Context, step string) error {
	r.setHeld(false)
	return r.keep(context.WithoutCancel(ctx), jobs.Entry{Kind: jobs.EntryRelease, Step: step})
}

func (r *Recorder) setHeld(held bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = held
}

// Held tells whether the unit is between Hold and Release.
func (r *Recorder) Held() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held
}

// Ready keeps a note and does what Go says.
func (r *Recorder) Ready(ctx context.Context) error {
	if err := r.Note(ctx, "ready", ""); err != nil || r.Go == nil {
		return err
	}
	return r.Go(ctx)
}

// Stop keeps a note.
func (r *Recorder) Stop(ctx context.Context, why string) error { return r.Note(ctx, "stop", why) }

// Stopped is Stops; nil is that of a job that is not coordinated.
func (r *Recorder) Stopped() <-chan struct{} { return r.Stops }

// Progress is not kept.
func (r *Recorder) Progress(string, int64, int64, string) {}
