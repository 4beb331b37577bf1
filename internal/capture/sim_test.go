//go:build linux

package capture_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"capfleet/internal/api"
	"capfleet/internal/api/client"
	"capfleet/internal/capture"
	"capfleet/internal/demo"
	"capfleet/internal/sim"
)

// simulated is a simulated fleet with its fleetd.
func simulated(t *testing.T, faults ...string) (*demo.Env, *client.Client) {
	t.Helper()
	env, err := demo.Start(t.Context(), demo.Options{Dir: t.TempDir(), Devices: 12, Faults: faults, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.Close(); err != nil {
			t.Error(err)
		}
	})
	c, err := client.New(env.Socket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return env, c
}

// deviceOf gives the first simulated device of a platform that is reached directly.
func deviceOf(t *testing.T, env *demo.Env, platform string) string {
	t.Helper()
	for _, d := range env.Fleet().Devices() {
		if d.Platform == platform && d.Jump == "" {
			return d.Name
		}
	}
	t.Fatalf("no %s", platform)
	return ""
}

// live captures to its end and gives the file, the job's result and what the device
// did, by its own journal.
func live(t *testing.T, env *demo.Env, c *client.Client, device string, spec map[string]any) ([]byte, api.Results, []sim.JournalEntry) {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"live": spec})
	if err != nil {
		t.Fatal(err)
	}
	job, err := c.Submit(t.Context(), api.JobRequest{Operation: capture.Name, Spec: raw, Selection: api.Selection{Names: []string{device}}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Stream(t.Context(), job.ID)
	if err != nil {
		t.Fatal(err)
	}
	file, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	for range c.Events(t.Context(), job.ID, 0) { // to its end
	}
	res, err := c.Results(t.Context(), job.ID)
	if err != nil {
		t.Fatal(err)
	}
	journal, err := os.ReadFile(filepath.Join(filepath.Dir(env.Socket()), "journal.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var did []sim.JournalEntry
	for line := range bytes.Lines(journal) {
		var e sim.JournalEntry
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		if e.Device == device && strings.HasPrefix(e.Event, "capture_") {
			did = append(did, e)
		}
	}
	return file, res, did
}

func rowOf(t *testing.T, res api.Results) capture.Row {
	t.Helper()
	if len(res.Rows) != 1 {
		t.Fatalf("%d rows, failures %+v", len(res.Rows), res.Failures)
	}
	var row capture.Row
	if err := json.Unmarshal(res.Rows[0], &row); err != nil {
		t.Fatal(err)
	}
	return row
}

// The simulator runs the same script as a real shell does, and its captures are
// captures.
func TestSimulatedLinux(t *testing.T) {
	t.Parallel()
	env, c := simulated(t)
	device := deviceOf(t, env, "linux")
	file, res, did := live(t, env, c, device, map[string]any{"interface": "eth0", "filter": "tcp port 443", "packets": 14})
	row := rowOf(t, res)
	if row.EndedBy != "packets" || row.Packets != 14 || row.Delayed || row.Captured == nil || *row.Captured != 14 {
		t.Errorf("%+v", row)
	}
	if len(packets(t, file)) != 14 {
		t.Errorf("%d packets", len(packets(t, file)))
	}
	if len(did) != 2 || did[0].Event != "capture_start" || did[1].Event != "capture_stop" || !strings.Contains(did[0].Detail, "not (host ") {
		t.Errorf("%+v", did)
	}
	// A decoder that nobody here wrote finds the handshakes, and no wrong checksum.
	tshark := exec.CommandContext(t.Context(), "tshark", "-n", "-r", "-", "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-T", "fields", "-e", "tcp.flags.str", "-e", "tcp.checksum.status", "-e", "ip.checksum.status")
	tshark.Stdin = bytes.NewReader(file)
	out, err := tshark.Output()
	if err != nil {
		t.Fatalf("%v (Debian package tshark)", err)
	}
	if n := strings.Count(string(out), "S·\t1\t1\n"); n < 1 || strings.Count(string(out), "\t1\t1\n") != 14 {
		t.Errorf("tshark:\n%s", out)
	}
}

// The traffic goes on while nothing ends it, and a stop is one.
func TestSimulatedEndsWithItsReader(t *testing.T) {
	t.Parallel()
	env, c := simulated(t)
	device := deviceOf(t, env, "linux")
	_, res, did := live(t, env, c, device, map[string]any{"interface": "eth0", "duration_seconds": 5})
	if row := rowOf(t, res); row.EndedBy != "duration" || row.Packets == 0 {
		t.Errorf("%+v", row)
	}
	if len(did) != 2 || !strings.Contains(did[1].Detail, "interrupted") {
		t.Errorf("%+v", did)
	}
}

// A tcpdump of long ago has no -U: it is not asked for, and the operator is told.
func TestOldTcpdump(t *testing.T) {
	t.Parallel()
	env, c := simulated(t, "*:old_tcpdump")
	file, res, _ := live(t, env, c, deviceOf(t, env, "linux"), map[string]any{"interface": "eth0", "filter": "udp or icmp", "packets": 3})
	if row := rowOf(t, res); !row.Delayed || row.Packets != 3 || len(packets(t, file)) != 3 {
		t.Errorf("%+v", row)
	}
	if len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "has no -U") {
		t.Errorf("%q", res.Warnings)
	}
}

// What is missing on the device is said with the remedy before anything starts.
func TestD6DeviceThatCannotCapture(t *testing.T) {
	t.Parallel()
	for fault, remedy := range map[string]string{"no_tcpdump": "install tcpdump", "capture_denied": "--sudo"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			env, c := simulated(t, "*:"+fault)
			device := deviceOf(t, env, "linux")
			_, res, did := live(t, env, c, device, map[string]any{"interface": "eth0"})
			if len(res.Failures) != 1 || !strings.Contains(res.Failures[0].Message, remedy) || res.Failures[0].Device != device || len(did) > 0 {
				t.Errorf("%+v, %+v", res.Failures, did)
			}
		})
	}
}

// A BIG-IP's capture begins with a frame about itself and has details behind each
// packet, which a decoder that nobody here wrote understands.
func TestBigIPWithDetails(t *testing.T) {
	t.Parallel()
	env, c := simulated(t)
	file, res, _ := live(t, env, c, deviceOf(t, env, "f5_bigip"), map[string]any{"interface": "0.0:nnnp", "filter": "tcp", "packets": 5})
	row := rowOf(t, res)
	if row.Interface != "0.0:nnnp" || row.EndedBy != "packets" || row.Keys {
		t.Errorf("%+v", row)
	}
	tshark := exec.CommandContext(t.Context(), "tshark", "-n", "-r", "-", "-T", "fields", "-e", "f5fileinfo.cmdline", "-e", "f5ethtrailer.vip")
	tshark.Stdin = bytes.NewReader(file)
	out, err := tshark.Output()
	if err != nil {
		t.Fatalf("%v (Debian package tshark)", err)
	}
	if !strings.Contains(string(out), "-i 0.0:nnnp") || strings.Count(string(out), "/Common/web01_vs1") < 4 {
		t.Errorf("tshark:\n%s", out)
	}
}

// With --f5 ssl the device is changed for the time of the capture and put back, the
// capture is marked, and one that was enabled before stays so.
func TestSSLProviderIsPutBack(t *testing.T) {
	t.Parallel()
	env, c := simulated(t)
	device := deviceOf(t, env, "f5_bigip")
	db := func(line string) string {
		t.Helper()
		raw, err := json.Marshal(map[string]any{"command": line, "unsafe": true})
		if err != nil {
			t.Fatal(err)
		}
		job, err := c.Submit(t.Context(), api.JobRequest{Operation: "command", Spec: raw, Selection: api.Selection{Names: []string{device}}})
		if err != nil {
			t.Fatal(err)
		}
		for range c.Events(t.Context(), job.ID, 0) { // to its end
		}
		res, err := c.Results(t.Context(), job.ID)
		if err != nil || len(res.Rows) != 1 {
			t.Fatalf("%v, %+v", err, res)
		}
		return string(res.Rows[0])
	}
	const show = "list sys db tcpdump.sslprovider value"
	spec := map[string]any{"interface": "0.0", "f5": "n,ssl:v", "packets": 4}
	for _, before := range []string{"disable", "enable"} {
		db("modify sys db tcpdump.sslprovider value " + before)
		_, res, did := live(t, env, c, device, spec)
		if row := rowOf(t, res); !row.Keys || row.Packets == 0 {
			t.Errorf("%s: %+v", before, row)
		}
		if res.Job.Access != "change" {
			t.Errorf("%s: access %s", before, res.Job.Access)
		}
		if got := db(show); !strings.Contains(got, `\"`+before+`\"`) {
			t.Errorf("was %s, is now %s (%+v)", before, got, did)
		}
	}
	// A reader that goes in the middle leaves it as it was, too.
	db("modify sys db tcpdump.sslprovider value disable")
	job, r := liveWithKeys(t, c, device)
	_ = r.Close()
	for range c.Events(t.Context(), job.ID, 0) { // to its end
	}
	if got := db(show); !strings.Contains(got, `\"disable\"`) {
		t.Errorf("after its reader went: %s", got)
	}
}

// liveWithKeys begins a live capture for which tcpdump.sslprovider is changed, and has
// read the header of the file.
func liveWithKeys(t *testing.T, c *client.Client, device string) (job api.Job, r io.ReadCloser) {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"live": map[string]any{"interface": "0.0", "f5": "ssl"}})
	if err != nil {
		t.Fatal(err)
	}
	job, err = c.Submit(t.Context(), api.JobRequest{Operation: capture.Name, Spec: raw, Selection: api.Selection{Names: []string{device}}})
	if err != nil {
		t.Fatal(err)
	}
	r, err = c.Stream(t.Context(), job.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 24)); err != nil {
		t.Fatal(err)
	}
	return job, r
}

// A device that was switched off in the middle of a capture, and has the setting in
// the configuration that it boots with, has it put back by the next attempt.
func TestSSLProviderIsPutBackAfterAReboot(t *testing.T) {
	t.Parallel()
	env, c := simulated(t, "*:boot_time=20ms")
	device := deviceOf(t, env, "f5_bigip")
	tmsh := func(args ...string) string {
		config := filepath.Join(filepath.Dir(env.Socket()), "ssh_config")
		out, _ := exec.CommandContext(t.Context(), "ssh", append([]string{"-F", config, device, "tmsh", "-q"}, args...)...).CombinedOutput()
		return string(out)
	}
	job, r := liveWithKeys(t, c, device)
	defer func() { _ = r.Close() }()
	tmsh("save", "sys", "config")
	if err := env.Fleet().Order(device, "reboot"); err != nil {
		t.Fatal(err)
	}
	for range c.Events(t.Context(), job.ID, 0) { // to its end
	}
	if got := tmsh("list", "sys", "db", "tcpdump.sslprovider", "value"); !strings.Contains(got, `"disable"`) {
		t.Errorf("after the reboot: %s", got)
	}
}
