package daemon

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capfleet/internal/api"
	"capfleet/internal/jobs"
	"capfleet/internal/ledger"
)

// learns is a runner that reaches every device and learns of each what a real one tells.
type learns struct{}

func (learns) Run(_ context.Context, work jobs.Work, _ jobs.Journal) jobs.Result {
	r := jobs.Result{Tasks: map[string]jobs.TaskResult{}}
	for _, t := range work.Targets {
		r.Tasks[t.Device] = jobs.TaskResult{State: jobs.Succeeded, Facts: map[string]string{
			"version": "6.5.1", "build": "0.0.12", "platform_version": "EndaceProbe 9200", "prompt_host": t.Device,
			"clock_offset_seconds": "0.125", "host_key_sha256": "SHA256:" + strings.Repeat("k", 43),
		}}
	}
	return r
}

// largeFleet is a daemon, not running, whose inventory has n devices that a job has
// reached before.
func largeFleet(b *testing.B, n int) *Daemon {
	b.Helper()
	dir := b.TempDir()
	var inv strings.Builder
	inv.WriteString("version: 1\ncredentials:\n  default: {username: fleet, password: {env: FLEET_PASSWORD}}\nsites:\n")
	for i := range 200 {
		fmt.Fprintf(&inv, "  site-%03d: {timezone: Europe/London}\n", i)
	}
	inv.WriteString("groups:\n  hosts: {platform: linux, credentials: default, labels: {role: capture}}\ndevices:\n")
	req := jobs.Request{Operation: "report", Access: "read"}
	for i := range n {
		name, site := fmt.Sprintf("host-%05d", i), fmt.Sprintf("site-%03d", i%200)
		fmt.Fprintf(&inv, "  - {name: %s, address: \"127.0.0.1:1\", site: %s, groups: [hosts], labels: {tier: core}, covers: [link-%05d]}\n", name, site, i/2)
		req.Targets = append(req.Targets, jobs.Target{Device: name, Site: site})
	}
	state := filepath.Join(dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		b.Fatal(err)
	}
	reached(b, filepath.Join(state, "ledger.db"), req)
	inventory := filepath.Join(dir, "inventory.yaml")
	if err := os.WriteFile(inventory, []byte(inv.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	short, err := os.MkdirTemp("/tmp", "cf")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(short) })
	d, err := New(b.Context(), Options{StateDir: state, Inventory: inventory, Socket: filepath.Join(short, "s")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Close() })
	return d
}

func reached(b *testing.B, path string, req jobs.Request) {
	b.Helper()
	db, err := ledger.Open(path, ledger.Options{Namespaces: jobs.Namespaces()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	engine, err := jobs.Open(b.Context(), jobs.Options{Ledger: db, Runner: learns{}, Limits: jobs.Limits{Global: 256}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ran := make(chan error, 1)
	go func() { ran <- engine.Run(ctx) }()
	defer func() { cancel(); <-ran }()
	job, err := engine.Submit(ctx, req)
	if err != nil {
		b.Fatal(err)
	}
	for ev, err := range engine.Watch(ctx, jobs.WatchOptions{Job: job.ID, After: job.FirstEvent}) {
		if err != nil {
			b.Fatal(err)
		}
		if ev.Type == jobs.EventJobFinished {
			return
		}
	}
}

// discard is a client that takes an answer as fast as it comes.
type discard struct {
	header http.Header
	status int
	bytes  int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(b []byte) (int, error) { d.bytes += len(b); return len(b), nil }

// BenchmarkDevices20000 is the list of all devices of a large fleet, from the request to
// the last byte.
func BenchmarkDevices20000(b *testing.B) {
	d := largeFleet(b, 20_000)
	b.ReportAllocs()
	for b.Loop() {
		w := &discard{header: http.Header{}}
		d.server.ServeHTTP(w, httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/v1/devices", nil))
		if w.status != http.StatusOK {
			b.Fatalf("status %d", w.status)
		}
		b.SetBytes(int64(w.bytes))
	}
}

// BenchmarkTasks20000 is the list of all tasks of a large job.
func BenchmarkTasks20000(b *testing.B) {
	d := largeFleet(b, 20_000)
	l, err := service{d}.Jobs(b.Context(), api.JobQuery{Limit: 1})
	if err != nil || len(l.Rows) == 0 {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		w := &discard{header: http.Header{}}
		d.server.ServeHTTP(w, httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/v1/jobs/"+l.Rows[0].ID+"/tasks", nil))
		if w.status != http.StatusOK {
			b.Fatalf("status %d", w.status)
		}
		b.SetBytes(int64(w.bytes))
	}
}
