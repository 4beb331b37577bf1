package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"capfleet/internal/api"
	"capfleet/internal/sim"
)

// hotfixJob asks for a hotfix on devices.
func (p *process) hotfixJob(version int, rollout *api.Rollout, names ...string) api.Job {
	p.t.Helper()
	content := bytes.Repeat([]byte(fmt.Sprintf("hotfix %d ", version)), 4000)
	file, err := p.client.AddArtifact(p.t.Context(), fmt.Sprintf("OSm6.4.x-CumulativeHotfix-v%d.end", version), "", bytes.NewReader(content), int64(len(content)))
	if err != nil {
		p.t.Fatal(err)
	}
	job, err := p.client.Submit(p.t.Context(), api.JobRequest{Operation: "hotfix", Selection: api.Selection{Names: names},
		Spec: json.RawMessage(fmt.Sprintf(`{"action":"apply","file":%q}`, file.SHA256)), Rollout: rollout})
	if err != nil {
		p.t.Fatal(err)
	}
	return job
}

// states gives the tasks of a job that has ended, by device.
func (p *process) states(id string) map[string]api.Task {
	p.t.Helper()
	for _, err := range p.client.Events(p.t.Context(), id, 0) {
		if err != nil {
			p.t.Fatal(err)
		}
	}
	tasks, err := p.client.Tasks(p.t.Context(), id)
	if err != nil {
		p.t.Fatal(err)
	}
	out := map[string]api.Task{}
	for _, task := range tasks {
		out[task.Device] = task
	}
	return out
}

// happened counts a device's events in the simulator's journal.
func happened(t *testing.T, f *sim.Fleet, device string) map[string]int {
	t.Helper()
	entries, err := sim.ReadJournal(f.Dir())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for _, e := range entries {
		if e.Device == device {
			out[e.Event]++
		}
	}
	return out
}

// A rollout that is canceled in the middle of an installation brings that device
// back into use, and touches no other.
func TestCancelInMaintenance(t *testing.T) {
	t.Parallel()
	f := fleet(t, sim.Options{Devices: 8, Faults: []string{"*-probe-*:boot_time=300ms", "*-probe-*:install_time=2s"}})
	p := start(t, place(t), f.Inventory(), "--overrides", quickProbes(t))
	job := p.hotfixJob(1, &api.Rollout{}, "lon-probe-01", "lon-probe-02", "lon-probe-03")
	first := ""
	for ev, err := range p.client.Events(t.Context(), job.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Type == "task_step" && ev.Step == "install" {
			first = ev.Device
			break
		}
	}
	if _, err := p.client.Cancel(t.Context(), job.ID); err != nil {
		t.Fatal(err)
	}
	for name, task := range p.states(job.ID) {
		got := happened(t, f, name)
		if name != first {
			if task.State != "canceled" || got["maintenance_on"]+got["install"]+got["reload"] > 0 {
				t.Errorf("%s is %s: %s; events %v", name, task.State, task.Reason, got)
			}
			continue
		}
		if !slices.Contains([]string{"succeeded", "canceled"}, task.State) || got["install"] != 1 || got["reload"] != 1 || got["maintenance_off"] != 1 {
			t.Errorf("%s is %s: %s; events %v", name, task.State, task.Reason, got)
		}
	}
}

// One canary that comes back without capture stops the rollout: it is named with
// what was seen, and nothing else is touched.
func TestCanaryWithoutCapture(t *testing.T) {
	t.Parallel()
	f := fleet(t, sim.Options{Devices: 8, Faults: []string{"*-probe-*:boot_time=100ms", "*-probe-*:install_time=100ms", "*-probe-*:back_without_capture"}})
	p := start(t, place(t), f.Inventory(), "--overrides", quickProbes(t, "settle", "1s"))
	job := p.hotfixJob(1, &api.Rollout{}, "lon-probe-01", "lon-probe-02", "lon-probe-03")
	attention := 0
	for name, task := range p.states(job.ID) {
		switch got := happened(t, f, name); task.State {
		case "attention":
			attention++
			if !strings.Contains(task.Reason, "capturing disproven") {
				t.Errorf("%s: %s", name, task.Reason)
			}
		case "skipped":
			if got["maintenance_on"]+got["install"]+got["reload"] > 0 {
				t.Errorf("%s was skipped: events %v", name, got)
			}
		default:
			t.Errorf("%s is %s: %s", name, task.State, task.Reason)
		}
	}
	if attention != 1 {
		t.Errorf("%d devices need attention", attention)
	}
}
