package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capfleet/internal/api"
	"capfleet/internal/api/client"
	"capfleet/internal/device/drivertest"
	"capfleet/internal/sim"
)

// pairKills is how often TestPairChaos kills fleetd; see `make chaos`.
const pairKills = "FLEETD_CHAOS_PAIR_KILLS"

// TestPairChaos kills the real fleetd at random moments while pairs of BIG-IPs are
// upgraded and rolled back, and then counts in the simulator's own journal what
// truly happened: nothing was installed twice, no member was rebooted twice for one
// request, and never while it or its peer had to carry the traffic alone.
func TestPairChaos(t *testing.T) {
	kills := number(t, pairKills, 8)
	f := fleet(t, sim.Options{Devices: 24, Faults: []string{
		"*-ltm-*:boot_time=300ms", "*-ltm-*:install_time=300ms", "*-ltm-*:settle_time=100ms", "*-ltm-*:image_time=50ms"}})
	c := &pairChaos{rolloutChaos{fleet: f, chaos: chaos{t: t, dir: place(t), inventory: f.Inventory(), told: make(chan struct{}, 100), seen: map[uint64]api.Event{}}}}
	c.env = []string{"FLEETD_OVERRIDES=" + quickPairs(t)}
	for _, d := range f.Devices() {
		if d.HAPeer != "" {
			c.names = append(c.names, d.Name)
		}
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
	image := c.add("BIGIP-29.1.0-0.0.7.iso")
	for c.kills = kills; c.kills > 0; {
		c.change(fmt.Sprintf(`{"action":"apply","file":%q,"accept_unobserved":["licence"]}`, image))
		c.change(`{"action":"rollback"}`)
	}
	c.count()
	t.Logf("%d kills in %d changes of %d pairs; %d times a person had to look", kills, c.round, len(c.names)/2, c.looked)
	_ = c.process.cmd.Process.Signal(os.Interrupt)
	if code := c.process.wait(); code != 0 {
		t.Errorf("ended with %d:\n%s", code, c.process.said())
	}
}

type pairChaos struct{ rolloutChaos }

// quickPairs is a folder with the built-in definition of BIG-IPs and short times.
func quickPairs(t *testing.T) string {
	t.Helper()
	return drivertest.Hurry(t, "../../internal/device/bigip/platform.yaml", map[string]string{"typical": "1s", "worst": "60s", "reconnect": "60s",
		"poll": "100ms", "listed": "60s", "shows": "10s", "down": "10s", "settle": "60s", "stable": "200ms"})
}

func (c *pairChaos) add(name string) string {
	c.t.Helper()
	content := bytes.Repeat([]byte(name), 4000)
	var file api.Artifact
	if err := c.until(c.t.Context(), func() (err error) {
		file, err = c.client.AddArtifact(c.t.Context(), name, "", bytes.NewReader(content), int64(len(content)))
		return err
	}); err != nil {
		c.t.Fatal(err)
	}
	return file.SHA256
}

// change takes all pairs through one change at once, through kills, and has a person
// look where one is asked for.
func (c *pairChaos) change(spec string) {
	t, ctx := c.t, c.t.Context()
	c.round++
	var job api.Job
	if err := c.until(ctx, func() (err error) {
		none := 0
		job, err = c.client.Submit(ctx, api.JobRequest{Operation: "hotfix", Selection: api.Selection{Names: c.names}, RequestID: fmt.Sprint("change ", c.round),
			Spec: json.RawMessage(spec), Rollout: &api.Rollout{Canary: &none, Wave: "100%", MaxFailures: "100%"}})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for tries := 0; ; tries++ {
		c.through(job.ID)
		var tasks []api.Task
		if err := c.until(ctx, func() (err error) {
			if job, err = c.client.Job(ctx, job.ID); err == nil {
				tasks, err = c.client.Tasks(ctx, job.ID)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if job.State == "succeeded" {
			return
		}
		if tries == 20 || t.Failed() {
			t.Fatalf("the change does not end: %s %v", job.State, job.Counts)
		}
		for _, task := range tasks {
			switch {
			case task.State == "succeeded":
			case task.State == "attention" && strings.Contains(task.Reason, "may have been done"):
				c.looked++
			default:
				t.Errorf("%s is %s: %s", task.Device, task.State, task.Reason)
			}
		}
		if err := c.until(ctx, func() error { _, err := c.client.Retry(ctx, job.ID); return err }); err != nil {
			t.Fatal(err)
		}
	}
}

// count compares what truly happened with what was asked for. The first apply
// installs; those that follow find the image where it was.
func (c *pairChaos) count() {
	peers := map[string]string{}
	for _, d := range c.fleet.Devices() {
		peers[d.Name] = d.HAPeer
	}
	installs, reloads, away := map[string]int{}, map[string]int{}, map[string]time.Time{}
	for _, e := range c.journal() {
		switch e.Event {
		case "install":
			installs[e.Device]++
		case "reload":
			reloads[e.Device]++
			if since, out := away[peers[e.Device]]; out {
				c.t.Errorf("%s was rebooted at %s, and its peer is away since %s", e.Device, e.Time, since)
			}
			away[e.Device] = e.Time
		case "boot":
			delete(away, e.Device)
		case "failover":
			if reason := e.Value("reason"); !strings.HasPrefix(reason, "user=") {
				c.t.Errorf("%s is %s because of %q: the active member was taken away", e.Device, e.Value("role"), reason)
			}
		}
	}
	for _, name := range c.names {
		if installs[name] != 1 || reloads[name] != c.round {
			c.t.Errorf("%s: %d installs and %d reloads in %d changes", name, installs[name], reloads[name], c.round)
		}
	}
}
