package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"capfleet/internal/api"
	"capfleet/internal/api/client"
	"capfleet/internal/device/drivertest"
	"capfleet/internal/sim"
)

// How TestRolloutChaos is told to do more; see `make chaos`.
const (
	rolloutKills   = "FLEETD_CHAOS_ROLLOUT_KILLS"
	rolloutDevices = "FLEETD_CHAOS_ROLLOUT_DEVICES"
)

// TestRolloutChaos kills the real fleetd at random moments of rollouts and then
// counts in the simulator's own journal what truly happened: no device was
// installed or reloaded twice for one request, none was lost, and none was left in
// maintenance mode without a task that names it.
func TestRolloutChaos(t *testing.T) {
	kills, probes := number(t, rolloutKills, 20), number(t, rolloutDevices, 40)
	f := fleet(t, sim.Options{Devices: 3 * probes, Faults: []string{
		"*-probe-*:packages=versioned", "*-probe-*:boot_time=300ms", "*-probe-*:install_time=300ms"}})
	c := &rolloutChaos{fleet: f, chaos: chaos{t: t, dir: place(t), inventory: f.Inventory(), told: make(chan struct{}, 100), seen: map[uint64]api.Event{}}}
	c.env = []string{"FLEETD_OVERRIDES=" + quickProbes(t), "FLEETD_LIMIT=64", "FLEETD_LIMIT_PER_SITE=64"}
	for _, d := range f.Devices() {
		if d.Platform == "endace_osm" && len(c.names) < probes {
			c.names = append(c.names, d.Name)
		}
	}
	if len(c.names) < probes {
		t.Fatalf("the fleet has %d probes", len(c.names))
	}
	var err error
	if c.client, err = client.New(filepath.Join(c.dir, "s")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.client.Close)
	c.process = c.launch("")
	if !c.process.ready() {
		t.Fatalf("fleetd did not start:\n%s", c.process.said())
	}
	for c.kills = kills; c.kills > 0; {
		c.round++
		c.rollout()
	}
	c.count()
	t.Logf("%d kills in %d rollouts over %d devices: %d installs, %d reloads; %d times a person had to look; first sign of work within %v of a start",
		kills, c.round, probes, c.round*probes, c.round*probes, c.looked, c.longest.Round(time.Millisecond))
	_ = c.process.cmd.Process.Signal(os.Interrupt)
	if code := c.process.wait(); code != 0 {
		t.Errorf("ended with %d:\n%s", code, c.process.said())
	}
}

func number(t *testing.T, env string, otherwise int) int {
	t.Helper()
	v := os.Getenv(env)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// quickProbes is a folder with the built-in definition of probes and short times. A
// command that may have been sent and was not is waited for that long, so they are
// still long for a simulator on a busy machine. set gives names and times that are
// to be otherwise.
func quickProbes(t *testing.T, set ...string) string {
	t.Helper()
	quick := map[string]string{"typical": "1s", "worst": "120s", "install.worst": "15s", "reconnect": "120s", "poll": "100ms", "down": "15s",
		"settle": "60s", "stable": "200ms", "apart": "200ms"}
	for i := 0; i+1 < len(set); i += 2 {
		quick[set[i]] = set[i+1]
	}
	return drivertest.Hurry(t, "../../internal/device/endace/platform.yaml", quick)
}

type rolloutChaos struct {
	chaos
	fleet   *sim.Fleet
	names   []string
	process *life
	round   int
	kills   int // that are left
	looked  int
	// heard is when something happened first since it was set to 0, in Unix
	// nanoseconds; longest is how long that took at most after a start.
	heard   atomic.Int64
	longest time.Duration
}

// rollout takes a hotfix of its own over all devices, through kills, and has a
// person look where one is asked for.
func (c *rolloutChaos) rollout() {
	t, ctx := c.t, c.t.Context()
	content := bytes.Repeat([]byte(fmt.Sprintf("hotfix %d ", c.round)), 4000)
	name := fmt.Sprintf("OSm6.4.x-CumulativeHotfix-v%d.end", c.round)
	var file api.Artifact
	if err := c.until(ctx, func() (err error) {
		file, err = c.client.AddArtifact(ctx, name, "", bytes.NewReader(content), int64(len(content)))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var job api.Job
	if err := c.until(ctx, func() (err error) {
		job, err = c.client.Submit(ctx, api.JobRequest{Operation: "hotfix", Selection: api.Selection{Names: c.names}, RequestID: name,
			Spec:    json.RawMessage(fmt.Sprintf(`{"action":"apply","file":%q}`, file.SHA256)),
			Rollout: &api.Rollout{Wave: "30%", MaxFailures: "100%"}})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for tries := 0; ; tries++ {
		c.through(job.ID)
		if err := c.until(ctx, func() (err error) { job, err = c.client.Job(ctx, job.ID); return err }); err != nil {
			t.Fatal(err)
		}
		if job.State == "succeeded" {
			return
		}
		if tries == 20 {
			t.Fatalf("the rollout does not end: %s %v", job.State, job.Counts)
		}
		c.judge(job.ID)
		if err := c.until(ctx, func() error { _, err := c.client.Retry(ctx, job.ID); return err }); err != nil {
			t.Fatal(err)
		}
	}
}

// through kills fleetd while a job runs, as long as there are kills left, and
// returns when the job has ended.
func (c *rolloutChaos) through(job string) {
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		last := uint64(0)
		_ = c.until(ctx, func() error {
			for ev, err := range c.client.Events(ctx, job, last) {
				if err != nil {
					return err
				}
				last = max(last, ev.Seq)
				c.heard.CompareAndSwap(0, time.Now().UnixNano())
			}
			return nil
		})
	}()
	defer func() { cancel(); <-ended }()
	for c.kills > 0 {
		// Some processes are killed before they serve.
		served := time.Time{}
		if rand.IntN(8) > 0 {
			if !c.process.ready() {
				c.t.Fatalf("fleetd does not start again:\n%s", c.process.said())
			}
			served = time.Now()
			c.heard.Store(0)
		}
		timer := time.NewTimer(time.Duration(rand.IntN(2500)) * time.Millisecond)
		select {
		case <-timer.C:
		case <-ended:
			timer.Stop()
			return
		}
		if at := c.heard.Load(); at != 0 && !served.IsZero() {
			c.longest = max(c.longest, time.Unix(0, at).Sub(served))
		}
		// Now and then it is asked to stop instead, which costs the same.
		sig, want := syscall.SIGKILL, -1
		if !served.IsZero() && rand.IntN(4) == 0 {
			sig, want = syscall.SIGTERM, 0
		}
		_ = c.process.cmd.Process.Signal(sig)
		if code := c.process.wait(); code != want {
			c.t.Fatalf("fleetd ended with %d after %v:\n%s", code, sig, c.process.said())
		}
		c.kills--
		c.process = c.launch("")
	}
	<-ended
}

// judge looks at a job that has ended and is not done: only what may have been sent
// and left no trace is left to a person, and each device that is in maintenance mode
// is named.
func (c *rolloutChaos) judge(id string) {
	ctx := c.t.Context()
	var tasks []api.Task
	if err := c.until(ctx, func() (err error) { tasks, err = c.client.Tasks(ctx, id); return err }); err != nil {
		c.t.Fatal(err)
	}
	if len(tasks) != len(c.names) {
		c.t.Errorf("%d tasks for %d devices", len(tasks), len(c.names))
	}
	inMaintenance := c.inMaintenance()
	for _, task := range tasks {
		switch task.State {
		case "succeeded", "unchanged", "skipped":
			if slices.Contains(inMaintenance, task.Device) {
				c.t.Errorf("%s is %s and in maintenance mode", task.Device, task.State)
			}
		case "attention":
			c.looked++
			if !strings.Contains(task.Reason, "may have been done") || !strings.Contains(task.Reason, "maintenance mode") {
				c.t.Errorf("%s needs attention: %s", task.Device, task.Reason)
			}
		default:
			c.t.Errorf("%s is %s: %s", task.Device, task.State, task.Reason)
		}
	}
}

// inMaintenance lists the devices that are in maintenance mode, by the simulator's
// journal.
func (c *rolloutChaos) inMaintenance() (names []string) {
	c.t.Helper()
	in := map[string]bool{}
	for _, e := range c.journal() {
		switch e.Event {
		case "maintenance_on":
			in[e.Device] = true
		case "maintenance_off":
			delete(in, e.Device)
		}
	}
	for name := range in {
		names = append(names, name)
	}
	return names
}

func (c *rolloutChaos) journal() []sim.JournalEntry {
	c.t.Helper()
	entries, err := sim.ReadJournal(c.fleet.Dir())
	if err != nil {
		c.t.Fatal(err)
	}
	return entries
}

// count compares what truly happened with what was asked for: each device was
// installed once for each rollout and reloaded once, and is in use again.
func (c *rolloutChaos) count() {
	installs, reloads := map[string]int{}, map[string]int{}
	for _, e := range c.journal() {
		switch e.Event {
		case "install":
			installs[e.Device+" "+e.Value("package")]++
		case "reload":
			reloads[e.Device]++
		}
	}
	for _, name := range c.names {
		for round := 1; round <= c.round; round++ {
			if n := installs[fmt.Sprintf("%s OSm6.4.x-CumulativeHotfix-v%d", name, round)]; n != 1 {
				c.t.Errorf("%s: %d installs of v%d", name, n, round)
			}
		}
		if reloads[name] != c.round {
			c.t.Errorf("%s: %d reloads in %d rollouts", name, reloads[name], c.round)
		}
	}
	if in := c.inMaintenance(); len(in) > 0 {
		c.t.Errorf("in maintenance mode at the end: %v", in)
	}
}
