package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"capfleet/internal/api"
	"capfleet/internal/api/client"
	"capfleet/internal/artifact"
	"capfleet/internal/jobs"
	"capfleet/internal/jobs/runnertest"
	"capfleet/internal/ledger"
)

// The large fleet, and the past that its fleetd has behind it.
const (
	largeDevices = 20_000
	largeJobs    = 50 // over all of them: a million finished tasks

	largeMemory  = 500 << 20
	largeAnswer  = 100 * time.Millisecond
	largeSubmit  = 2 * time.Second
	largeRestart = 2 * time.Second
)

// benchLarge measures fleetd with 20,000 devices, none of which answers, and a
// million finished tasks: how soon it serves again after a kill, how much memory it
// takes while a job goes over all devices, and how long readers wait meanwhile. There
// is no peer; the ratio is to the goal.
func benchLarge(ctx context.Context, o options, log io.Writer) ([]result, error) {
	parent := ""
	if _, err := os.Stat("/dev/shm"); err == nil {
		parent = "/dev/shm" // it is about fleetd, not about a disk
	}
	dir, err := os.MkdirTemp(parent, "fleet-large-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := largeInventory(filepath.Join(dir, "inventory.yaml")); err != nil {
		return nil, err
	}
	state := filepath.Join(dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		return nil, err
	}
	began := time.Now()
	if err := largePast(ctx, filepath.Join(state, "ledger.db"), log); err != nil {
		return nil, fmt.Errorf("make the past: %w", err)
	}
	fmt.Fprintf(log, "   %d finished tasks made in %v\n", largeJobs*largeDevices, time.Since(began).Round(time.Second))

	first, _, err := startLarge(ctx, o, dir)
	if err != nil {
		return nil, err
	}
	// A job is on its way when fleetd is killed.
	if _, err := largeSubmission(ctx, first); err != nil {
		return nil, err
	}
	if err := first.kill(); err != nil {
		return nil, err
	}
	f, took, err := startLarge(ctx, o, dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.kill() }()
	var slowest, submission time.Duration
	watched, stop := context.WithCancel(ctx)
	peaks := make(chan int64, 1)
	go func() { peaks <- f.peak(watched) }()
	if submission, err = largeSubmission(ctx, f); err == nil {
		slowest, err = largeReaders(ctx, f, log)
	}
	stop()
	peak := <-peaks
	if err != nil {
		return nil, err
	}
	toGoal := func(name string, ours, goal float64, unit string, digits int) result {
		return result{name: name, ours: strconv.FormatFloat(ours, 'f', digits, 64) + " " + unit, peer: "none", ratio: ours / goal, spread: "one run",
			goal: fmt.Sprintf("at most %g %s", goal, unit), ok: ours <= goal}
	}
	return []result{
		toGoal("restart after a kill with 1,000,000 finished tasks", took.Seconds(), largeRestart.Seconds(), "s", 2),
		toGoal("a job for 20,000 devices submitted and planned", submission.Seconds(), largeSubmit.Seconds(), "s", 2),
		toGoal("fleetd's own memory with 20,000 devices", float64(peak>>20), float64(largeMemory>>20), "MiB", 0),
		toGoal("slowest list (all devices too), show or watch while it works on them", slowest.Seconds()*1000, largeAnswer.Seconds()*1000, "ms", 1),
	}, nil
}

// largeInventory has devices at an address at which nobody listens.
func largeInventory(path string) error {
	var b bytes.Buffer
	b.WriteString("version: 1\ncredentials:\n  default: {username: fleet, password: {env: FLEET_PASSWORD}}\nsites:\n")
	for i := range 200 {
		fmt.Fprintf(&b, "  site-%03d: {timezone: Europe/London}\n", i)
	}
	b.WriteString("groups:\n  hosts: {platform: linux, credentials: default, labels: {role: capture}}\ndevices:\n")
	for i := range largeDevices {
		fmt.Fprintf(&b, "  - {name: host-%05d, address: \"127.0.0.1:1\", site: site-%03d, groups: [hosts], covers: [link-%05d]}\n", i, i%200, i/2)
	}
	return os.WriteFile(path, b.Bytes(), 0o600)
}

// largePast fills a ledger with finished jobs.
func largePast(ctx context.Context, path string, log io.Writer) (err error) {
	db, err := ledger.Open(path, ledger.Options{Namespaces: append(jobs.Namespaces(), artifact.Namespaces()...)})
	if err != nil {
		return err
	}
	defer func() {
		if cerr := db.Close(); err == nil {
			err = cerr
		}
	}()
	engine, err := jobs.Open(ctx, jobs.Options{Ledger: db, Runner: &runnertest.Fake{}, Limits: jobs.Limits{Global: 256}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- engine.Run(ctx) }()
	defer func() {
		cancel()
		if rerr := <-ran; err == nil {
			err = rerr
		}
	}()
	req := jobs.Request{Operation: "report", Access: "read", Spec: runnertest.Spec{Behaviour: runnertest.Succeeds}.JSON()}
	snapshot := json.RawMessage(`{"padding":"` + strings.Repeat("x", 400) + `"}`)
	for i := range largeDevices {
		req.Targets = append(req.Targets, jobs.Target{Device: fmt.Sprintf("host-%05d", i), Site: fmt.Sprintf("site-%03d", i%200), Snapshot: snapshot})
	}
	for i := range largeJobs {
		job, err := engine.Submit(ctx, req)
		if err != nil {
			return err
		}
		for ev, err := range engine.Watch(ctx, jobs.WatchOptions{Job: job.ID, After: job.FirstEvent}) {
			if err != nil {
				return err
			}
			if ev.Type == jobs.EventJobFinished {
				break
			}
		}
		if (i+1)%10 == 0 {
			fmt.Fprintf(log, "   %d of %d jobs\n", i+1, largeJobs)
		}
	}
	return nil
}

// largeFleetd is a fleetd in a process of its own.
type largeFleetd struct {
	*exec.Cmd
	client *client.Client
}

func (f *largeFleetd) kill() error {
	f.client.Close()
	if err := f.Process.Kill(); err != nil {
		return err
	}
	_ = f.Wait() // it was killed
	return nil
}

// peak is the most memory of its own that it has until ctx ends. Pages of the ledger's
// file are not: the system takes them back when it needs them.
func (f *largeFleetd) peak(ctx context.Context) (most int64) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", f.Process.Pid))
		if err == nil {
			for line := range strings.Lines(string(raw)) {
				if kb, ok := strings.CutPrefix(line, "RssAnon:"); ok {
					n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(kb), " kB"), 10, 64)
					most = max(most, n<<10)
				}
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return most
		}
	}
}

// startLarge starts a fleetd and waits until it serves.
func startLarge(ctx context.Context, o options, dir string) (*largeFleetd, time.Duration, error) {
	socket := filepath.Join(dir, "s")
	cmd := exec.CommandContext(ctx, filepath.Join(o.bin, "fleetd"), "--state", filepath.Join(dir, "state"),
		"--inventory", filepath.Join(dir, "inventory.yaml"), "--socket", socket)
	cmd.Env = append(os.Environ(), "FLEET_PASSWORD=x")
	cmd.Stderr = io.Discard
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, 0, err
	}
	for {
		c, err := client.New(socket)
		if err == nil {
			if _, err = c.Version(ctx); err == nil {
				return &largeFleetd{cmd, c}, time.Since(began), nil
			}
			c.Close()
		}
		if time.Since(began) > time.Minute || ctx.Err() != nil {
			return nil, 0, fmt.Errorf("fleetd does not serve after %v: %w", time.Since(began), err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// largeSubmission has all devices tried, and gives the time until the job was there.
func largeSubmission(ctx context.Context, f *largeFleetd) (time.Duration, error) {
	began := time.Now()
	_, err := f.client.Submit(ctx, api.JobRequest{Operation: "check", Selection: api.Selection{All: true}})
	return time.Since(began), err
}

// largeReaders gives the slowest of the answers that fleetd gives while it works.
func largeReaders(ctx context.Context, f *largeFleetd, log io.Writer) (slowest time.Duration, err error) {
	jobs, err := f.client.Jobs(ctx, api.JobQuery{Active: true})
	if err != nil || len(jobs.Rows) == 0 {
		return 0, fmt.Errorf("no job is at work: %w", err)
	}
	job := jobs.Rows[0].ID
	for range 5 {
		for name, read := range map[string]func() error{
			"job list": func() error { _, err := f.client.Jobs(ctx, api.JobQuery{Limit: 50}); return err },
			"job show": func() error { _, err := f.client.Job(ctx, job); return err },
			"first event of job watch": func() error {
				for _, err := range f.client.Events(ctx, job, 0) {
					return err
				}
				return nil
			},
			"all 20,000 devices": func() error { return f.fetch(ctx, "/v1/devices") },
		} {
			began := time.Now()
			if err := read(); err != nil {
				return 0, fmt.Errorf("%s: %w", name, err)
			}
			took := time.Since(began)
			fmt.Fprintf(log, "   %s: %v\n", name, took.Round(100*time.Microsecond))
			slowest = max(slowest, took)
		}
	}
	// The tasks of one job are as many, change all the time, and have no goal of their own.
	began := time.Now()
	err = f.fetch(ctx, "/v1/jobs/"+job+"/tasks")
	fmt.Fprintf(log, "   all 20,000 tasks: %v (not counted)\n", time.Since(began).Round(time.Millisecond))
	return slowest, err
}

// fetch reads an answer to its end and leaves it as it is: how long a client takes to
// understand ten megabytes is not fleetd's time.
func (f *largeFleetd) fetch(ctx context.Context, path string) error {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", f.client.Server())
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://fleetd"+path, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
