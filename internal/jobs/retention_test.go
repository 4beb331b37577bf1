package jobs_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/jobs/runnertest"
	"capfleet/internal/ledger"
)

// clock is a time that the test moves.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time              { return time.Unix(0, c.at.Load()).UTC() }
func (c *clock) pass(d time.Duration)        { c.at.Add(int64(d)) }
func withClock(c *clock) func(*jobs.Options) { return func(o *jobs.Options) { o.Now = c.now } }

// keys gives what the ledger has, by namespace and job number; what belongs to no
// job (facts of devices) or outlives it (the audit) is left out.
func (h *harness) keys() map[string][]string {
	h.t.Helper()
	held := map[string][]string{} // job -> namespaces
	if err := h.db.View(func(tx *ledger.Tx) error {
		for _, ns := range jobs.Namespaces() {
			if err := tx.Scan(ns, nil, nil, func(k, v []byte) bool {
				job := ""
				switch ns {
				case "devices", "audit":
					return true
				case "requests":
					job = number(v)
				case "events":
					for _, ev := range h.events("") {
						if ev.Seq == bigEndian(k) {
							job = ev.Job
						}
					}
				default:
					job = number(k)
				}
				if !slices.Contains(held[job], string(ns)) {
					held[job] = append(held[job], string(ns))
				}
				return true
			}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		h.t.Fatal(err)
	}
	return held
}

func bigEndian(k []byte) (n uint64) {
	for _, b := range k[:8] {
		n = n<<8 | uint64(b)
	}
	return n
}

func number(k []byte) string { return strconv.FormatUint(bigEndian(k), 10) }

// bytesOf is the model's own sum of what a job takes under its record.
func (h *harness) bytesOf(id string) (total int64) {
	h.t.Helper()
	if err := h.db.View(func(tx *ledger.Tx) error {
		for _, ns := range []ledger.Namespace{"targets", "tasks", "rows", "journal", "job_events"} {
			if err := tx.Scan(ns, nil, nil, func(k, v []byte) bool {
				if number(k) == id {
					total += int64(len(k) + len(v))
				}
				if ns == "job_events" && number(k) == id {
					total += int64(8 + len(tx.Get("events", k[8:])))
				}
				return true
			}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		h.t.Fatal(err)
	}
	return total
}

// Whatever was submitted, finished, retried and pruned, in whatever order: exactly
// the jobs that a plain reading of the rule keeps are there, whole, and nothing of
// the others is.
func TestRetentionModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := &clock{}
		c.pass(1000 * time.Hour)
		h := newHarness(t, &runnertest.Fake{}, withClock(c))
		h.start()
		keep := jobs.Retention{
			Age:   time.Duration(rapid.IntRange(0, 20).Draw(rt, "hours")) * time.Hour,
			Jobs:  rapid.IntRange(0, 5).Draw(rt, "jobs"),
			Bytes: int64(rapid.IntRange(0, 12000).Draw(rt, "bytes")),
		}
		pruner := jobs.NewPruner(h.Engine, keep)
		type finished struct {
			id string
			at time.Time
		}
		var done []finished // by the time at which they finished
		var open []string
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			c.pass(time.Duration(rapid.IntRange(0, 300).Draw(rt, "minutes")) * time.Minute)
			switch rapid.SampledFrom([]string{"finish", "finish", "fail", "block", "retry", "prune", "reopen"}).Draw(rt, "step") {
			case "finish":
				req := request("read", runnertest.Spec{Behaviour: runnertest.Succeeds, Rows: rapid.IntRange(1, 20).Draw(rt, "rows")}.JSON(), names(rapid.IntRange(1, 4).Draw(rt, "devices"))...)
				req.RequestID = rapid.SampledFrom([]string{"", "r1", "r2"}).Draw(rt, "request")
				id := h.submit(req).ID
				h.finish(id)
				if !slices.ContainsFunc(done, func(f finished) bool { return f.id == id }) {
					done = append(done, finished{id, c.now()})
				}
			case "fail":
				id := h.submit(request("read", runnertest.Spec{Behaviour: runnertest.Fails}.JSON(), names(2)...)).ID
				h.finish(id)
				done = append(done, finished{id, c.now()})
			case "block":
				id := h.submit(request("read", runnertest.Spec{Behaviour: runnertest.Blocks}.JSON(), "blocked"+fmt.Sprint(len(open)))).ID
				open = append(open, id)
			case "retry":
				if len(done) == 0 {
					continue
				}
				i := rapid.IntRange(0, len(done)-1).Draw(rt, "which")
				if _, err := h.Retry(t.Context(), done[i].id, "bob"); err == nil {
					h.finish(done[i].id)
					done = append(slices.Delete(slices.Clone(done), i, i+1), finished{done[i].id, c.now()})
				} else if !fault.Is(err, fault.Conflict) {
					rt.Fatal(err)
				}
			case "reopen":
				pruner = jobs.NewPruner(h.Engine, keep)
			case "prune":
				// The plain reading: the oldest goes while a rule is broken.
				slices.SortStableFunc(done, func(a, b finished) int {
					if n := a.at.Compare(b.at); n != 0 {
						return n
					}
					x, _ := strconv.Atoi(a.id)
					y, _ := strconv.Atoi(b.id)
					return x - y
				})
				removed := 0
				for len(done) > 0 {
					var total int64
					for _, f := range done {
						total += h.bytesOf(f.id)
					}
					if !(keep.Age > 0 && c.now().Sub(done[0].at) > keep.Age ||
						keep.Jobs > 0 && len(done) > keep.Jobs ||
						keep.Bytes > 0 && total > keep.Bytes && len(done) > 1) {
						break
					}
					done = done[1:]
					removed++
				}
				got, err := pruner.Prune(t.Context())
				if err != nil || got.Jobs != removed {
					rt.Fatalf("pruned %+v, %v; want %d jobs", got, err, removed)
				}
				want := slices.Clone(open)
				for _, f := range done {
					want = append(want, f.id)
				}
				held := h.keys()
				slices.Sort(want)
				if diff := cmp.Diff(want, slices.Sorted(maps.Keys(held)), cmp.Comparer(func(a, b []string) bool { return slices.Equal(a, b) })); diff != "" {
					rt.Fatalf("jobs of which something is there (-want +got):\n%s", diff)
				}
				for _, id := range want {
					if !slices.Contains(held[id], "jobs") || !slices.Contains(held[id], "tasks") || !slices.Contains(held[id], "events") {
						rt.Fatalf("job %s is not whole: %v", id, held[id])
					}
				}
			}
		}
		if _, err := h.Submit(t.Context(), request("read", nil, "d")); err != nil {
			rt.Fatal(err)
		}
		h.stop()
	})
}

// What a client sees of a job that was removed, and what stays.
func TestRemovedJob(t *testing.T) {
	c := &clock{}
	h := newHarness(t, &runnertest.Fake{}, withClock(c)).running(t)
	req := request("read", runnertest.Spec{Behaviour: runnertest.Succeeds}.JSON(), names(3)...)
	req.RequestID = "once"
	first := h.submit(req)
	h.finish(first.ID)
	c.pass(2 * time.Hour)
	if _, err := jobs.NewPruner(h.Engine, jobs.Retention{Age: time.Hour}).Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.Job(t.Context(), first.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("job: %v", err)
	}
	if _, err := h.Retry(t.Context(), first.ID, "bob"); !fault.Is(err, fault.NotFound) {
		t.Errorf("retry: %v", err)
	}
	if again := h.submit(req); again.ID == first.ID {
		t.Error("the number of a removed job was used again")
	}
	if facts, err := h.AllDeviceFacts(t.Context()); err != nil || facts.Len() != 3 {
		t.Errorf("facts of %d devices, %v", facts.Len(), err)
	}
}

func (h *harness) running(t *testing.T) *harness {
	h.start()
	t.Cleanup(func() {
		if h.stop != nil {
			h.stop()
		}
	})
	return h
}

// A process dies between any two transactions of a removal: the next one's first
// Prune leaves nothing of the job, and no job is ever half there.
func TestRetentionCutShort(t *testing.T) {
	for cut := 0; ; cut++ {
		c := &clock{}
		h := newHarness(t, &runnertest.Fake{}, withClock(c)).running(t)
		old := h.submit(request("read", runnertest.Spec{Behaviour: runnertest.Succeeds}.JSON(), names(3)...)).ID
		h.finish(old)
		c.pass(2 * time.Hour)
		young := h.submit(request("read", runnertest.Spec{Behaviour: runnertest.Succeeds}.JSON(), names(3)...)).ID
		h.finish(young)

		ctx := &endsAfter{Context: t.Context(), left: cut}
		_, err := jobs.NewPruner(h.Engine, jobs.Retention{Age: time.Hour}).Prune(ctx)
		_, _, jobErr := h.Job(t.Context(), old)
		if tasks, err := h.Tasks(t.Context(), old); jobErr == nil && (err != nil || len(tasks) != 3) {
			t.Errorf("after %d: the job is there with %d tasks, %v", cut, len(tasks), err)
		}
		h.stop()
		h.reopen()
		if _, err := jobs.NewPruner(h.Engine, jobs.Retention{Age: time.Hour}).Prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		if held := slices.Sorted(maps.Keys(h.keys())); !slices.Equal(held, []string{young}) {
			t.Errorf("after %d: something is there of jobs %v, want %s alone", cut, held, young)
		}
		if err == nil {
			if cut < 8 {
				t.Errorf("only %d points were tried", cut)
			}
			break
		}
	}
}

// endsAfter is a context that is over after it was asked so many times.
type endsAfter struct {
	context.Context
	left int
}

func (c *endsAfter) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// A fleet that works for ever keeps a bounded file: jobs come and are removed.
func TestChurnKeepsTheFileBounded(t *testing.T) {
	c := &clock{}
	h := newHarness(t, runnertest.Func(func(_ context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
		return result(w, succeeds(`"`+strings.Repeat("x", 40_000)+`"`))
	}), withClock(c)).running(t)
	pruner := jobs.NewPruner(h.Engine, jobs.Retention{Jobs: 5})
	var early, late int64
	for cycle := range 60 {
		h.finish(h.submit(request("read", nil, names(10)...)).ID) // few and large: the rows fill the file, the tasks take the time
		c.pass(time.Minute)
		if cycle%5 == 4 {
			if _, err := pruner.Prune(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		info, err := os.Stat(h.db.Path())
		if err != nil {
			t.Fatal(err)
		}
		if cycle == 20 {
			early = info.Size()
		}
		late = info.Size()
	}
	t.Logf("%d MiB after 20 jobs of 10 devices, %d MiB after 60", early>>20, late>>20)
	if late > early*3/2 {
		t.Errorf("the file grows: %d bytes, then %d", early, late)
	}
}
