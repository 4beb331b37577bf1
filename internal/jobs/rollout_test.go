package jobs_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/jobs/runnertest"
	"capfleet/internal/rollout"
)

// change is a request for a change of devices by a rollout.
func change(policy rollout.Policy, devices ...string) jobs.Request {
	req := request("change", nil, devices...)
	req.Rollout = &policy
	return req
}

func one(n int) *int { return &n }

// diary is what a runner did, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) add(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *diary) all() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.lines)
}

// takes makes a runner that takes a time over each unit, and fails those named.
func takes(d *diary, took time.Duration, bad ...string) jobs.Runner {
	return runnertest.Func(func(ctx context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
		d.add("%s%s", w.Unit, w.Phase)
		select {
		case <-time.After(took):
		case <-ctx.Done():
			return result(w, jobs.TaskResult{State: jobs.Canceled})
		}
		if slices.Contains(bad, w.Unit) {
			return result(w, fails(fault.Refused))
		}
		return result(w, succeeds(`1`))
	})
}

// TestCanaryFails: nothing else is begun, and everybody is told why.
func TestCanaryFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		h := newHarness(t, takes(&d, time.Minute, "d0000")).start()
		job := h.submit(change(rollout.Policy{Wave: rollout.Units(2)}, names(5)...))
		h.await(job.ID, 0, state("d0000", jobs.Running))
		synctest.Wait()
		if task := h.task(job.ID, "d0003"); task.State != jobs.Waiting || task.Wave != 2 || task.Reason != "after the waves before it" {
			t.Errorf("%+v", task)
		}
		got, s := h.finish(job.ID)
		if s != jobs.Failed || got.Counts[jobs.Skipped] != 4 || !slices.Equal(d.all(), []string{"d0000"}) {
			t.Errorf("%s %+v after %q", s, got.Counts, d.all())
		}
		if task := h.task(job.ID, "d0004"); task.Reason != "the canary failed: d0000" || task.Failure == nil {
			t.Errorf("%+v", task)
		}
		// What is mended goes the same way again.
		h.opts.Runner = takes(&d, time.Minute)
		h.stop()
		h.reopen()
		h.start()
		if _, err := h.Retry(t.Context(), job.ID, "bob"); err != nil {
			t.Fatal(err)
		}
		if got, s := h.finish(job.ID); s != jobs.Succeeded || got.Counts[jobs.Succeeded] != 5 {
			t.Errorf("retried: %s %+v", s, got.Counts)
		}
		if got := d.all()[1:]; got[0] != "d0000" || len(got) != 5 {
			t.Errorf("retried: %q", got)
		}
		h.stop()
	})
}

// TestWindow: units wait for their window, and those that do not fit are skipped;
// fleetd may be started anew meanwhile.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		h := newHarness(t, takes(&d, 50*time.Minute)).start() // synctest's clock begins on Saturday 2000-01-01 00:00 UTC
		night, err := rollout.ParseWindow("Sat 22:00+2h")
		if err != nil {
			t.Fatal(err)
		}
		req := change(rollout.Policy{Canary: one(0), Wave: rollout.Units(1), Windows: []rollout.Window{night}}, "a", "b", "c")
		for i := range req.Targets {
			req.Targets[i].WorstCase = time.Hour
			req.Targets[i].Zone = "Europe/Paris" // an hour ahead
		}
		job := h.submit(req)
		h.await(job.ID, 0, state("a", jobs.Waiting))
		task := h.task(job.ID, "a")
		opens := time.Date(2000, 1, 1, 21, 0, 0, 0, time.UTC)
		if task.Reason != "window Sat 22:00+2h" || task.Until == nil || !task.Until.Equal(opens) {
			t.Errorf("%+v", task)
		}
		if _, s, _ := h.Job(t.Context(), job.ID); s != jobs.Waiting {
			t.Errorf("the job is %s", s)
		}
		h.stop()
		h.reopen()
		time.Sleep(time.Hour)
		h.start()
		got, s := h.finish(job.ID)
		if s != jobs.Partial || got.Counts[jobs.Succeeded] != 2 || got.Counts[jobs.Skipped] != 1 {
			t.Errorf("%s %+v", s, got.Counts)
		}
		for i, device := range []string{"a", "b"} {
			if task := h.task(job.ID, device); !task.StartedAt.Equal(opens.Add(time.Duration(i) * 50 * time.Minute)) {
				t.Errorf("%s began at %v", device, task.StartedAt)
			}
		}
		if task := h.task(job.ID, "c"); task.Reason != "it did not fit into its window (Sat 22:00+2h); it may take 1h" {
			t.Errorf("%+v", task)
		}
		h.stop()
	})
}

// TestSlowUploadDelaysNobody: all are prepared at once, and the waves go on without
// one that takes long.
func TestSlowUploadDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var d diary
		h := newHarness(t, runnertest.Func(func(_ context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
			switch {
			case w.Phase == jobs.PhasePrepare && w.Unit == "d0001":
				time.Sleep(10 * time.Hour)
			case w.Phase == jobs.PhasePrepare && w.Unit == "d0002":
				return result(w, fails(fault.Refused)) // it is made good in its wave
			case w.Phase == jobs.PhasePrepare:
				time.Sleep(time.Second)
			default:
				time.Sleep(time.Minute)
				d.add("%s %v", w.Unit, time.Since(began).Round(time.Minute))
			}
			return result(w, succeeds(`1`))
		})).start()
		req := change(rollout.Policy{Wave: rollout.Units(2)}, names(6)...)
		for i := range req.Targets {
			req.Targets[i].Prepares = true
		}
		job := h.submit(req)
		if got, s := h.finish(job.ID); s != jobs.Succeeded {
			t.Errorf("%s %+v", s, got.Counts)
		}
		lines := d.all()
		slices.Sort(lines[1:3]) // those of a wave are at it together
		slices.Sort(lines[2:4])
		if want := []string{"d0000 1m0s", "d0001 10h1m0s", "d0002 2m0s", "d0003 3m0s", "d0004 3m0s", "d0005 4m0s"}; !slices.Equal(sorted(lines), want) {
			t.Errorf("%q, want %q", sorted(lines), want)
		}
		if task := h.task(job.ID, "d0002"); len(task.Warnings) != 1 || !strings.HasPrefix(task.Warnings[0], "preparation failed: it failed") {
			t.Errorf("%+v", task)
		}
		if task := h.task(job.ID, "d0000"); task.Rows != 1 || h.rows(job.ID)["d0000"] != 1 {
			t.Errorf("rows of both phases: %+v", task)
		}
		h.stop()
	})
}

func sorted(lines []string) []string {
	lines = slices.Clone(lines)
	slices.Sort(lines)
	return lines
}

// TestApproval: nothing is done before another user approved, over restarts too.
func TestApproval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		h := newHarness(t, takes(&d, time.Minute)).start()
		req := change(rollout.Policy{Approve: true}, "a")
		req.Targets[0].Prepares = true
		job := h.submit(req)
		h.await(job.ID, 0, state("a", jobs.Waiting))
		if task := h.task(job.ID, "a"); !strings.Contains(task.Reason, "approval") {
			t.Errorf("%+v", task)
		}
		h.stop()
		h.reopen()
		h.start()
		time.Sleep(time.Hour)
		for by, kind := range map[string]fault.Kind{"alice": fault.Denied, "": fault.Denied} {
			if _, err := h.Approve(t.Context(), job.ID, by); !fault.Is(err, kind) {
				t.Errorf("%q: %v", by, err)
			}
		}
		if len(d.all()) != 0 {
			t.Fatalf("it did %q", d.all())
		}
		got, err := h.Approve(t.Context(), job.ID, "bob")
		if err != nil || got.ApprovedBy != "bob" {
			t.Fatalf("%+v, %v", got, err)
		}
		if _, s := h.finish(job.ID); s != jobs.Succeeded || !slices.Equal(d.all(), []string{"aprepare", "achange"}) {
			t.Errorf("%s after %q", s, d.all())
		}
		if _, err := h.Approve(t.Context(), job.ID, "bob"); !fault.Is(err, fault.Conflict) {
			t.Errorf("a finished job: %v", err)
		}
		if n := count(h.events(job.ID), jobs.EventJobApproved); n != 1 {
			t.Errorf("%d events of approval", n)
		}
		plain := h.submit(request("read", nil, "a"))
		if _, err := h.Approve(t.Context(), plain.ID, "bob"); !fault.Is(err, fault.Conflict) {
			t.Errorf("a job that wants none: %v", err)
		}
		h.finish(plain.ID)
		h.stop()
	})
}

// TestPauseAfterCanary: it pauses once, over restarts too, and goes on when it is
// resumed.
func TestPauseAfterCanary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		h := newHarness(t, takes(&d, time.Minute)).start()
		job := h.submit(change(rollout.Policy{PauseAfterCanary: true, Wave: rollout.Units(3)}, names(4)...))
		h.await(job.ID, 0, func(ev jobs.Event) bool { return ev.Type == jobs.EventJobPaused })
		for range 2 {
			time.Sleep(time.Hour)
			if got, s, _ := h.Job(t.Context(), job.ID); s != jobs.Paused || got.PausedBy != "fleetd" || len(d.all()) != 1 {
				t.Fatalf("%s by %q after %q", s, got.PausedBy, d.all())
			}
			h.stop()
			h.reopen()
			h.start()
		}
		if _, err := h.Resume(t.Context(), job.ID, "alice"); err != nil {
			t.Fatal(err)
		}
		if _, s := h.finish(job.ID); s != jobs.Succeeded || len(d.all()) != 4 {
			t.Errorf("%s after %q", s, d.all())
		}
		h.stop()
	})
}

// TestCancelIsHeldBack: a unit that is out of use is brought back before the cancel
// takes effect, also when fleetd ends in between, and others are canceled at once.
func TestCancelIsHeldBack(t *testing.T) {
	for name, restart := range map[string]bool{"in one go": false, "over a restart": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var d diary
				h := newHarness(t, runnertest.Func(func(ctx context.Context, w jobs.Work, j jobs.Journal) jobs.Result {
					d.add("%s %d held %t", w.Unit, w.Attempt, w.Held)
					if !w.Held && w.Unit == "a" {
						if err := j.Hold(ctx, "maintenance"); err != nil {
							t.Error(err)
						}
					}
					select {
					case <-time.After(time.Hour):
					case <-ctx.Done():
						return result(w, jobs.TaskResult{State: jobs.Canceled})
					}
					if err := j.Release(ctx, "return"); err != nil {
						t.Error(err)
					}
					<-ctx.Done() // what follows is stopped
					d.add("%s: %v", w.Unit, context.Cause(ctx))
					return result(w, jobs.TaskResult{State: jobs.Canceled})
				})).start()
				job := h.submit(change(rollout.Policy{Canary: one(0), Wave: rollout.Units(2)}, "a", "b", "c"))
				time.Sleep(time.Minute)
				if _, err := h.Cancel(t.Context(), job.ID, "bob"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				want := "running [canceled:2 running:1] canceled by bob; it is brought to a safe end first"
				if restart {
					h.stop()
					h.reopen()
					h.start()
					time.Sleep(time.Minute)
					want = "running [canceled:2 running:1] "
				}
				got, s, err := h.Job(t.Context(), job.ID)
				if text := fmt.Sprintf("%s %v %s", s, got.Counts, h.task(job.ID, "a").Reason); err != nil || text != strings.Replace(strings.Replace(want, "[", "map[", 1), "]", "]", 1) {
					t.Errorf("%s, %v; want %s", text, err, want)
				}
				if got, s := h.finish(job.ID); s != jobs.Canceled || got.Counts[jobs.Canceled] != 3 {
					t.Errorf("%s %+v", s, got.Counts)
				}
				if last := d.all()[len(d.all())-1]; last != "a: job "+job.ID+" was canceled by bob" {
					t.Errorf("%q", d.all())
				}
				h.stop()
			})
		})
	}
}

// TestHeldUnitFails: what is not known to be in use again needs a person, and the
// rollout stops.
func TestHeldUnitFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, runnertest.Func(func(ctx context.Context, w jobs.Work, j jobs.Journal) jobs.Result {
			if !w.Held {
				if err := j.Hold(ctx, "maintenance"); err != nil {
					t.Error(err)
				}
			}
			return result(w, fails(fault.Disconnected))
		}), policy(2, time.Second, time.Second)).start()
		job := h.submit(change(rollout.Policy{Canary: one(0), Wave: rollout.Units(1), MaxFailures: rollout.Units(3)}, "a", "b", "c"))
		got, s := h.finish(job.ID)
		if task := h.task(job.ID, "a"); s != jobs.Attention || task.State != jobs.Attention || task.Attempt != 2 || !task.Held || got.Counts[jobs.Skipped] != 2 {
			t.Errorf("%s %v %+v", s, got.Counts, task)
		}
		if task := h.task(job.ID, "b"); task.Reason != "a needs attention" {
			t.Errorf("%+v", task)
		}
		h.stop()
	})
}

// TestBegunGoesFirst: after a restart what was begun goes on at once, out of its
// window and in a paused job, and nothing else begins.
func TestBegunGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		h := newHarness(t, runnertest.Func(func(ctx context.Context, w jobs.Work, j jobs.Journal) jobs.Result {
			d.add("%s %d", w.Unit, w.Attempt)
			if w.Unit == "b" && len(w.History) == 0 {
				if err := j.Intent(ctx, "install", ""); err != nil {
					t.Error(err)
				}
			}
			select {
			case <-time.After(40 * time.Minute):
				return result(w, succeeds(`1`))
			case <-ctx.Done():
				return result(w, jobs.TaskResult{State: jobs.Canceled})
			}
		})).start()
		morning, err := rollout.ParseWindow("Sat 01:00+1h")
		if err != nil {
			t.Fatal(err)
		}
		req := change(rollout.Policy{Canary: one(0), Wave: rollout.Units(2), Windows: []rollout.Window{morning}, ResumeWindow: true}, "a", "b", "c")
		for i := range req.Targets {
			req.Targets[i].WorstCase = 45 * time.Minute
		}
		job := h.submit(req)
		time.Sleep(70 * time.Minute) // 01:10, a and b are at work
		h.stop()
		if _, err := h.Pause(t.Context(), job.ID, "bob"); err != nil {
			t.Fatal(err)
		}
		h.reopen()
		time.Sleep(20 * time.Minute) // too late for a and c
		h.start()
		time.Sleep(time.Hour)
		if got := sorted(d.all()); !slices.Equal(got, []string{"a 1", "b 1", "b 1"}) {
			t.Errorf("%q", got)
		}
		if task := h.task(job.ID, "b"); task.State != jobs.Succeeded {
			t.Errorf("%+v", task)
		}
		if _, err := h.Resume(t.Context(), job.ID, "bob"); err != nil {
			t.Fatal(err)
		}
		if _, s := h.finish(job.ID); s != jobs.Succeeded {
			t.Error(s)
		}
		if task := h.task(job.ID, "a"); !task.FinishedAt.Equal(time.Date(2000, 1, 8, 1, 40, 0, 0, time.UTC)) {
			t.Errorf("%+v", task)
		}
		h.stop()
	})
}

// TestLinksOfTwoRollouts: two jobs never take the last covers of a link together.
func TestLinksOfTwoRollouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		out, most := 0, 0
		h := newHarness(t, runnertest.Func(func(_ context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
			mu.Lock()
			out++
			most = max(most, out)
			mu.Unlock()
			time.Sleep(time.Minute)
			mu.Lock()
			out--
			mu.Unlock()
			return result(w, succeeds(`1`))
		})).start()
		var ids []string
		for _, device := range []string{"a", "b"} {
			req := change(rollout.Policy{}, device)
			req.Targets[0].Covers = []string{"core-a"}
			req.Covering = map[string]int{"core-a": 2}
			ids = append(ids, h.submit(req).ID)
		}
		time.Sleep(time.Second)
		if task := h.task(ids[1], "b"); task.Reason != "link core-a: its other cover is out" {
			t.Errorf("%+v", task)
		}
		for _, id := range ids {
			if _, s := h.finish(id); s != jobs.Succeeded {
				t.Error(s)
			}
		}
		if most != 1 {
			t.Errorf("%d of 2 covers were out together", most)
		}
		h.stop()
	})
}

// TestLimitIsNamed: a task that a limit holds up says which.
func TestLimitIsNamed(t *testing.T) {
	for want, limits := range map[string]jobs.Limits{
		"all 2 places of fleetd are taken":   {Global: 2},
		"all 2 places of site lon are taken": {Global: 9, PerSite: 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			var d diary
			h := newHarness(t, takes(&d, time.Hour), func(o *jobs.Options) { o.Limits = limits }).start()
			job := h.submit(request("read", nil, "a", "b", "c"))
			synctest.Wait()
			if task := h.task(job.ID, "c"); task.State != jobs.Pending || task.Reason != want {
				t.Errorf("%+v, want %s", task, want)
			}
			h.finish(job.ID)
			h.stop()
		})
	}
	synctest.Test(t, func(t *testing.T) {
		var d diary
		h := newHarness(t, takes(&d, time.Hour), func(o *jobs.Options) { o.Limits.PerDevice = 2 }).start()
		first, second := h.submit(request("change", nil, "a")), h.submit(request("change", nil, "a"))
		synctest.Wait()
		if task := h.task(second.ID, "a"); task.Reason != "another change of a is at work" {
			t.Errorf("%+v", task)
		}
		reads := []jobs.Job{h.submit(request("read", nil, "a")), h.submit(request("read", nil, "a"))}
		synctest.Wait()
		if task := h.task(reads[1].ID, "a"); task.Reason != "all 2 places of a are taken" {
			t.Errorf("%+v", task)
		}
		for _, job := range append(reads, first, second) {
			h.finish(job.ID)
		}
		h.stop()
	})
}

// TestRolloutRefused: what cannot be is refused before there is a job.
func TestRolloutRefused(t *testing.T) {
	h := newHarness(t, &runnertest.Fake{})
	together := change(rollout.Policy{}, "a", "b")
	together.Coordinated = true
	reads := change(rollout.Policy{}, "a")
	reads.Access = "read"
	alone := change(rollout.Policy{RequireCoverage: true}, "a")
	alone.Targets[0].Covers = []string{"core-a"}
	for name, req := range map[string]jobs.Request{
		"of a read":          reads,
		"of what is at once": together,
		"without budget":     change(rollout.Policy{MaxFailures: rollout.Units(0)}, "a"),
		"past":               change(rollout.Policy{End: time.Now().Add(-time.Hour)}, "a"),
		"the only cover":     alone,
	} {
		if _, err := h.Submit(t.Context(), req); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list, _, err := h.List(t.Context(), jobs.ListOptions{}); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestStopEndsPreparations: when a rollout stops, nobody waits for uploads that are
// of no use any more; nor does a canceled job wait for what was prepared meanwhile.
func TestStopEndsPreparations(t *testing.T) {
	for name, cancel := range map[string]bool{"canary failed": false, "canceled": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				h := newHarness(t, runnertest.Func(func(ctx context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
					switch {
					case w.Phase == jobs.PhasePrepare && w.Unit != "d0000":
						select {
						case <-time.After(10 * time.Hour):
						case <-ctx.Done():
							if cancel && w.Unit == "d0001" {
								return result(w, succeeds(`1`)) // it was just done
							}
							return result(w, jobs.TaskResult{State: jobs.Canceled})
						}
					case w.Phase == jobs.PhaseChange:
						time.Sleep(time.Minute)
						return result(w, fails(fault.Refused))
					}
					return result(w, succeeds(`1`))
				}), func(o *jobs.Options) { o.Limits.Global = 3 }).start()
				req := change(rollout.Policy{}, names(6)...)
				for i := range req.Targets {
					req.Targets[i].Prepares = true
				}
				job := h.submit(req)
				want, state := "map[failed:1 skipped:5]", jobs.Failed
				if cancel {
					time.Sleep(30 * time.Second)
					if _, err := h.Cancel(t.Context(), job.ID, "bob"); err != nil {
						t.Fatal(err)
					}
					want, state = "map[canceled:5 failed:1]", jobs.Canceled
				}
				if got, s := h.finish(job.ID); s != state || fmt.Sprint(got.Counts) != want || time.Since(began) > time.Hour {
					t.Errorf("%s %v after %v, want %s", s, got.Counts, time.Since(began), want)
				}
				h.stop()
			})
		})
	}
}

// TestCancelWhileHeldUnitWaits: a unit that is out of use and waits to be tried again
// is tried again in a canceled job, and nothing else is.
func TestCancelWhileHeldUnitWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		h := newHarness(t, runnertest.Func(func(ctx context.Context, w jobs.Work, j jobs.Journal) jobs.Result {
			d.add("%s %d", w.Unit, w.Attempt)
			if !w.Held {
				if err := j.Hold(ctx, "maintenance"); err != nil {
					t.Error(err)
				}
				return result(w, fails(fault.Disconnected))
			}
			if err := j.Release(ctx, "return"); err != nil {
				t.Error(err)
			}
			return result(w, succeeds(`1`))
		}), policy(3, time.Hour, time.Hour)).start()
		job := h.submit(change(rollout.Policy{}, "a", "b"))
		h.await(job.ID, 0, func(ev jobs.Event) bool { return ev.Device == "a" && ev.State == jobs.Waiting && ev.Attempt == 1 })
		if _, err := h.Cancel(t.Context(), job.ID, "bob"); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Cancel(t.Context(), job.ID, "bob"); err != nil { // once more changes nothing
			t.Fatal(err)
		}
		if got, s := h.finish(job.ID); s != jobs.Canceled || fmt.Sprint(got.Counts) != "map[canceled:1 succeeded:1]" || !slices.Equal(d.all(), []string{"a 1", "a 2"}) {
			t.Errorf("%s %v after %q", s, got.Counts, d.all())
		}
		h.stop()
	})
}
