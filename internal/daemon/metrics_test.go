package daemon

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

// scrape gives our figures from the socket, or with an address from there.
func scrape(t *testing.T, socket, address string) map[string]float64 {
	t.Helper()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	if address == "" {
		address = "fleetd"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		t.Fatalf("%v %s %s", err, resp.Status, body)
	}
	out := map[string]float64{}
	for line := range strings.Lines(string(body)) {
		i := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || i < 0 {
			continue
		}
		if out[line[:i]], err = strconv.ParseFloat(strings.TrimSpace(line[i:]), 64); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	return out
}

// Real work shows in the figures, with no label that grows with the fleet.
func TestMetrics(t *testing.T) {
	t.Parallel()
	f := fleet(t, 8, "lon-probe-01:down")
	opts := options(t, place(t), f.Inventory())
	opts.MetricsAddress = "127.0.0.1:0"
	d, err := New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := runDaemon(t, d, opts)
	before := scrape(t, opts.Socket, "")

	job, err := c.Submit(t.Context(), api.JobRequest{Operation: "report", Spec: json.RawMessage(`{"report":"filesystem"}`), Selection: api.Selection{All: true}})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range c.Events(t.Context(), job.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
	}
	// The counts follow the events; they are right soon, not at once.
	finished := `fleetd_jobs_finished_total{operation="report",state="partial"}`
	after := scrape(t, opts.Socket, "")
	for after[finished] == 0 && t.Context().Err() == nil {
		after = scrape(t, opts.Socket, d.MetricsAddress())
	}
	for name, want := range map[string]float64{
		finished: 1,
		`fleetd_jobs_created_total{operation="report"}`:                  1,
		`fleetd_tasks_ended_total{operation="report",state="succeeded"}`: 7,
		`fleetd_tasks_ended_total{operation="report",state="failed"}`:    1,
		`fleetd_ssh_dials_total{result="success"}`:                       7,
		`fleetd_ssh_connections`:                                         0,
		`fleetd_jobs_unfinished`:                                         0,
		`fleetd_tasks{state="running"}`:                                  0,
		`fleetd_inventory_last_reload_successful`:                        1,
		`fleetd_ledger_writable`:                                         1,
		`fleetd_limit_units{scope="global"}`:                             64,
		`fleetd_devices_last_task_failed{platform="endace_osm"}`:         1,
	} {
		if got, there := after[name]; !there || got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if n := after[`fleetd_ssh_dials_total{result="unreachable"}`]; n < 1 {
		t.Errorf("%v dials of a device that is down", n)
	}
	if after["fleetd_ledger_commits_total"] <= before["fleetd_ledger_commits_total"] || after["fleetd_ledger_size_bytes"] == 0 {
		t.Errorf("ledger: %v commits, then %v", before["fleetd_ledger_commits_total"], after["fleetd_ledger_commits_total"])
	}
	devices := 0.0
	for name, v := range after {
		if strings.HasPrefix(name, "fleetd_devices{") {
			devices += v
		}
		if strings.Contains(name, "lon-") || strings.Contains(name, `job="`) || strings.Contains(name, `device="`) {
			t.Errorf("%s names a device or a job", name)
		}
	}
	if devices != 8 {
		t.Errorf("%v devices", devices)
	}

	write(t, opts.Inventory, "version: 2\n")
	if err := d.Reload(); !fault.Is(err, fault.Invalid) {
		t.Errorf("reload: %v", err)
	}
	if scrape(t, opts.Socket, "")[`fleetd_inventory_last_reload_successful`] != 0 {
		t.Error("a refused inventory does not show")
	}
}

// Over TCP there are the metrics and nothing else.
func TestMetricsAddressServesNothingElse(t *testing.T) {
	t.Parallel()
	opts := options(t, place(t), "")
	opts.MetricsAddress = "127.0.0.1:0"
	d, err := New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	runDaemon(t, d, opts)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	for path, method := range map[string]string{"/v1/devices": "GET", "/v1/jobs": "POST", "/": "GET", "/metrics": "POST", "/debug/pprof/": "GET"} {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+d.MetricsAddress()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s %s: %s", method, path, resp.Status)
		}
	}
	second := options(t, place(t), "")
	second.MetricsAddress = d.MetricsAddress()
	if _, err := New(t.Context(), second); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), d.MetricsAddress()) {
		t.Errorf("an address in use: %v", err)
	}
}
