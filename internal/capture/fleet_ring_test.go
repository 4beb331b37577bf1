//go:build linux

package capture_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ringRows runs a fleetctl to its end and reads its rows.
func (f *fleet) ringRows(t *testing.T, args ...string) []map[string]any {
	t.Helper()
	r := f.fleetctl(t, append(args, "-o", "json")...)
	if code := r.run(t); code != 0 {
		t.Fatalf("%v ends with %d: %s", args, code, r.err.String())
	}
	var doc struct {
		Rows []map[string]any `json:"rows"`
	}
	if err := json.Unmarshal(r.out.bytes(), &doc); err != nil {
		t.Fatalf("%v: %s", err, r.out.bytes())
	}
	return doc.Rows
}

// TestRingsOfAFleet: rings on several devices, of which one is bad, a log that is
// followed, fleetd killed and started again, one trigger that stops all, and the
// files fetched by an operator and read by tcpdump.
func TestRingsOfAFleet(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	s := f.Server
	var more strings.Builder
	for _, name := range []string{"two", "three"} {
		fmt.Fprintf(&more, "  - {name: %s, platform: linux, address: %q, credentials: default}\n", name, s.Addr)
	}
	// Nothing listens there.
	more.WriteString("  - {name: dead, platform: linux, address: \"127.0.0.1:1\", credentials: default}\n")
	f.stop(t)
	f.inventory(t, "", more.String())
	f.start(t)
	log := filepath.Join(t.TempDir(), "messages")
	write := func(text string) {
		t.Helper()
		file, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }()
		if _, err := file.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	write("an old TRIGGER\n")
	there := t.TempDir()
	start := f.fleetctl(t, "capture", "start", "--all", "--on", "eth0=udp port 9", "--ring", "2x5MB", "--min-free", "0", "--dir", there,
		"--until-log", "TRIGGER", "--log", log, "--after", "2s", "--limit", "15m", "--detach")
	if code := start.run(t); code != 0 {
		t.Fatalf("%d: %s", code, start.err.String())
	}
	job := strings.TrimSpace(string(start.out.bytes()))
	awaitFiles(t, filepath.Join(there, "*", "*.pcap0"), 3)
	if err := f.Send(t.Context(), 9, 50, 100, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	f.stop(t) // kill -9
	f.WaitRuns(t, "tcpdump", 3)
	if err := f.Send(t.Context(), 9, 50, 100, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	write("a TRIGGER while nobody reads\n")
	f.start(t)
	wait := f.fleetctl(t, "job", "watch", job)
	// Three of four: some devices failed.
	if code := wait.run(t); code != 3 {
		t.Errorf("the job ends with %d: %s%s", code, wait.out.bytes(), wait.err.String())
	}
	f.WaitGone(t, "tcpdump")
	captured, packets := 0, 0
	for _, row := range f.ringRows(t, "capture", "list", job) {
		if row["device"] == "dead" {
			if row["state"] != "failed" || row["sha256"] != nil || row["packets"] != nil {
				t.Errorf("%v", row)
			}
			continue
		}
		captured++
		n, _ := row["packets"].(float64)
		packets += int(n)
		if n != 100 || row["dropped_by_kernel"] == nil || row["first_time"] == nil || len(fmt.Sprint(row["sha256"])) != 64 {
			t.Errorf("%v", row)
		}
	}
	if captured != 3 {
		t.Errorf("%d devices captured", captured)
	}
	dir := t.TempDir()
	all := filepath.Join(dir, "all.pcapng")
	get := f.fleetctl(t, "capture", "get", job, "-d", filepath.Join(dir, "files"), "--merge", all)
	if code := get.run(t); code != 0 {
		t.Fatalf("get ends with %d: %s", code, get.err.String())
	}
	out, err := exec.CommandContext(t.Context(), "tcpdump", "-nn", "-r", all, "udp port 9").Output()
	if n := strings.Count(string(out), "\n"); err != nil || n != packets {
		t.Errorf("tcpdump reads %d packets of %d, %v", n, packets, err)
	}
}

// awaitFiles waits until so many files are there.
func awaitFiles(t *testing.T, pattern string, n int) {
	t.Helper()
	late := time.After(2 * time.Minute)
	for {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if len(files) >= n {
			return
		}
		select {
		case <-late:
			t.Fatalf("there are %v", files)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop kills fleetd.
func (f *fleet) stop(t *testing.T) {
	t.Helper()
	if err := f.daemon.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = f.daemon.Wait()
}

// TestCaptureStopCollects: an operator ends rings that nothing else would.
func TestCaptureStopCollects(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	there := t.TempDir()
	start := f.fleetctl(t, "capture", "start", "bed", "--on", "eth0=udp port 9", "--ring", "2x5MB", "--min-free", "0", "--dir", there, "--limit", "15m", "--detach")
	if code := start.run(t); code != 0 || !strings.Contains(start.err.String(), "capture stop") {
		t.Fatalf("%d: %s", code, start.err.String())
	}
	job := strings.TrimSpace(string(start.out.bytes()))
	awaitFiles(t, filepath.Join(there, "*", "*.pcap0"), 1)
	rows := f.ringRows(t, "capture", "stop", job)
	if len(rows) != 1 || rows[0]["device"] != "bed" || len(fmt.Sprint(rows[0]["sha256"])) != 64 {
		t.Errorf("%v", rows)
	}
	f.WaitGone(t, "tcpdump")
	again := f.fleetctl(t, "capture", "stop", job)
	if code := again.run(t); code != 1 || !strings.Contains(again.err.String(), "finished") {
		t.Errorf("%d: %s", code, again.err.String())
	}
}
