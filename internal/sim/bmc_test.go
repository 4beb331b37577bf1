package sim_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"capfleet/internal/bmc"
	"capfleet/internal/device"
	"capfleet/internal/device/inventory"
	"capfleet/internal/fault"
	"capfleet/internal/sim"
)

// The BMCs of a fleet of eight, one of each kind.
const (
	oldWeb   = "lon-probe-01"
	tokenWeb = "lon-probe-02"
	redfish  = "lon-probe-03"
	overLAN  = "lon-probe-04"
)

func bmcOf(t *testing.T, f *sim.Fleet, name string) *device.BMC {
	t.Helper()
	inv, err := inventory.Load(f.Inventory(), inventory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dev, err := inv.Device(name)
	if err != nil {
		t.Fatal(err)
	}
	if dev.BMC == nil {
		t.Fatalf("%s has no BMC", name)
	}
	return dev.BMC
}

// readBMC reads a board's log as a client would that has the inventory.
func readBMC(ctx context.Context, t *testing.T, f *sim.Fleet, name string) (bmc.Log, error) {
	t.Helper()
	return readerOf(ctx, t, f, name).Read(ctx)
}

func readerOf(ctx context.Context, t *testing.T, f *sim.Fleet, name string) bmc.Reader {
	t.Helper()
	b := bmcOf(t, f, name)
	password, err := b.Credentials.Password.Resolve(ctx)
	if err != nil {
		t.Fatal(err)
	}
	target := bmc.Target{Host: b.Host, Port: b.Port, Username: b.Credentials.Username, Password: password}
	pins, err := bmc.Pins(b.KnownBMCs)
	if err != nil {
		t.Fatal(err)
	}
	for _, pin := range pins {
		if pin.Host == bmc.HostName(b.Host, b.Port) {
			target.TLS.Pins = append(target.TLS.Pins, pin.Fingerprint)
		}
	}
	reader, err := bmc.New(bmc.Protocol(b.Protocol), target, bmc.Options{LANTimeout: time.Second, Attempts: 3, WebTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return reader
}

func TestBMCSensors(t *testing.T) {
	f := startFleet(t, sim.Options{Devices: 8})
	for name, want := range map[string]string{oldWeb: `NAME="CPU1 Temp"`, tokenWeb: `NAME="FAN1"`, redfish: `"ReadingCelsius"`, overLAN: `"sensors"`} {
		able, ok := readerOf(t.Context(), t, f, name).(bmc.SensorReader)
		if !ok {
			t.Fatalf("%s: the reader reads no sensors", name)
		}
		got, err := able.Sensors(t.Context())
		if err != nil || !strings.Contains(string(got.Content), want) {
			t.Errorf("%s: %v: %s", name, err, got.Content)
		}
	}
}

func TestBMCs(t *testing.T) {
	f := startFleet(t, sim.Options{Devices: 8})
	for name, want := range map[string]struct {
		protocol bmc.Protocol
		place    bool // whether the place on the PCI bus is told
	}{
		oldWeb: {bmc.SupermicroWeb, true}, tokenWeb: {bmc.SupermicroWeb, true}, redfish: {bmc.Redfish, false}, overLAN: {bmc.IPMILan, true},
	} {
		order(t, f, name, "down") // the probe, not its BMC
		before, err := readBMC(t.Context(), t, f, name)
		if err != nil || before.Protocol != want.protocol || len(before.Entries) < 3 {
			t.Errorf("%s: %d entries by %s, %v", name, len(before.Entries), before.Protocol, err)
			continue
		}
		order(t, f, name, "sel_pci")
		after, err := readBMC(t.Context(), t, f, name)
		if err != nil || len(after.Entries) != len(before.Entries)+1 {
			t.Errorf("%s: %d entries and one more are %d, %v", name, len(before.Entries), len(after.Entries), err)
			continue
		}
		last := after.Entries[len(after.Entries)-1]
		if last.Kind != bmc.PCISerr || last.Severity != bmc.Critical || (last.Bus != nil && *last.Bus == 0x80) != want.place {
			t.Errorf("%s: %+v", name, last)
		}
		order(t, f, name, "sel_clear")
		if empty, err := readBMC(t.Context(), t, f, name); err != nil || len(empty.Entries) != 0 {
			t.Errorf("%s: cleared, %d entries, %v", name, len(empty.Entries), err)
		}
	}
}

// TestBMCRemembers: the log, the port and the certificate outlive the fleet.
func TestBMCRemembers(t *testing.T) {
	dir := t.TempDir()
	first := startFleet(t, sim.Options{Dir: dir, Devices: 8})
	order(t, first, oldWeb, "sel_pci")
	before, err := readBMC(t.Context(), t, first, oldWeb)
	if err != nil || len(before.Entries) != 18 {
		t.Fatalf("%d entries, %v", len(before.Entries), err)
	}
	pins, err := os.ReadFile(filepath.Join(dir, "known_bmcs"))
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := startFleet(t, sim.Options{Dir: dir})
	after, err := readBMC(t.Context(), t, second, oldWeb)
	if err != nil || len(after.Entries) != 18 || after.Entries[17].Raw != before.Entries[17].Raw {
		t.Errorf("%d entries, %v", len(after.Entries), err)
	}
	if now, err := os.ReadFile(filepath.Join(dir, "known_bmcs")); err != nil || string(now) != string(pins) {
		t.Errorf("pins changed: %s, %v", now, err)
	}
}

func TestBMCFaults(t *testing.T) {
	t.Parallel()
	f := startFleet(t, sim.Options{Devices: 8})
	everywhere := []string{oldWeb, tokenWeb, redfish, overLAN}
	for what, c := range map[string]struct {
		boards []string
		kinds  []fault.Kind
	}{
		"bmc_down":         {everywhere, []fault.Kind{fault.Unreachable, fault.Timeout}},
		"bmc_login_200":    {everywhere, []fault.Kind{fault.Auth}},
		"bmc_lockout":      {everywhere, []fault.Kind{fault.Auth}},
		"bmc_garbage":      {everywhere, []fault.Kind{fault.Auth, fault.Unsupported, fault.Unparsed, fault.Timeout}},
		"bmc_truncated":    {everywhere, []fault.Kind{fault.Unparsed, fault.Unsupported, fault.Timeout}},
		"bmc_entities":     {[]string{oldWeb, tokenWeb}, []fault.Kind{fault.Unparsed}},
		"bmc_short_record": {[]string{oldWeb, tokenWeb, overLAN}, []fault.Kind{fault.Unparsed}},
		"bmc_loop":         {[]string{redfish, overLAN}, []fault.Kind{fault.Unparsed}},
	} {
		for _, name := range c.boards {
			order(t, f, name, what)
			_, err := readBMC(t.Context(), t, f, name)
			known := false
			for _, kind := range c.kinds {
				known = known || fault.Is(err, kind)
			}
			if !known {
				t.Errorf("%s of %s: kind %s: %v", what, name, fault.KindOf(err), err)
			}
			order(t, f, name, "none")
			if _, err := readBMC(t.Context(), t, f, name); err != nil {
				t.Errorf("%s of %s: afterwards: %v", what, name, err)
			}
		}
	}
	if err := f.Order("lon-cap-01", "sel_pci"); err == nil {
		t.Error("a capture host has no BMC")
	}
}

// TestBMCAndIPMITool: the simulated BMC is one to a client that we did not write.
func TestBMCAndIPMITool(t *testing.T) {
	f := startFleet(t, sim.Options{Devices: 8})
	order(t, f, overLAN, "sel_pci")
	ours, err := readBMC(t.Context(), t, f, overLAN)
	if err != nil {
		t.Fatal(err)
	}
	b := bmcOf(t, f, overLAN)
	cmd := exec.CommandContext(t.Context(), "ipmitool", "-I", "lanplus", "-H", b.Host, "-p", strconv.Itoa(b.Port), "-U", "ADMIN", "-E", "-C", "17", "-L", "USER", "sel", "list")
	cmd.Env = append(os.Environ(), "IPMI_PASSWORD="+secretOf(t, f, "bmc"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("ipmitool: %v: %s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != len(ours.Entries) || !strings.Contains(lines[len(lines)-1], "PCI SERR") {
		t.Errorf("%d records, ipmitool lists:\n%s", len(ours.Entries), out)
	}
}
