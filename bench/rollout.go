package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"capfleet/internal/api"
	"capfleet/internal/api/client"
	"capfleet/internal/sim"
)

const (
	rolloutProbes = 20
	// rolloutFile is the size of a hotfix and slowUpload a hundredth of what a simulated
	// probe takes a second.
	rolloutFile = 4_000_000
	slowUpload  = "200kB"
)

// benchRollout takes hotfixes over simulated probes whose installation takes 3 s and
// whose reboot takes 5 s: twenty in one wave against one of them by itself, and the
// others beside one that is uploaded to at a hundredth of the speed against the same
// without it.
func benchRollout(ctx context.Context, o options, log io.Writer) (results []result, err error) {
	// Two simulated probes cover each link and are never out together, so only one of
	// the two goes along.
	o.devices, o.workers = 2*rolloutProbes, 64
	f, err := startFleet(ctx, o, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	for _, t := range f.probes {
		for _, order := range []string{"packages=versioned", "install_time=3s", "boot_time=5s"} {
			if err := sim.OrderRunning(f.dir, t.name, order); err != nil {
				return nil, err
			}
		}
	}
	overrides, err := promptProbes(f.dir)
	if err != nil {
		return nil, err
	}
	socket, stop, err := startDaemon(ctx, o, f, "--overrides", overrides)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	r := rollouts{fleet: f}
	if r.client, err = client.New(socket); err != nil {
		return nil, err
	}
	defer r.client.Close()
	var all []string
	for i := 0; i < len(f.probes); i += 2 {
		all = append(all, f.probes[i].name)
	}
	if len(all) != rolloutProbes {
		return nil, fmt.Errorf("%d probes without a link in common, want %d", len(all), rolloutProbes)
	}
	slow, others := all[0], all[1:]
	rounds := min(o.rounds, 3)
	wave, err := paired(ctx, log, "rollout over 20 probes in one wave / one of them alone", rounds, 1.2,
		func(ctx context.Context) (time.Duration, error) { return r.last(ctx, all, all) },
		func(ctx context.Context) (time.Duration, error) { return r.last(ctx, all[:1], all[:1]) })
	if err != nil {
		return nil, err
	}
	delayed, err := paired(ctx, log, "19 probes beside one uploaded to at 1 % / the same without it", rounds, 1.1,
		func(ctx context.Context) (_ time.Duration, err error) {
			if err := sim.OrderRunning(f.dir, slow, "slow_upload="+slowUpload); err != nil {
				return 0, err
			}
			defer func() { err = errors.Join(err, sim.OrderRunning(f.dir, slow, "none=slow_upload")) }()
			return r.last(ctx, all, others)
		},
		func(ctx context.Context) (time.Duration, error) { return r.last(ctx, all, others) })
	if err != nil {
		return nil, err
	}
	return []result{wave, delayed}, nil
}

// promptProbes writes the built-in definition of probes without the pauses that a
// real one needs: they would hide what is measured.
func promptProbes(dir string) (string, error) {
	src, err := os.ReadFile(filepath.FromSlash("internal/device/endace/platform.yaml"))
	if err != nil {
		return "", err
	}
	short := map[string]string{"poll": "100ms", "stable": "1s", "apart": "200ms"}
	text := regexp.MustCompile(`\b(poll|stable|apart): \S+`).ReplaceAllStringFunc(string(src), func(found string) string {
		key, _, _ := strings.Cut(found, ":")
		return key + ": " + short[key]
	})
	overrides := filepath.Join(dir, "overrides")
	if err := os.MkdirAll(filepath.Join(overrides, "platforms"), 0o700); err != nil {
		return "", err
	}
	return overrides, os.WriteFile(filepath.Join(overrides, "platforms", "endace_osm.yaml"), []byte(text), 0o600)
}

// rollouts are one after the other, each of a hotfix of its own.
type rollouts struct {
	fleet  *fleet
	client *client.Client
	nth    int
}

// last takes a hotfix over devices in one wave and gives the time from the request
// until the last of some of them was done.
func (r *rollouts) last(ctx context.Context, names, of []string) (time.Duration, error) {
	r.nth++
	name := fmt.Sprintf("OSm6.4.x-CumulativeHotfix-v%d.end", r.nth)
	content := bytes.Repeat([]byte(strconv.Itoa(r.nth)+" hotfix\n"), rolloutFile/10)
	file, err := r.client.AddArtifact(ctx, name, "", bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return 0, err
	}
	spec, err := json.Marshal(map[string]string{"action": "apply", "file": file.SHA256})
	if err != nil {
		return 0, err
	}
	none := 0
	began := time.Now()
	job, err := r.client.Submit(ctx, api.JobRequest{Operation: "hotfix", Spec: spec, Selection: api.Selection{Names: names},
		Rollout: &api.Rollout{Canary: &none, Wave: "100%"}})
	if err != nil {
		return 0, err
	}
	for ev, err := range r.client.Events(ctx, job.ID, 0) {
		if err != nil {
			return 0, err
		}
		if ev.Type == "job.finished" {
			break
		}
	}
	if job, err = r.client.Job(ctx, job.ID); err != nil {
		return 0, err
	}
	if job.Counts["succeeded"] != len(names) {
		return 0, fmt.Errorf("job %s is %s: %v", job.ID, job.State, job.Counts)
	}
	tasks, err := r.client.Tasks(ctx, job.ID)
	if err != nil {
		return 0, err
	}
	counted := make(map[string]bool, len(of))
	for _, name := range of {
		counted[name] = true
	}
	var last time.Duration
	for _, t := range tasks {
		if counted[t.Device] {
			last = max(last, t.FinishedAt.Sub(began))
		}
	}
	return last, nil
}
