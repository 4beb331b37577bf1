package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/bmc/bmctest"
	"capfleet/internal/cli"
	"capfleet/internal/daemon"
)

// selResult is what the test looks at of the JSON of `sel check`.
type selResult struct {
	Rows []struct {
		Device, BMC, Time, Severity, Kind string
		RecordID                          int    `json:"record_id"`
		SensorType                        string `json:"sensor_type"`
		Event, Raw                        string
		Bus                               *int
		DeviceNumber                      *int `json:"device_number"`
		Function                          *int
		New                               bool
	}
	Failures []struct{ Device, Kind, Message string }
	Warnings []string
}

// selFleet is a fleetd whose devices are dead and have a BMC each.
type selFleet struct {
	t      *testing.T
	socket string
}

func startSELFleet(t *testing.T, bmcs ...*bmctest.Sim) *selFleet {
	t.Helper()
	dir := shortDir(t)
	var inv strings.Builder
	inv.WriteString("version: 1\ncredentials:\n  default: {username: fleet, password: {file: bmc}}\n  bmc: {username: " + bmctest.Username + ", password: {file: bmc}}\n" +
		"groups:\n  probes: {platform: endace_osm, bmc: {protocol: ipmi_lan, credentials: bmc}}\ndevices:\n")
	for i, b := range bmcs {
		// Port 9 (discard) refuses: the probe is dead.
		fmt.Fprintf(&inv, "  - {name: probe-%d, address: \"127.0.0.1:9\", groups: [probes], bmc: {address: \"%s:%d\"}}\n", i+1, b.Host, b.Port)
	}
	for name, text := range map[string]string{"inventory.yaml": inv.String(), "bmc": bmctest.Password + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := &selFleet{t: t, socket: filepath.Join(dir, "s")}
	ctx, cancel := context.WithCancel(context.Background())
	d, err := daemon.New(ctx, daemon.Options{StateDir: filepath.Join(dir, "state"), Inventory: filepath.Join(dir, "inventory.yaml"), Socket: f.socket})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return f
}

// check runs `sel check` and gives its result and exit code.
func (f *selFleet) check(args ...string) (selResult, int) {
	f.t.Helper()
	var out, errs bytes.Buffer
	streams := cli.Streams{In: strings.NewReader(""), Out: &out, Err: io.Writer(&errs), Width: func() int { return 0 }, Getenv: func(string) string { return "" }, Now: time.Now}
	code := cli.Run(f.t.Context(), append([]string{"--server", f.socket, "sel", "check", "--all", "--fail-on", "critical", "-o", "json"}, args...), streams, cli.Build{})
	var res selResult
	if err := json.Unmarshal(out.Bytes(), &res); err != nil {
		f.t.Fatalf("%v: %s%s", err, out.Bytes(), errs.Bytes())
	}
	return res, code
}

func (r selResult) fresh() (found []string) {
	for _, row := range r.Rows {
		if row.New {
			found = append(found, fmt.Sprintf("%s %d %s %s", row.Device, row.RecordID, row.Severity, row.Kind))
		}
	}
	return found
}

// ipmitool does something to a BMC from the side of its owner.
func ipmitool(t *testing.T, b *bmctest.Sim, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "ipmitool", append([]string{"-I", "lanplus", "-H", b.Host, "-p", strconv.Itoa(b.Port), "-U", bmctest.Username, "-E", "-C", "3"}, args...)...)
	cmd.Env = append(os.Environ(), "IPMI_PASSWORD="+bmctest.Password)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ipmitool %q: %v: %s", args, err, out)
	}
}

// TestSELCheckOfRealBMCs takes the whole way, from ipmi_sim, a BMC that we did not
// write, to the exit code: four errors on the PCI bus, once.
func TestSELCheckOfRealBMCs(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "internal", "bmc", "testdata", "probe.sel"))
	if err != nil {
		t.Fatal(err)
	}
	var log [][]byte
	for line := range strings.Lines(string(text)) {
		raw, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		log = append(log, raw)
	}
	bad, quiet := bmctest.StartIPMISim(t, log), bmctest.StartIPMISim(t, log[:1])
	f := startSELFleet(t, bad, quiet)

	first, code := f.check()
	if code != 6 || len(first.Rows) != 18 || len(first.fresh()) != 18 || len(first.Failures) != 0 {
		t.Fatalf("exit %d, %d rows, %d new, failures %v", code, len(first.Rows), len(first.fresh()), first.Failures)
	}
	var serr []string
	for i, row := range first.Rows[:17] {
		if row.RecordID != i+1 || row.Raw != hex.EncodeToString(log[i]) {
			t.Errorf("row %d: %+v", i, row)
		}
		switch {
		case row.Kind == "pci_serr":
			serr = append(serr, fmt.Sprintf("%d %s %s %02x:%02x.%d", row.RecordID, row.Time, row.Severity, *row.Bus, *row.DeviceNumber, *row.Function))
		case row.Kind != "other" || row.Severity == "critical" || row.Bus != nil:
			t.Errorf("record %d is %s %s", row.RecordID, row.Severity, row.Kind)
		}
	}
	want := []string{
		"2 2019-06-12T19:01:38Z critical 80:02.2", "5 2019-06-14T19:20:16Z critical 80:02.2",
		"8 2019-06-17T19:17:55Z critical 80:02.2", "17 2019-06-18T20:38:09Z critical 80:02.2",
	}
	if diff := cmp.Diff(want, serr); diff != "" {
		t.Errorf("PCI errors (-want +got):\n%s", diff)
	}

	if again, code := f.check(); code != 0 || len(again.Rows) != 18 || len(again.fresh()) != 0 {
		t.Errorf("the second check: exit %d, new %q", code, again.fresh())
	}

	// An error while nobody looks: a fatal one, with the clock of the BMC set.
	ipmitool(t, quiet, "raw", "0x0a", "0x49", "0x00", "0x00", "0x00", "0x68")
	ipmitool(t, quiet, "raw", "0x0a", "0x44", "0", "0", "2", "0", "0", "0", "0", "0x33", "0", "4", "0x13", "0", "0x6f", "0xaa", "0x80", "0x12")
	struck, code := f.check()
	if diff := cmp.Diff([]string{"probe-2 2 critical pcie_fatal"}, struck.fresh()); code != 6 || diff != "" {
		t.Errorf("exit %d, new (-want +got):\n%s", code, diff)
	}

	// The owner clears the log, and the same happens again under the same id.
	ipmitool(t, quiet, "sel", "clear")
	if cleared, code := f.check(); code != 0 || len(cleared.fresh()) != 0 || !strings.Contains(strings.Join(cleared.Warnings, " "), "cleared") {
		t.Errorf("cleared: exit %d, new %q, warnings %q", code, cleared.fresh(), cleared.Warnings)
	}
	ipmitool(t, quiet, "raw", "0x0a", "0x44", "0", "0", "2", "0", "0", "0", "0", "0x33", "0", "4", "0x13", "0", "0x6f", "0xaa", "0x80", "0x12")
	if again, code := f.check(); code != 6 || len(again.fresh()) != 1 {
		t.Errorf("after the clear: exit %d, new %q", code, again.fresh())
	}
}
