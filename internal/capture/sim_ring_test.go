//go:build linux

package capture_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capfleet/internal/api"
	"capfleet/internal/api/client"
	"capfleet/internal/capture"
	"capfleet/internal/demo"
	"capfleet/internal/pcap/info"
)

// simRing is a ring on one simulated device that runs.
type simRing struct {
	env    *demo.Env
	c      *client.Client
	device string
	job    api.Job
}

func newSimRing(t *testing.T, spec map[string]any) *simRing {
	t.Helper()
	r := &simRing{}
	r.env, r.c = simulated(t)
	r.device = deviceOf(t, r.env, "linux")
	raw, err := json.Marshal(map[string]any{"ring": spec})
	if err != nil {
		t.Fatal(err)
	}
	if r.job, err = r.c.Submit(t.Context(), api.JobRequest{Operation: capture.Name, Spec: raw, Selection: api.Selection{Names: []string{r.device}}}); err != nil {
		t.Fatal(err)
	}
	r.await(t, func() bool { return r.step(t) == "capture" && r.events(t, "capture_start") > 0 })
	return r
}

// await waits for what is there some time.
func (r *simRing) await(t *testing.T, there func() bool) {
	t.Helper()
	late := time.After(2 * time.Minute)
	for !there() {
		select {
		case <-late:
			t.Fatal("it does not come")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (r *simRing) step(t *testing.T) string {
	t.Helper()
	tasks, err := r.c.Tasks(t.Context(), r.job.ID)
	if err != nil || len(tasks) != 1 {
		t.Fatalf("%v, %d tasks", err, len(tasks))
	}
	return tasks[0].Step
}

func (r *simRing) events(t *testing.T, event string) int {
	t.Helper()
	journal, err := os.ReadFile(filepath.Join(filepath.Dir(r.env.Socket()), "journal.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(journal, []byte(`"event":"`+event+`"`))
}

func (r *simRing) order(t *testing.T, orders ...string) {
	t.Helper()
	for _, o := range orders {
		if err := r.env.Fleet().Order(r.device, o); err != nil {
			t.Fatal(err)
		}
	}
}

// finish waits for the end and gives the one row; its file can be read.
func (r *simRing) finish(t *testing.T) capture.RingRow {
	t.Helper()
	for range r.c.Events(t.Context(), r.job.ID, 0) { // to its end
	}
	res, err := r.c.Results(t.Context(), r.job.ID)
	if err != nil || len(res.Rows) != 1 {
		t.Fatalf("%v, %d rows, %+v", err, len(res.Rows), res.Failures)
	}
	var row capture.RingRow
	if err := json.Unmarshal(res.Rows[0], &row); err != nil {
		t.Fatal(err)
	}
	file, err := r.c.Artifact(t.Context(), row.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	sum, err := info.Read(t.Context(), file, info.Options{})
	if err != nil {
		t.Fatalf("what there is cannot be read: %v", err)
	}
	if sum.Packets != row.Packets {
		t.Errorf("the file has %d packets, the row %d", sum.Packets, row.Packets)
	}
	return row
}

// The log is followed through its rotation, whichever way logrotate goes about it,
// and what stood there before is no trigger.
func TestSimulatedLogRotates(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"rename", "copy"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			r := newSimRing(t, map[string]any{"points": []any{map[string]any{"interface": "eth0", "filter": "tcp"}},
				"until_log": "Linux version|no space( left)? in response", "after_seconds": 0})
			r.order(t, "log=nothing that anybody waits for", "rotate_log="+how, "log=no space left in response line")
			if row := r.finish(t); !strings.Contains(row.StoppedBy, "no space left in response line") {
				t.Errorf("stopped by %q", row.StoppedBy)
			}
		})
	}
}

// D1: the ring ends before its disk has less than is to stay free, although nothing
// that the ring does fills it.
func TestD1SimulatedDiskFills(t *testing.T) {
	t.Parallel()
	r := newSimRing(t, map[string]any{"points": []any{map[string]any{"interface": "eth0", "filter": ""}}, "limit_seconds": 600})
	r.order(t, "disk_full=2GB") // of 62 GB, of which 5 % are to stay free
	row := r.finish(t)
	if row.EndedBy != "floor" || row.Packets == 0 || !strings.Contains(row.StoppedBy, "--min-free") {
		t.Errorf("%+v", row)
	}
}

// A disk without any room takes the ring's last record in part: that is cut off, and
// the others are there.
func TestSimulatedDiskIsFull(t *testing.T) {
	t.Parallel()
	r := newSimRing(t, map[string]any{"points": []any{map[string]any{"interface": "eth0", "filter": ""}}, "min_free_percent": 0, "limit_seconds": 600})
	r.order(t, "disk_full=20kB")
	if row := r.finish(t); row.EndedBy != "died" || row.Packets == 0 {
		t.Errorf("%+v", row)
	}
}
