package daemon

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

const twoSites = `version: 1
sites:
  lon: {timezone: Europe/London}
  nyc: {timezone: America/New_York}
credentials:
  default: {username: fleet, password: {env: FLEET_TEST_PASSWORD}}
groups:
  hosts: {platform: linux, credentials: default}
devices:
  - {name: lon-1, site: lon, groups: [hosts], address: 127.0.0.1:1, covers: [core-a]}
  - {name: lon-2, site: lon, groups: [hosts], address: 127.0.0.1:2, covers: [core-a]}
  - {name: lon-3, site: lon, groups: [hosts], address: 127.0.0.1:3, covers: [edge]}
  - {name: nyc-1, site: nyc, groups: [hosts], address: 127.0.0.1:4, ha_peer: nyc-2}
  - {name: nyc-2, site: nyc, groups: [hosts], address: 127.0.0.1:5, ha_peer: nyc-1}
`

func unsafely(r *api.Rollout, names ...string) api.JobRequest {
	return api.JobRequest{Operation: "command", Spec: json.RawMessage(`{"command":"true","unsafe":true}`),
		Selection: api.Selection{Names: names}, Rollout: r}
}

// TestPlanOfRollout: a plan says how it would go with the inventory's sites, pairs and
// links, and starts nothing.
func TestPlanOfRollout(t *testing.T) {
	t.Parallel()
	dir := place(t)
	write(t, filepath.Join(dir, "i.yaml"), twoSites)
	opts := options(t, dir, filepath.Join(dir, "i.yaml"))
	opts.Now = func() time.Time { return time.Date(2026, 6, 10, 0, 0, 0, 0, time.UTC) }
	c, _ := run(t, opts)

	canary := 0
	p, err := c.Plan(t.Context(), unsafely(&api.Rollout{Canary: &canary, Wave: "2", Window: []string{"Sat 22:00+4h"}}, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, u := range p.Rows {
		got = append(got, strings.Join([]string{string(rune('0' + u.Wave)), u.Unit, u.TimeZone, u.BeginAt.Format(time.RFC3339), strings.Join(u.Covers, "+")}, " "))
	}
	want := []string{"0 lon-1 Europe/London 2026-06-13T21:00:00Z core-a", "0 lon-3 Europe/London 2026-06-13T21:00:00Z edge",
		"1 lon-2 Europe/London 2026-06-13T21:00:00Z core-a", "1 nyc-1+nyc-2 America/New_York 2026-06-14T02:00:00Z "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if p.Waves != 2 || p.WaveSize != 2 || p.MaxFailures != 2 || len(p.Refusals) != 0 ||
		!slices.ContainsFunc(p.Warnings, func(w string) bool { return strings.Contains(w, "link edge has no other cover than lon-3") }) {
		t.Errorf("%+v", p)
	}
	// The other cover of a link counts also where it is not selected.
	p, err = c.Plan(t.Context(), unsafely(&api.Rollout{RequireCoverage: true}, "lon-1"))
	if err != nil || len(p.Refusals) != 0 {
		t.Errorf("%+v, %v", p, err)
	}
	p, err = c.Plan(t.Context(), unsafely(&api.Rollout{RequireCoverage: true}, "lon-3"))
	if err != nil || len(p.Refusals) != 1 || !strings.Contains(p.Refusals[0], "--require-coverage") {
		t.Errorf("%+v, %v", p, err)
	}
	// Without a rollout it is all at once.
	p, err = c.Plan(t.Context(), unsafely(nil, "*"))
	if err != nil || p.Waves != 1 && len(p.Rows) != 4 {
		t.Errorf("%+v, %v", p, err)
	}
	if l, err := c.Jobs(t.Context(), api.JobQuery{}); err != nil || len(l.Rows) != 0 {
		t.Errorf("a plan made jobs: %v %v", l, err)
	}
}

// TestRolloutIsRefused before there is a job, with the flag that it is about.
func TestRolloutIsRefused(t *testing.T) {
	t.Parallel()
	dir := place(t)
	write(t, filepath.Join(dir, "i.yaml"), twoSites)
	c, _ := run(t, options(t, dir, filepath.Join(dir, "i.yaml")))
	past := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for says, req := range map[string]api.JobRequest{
		"--max-failures":     unsafely(&api.Rollout{MaxFailures: "0"}, "*"),
		"--wave":             unsafely(&api.Rollout{Wave: "many"}, "*"),
		"--window":           unsafely(&api.Rollout{Window: []string{"Satt 22:00+4h"}}, "*"),
		"--end":              unsafely(&api.Rollout{End: &past}, "*"),
		"--require-coverage": unsafely(&api.Rollout{RequireCoverage: true}, "*"),
		"--resume-window":    unsafely(&api.Rollout{ResumeWindow: true}, "*"),
		"only reads":         {Operation: "check", Selection: api.Selection{All: true}, Rollout: &api.Rollout{}},
	} {
		if _, err := c.Submit(t.Context(), req); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

// TestRolloutComesBack as it was asked for.
func TestRolloutComesBack(t *testing.T) {
	t.Parallel()
	dir := place(t)
	write(t, filepath.Join(dir, "i.yaml"), twoSites)
	c, _ := run(t, options(t, dir, filepath.Join(dir, "i.yaml")))
	canary, start := 2, time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	want := &api.Rollout{Canary: &canary, Wave: "50%", MaxFailures: "3", SoakSeconds: 60, PauseAfter: "canary", Approve: true,
		Window: []string{"Sat 22:00+4h", "daily 01:00+30m"}, Start: &start, ResumeWindow: true}
	job, err := c.Submit(t.Context(), unsafely(want, "*"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, job.Rollout); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := c.Approve(t.Context(), job.ID); !fault.Is(err, fault.Denied) {
		t.Errorf("one's own approval: %v", err)
	}
	if _, err := c.Cancel(t.Context(), job.ID); err != nil {
		t.Error(err)
	}
}
