package schedule

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"capfleet/internal/audit"
	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// fakeJobs is an engine that makes a job for each request id once.
type fakeJobs struct {
	mu       sync.Mutex
	made     map[string]string // request id -> job
	running  map[string]bool
	order    []string // request ids as they were made
	before   error    // what the next Start gives, having made nothing
	after    error    // what the next Start gives, having made the job
	finished bool     // jobs finish at once
}

func newFakeJobs() *fakeJobs {
	return &fakeJobs{made: map[string]string{}, running: map[string]bool{}, finished: true}
}

func (f *fakeJobs) Start(_ context.Context, _, id string, _ json.RawMessage) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.before; err != nil {
		f.before = nil
		return "", err
	}
	job, ok := f.made[id]
	if !ok {
		job = fmt.Sprint(len(f.made) + 1)
		f.made[id], f.running[job] = job, !f.finished
		f.order = append(f.order, id)
	}
	if err := f.after; err != nil {
		f.after = nil
		return "", err
	}
	return job, nil
}

func (f *fakeJobs) Finished(_ context.Context, job string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.running[job], nil
}

func (f *fakeJobs) finish() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.running)
}

type fataler interface {
	Helper()
	Fatal(args ...any)
	Cleanup(func())
}

// bench is a scheduler over a ledger of its own, with a clock that tests move.
type bench struct {
	*Scheduler
	t    fataler
	db   *ledger.DB
	jobs *fakeJobs
	at   time.Time
	told []Run // every decision
}

func newBench(t fataler, at string) *bench {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "schedule")
	if err != nil {
		if dir, err = os.MkdirTemp("", "schedule"); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &bench{t: t, jobs: newFakeJobs()}
	if b.at, err = time.Parse("2006-01-02 15:04", at); err != nil {
		t.Fatal(err)
	}
	if b.db, err = ledger.Open(filepath.Join(dir, "l"), ledger.Options{Namespaces: append(audit.Namespaces(), Namespaces()...)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.db.Close() })
	b.restart()
	return b
}

// restart forgets all that is in memory.
func (b *bench) restart() {
	b.Scheduler = New(Options{Ledger: b.db, Jobs: b.jobs, Now: func() time.Time { return b.at },
		Decided: func(_ *ledger.Tx, _ Schedule, run Run) error { b.told = append(b.told, run); return nil }})
}

func (b *bench) add(def Schedule) Listed {
	b.t.Helper()
	def.Name, def.CreatedBy = "nightly", "alice"
	if def.Request == nil {
		def.Request = json.RawMessage(`{}`)
	}
	l, err := b.Add(context.Background(), def)
	if err != nil {
		b.t.Fatal(err)
	}
	return l
}

// settle lets the scheduler decide until nothing is due.
func (b *bench) settle() {
	for i := 0; b.Tick(context.Background()) == 0; i++ {
		if i > 10_000 {
			b.t.Fatal("there is always something due")
		}
	}
}

// pass lets time go by in steps.
func (b *bench) pass(d, step time.Duration) {
	for end := b.at.Add(d); b.at.Before(end); {
		b.at = b.at.Add(min(step, end.Sub(b.at)))
		b.settle()
	}
}

func (b *bench) outcomes() map[Outcome]int {
	n := map[Outcome]int{}
	for _, run := range b.told {
		n[run.Outcome] += max(run.Count, 1)
	}
	return n
}

func (b *bench) want(want map[Outcome]int) {
	b.t.Helper()
	if got := b.outcomes(); fmt.Sprint(got) != fmt.Sprint(want) {
		b.t.Fatal(fmt.Sprintf("%v, want %v\n%v", got, want, b.told))
	}
}

func TestRunsAtItsTimes(t *testing.T) {
	b := newBench(t, "2026-03-28 12:00")
	l := b.add(Schedule{Cron: "30 1 * * *", TimeZone: "Europe/London"})
	if want := "2026-03-29 02:00:00 +0100"; l.Next.In(mustZone(t, "Europe/London")).Format("2006-01-02 15:04:05 -0700") != want {
		t.Errorf("next is %v, want %s: the clocks leave 01:30 out", l.Next, want)
	}
	b.pass(7*24*time.Hour, time.Minute)
	b.want(map[Outcome]int{Started: 7})
	runs, err := b.Runs(t.Context(), "nightly", 3)
	if err != nil || len(runs) != 3 || runs[0].Job != "7" || !runs[0].Occurrence.Equal(time.Date(2026, 4, 4, 0, 30, 0, 0, time.UTC)) {
		t.Errorf("%v %v", runs, err)
	}
}

func mustZone(t *testing.T, name string) *time.Location {
	t.Helper()
	loc, err := Zone(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func TestOverlap(t *testing.T) {
	for policy, want := range map[Overlap]map[Outcome]int{
		Skip:  {Started: 1, Skipped: 4},
		Queue: {Started: 1, Skipped: 3},
		Allow: {Started: 5},
	} {
		b := newBench(t, "2026-01-01 00:00")
		b.jobs.finished = false
		b.add(Schedule{Cron: "0 * * * *", Overlap: policy})
		b.pass(5*time.Hour, time.Minute)
		b.want(want)
		b.jobs.finish()
		b.settle()
		if policy == Queue {
			b.want(map[Outcome]int{Started: 2, Skipped: 3})
		}
		b.jobs.finish()
		b.pass(time.Hour, time.Minute)
		if len(b.jobs.made) != want[Started]+1 && policy != Queue || len(b.jobs.made) != 3 && policy == Queue {
			t.Errorf("%s: %d jobs once the way is free", policy, len(b.jobs.made))
		}
	}
}

func TestMissedRuns(t *testing.T) {
	for policy, want := range map[Missed]map[Outcome]int{
		RunOnce: {Merged: 47, Started: 1},
		Report:  {Missing: 48},
	} {
		b := newBench(t, "2026-01-01 00:30")
		b.add(Schedule{Cron: "0 * * * *", Missed: policy})
		b.at = b.at.Add(48 * time.Hour) // fleetd was not there
		b.settle()
		b.want(want)
		if policy == Report && (len(b.told) != 1 || b.told[0].Count != 48) {
			t.Errorf("%d reports of what was missed: %v", len(b.told), b.told)
		}
		b.at = b.at.Add(30*time.Minute + grace)
		b.settle()
		want[Started]++
		b.want(want)
	}
}

// TestMissedForYears: a schedule of every minute is not gone through minute by
// minute after years, and the count of what was missed says that it is one at least.
func TestMissedForYears(t *testing.T) {
	b := newBench(t, "2016-01-01 00:00")
	b.add(Schedule{Cron: "* * * * *", Jitter: time.Hour})
	b.at = time.Date(2026, 1, 1, 0, 0, 30, 0, time.UTC)
	b.settle()
	if n := b.outcomes(); n[Started] != 1 || n[Merged] != countMost {
		t.Errorf("%v", n)
	}
	l, err := b.Get(t.Context(), "nightly")
	if err != nil || b.at.Sub(l.State.Decided) > 2*time.Hour {
		t.Errorf("decided up to %v (%v)", l.State.Decided, err)
	}
}

func TestClockSetBack(t *testing.T) {
	b := newBench(t, "2026-01-01 00:30")
	b.add(Schedule{Cron: "0 * * * *", Missed: Report})
	b.pass(3*time.Hour, time.Minute)
	b.want(map[Outcome]int{Started: 3})
	b.at = b.at.Add(-40 * time.Minute)
	b.pass(40*time.Minute, time.Minute)
	b.want(map[Outcome]int{Started: 3}) // 03:00 came again and was done
	b.pass(time.Hour, time.Minute)
	b.want(map[Outcome]int{Started: 4})

	// A clock that had been ten years ahead: nothing runs twice, and work goes on.
	was := b.at
	b.at = b.at.AddDate(10, 0, 0)
	b.settle()
	b.at = was
	b.told = nil
	b.pass(2*time.Hour, time.Minute)
	b.want(map[Outcome]int{Started: 2})
	if len(b.jobs.made) != 6 {
		t.Errorf("%d jobs: %v", len(b.jobs.made), b.jobs.order)
	}
}

func TestStartThatFails(t *testing.T) {
	b := newBench(t, "2026-01-01 00:30")
	b.add(Schedule{Cron: "0 * * * *"})
	b.jobs.before = fault.New(fault.Invalid, "the selection matches nothing")
	b.pass(time.Hour, time.Minute)
	b.want(map[Outcome]int{Failed: 1})
	b.jobs.before = fault.New(fault.Storage, "the disk is full")
	b.pass(time.Hour, time.Minute)
	b.want(map[Outcome]int{Failed: 1, Started: 1})
}

func TestChangesNeedApproval(t *testing.T) {
	b := newBench(t, "2026-01-01 00:30")
	b.add(Schedule{Cron: "0 * * * *", Change: true})
	b.pass(time.Hour, time.Minute)
	b.want(map[Outcome]int{Skipped: 1})
	if _, err := b.RunNow(t.Context(), "nightly", "alice", "1"); !fault.Is(err, fault.Denied) {
		t.Errorf("run by hand: %v", err)
	}
	if _, err := b.Approve(t.Context(), "nightly", "alice"); !fault.Is(err, fault.Denied) {
		t.Errorf("approved by its maker: %v", err)
	}
	if l, err := b.Approve(t.Context(), "nightly", "bob"); err != nil || l.ApprovedBy != "bob" {
		t.Errorf("%v %v", l, err)
	}
	b.pass(time.Hour, time.Minute)
	b.want(map[Outcome]int{Skipped: 1, Started: 1})
}

func TestRunByHand(t *testing.T) {
	b := newBench(t, "2026-01-01 00:30")
	b.add(Schedule{Cron: "0 0 1 1 *"})
	for range 2 { // an answer was lost, and it is asked for again
		if job, err := b.RunNow(t.Context(), "nightly", "bob", "token"); job != "1" || err != nil {
			t.Errorf("%v %v", job, err)
		}
	}
	runs, err := b.Runs(t.Context(), "nightly", 0)
	if err != nil || len(runs) != 1 || runs[0].By != "bob" {
		t.Errorf("%v %v", runs, err)
	}
	if _, err := b.RunNow(t.Context(), "weekly", "bob", ""); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}

func TestAddAndRemove(t *testing.T) {
	b := newBench(t, "2026-01-01 00:30")
	first := b.add(Schedule{Cron: "0 * * * *"})
	if _, err := b.Add(t.Context(), first.Schedule); !fault.Is(err, fault.Conflict) {
		t.Error(err)
	}
	b.pass(time.Hour, time.Minute)
	if err := b.Remove(t.Context(), "nightly", "alice"); err != nil {
		t.Fatal(err)
	}
	if err := b.Remove(t.Context(), "nightly", "alice"); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	b.pass(time.Hour, time.Minute)
	if again := b.add(Schedule{Cron: "0 * * * *"}); again.UID == first.UID {
		t.Error("it is the schedule that was removed")
	}
	if runs, err := b.Runs(t.Context(), "nightly", 0); err != nil || len(runs) != 0 {
		t.Errorf("it has the runs of the one that was removed: %v %v", runs, err)
	}
	b.pass(time.Hour, time.Minute)
	b.want(map[Outcome]int{Started: 2})
	for _, bad := range []Schedule{
		{Name: "../x", Cron: "0 * * * *"}, {Name: "A", Cron: "0 * * * *"}, {Name: "a", Cron: "0 * * *"}, {Name: "a", Cron: "0 * * * *", Overlap: "x"},
		{Name: "a", Cron: "0 * * * *", Missed: "x"}, {Name: "a", Cron: "0 * * * *", Jitter: -1}, {Name: "a", Cron: "0 * * * *", Request: []byte("{")},
		{Name: "a:b", Cron: "0 * * * *"}, {Name: "a", Cron: "0 * * * *", TimeZone: "Mars"},
	} {
		if bad.Request == nil {
			bad.Request = []byte("{}")
		}
		if _, err := b.Add(t.Context(), bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestRunsAreBounded(t *testing.T) {
	b := newBench(t, "2026-01-01 00:00")
	b.add(Schedule{Cron: "* * * * *"})
	b.pass((runsKept+20)*time.Minute, time.Minute)
	if runs, err := b.Runs(t.Context(), "nightly", 0); err != nil || len(runs) != runsKept || runs[0].Job != fmt.Sprint(runsKept+20) {
		t.Errorf("%d runs (%v)", len(runs), err)
	}
}

func TestJitter(t *testing.T) {
	b := newBench(t, "2026-01-01 00:30")
	l := b.add(Schedule{Cron: "0 * * * *", Jitter: 20 * time.Minute})
	spread := map[time.Duration]bool{}
	for at := range 500 {
		d := l.Delay(b.at.Add(time.Duration(at) * time.Hour))
		if d < 0 || d > l.Jitter {
			t.Fatalf("put off by %v", d)
		}
		spread[d.Truncate(time.Minute)] = true
	}
	if len(spread) < 20 {
		t.Errorf("500 occurrences are put off to %d different minutes", len(spread))
	}
	b.at = l.Next.Add(-time.Second)
	b.settle()
	b.want(map[Outcome]int{})
	b.at = l.Next
	b.settle()
	b.want(map[Outcome]int{Started: 1})
}

// TestEachOccurrenceOnce lets starts be cut short before and after the job is made,
// processes end, and clocks go on, stand and be set back, and asks in the end that
// each occurrence was decided exactly once and has a job exactly when it was started.
func TestEachOccurrenceOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBench(t, "2026-10-24 12:00")
		policy := rapid.SampledFrom([]Missed{RunOnce, Report}).Draw(t, "missed")
		cron := rapid.SampledFrom([]string{"*/10 * * * *", "30 * * * *", "30 1 * * *", "0 */2 * * *"}).Draw(t, "cron")
		l := b.add(Schedule{Cron: cron, TimeZone: rapid.SampledFrom([]string{"UTC", "Europe/London"}).Draw(t, "zone"), Missed: policy,
			Overlap: Allow, Jitter: time.Duration(rapid.IntRange(0, 900).Draw(t, "jitter")) * time.Second})
		begin, furthest := b.at, b.at
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				b.jobs.before = fault.New(fault.Canceled, "killed before")
			case 1:
				b.jobs.after = fault.New(fault.Canceled, "killed after")
			case 2:
				b.restart()
			case 3:
				back := min(59*time.Minute, b.at.Sub(furthest)+59*time.Minute) // further is another matter, see TestClockSetBack
				b.at = b.at.Add(-time.Duration(rapid.IntRange(0, max(int(back/time.Minute), 0)).Draw(t, "back")) * time.Minute)
			case 4:
				b.at = b.at.Add(time.Duration(rapid.IntRange(0, 72).Draw(t, "away")) * time.Hour)
			default:
				b.at = b.at.Add(time.Duration(rapid.IntRange(1, 90).Draw(t, "minutes")) * time.Minute)
			}
			b.Tick(context.Background())
			if b.at.After(furthest) {
				furthest = b.at
			}
		}
		b.restart()
		b.at = furthest.Add(l.Jitter)
		b.jobs.before, b.jobs.after = nil, nil
		b.settle()

		e, err := l.Expression()
		if err != nil {
			t.Fatal(err)
		}
		total := 0
		for at := e.Next(begin); !at.Add(l.Delay(at)).After(b.at); at = e.Next(at) {
			total++
		}
		got := 0
		started := map[int64]bool{}
		for _, run := range b.told {
			got += max(run.Count, 1)
			if run.Outcome != Started {
				continue
			}
			if started[run.Occurrence.Unix()] {
				t.Fatalf("%v was started twice", run.Occurrence)
			}
			started[run.Occurrence.Unix()] = true
		}
		if got != total && total <= countMost {
			t.Fatalf("%d occurrences, %d decided:\n%v", total, got, b.told)
		}
		if len(started) != len(b.jobs.made) {
			t.Fatalf("%d started, %d jobs", len(started), len(b.jobs.made))
		}
	})
}

// TestRunFollowsTheClock runs the loop itself, for a week in no time.
func TestRunFollowsTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, "2026-01-01 00:00")
		s := New(Options{Ledger: b.db, Jobs: b.jobs})
		if _, err := s.Add(t.Context(), Schedule{Name: "hourly", Cron: "0 * * * *", Request: []byte("{}"), Jitter: 10 * time.Minute}); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }()
		time.Sleep(7*24*time.Hour + 15*time.Minute) // of the bubble's clock
		stop()
		<-done
		if n := len(b.jobs.made); n != 7*24 {
			t.Errorf("%d runs in a week", n)
		}
	})
}
