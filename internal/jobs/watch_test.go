package jobs_test

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/jobs/runnertest"
)

// TestWatchersSeeTheLedger lets readers of all events and of one job, from the
// beginning and from the middle, follow while work goes on. Each sees exactly
// what the ledger has in the end.
func TestWatchersSeeTheLedger(t *testing.T) {
	h := newHarness(t, &runnertest.Fake{}).start()
	first := h.submit(request("read", spec(runnertest.Succeeds), names(300)...))
	h.await(first.ID, 0, state("d0100", jobs.Running))
	middle := h.events("")[50].Seq

	type reader struct {
		opts jobs.WatchOptions
		seen []jobs.Event
	}
	readers := []*reader{
		{opts: jobs.WatchOptions{}},
		{opts: jobs.WatchOptions{Job: first.ID}},
		{opts: jobs.WatchOptions{Job: first.ID, After: first.FirstEvent}},
		{opts: jobs.WatchOptions{After: middle}},
		{opts: jobs.WatchOptions{Job: "2", After: middle}},
		{opts: jobs.WatchOptions{Job: first.ID, After: middle}},
	}
	second := h.submit(request("read", spec(runnertest.Succeeds), names(300)...))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for _, r := range readers {
		wg.Go(func() {
			left := map[string]bool{first.ID: true, second.ID: true}
			if r.opts.Job != "" {
				left = map[string]bool{r.opts.Job: true}
			}
			for ev, err := range h.Watch(ctx, r.opts) {
				if err != nil {
					t.Error(err)
					return
				}
				r.seen = append(r.seen, ev)
				if ev.Type == jobs.EventJobFinished {
					delete(left, ev.Job)
				}
				if len(left) == 0 {
					return
				}
			}
		})
	}
	wg.Wait()
	for i, r := range readers {
		var want []jobs.Event
		for _, ev := range h.events(r.opts.Job) {
			if ev.Seq > r.opts.After {
				want = append(want, ev)
			}
		}
		if diff := cmp.Diff(want, r.seen); diff != "" {
			t.Errorf("reader %d saw something else (-ledger +seen):\n%.2000s", i, diff)
		}
	}
}

// TestSlowReaderHoldsUpNobody: a reader that takes nothing while a job runs finds
// everything afterwards.
func TestSlowReaderHoldsUpNobody(t *testing.T) {
	h := newHarness(t, &runnertest.Fake{}).start()
	job := h.submit(request("read", spec(runnertest.Succeeds), names(500)...))
	n := 0
	for ev, err := range h.Watch(t.Context(), jobs.WatchOptions{Job: job.ID}) {
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			h.finish(job.ID) // the job ends while this reader sits on its first event
		}
		if n++; ev.Type == jobs.EventJobFinished {
			break
		}
	}
	if want := len(h.events(job.ID)); n != want || want != 1+500*3+1 {
		t.Errorf("saw %d of %d events", n, want)
	}
}

func TestWatchEnds(t *testing.T) {
	h := newHarness(t, &runnertest.Fake{})
	h.submit(request("read", spec(runnertest.Succeeds), "a"))
	for name, opts := range map[string]jobs.WatchOptions{
		"all": {}, "one job": {Job: "1"}, "after the last": {After: 1}, "after what will never be": {After: math.MaxUint64},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan int)
		go func() {
			n := 0
			for _, err := range h.Watch(ctx, opts) {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				n++
			}
			done <- n
		}()
		cancel()
		if n := <-done; n > 1 {
			t.Errorf("%s: %d events", name, n)
		}
	}
}

func TestProgress(t *testing.T) {
	told, watched := make(chan struct{}), make(chan struct{})
	h := newHarness(t, runnertest.Func(func(_ context.Context, w jobs.Work, j jobs.Journal) jobs.Result {
		<-watched
		for i := range 1000 {
			j.Progress(fmt.Sprintf("d%d", i%100), int64(i), 1000, "bytes")
		}
		close(told)
		return result(w, succeeds())
	})).start()
	job := h.submit(request("read", nil, "a"))
	n := 0
	for ev, err := range h.Watch(t.Context(), jobs.WatchOptions{Job: job.ID}) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.State == jobs.Running && ev.Type == jobs.EventTaskState {
			close(watched)
			<-told // while this reader is busy
		}
		if ev.Type == jobs.EventProgress {
			n++
			if ev.Seq != 0 || ev.Job != job.ID || ev.Total != 1000 || ev.Unit != "bytes" || ev.Attempt != 1 || ev.Done < 900 {
				t.Errorf("%+v", ev)
			}
		}
		if ev.Type == jobs.EventJobFinished {
			break
		}
	}
	if n == 0 || n > 64 {
		t.Errorf("%d progress events reached a reader that fell behind", n)
	}
	if count(h.events(job.ID), jobs.EventProgress) != 0 {
		t.Error("progress is stored")
	}
}

// A job is over for who has seen its last event, and for nobody before it has finished.
func TestOver(t *testing.T) {
	t.Parallel()
	h := newHarness(t, &runnertest.Fake{})
	job := h.submit(request("read", spec(runnertest.Succeeds), "a"))
	if over, err := h.Over(t.Context(), job.ID, 1<<40); over || err != nil {
		t.Errorf("before it ran: %t, %v", over, err)
	}
	h.start()
	h.finish(job.ID)
	events := h.events(job.ID)
	last := events[len(events)-1].Seq
	for after, want := range map[uint64]bool{0: false, last - 1: false, last: true, last + 1: true, 1<<64 - 1: true} {
		if over, err := h.Over(t.Context(), job.ID, after); over != want || err != nil {
			t.Errorf("after %d of %d: %t, %v", after, last, over, err)
		}
	}
	if over, err := h.Over(t.Context(), "99", 0); over || !fault.Is(err, fault.NotFound) {
		t.Errorf("a job that is not there: %t, %v", over, err)
	}
}
