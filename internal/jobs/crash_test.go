package jobs_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"capfleet/internal/childtest"
	"capfleet/internal/jobs"
	"capfleet/internal/jobs/runnertest"
	"capfleet/internal/ledger"
)

// fileWorld is the devices: a file with one line for each act that was done. It
// outlives the processes that act.
type fileWorld struct{ path string }

func (w fileWorld) Done(unit string) (bool, error) {
	data, err := os.ReadFile(w.path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return bytes.Contains(data, []byte(unit+"\n")), err
}

func (w fileWorld) Do(unit string) error {
	f, err := os.OpenFile(w.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(unit + "\n")
	return errors.Join(err, f.Close())
}

func openDir(dir string) (*ledger.DB, jobs.Options, error) {
	db, err := ledger.Open(filepath.Join(dir, "ledger.db"), ledger.Options{Namespaces: jobs.Namespaces()})
	return db, jobs.Options{Ledger: db, Runner: &runnertest.Fake{World: fileWorld{filepath.Join(dir, "world")}},
		Limits: jobs.Limits{Global: 8}}, err
}

// told is what a client of the child was told.
type told struct {
	Submitted *jobs.Job   `json:",omitempty"`
	Event     *jobs.Event `json:",omitempty"`
}

// runUntilKilled submits jobs one after the other, runs them, and tells on
// standard output what its clients are told.
func runUntilKilled(dir string) error {
	db, opts, err := openDir(dir)
	if err != nil {
		return err
	}
	ctx := context.Background()
	engine, err := jobs.Open(ctx, opts)
	if err != nil {
		return err
	}
	var out sync.Mutex
	tell := func(what told) error {
		out.Lock()
		defer out.Unlock()
		return json.NewEncoder(os.Stdout).Encode(what)
	}
	failed := make(chan error, 3)
	go func() { failed <- engine.Run(ctx) }()
	go func() {
		for ev, err := range engine.Watch(ctx, jobs.WatchOptions{}) {
			if err := errors.Join(err, tell(told{Event: &ev})); err != nil {
				failed <- err
				return
			}
		}
	}()
	go func() {
		for i := 0; ; i++ {
			spec, access := runnertest.Spec{Behaviour: runnertest.Succeeds, Rows: 2}, "read"
			if i%2 == 1 {
				spec, access = runnertest.Spec{Behaviour: runnertest.ActsOnce}, "change"
			}
			req := request(access, spec.JSON(), names(5)...)
			for k := range req.Targets {
				req.Targets[k].Unit = fmt.Sprintf("%s of %d/%d", req.Targets[k].Device, os.Getpid(), i)
			}
			job, err := engine.Submit(ctx, req)
			if err := errors.Join(err, tell(told{Submitted: &job})); err != nil {
				failed <- err
				return
			}
			for ev, err := range engine.Watch(ctx, jobs.WatchOptions{Job: job.ID}) { // one or two jobs at a time
				if err != nil || ev.Type == jobs.EventTaskState && ev.State == jobs.Succeeded {
					break
				}
			}
		}
	}()
	return errors.Join(<-failed, db.Close())
}

// fewKills is how often TestKill kills when nobody asks for more.
const fewKills = 5

// TestKill kills a process that runs jobs at random moments. What it told is
// true, every job that it took ends, each device has its rows once, and what must
// not be done twice was done once.
//
// CAPFLEET_ENGINE_KILLS says how often; few kills are enough to see that something
// is broken, many to believe that nothing is.
func TestKill(t *testing.T) {
	kills := fewKills
	if v := os.Getenv("CAPFLEET_ENGINE_KILLS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		kills = n
	}
	dir := tempDir(t)
	submitted := make(map[string]jobs.Job)
	events := make(map[uint64]jobs.Event)
	for range kills {
		child := childtest.Command(t, "kill", dir)
		var stderr bytes.Buffer
		child.Stderr = &stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		before := len(events)
		killAfter := 1 + rand.IntN(150) // events that are new
		killed := false
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				break // half a line tells nothing
			}
			var what told
			if err := json.Unmarshal(line, &what); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if what.Submitted != nil {
				submitted[what.Submitted.ID] = *what.Submitted
			}
			if ev := what.Event; ev != nil {
				if have, ok := events[ev.Seq]; ok && have != *ev {
					t.Fatalf("event %d was %+v and is now %+v", ev.Seq, have, *ev)
				}
				events[ev.Seq] = *ev
			}
			if len(events)-before >= killAfter && !killed {
				killed = true
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := child.Wait(); !killed {
			t.Fatalf("the child ended by itself: %v\n%s", err, &stderr)
		}
	}

	db, opts, err := openDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	h := &harness{t: t, db: db, opts: opts}
	h.reopen()
	h.start()
	defer h.stop()
	for id, job := range submitted {
		got, state := h.finish(id)
		if state != jobs.Succeeded || got.Operation != job.Operation || got.Devices != 5 {
			t.Errorf("job %s was accepted and is %s: %+v", id, state, got)
		}
	}

	all, _, err := h.List(t.Context(), jobs.ListOptions{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	acts, err := os.ReadFile(filepath.Join(dir, "world"))
	if err != nil {
		t.Fatal(err)
	}
	interrupted := 0
	for _, job := range all {
		h.finish(job.ID)
		if n := count(h.events(job.ID), jobs.EventJobFinished); n != 1 {
			t.Errorf("job %s finished %d times", job.ID, n)
		}
		rows := h.rows(job.ID)
		tasks, err := h.Tasks(t.Context(), job.ID)
		if err != nil {
			t.Fatal(err)
		}
		want := 2
		if job.Access == "change" {
			want = 1
		}
		for _, task := range tasks {
			if task.Attempt > 1 {
				interrupted++
			}
			if rows[task.Device] != want || task.Rows != want {
				t.Errorf("job %s, %s: %d rows, want %d", job.ID, task.Device, rows[task.Device], want)
			}
			if n := strings.Count(string(acts), task.Unit+"\n"); job.Access == "change" && n != 1 {
				t.Errorf("job %s, %s: the once-only act was done %d times", job.ID, task.Device, n)
			}
		}
	}
	stored := h.events("")
	for i, ev := range stored {
		if ev.Seq != uint64(i+1) {
			t.Fatalf("event %d comes after %d", ev.Seq, i)
		}
		if said, ok := events[ev.Seq]; ok && said != ev {
			t.Errorf("event %d was told as %+v and is %+v", ev.Seq, said, ev)
		}
		delete(events, ev.Seq)
	}
	if len(events) > 0 {
		t.Errorf("%d events were told and are lost", len(events))
	}
	if interrupted == 0 && kills > fewKills { // a few may all come between two tasks
		t.Error("no task was interrupted: the kills come at the wrong moments")
	}
	t.Logf("%d jobs, %d events, %d tasks interrupted", len(all), len(stored), interrupted)
}
