package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/api"
	"capfleet/internal/api/client"
	"capfleet/internal/fault"
	"capfleet/internal/sim"
)

// How TestChaos is told to do more; see `make chaos`. Crash points need a test
// binary that was built with the tag failpoint.
const (
	chaosKills      = "FLEETD_CHAOS_KILLS"
	chaosFailpoints = "FLEETD_CHAOS_FAILPOINTS"
)

// TestChaos kills the real fleetd again and again while clients work with it that
// do not know, and then compares what they were told with what is there: no
// acknowledged change is lost, no job is made twice for one request, each device's
// rows are there once, and the stream of events had no gap and no repeat.
func TestChaos(t *testing.T) {
	kills := 20
	if v := os.Getenv(chaosKills); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		kills = n
	}
	const devices = 8
	f := fleet(t, sim.Options{Devices: devices, TurnDelay: 3 * time.Millisecond})
	c := &chaos{t: t, dir: place(t), inventory: f.Inventory(), told: make(chan struct{}, 100), seen: map[uint64]api.Event{}}
	var err error
	if c.client, err = client.New(filepath.Join(c.dir, "s")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.client.Close)

	p := c.launch("")
	if !p.ready() {
		t.Fatal("fleetd did not start")
	}
	reference := c.submit(t.Context(), "reference")
	c.await(t.Context(), reference.ID)
	want := c.rows(reference.ID)
	if len(want) < devices {
		t.Fatalf("rows of %d file systems of %d devices", len(want), devices)
	}

	var working, watching sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	for worker := range 3 {
		working.Go(func() { c.work(ctx, worker) })
	}
	watchCtx, stopWatching := context.WithCancel(t.Context())
	defer stopWatching()
	watching.Go(func() { c.watch(watchCtx) })

	atPoint := 0
	for kill := range kills {
		point := ""
		if os.Getenv(chaosFailpoints) != "" && kill%2 == 1 {
			point = failpoint()
		}
		// The first time the process runs already.
		if kill > 0 {
			p = c.launch(point)
		}
		if c.outlives(p, point) {
			_ = p.cmd.Process.Kill()
		} else if point != "" {
			atPoint++
		}
		if code := p.wait(); code != -1 {
			t.Fatalf("fleetd ended by itself with %d:\n%s", code, p.said())
		}
	}
	if os.Getenv(chaosFailpoints) != "" && atPoint < kills/8 {
		t.Errorf("%d of %d kills came from crash points: is the test built with the tag failpoint?", atPoint, kills)
	}

	if p = c.launch(""); !p.ready() {
		t.Fatalf("fleetd does not start again:\n%s", p.said())
	}
	stop()
	working.Wait()
	c.verify(want)
	stopWatching()
	watching.Wait()
	t.Logf("%d kills, %d of them at crash points: %d jobs, %d artifacts and %d other changes acknowledged, %d events told",
		kills, atPoint, len(c.jobs), len(c.artifacts), c.changes, len(c.seen))
	_ = p.cmd.Process.Signal(os.Interrupt)
	if code := p.wait(); code != 0 {
		t.Errorf("ended with %d:\n%s", code, p.said())
	}
	c.restoreNewest()
}

// failpoint draws a crash point: before or after one of the next commits, or while
// the backup is made that each start begins with.
func failpoint() string {
	switch rand.IntN(8) {
	case 0:
		return "backup written:1"
	case 1:
		return "backup named:1"
	case 2, 3, 4:
		return fmt.Sprintf("commit begins:%d", 1+rand.IntN(60))
	default:
		return fmt.Sprintf("commit done:%d", 1+rand.IntN(60))
	}
}

// chaos is what its clients were told.
type chaos struct {
	t         *testing.T
	dir       string
	inventory string
	env       []string // for the processes
	client    *client.Client

	told chan struct{} // gets one for each event, as long as there is room

	mu        sync.Mutex
	jobs      []acknowledged
	artifacts map[string]string // digest -> content
	changes   int               // cancels, pauses and retries
	seen      map[uint64]api.Event
	last      uint64
}

// acknowledged is a job that a client was told of.
type acknowledged struct {
	id, request string
	canceled    bool // a cancel of it was acknowledged
	asked       bool // a cancel of it was sent, and may have been done
}

// life is one process.
type life struct {
	t     *testing.T
	cmd   *exec.Cmd
	up    chan struct{} // closed when it is ready
	ended chan struct{} // closed when its log has ended
	mu    sync.Mutex
	log   strings.Builder
}

func (c *chaos) launch(point string) *life {
	c.t.Helper()
	p := &life{t: c.t, up: make(chan struct{}), ended: make(chan struct{})}
	p.cmd = command(c.t, "--inventory", c.inventory, "--state", filepath.Join(c.dir, "state"), "--socket", filepath.Join(c.dir, "s"))
	p.cmd.Env = append(p.cmd.Env, "FLEETD_BACKUP_INTERVAL=1s", "FLEETD_BACKUP_KEEP=2", "FLEETD_FAILPOINT="+point)
	p.cmd.Env = append(p.cmd.Env, c.env...)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	go func() {
		defer close(p.ended)
		up := false
		for sc := bufio.NewScanner(stderr); sc.Scan(); {
			p.mu.Lock()
			p.log.WriteString(sc.Text() + "\n")
			p.mu.Unlock()
			if !up && strings.Contains(sc.Text(), "fleetd is ready") {
				up = true
				close(p.up)
			}
		}
	}()
	return p
}

func (p *life) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// ready waits until the process serves or has ended.
func (p *life) ready() bool {
	select {
	case <-p.up:
		return true
	case <-p.ended:
		return false
	}
}

// outlives lets a process live until it is time to kill it, and reports whether it
// still does: for a while from its first instant, or from when it serves, or until
// some more has happened; with a crash point, until it has had time to come to it.
func (c *chaos) outlives(p *life, point string) bool {
	while, events := time.Duration(rand.IntN(500))*time.Millisecond, 0
	switch {
	case point != "":
		while = 4 * time.Second
	case rand.IntN(4) == 0:
	case !p.ready():
		return false
	case rand.IntN(3) > 0:
		while, events = 4*time.Second, 1+rand.IntN(150)
	}
	for len(c.told) > 0 { // of what was before
		<-c.told
	}
	timer := time.NewTimer(while)
	defer timer.Stop()
	for left := events; events == 0 || left > 0; {
		select {
		case <-c.told:
			left--
		case <-timer.C:
			return true
		case <-p.ended:
			return false
		}
	}
	return true
}

// wait gives the exit code; -1 is a signal.
func (p *life) wait() int {
	<-p.ended
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

// work is a client that goes on until ctx ends, and to the end of what it began.
func (c *chaos) work(ctx context.Context, worker int) {
	own := c.t.Context()
	for i := 0; ctx.Err() == nil; i++ {
		job := acknowledged{request: fmt.Sprintf("%d/%d", worker, i)}
		job.id = c.submit(own, job.request).ID
		switch i % 4 {
		case 1:
			job.asked = true
			job.canceled = c.change(own, func() error { _, err := c.client.Cancel(own, job.id); return err })
		case 2:
			c.change(own, func() error { _, err := c.client.Pause(own, job.id); return err })
			// A pause that was not acknowledged may have been done.
			c.change(own, func() error { _, err := c.client.Resume(own, job.id); return err })
		case 0:
			content := "content " + job.request
			var a api.Artifact
			if c.change(own, func() (err error) {
				a, err = c.client.AddArtifact(own, "file", "text/plain", strings.NewReader(content), int64(len(content)))
				return err
			}) {
				c.mu.Lock()
				if c.artifacts == nil {
					c.artifacts = map[string]string{}
				}
				c.artifacts[a.SHA256] = content
				c.mu.Unlock()
			}
		}
		c.mu.Lock()
		c.jobs = append(c.jobs, job)
		c.mu.Unlock()
		c.await(own, job.id)
	}
}

// down reports whether an error says no more than that fleetd went away.
func down(err error) bool {
	return fault.Is(err, fault.Unavailable) || fault.Is(err, fault.Disconnected) || fault.Is(err, fault.Timeout)
}

// until repeats a call until fleetd answers it.
func (c *chaos) until(ctx context.Context, call func() error) error {
	for {
		err := call()
		if err == nil || !down(err) {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *chaos) submit(ctx context.Context, request string) (job api.Job) {
	if err := c.until(ctx, func() (err error) {
		job, err = c.client.Submit(ctx, api.JobRequest{Operation: "report", Spec: json.RawMessage(`{"report":"filesystem"}`),
			Selection: api.Selection{All: true}, RequestID: request})
		return err
	}); err != nil {
		c.t.Errorf("submit %s: %v", request, err)
	}
	return job
}

// change makes a change and reports whether it was acknowledged. A job that has
// ended or is as wanted already refuses it.
func (c *chaos) change(ctx context.Context, call func() error) bool {
	err := c.until(ctx, call)
	switch {
	case err == nil:
		c.mu.Lock()
		c.changes++
		c.mu.Unlock()
		return true
	case !fault.Is(err, fault.Conflict):
		c.t.Error(err)
	}
	return false
}

// await waits for a job's end over all kills.
func (c *chaos) await(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := c.until(ctx, func() error {
		var last uint64
		for ev, err := range c.client.Events(ctx, id, 0) {
			if err != nil {
				return err
			}
			if ev.Seq != 0 && ev.Seq <= last {
				c.t.Errorf("job %s: event %d after %d", id, ev.Seq, last)
			}
			last = max(last, ev.Seq)
		}
		return nil
	}); err != nil {
		c.t.Errorf("job %s did not end: %v", id, err)
	}
}

// watch is a client that follows all events over all kills.
func (c *chaos) watch(ctx context.Context) {
	_ = c.until(ctx, func() error {
		c.mu.Lock()
		after := c.last
		c.mu.Unlock()
		for ev, err := range c.client.Events(ctx, "", after) {
			if err != nil {
				return err
			}
			if ev.Seq == 0 {
				continue
			}
			c.mu.Lock()
			if ev.Seq != c.last+1 {
				c.t.Errorf("event %d came after %d", ev.Seq, c.last)
			}
			c.seen[ev.Seq], c.last = ev, ev.Seq
			c.mu.Unlock()
			select {
			case c.told <- struct{}{}:
			default:
			}
		}
		return nil
	})
}

func (c *chaos) rows(id string) map[string]int {
	c.t.Helper()
	p := process{t: c.t, client: c.client}
	return p.rows(id)
}

// verify compares what was told with what is there.
func (c *chaos) verify(want map[string]int) {
	c.t.Helper()
	ctx := c.t.Context()
	finished := map[string]int{}
	stored := map[uint64]api.Event{}
	list := c.all()
	if len(list) != len(c.jobs)+1 {
		c.t.Errorf("%d jobs are there for %d requests", len(list), len(c.jobs)+1)
	}
	for _, id := range list {
		for ev, err := range c.client.Events(ctx, id, 0) {
			if err != nil {
				c.t.Fatal(err)
			}
			stored[ev.Seq] = ev
			if ev.Type == "job_finished" {
				finished[id]++
			}
		}
	}
	for _, told := range c.jobs {
		job, err := c.client.Job(ctx, told.id)
		if err != nil {
			c.t.Errorf("job %s was acknowledged: %v", told.id, err)
			continue
		}
		if again := c.submit(ctx, told.request); again.ID != told.id {
			c.t.Errorf("request %s was job %s and is now %s", told.request, told.id, again.ID)
		}
		if finished[told.id] != 1 {
			c.t.Errorf("job %s finished %d times", told.id, finished[told.id])
		}
		if told.canceled && job.CanceledBy == "" {
			c.t.Errorf("job %s: the cancel that was acknowledged is lost: %+v", told.id, job)
		}
		switch {
		case job.State == "succeeded":
			if diff := cmp.Diff(want, c.rows(told.id)); diff != "" {
				c.t.Errorf("job %s, rows (-without +with kills):\n%s", told.id, diff)
			}
		case job.State != "canceled" || !told.asked:
			c.t.Errorf("job %s is %s: %+v", told.id, job.State, job)
		}
	}
	for sha, content := range c.artifacts {
		r, err := c.client.Artifact(ctx, sha)
		if err != nil {
			c.t.Errorf("artifact %s was acknowledged: %v", sha, err)
			continue
		}
		got, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || string(got) != content {
			c.t.Errorf("artifact %s is %q, %v", sha, got, err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for seq, ev := range c.seen {
		if now, ok := stored[seq]; !ok || now != ev {
			c.t.Errorf("event %d was told as %+v and is %+v", seq, ev, now)
		}
	}
}

// all lists the ids of all jobs.
func (c *chaos) all() (ids []string) {
	c.t.Helper()
	query := api.JobQuery{}
	for {
		list, err := c.client.Jobs(c.t.Context(), query)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, job := range list.Rows {
			ids = append(ids, job.ID)
		}
		if list.Next == "" {
			return ids
		}
		query.Before = list.Next
	}
}

// restoreNewest checks that whatever has a backup's name can be restored.
func (c *chaos) restoreNewest() {
	c.t.Helper()
	backups, err := filepath.Glob(filepath.Join(c.dir, "state", "backups", "ledger-*.db"))
	if err != nil || len(backups) == 0 {
		c.t.Errorf("there are no backups: %v", err)
	}
	for _, b := range backups {
		if out, err := command(c.t, "--state", filepath.Join(c.dir, "restored"), "--restore", b).CombinedOutput(); err != nil {
			c.t.Errorf("%s: %v\n%s", b, err, out)
		}
	}
}
