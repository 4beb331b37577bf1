package api_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

// watch collects what the client gives until the stream ends.
func watch(ctx context.Context, t *testing.T, socket, job string, after uint64) (seqs []uint64, types []string) {
	t.Helper()
	for ev, err := range dial(t, socket).Events(ctx, job, after) {
		if err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, ev.Seq)
		types = append(types, ev.Type)
	}
	return seqs, types
}

func TestEventsReplayFollowAndEnd(t *testing.T) {
	t.Parallel()
	log := newEventLog()
	log.add(api.Event{Type: "job_created"})
	log.steps(2)
	socket, _ := serve(t, &fake{log: log})
	var got []uint64
	for ev, err := range dial(t, socket).Events(t.Context(), "1", 10) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ev.Seq)
		if len(got) == 2 { // replay is through: now live
			log.add(api.Event{Type: "progress", Done: 3, Total: 4})
			log.add(api.Event{Type: "job_finished"})
		}
	}
	if diff := cmp.Diff([]uint64{20, 30, 0, 50}, got); diff != "" {
		t.Error(diff)
	}
}

// A job that was retried has an end in its past that is not the end.
func TestEventsGoOnAfterARetry(t *testing.T) {
	t.Parallel()
	log := newEventLog()
	for _, typ := range []string{"job_created", "job_finished", "job_retried", "task_state", "job_finished"} {
		log.add(api.Event{Type: typ})
	}
	socket, _ := serve(t, &fake{log: log})
	_, types := watch(t.Context(), t, socket, "1", 0)
	if diff := cmp.Diff([]string{"job_created", "job_finished", "job_retried", "task_state", "job_finished"}, types); diff != "" {
		t.Error(diff)
	}
}

// Who asks for what comes after the end of a finished job is told that it is over.
func TestEventsAfterTheEnd(t *testing.T) {
	t.Parallel()
	log := newEventLog()
	log.add(api.Event{Type: "job_created"})
	log.add(api.Event{Type: "job_finished"})
	socket, _ := serve(t, &fake{log: log}, func(o *api.Options) { o.Heartbeat = 20 * time.Millisecond })
	if seqs, _ := watch(t.Context(), t, socket, "1", 20); len(seqs) != 0 {
		t.Errorf("got %v", seqs)
	}
}

// However long the events of a finished job take to be read, its stream does not end
// before the last of them.
func TestEventsThatTakeLong(t *testing.T) {
	t.Parallel()
	log := newEventLog()
	log.gate = make(chan struct{})
	log.steps(3)
	log.add(api.Event{Type: "job_finished"})
	socket, _ := serve(t, &fake{log: log}, func(o *api.Options) { o.Heartbeat = time.Millisecond })
	resp := raw(t, socket, "GET", "/v1/jobs/1/events", "")
	beats, ids := 0, 0
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		switch {
		case sc.Text() == ": still here":
			if beats++; beats == 3 {
				close(log.gate)
			}
		case strings.HasPrefix(sc.Text(), "id: "):
			ids++
		}
	}
	if beats < 3 || ids != 4 {
		t.Errorf("%d comments and %d events", beats, ids)
	}
}

func TestEventsFormat(t *testing.T) {
	t.Parallel()
	log := newEventLog()
	log.add(api.Event{Type: "task_step", Device: "a\nb", Step: "s"})
	log.add(api.Event{Type: "progress", Done: 1})
	socket, _ := serve(t, &fake{log: log}, func(o *api.Options) { o.Heartbeat = 20 * time.Millisecond })
	resp := raw(t, socket, "GET", "/v1/events?after=5", "")
	if ct := resp.Header.Get("Content-Type"); ct != "text/event-stream" {
		t.Errorf("content type %q", ct)
	}
	var got []string
	sc := bufio.NewScanner(resp.Body)
	for len(got) < 9 && sc.Scan() {
		got = append(got, sc.Text())
	}
	want := []string{
		": events follow", "",
		"id: 10", "event: task_step", `data: {"seq":10,"time":"2023-11-14T22:13:20Z","type":"task_step","job":"1","device":"a\nb","step":"s"}`, "",
		"event: progress", `data: {"seq":0,"time":"2023-11-14T22:13:21Z","type":"progress","job":"1","done":1}`, "",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !sc.Scan() || !strings.HasPrefix(sc.Text(), ":") {
		t.Errorf("a silent stream sent %q, want a comment", sc.Text())
	}
}

func TestEventsOfAJobThatIsNotThere(t *testing.T) {
	t.Parallel()
	socket, _ := serve(t, &fake{err: fault.New(fault.NotFound, "no job 99")})
	for _, err := range dial(t, socket).Events(t.Context(), "99", 0) {
		if !fault.Is(err, fault.NotFound) {
			t.Errorf("got %v", err)
		}
		return
	}
	t.Error("ended without an error")
}

// A stream that is cut anywhere, again and again, is taken up where it broke:
// nothing is missing and nothing is there twice.
func TestEventsSurviveCuts(t *testing.T) {
	t.Parallel()
	log := newEventLog()
	log.steps(200)
	log.add(api.Event{Type: "job_finished"})
	socket, _ := serve(t, &fake{log: log}, func(o *api.Options) { o.Heartbeat = 50 * time.Millisecond })
	proxy, cuts := cutting(t, socket, 1801)
	got, _ := watch(t.Context(), t, proxy, "1", 0)
	var want []uint64
	for i := range 201 {
		want = append(want, uint64(10*(i+1)))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// What is cut off is at most what was not wanted any more; the rest was more than
	// five connections were let carry.
	if n := cuts.Load(); n < 5 {
		t.Errorf("only %d connections were cut", n)
	}
}

func TestEventsEndWithTheContext(t *testing.T) {
	t.Parallel()
	log := newEventLog()
	log.steps(1)
	socket, _ := serve(t, &fake{log: log})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var canceled time.Time
	for _, err := range dial(t, socket).Events(ctx, "1", 0) {
		if err == nil {
			canceled = time.Now()
			cancel()
			continue
		}
		if !fault.Is(err, fault.Canceled) {
			t.Errorf("got %v", err)
		}
		if d := time.Since(canceled); d > 5*time.Second {
			t.Errorf("ended %v after its context", d)
		}
	}
	if canceled.IsZero() {
		t.Error("no event")
	}
}

// cutting is a proxy that cuts each connection after limit bytes of the answer, and
// counts those that it has cut before they are.
func cutting(t *testing.T, socket string, limit int64) (proxy string, cuts *atomic.Int64) {
	t.Helper()
	proxy, cuts = filepath.Join(filepath.Dir(socket), "p"), new(atomic.Int64)
	ln, err := net.Listen("unix", proxy)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			down, err := ln.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			up, err := net.Dial("unix", socket)
			if err != nil {
				t.Error(err)
				return
			}
			wg.Go(func() { _, _ = io.Copy(up, down); _ = up.Close() })
			wg.Go(func() {
				if _, err := io.CopyN(down, up, limit); err == nil {
					cuts.Add(1)
				}
				_ = down.Close()
				_ = up.Close()
			})
		}
	})
	return proxy, cuts
}
