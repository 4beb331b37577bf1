package jobs_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/jobs/runnertest"
)

func policy(attempts int, base, most time.Duration) func(*jobs.Options) {
	return func(o *jobs.Options) { o.Retry = jobs.RetryPolicy{Attempts: attempts, Base: base, Max: most} }
}

// TestRetriesByKind walks every kind of fault: what may pass is tried again until
// the attempts are used up, and nothing else is, a wrong password least of all.
func TestRetriesByKind(t *testing.T) {
	for _, kind := range fault.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, runnertest.Func(func(_ context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
					return result(w, fails(kind))
				}), policy(4, time.Second, time.Minute)).start()
				job := h.submit(request("read", nil, "a"))
				_, s := h.finish(job.ID)
				want := 1
				if kind.Retryable() {
					want = 4
				}
				if task := h.task(job.ID, "a"); s != jobs.Failed || task.Attempt != want || task.Failure.Kind != kind {
					t.Errorf("%s after %d attempts, want %d: %+v", s, task.Attempt, want, task.Failure)
				}
				h.stop()
			})
		})
	}
}

func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		h := newHarness(t, runnertest.Func(func(_ context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
			at = append(at, time.Now())
			return result(w, fails(fault.Unreachable))
		}), policy(6, 2*time.Second, 12*time.Second)).start()
		job := h.submit(request("read", nil, "a"))
		ev := h.await(job.ID, 0, state("a", jobs.Waiting))
		if !strings.Contains(ev.Reason, "attempt 1 of 6 failed: it failed: unreachable") {
			t.Errorf("reason %q", ev.Reason)
		}
		if task := h.task(job.ID, "a"); task.Until == nil || !task.Until.After(time.Now()) || task.Failure == nil {
			t.Errorf("%+v", task)
		}
		if _, s, _ := h.Job(t.Context(), job.ID); s != jobs.Waiting {
			t.Errorf("the job is %s", s)
		}
		h.finish(job.ID)
		for i, want := range []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 12 * time.Second, 12 * time.Second} {
			if wait := at[i+1].Sub(at[i]); wait < want*3/4 || wait > want*5/4 {
				t.Errorf("wait %d is %v, want %v give or take a quarter", i, wait, want)
			}
		}
		entries, err := h.Journal(t.Context(), job.ID, "a")
		if err != nil || len(entries) != 5 || entries[0].Kind != jobs.EntryNote {
			t.Errorf("%v: the journal does not tell the attempts: %+v", err, entries)
		}
		h.stop()
	})
}

// The journal of a change tells how each attempt at it ended and who had it taken up
// again, once for a unit; that of a report does without.
func TestJournalTellsTheEndsOfAChange(t *testing.T) {
	for access, want := range map[string][]string{
		"change": {"attention: it shows nothing", "retried by carol"},
		"read":   nil,
	} {
		var looked atomic.Bool
		h := newHarness(t, runnertest.Func(func(_ context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
			if looked.Load() {
				return result(w, succeeds())
			}
			return result(w, jobs.TaskResult{State: jobs.Attention, Failure: &jobs.Failure{Message: "it shows nothing"}})
		})).start()
		req := request(access, nil, "a", "b")
		for i := range req.Targets {
			req.Targets[i].Unit = "a+b"
		}
		job := h.submit(req)
		h.finish(job.ID)
		looked.Store(true)
		if _, err := h.Retry(t.Context(), job.ID, "carol"); err != nil {
			t.Fatal(err)
		}
		h.finish(job.ID)
		entries, err := h.Journal(t.Context(), job.ID, "a")
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		for _, e := range entries {
			told = append(told, e.Detail)
		}
		if !slices.Equal(told, want) {
			t.Errorf("%s: the journal tells %q, want %q", access, told, want)
		}
		h.stop()
	}
}

func TestPassesAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, runnertest.Func(func(_ context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
			if w.Attempt < 3 {
				return result(w, fails(fault.Busy))
			}
			return result(w, succeeds(`1`))
		})).start()
		job := h.submit(request("read", nil, "a"))
		if _, s := h.finish(job.ID); s != jobs.Succeeded {
			t.Error(s)
		}
		task := h.task(job.ID, "a")
		if task.Attempt != 3 || task.Failure != nil || task.Reason != "" || task.Until != nil {
			t.Errorf("%+v", task)
		}
		h.stop()
	})
}

// TestWaitSurvivesRestart: the time that a task waits for is kept, and an operator
// can give it new attempts or cancel it.
func TestWaitSurvivesRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		h := newHarness(t, runnertest.Func(func(_ context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
			at = append(at, time.Now())
			return result(w, fails(fault.Timeout))
		}), policy(2, time.Hour, time.Hour)).start()
		job := h.submit(request("read", nil, "a"))
		h.await(job.ID, 0, state("a", jobs.Waiting))
		until := *h.task(job.ID, "a").Until
		h.stop()
		h.reopen()
		time.Sleep(time.Minute) // the bubble's clock
		h.start()
		if _, s := h.finish(job.ID); s != jobs.Failed || len(at) != 2 || at[1].Before(until) {
			t.Errorf("%s after attempts at %v, the second not before %v", s, at, until)
		}

		if _, err := h.Retry(t.Context(), job.ID, "bob"); err != nil {
			t.Fatal(err)
		}
		h.await(job.ID, 0, func(ev jobs.Event) bool { return ev.State == jobs.Waiting && ev.Attempt == 3 })
		if _, err := h.Cancel(t.Context(), job.ID, "bob"); err != nil {
			t.Fatal(err)
		}
		if _, s := h.finish(job.ID); s != jobs.Canceled {
			t.Error(s)
		}
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if len(at) != 3 {
			t.Errorf("%d attempts: it went on after it was canceled", len(at))
		}
		h.stop()
	})
}

// TestDeadDevicesHoldUpNobody: a job on devices that all time out leaves room for
// another one.
func TestDeadDevicesHoldUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, runnertest.Func(func(ctx context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
			if w.Unit != "live" {
				select {
				case <-time.After(10 * time.Second):
				case <-ctx.Done():
				}
				return result(w, fails(fault.Timeout))
			}
			return result(w, succeeds(`1`))
		}), func(o *jobs.Options) { o.Limits.Global = 16 }).start()
		dead := h.submit(request("read", nil, names(1000)...))
		h.await(dead.ID, 0, state("d0015", jobs.Running))
		start := time.Now()
		live := h.submit(request("read", nil, "live"))
		h.finish(live.ID)
		if took := time.Since(start); took > 11*time.Second {
			t.Errorf("it took %v, with 1000 dead devices before it", took)
		}
		if _, err := h.Cancel(t.Context(), dead.ID, ""); err != nil {
			t.Fatal(err)
		}
		h.finish(dead.ID)
		h.stop()
	})
}

// script is what a property run does to an engine.
type action struct {
	do     string // submit, cancel, retry, restart or wait
	job    int
	access string
	units  [][]string
	wait   time.Duration
}

// TestEngineProperty plays an engine in a simulated clock: jobs with all sorts of
// runners come, are canceled and retried, and fleetd is started anew. The limits
// are never exceeded, every task ends, a job is finished once for each time that
// it was begun, and devices have the rows of the last attempt, once.
func TestEngineProperty(t *testing.T) {
	devices := []string{"a", "b", "c", "d", "e"}
	actions := rapid.Custom(func(t *rapid.T) action {
		a := action{
			do:     rapid.SampledFrom([]string{"submit", "submit", "cancel", "retry", "restart", "wait"}).Draw(t, "do"),
			job:    rapid.IntRange(0, 9).Draw(t, "job"),
			access: rapid.SampledFrom([]string{"read", "change"}).Draw(t, "access"),
			wait:   time.Duration(rapid.IntRange(0, 8000).Draw(t, "wait")) * time.Millisecond,
		}
		left := rapid.Permutation(devices).Draw(t, "devices")[:rapid.IntRange(1, 5).Draw(t, "how many")]
		for len(left) > 0 {
			n := min(len(left), rapid.IntRange(1, 2).Draw(t, "size"))
			a.units, left = append(a.units, left[:n]), left[n:]
		}
		return a
	})
	rapid.Check(t, func(rt *rapid.T) {
		list := rapid.SliceOfN(actions, 1, 12).Draw(rt, "actions")
		seed := rapid.Uint64().Draw(rt, "seed")
		limits := jobs.Limits{Global: rapid.IntRange(1, 4).Draw(rt, "global"), PerSite: rapid.IntRange(1, 4).Draw(rt, "site"), PerDevice: rapid.IntRange(1, 2).Draw(rt, "device")}
		var problems []string
		synctest.Test(t, func(t *testing.T) { problems = playEngine(t, list, seed, limits) })
		for _, p := range problems {
			rt.Error(p)
		}
	})
}

func playEngine(t *testing.T, list []action, seed uint64, limits jobs.Limits) (problems []string) {
	ru := &moody{seed: seed, limits: limits, devices: map[string]int{}, changes: map[string]int{}, units: map[string]bool{}, access: map[string]string{}}
	h := newHarness(t, ru, policy(3, time.Second, 3*time.Second), func(o *jobs.Options) { o.Limits = limits }).start()
	var ids []string
	begun := make(map[string]int) // how often a job began, and so how often it is to finish
	for _, a := range list {
		var id string
		if len(ids) > 0 {
			id = ids[a.job%len(ids)]
		}
		switch {
		case a.do == "submit":
			req := jobs.Request{Operation: "fake", Access: a.access}
			for _, unit := range a.units {
				for _, d := range unit {
					req.Targets = append(req.Targets, jobs.Target{Device: d, Unit: strings.Join(unit, "+"), Site: "lon"})
				}
			}
			ru.mu.Lock() // it is known before it runs
			job := h.submit(req)
			ru.access[job.ID] = a.access
			ru.mu.Unlock()
			ids = append(ids, job.ID)
			begun[job.ID]++
		case a.do == "restart":
			h.stop()
			h.reopen()
			h.start()
		case a.do == "cancel" && id != "":
			if _, err := h.Cancel(t.Context(), id, "bob"); err != nil && !fault.Is(err, fault.Conflict) {
				problems = append(problems, err.Error())
			}
		case a.do == "retry" && id != "":
			if _, err := h.Retry(t.Context(), id, "bob"); err == nil {
				begun[id]++
			} else if !fault.Is(err, fault.Conflict) {
				problems = append(problems, err.Error())
			}
		}
		time.Sleep(a.wait)
	}
	for _, id := range ids {
		job, _ := h.finish(id)
		if n := count(h.events(id), jobs.EventJobFinished); n != begun[id] {
			problems = append(problems, fmt.Sprintf("job %s began %d times and finished %d times", id, begun[id], n))
		}
		tasks, err := h.Tasks(t.Context(), id)
		if err != nil {
			problems = append(problems, err.Error())
		}
		counts := make(map[jobs.State]int)
		rows := h.rows(id)
		for _, task := range tasks {
			counts[task.State]++
			want := 0
			if task.State == jobs.Succeeded || task.State == jobs.Unchanged || task.State == jobs.Attention {
				want = 2
			}
			if !task.State.Final() || rows[task.Device] != want || task.Rows != want {
				problems = append(problems, fmt.Sprintf("job %s, %s: %s with %d rows (task says %d)", id, task.Device, task.State, rows[task.Device], task.Rows))
			}
		}
		if fmt.Sprint(counts) != fmt.Sprint(job.Counts) {
			problems = append(problems, fmt.Sprintf("job %s counts %v, its tasks are %v", id, job.Counts, counts))
		}
	}
	h.stop()
	var seqs []uint64
	for _, ev := range h.events("") {
		seqs = append(seqs, ev.Seq)
	}
	if !slices.IsSorted(seqs) || len(seqs) > 0 && seqs[len(seqs)-1] != uint64(len(seqs)) {
		problems = append(problems, fmt.Sprintf("events have gaps: %v", seqs))
	}
	return append(problems, ru.problems...)
}

// moody is a runner of which nobody knows how its work ends, and which keeps
// account of how much runs at once.
type moody struct {
	seed   uint64
	limits jobs.Limits
	access map[string]string // of jobs

	mu       sync.Mutex
	n        uint64
	running  int
	units    map[string]bool
	devices  map[string]int
	changes  map[string]int
	problems []string
}

func (m *moody) Run(ctx context.Context, w jobs.Work, j jobs.Journal) jobs.Result {
	m.mu.Lock()
	m.n++
	mood := (m.seed + m.n*0x9E3779B97F4A7C15) >> 7
	change := m.access[w.Job] == "change"
	m.enter(w, change, 1)
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.enter(w, change, -1)
	}()

	if err := j.Step(ctx, "work"); err != nil && ctx.Err() == nil {
		m.complain(fmt.Sprintf("journal: %v", err))
	}
	select {
	case <-time.After(time.Duration(mood%3000) * time.Millisecond):
	case <-ctx.Done():
		return result(w, fails(fault.Canceled))
	}
	endings := []jobs.TaskResult{succeeds(`1`, `2`), succeeds(`1`, `2`), fails(fault.Timeout), fails(fault.Auth), fails(fault.Canceled), succeeds(`1`, `2`)}
	attention := succeeds(`1`, `2`)
	attention.State, attention.Failure = jobs.Attention, &jobs.Failure{Message: "look"}
	endings = append(endings, attention)
	if mood%11 == 0 {
		panic("moody")
	}
	tasks := make(map[string]jobs.TaskResult)
	for i, target := range w.Targets {
		tasks[target.Device] = endings[(mood/7+uint64(i))%uint64(len(endings))]
	}
	return jobs.Result{Tasks: tasks}
}

func (m *moody) complain(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.problems = append(m.problems, what)
}

// enter keeps the account, under the lock.
func (m *moody) enter(w jobs.Work, change bool, n int) {
	m.running += n
	key := w.Job + "/" + w.Unit
	if n > 0 && m.units[key] {
		m.problems = append(m.problems, "unit "+key+" runs twice at a time")
	}
	m.units[key] = n > 0
	for _, t := range w.Targets {
		m.devices[t.Device] += n
		if change {
			m.changes[t.Device] += n
		}
		if m.devices[t.Device] > m.limits.PerDevice || m.changes[t.Device] > 1 {
			m.problems = append(m.problems, fmt.Sprintf("%d run on %s, %d of them changes", m.devices[t.Device], t.Device, m.changes[t.Device]))
		}
	}
	if m.running > m.limits.Global || m.running > m.limits.PerSite {
		m.problems = append(m.problems, fmt.Sprintf("%d run at once", m.running))
	}
}
