package drivertest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capfleet/internal/device"
	"capfleet/internal/device/inventory"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/sim"
)

// Fleet is a simulated fleet with a dialer for it.
type Fleet struct {
	Sim *sim.Fleet

	devices map[string]*device.Device
	dialer  *sshconn.Dialer
}

// Simulate starts a fleet of 24 devices, or as opts say, for the test's time.
func Simulate(t *testing.T, opts sim.Options) *Fleet {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = t.TempDir()
	}
	s, err := sim.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the fleet: %v", err)
		}
	})
	inv, err := inventory.Load(s.Inventory(), inventory.Options{Platforms: []string{"endace_osm", "f5_bigip", "linux"}})
	if err != nil {
		t.Fatal(err)
	}
	f := &Fleet{Sim: s, devices: map[string]*device.Device{}, dialer: sshconn.NewDialer(sshconn.Options{})}
	t.Cleanup(func() { _ = f.dialer.Close() })
	for _, d := range inv.Devices() {
		f.devices[d.Name] = d
	}
	return f
}

// Device gives a device of the fleet as its inventory has it.
func (f *Fleet) Device(t *testing.T, name string) *device.Device {
	t.Helper()
	d, ok := f.devices[name]
	if !ok {
		t.Fatalf("the simulated fleet has no %s", name)
	}
	return d
}

// Target fills in what of a Target depends on the device alone.
func (f *Fleet) Target(t *testing.T, driver device.Driver, name string) Target {
	t.Helper()
	return f.TargetOf(driver, f.Device(t, name))
}

// TargetOf is Target for a device that a test has changed.
func (f *Fleet) TargetOf(driver device.Driver, dev *device.Device) Target {
	return Target{
		Driver: driver, Device: dev,
		Dial: func(ctx context.Context) (device.Conn, error) { return f.dialer.Dial(ctx, dev) },
		Order: func(t *testing.T, what string) {
			t.Helper()
			if err := f.Sim.Order(dev.Name, what); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// Open opens a session with a device of the fleet for the test's time.
func (f *Fleet) Open(t *testing.T, driver device.Driver, name string) device.Session {
	t.Helper()
	return f.Target(t, driver, name).Open(t)
}

// Override makes an override directory in which the driver's platform has its
// built-in definition with one more line at the start of its shell section. The
// definition is found where the tests of a driver run, in its own folder.
func Override(t *testing.T, driver device.Driver, line string) (dir string) {
	t.Helper()
	src, err := os.ReadFile("platform.yaml")
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(src), "\nshell:\n", "\nshell:\n  "+line+"\n", 1)
	if changed == string(src) {
		t.Fatal("platform.yaml has no shell section")
	}
	dir = t.TempDir()
	name := device.OverrideFile(dir, driver.Platform())
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
