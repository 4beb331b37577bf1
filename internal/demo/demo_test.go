package demo_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"capfleet/internal/api"
	"capfleet/internal/api/client"
	"capfleet/internal/demo"
	"capfleet/internal/fault"
	"capfleet/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// dir is a directory with a name short enough for Unix sockets.
func dir(t *testing.T) string {
	t.Helper()
	name, err := os.MkdirTemp("", "demo-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(name); err != nil {
			t.Error(err)
		}
	})
	return name
}

// devices asks the fleetd of an Env for its devices, as fleetctl would.
func devices(t *testing.T, env *demo.Env) []api.Device {
	t.Helper()
	c, err := client.New(env.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	list, err := c.Devices(t.Context(), api.Selection{All: true})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestStartIsReadyAndCloseLeavesNothing(t *testing.T) {
	where := dir(t)
	env, err := demo.Start(t.Context(), demo.Options{Dir: where, Devices: 4})
	if err != nil {
		t.Fatal(err)
	}
	if got := devices(t, env); len(got) != 4 {
		t.Errorf("%d devices", len(got))
	}
	for range 2 {
		if err := env.Close(); err != nil {
			t.Error(err)
		}
	}
	<-env.Stopped()
	if _, err := os.Stat(env.Socket()); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}

	// The directory goes on where it was left.
	again, err := demo.Start(t.Context(), demo.Options{Dir: where})
	if err != nil {
		t.Fatal(err)
	}
	if got := devices(t, again); len(got) != 4 {
		t.Errorf("%d devices the second time", len(got))
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestEndOfContextStopsFleetd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	env, err := demo.Start(ctx, demo.Options{Dir: dir(t), Devices: 1})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	<-env.Stopped()
	if err := env.Close(); err != nil {
		t.Error(err)
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	if _, err := demo.Start(t.Context(), demo.Options{}); !fault.Is(err, fault.Invalid) {
		t.Errorf("without a directory: %v", err)
	}
	if _, err := demo.Start(t.Context(), demo.Options{Dir: dir(t), Faults: []string{"nobody:down"}}); !fault.Is(err, fault.Invalid) {
		t.Errorf("with a fault for nobody: %v", err)
	}
	file := filepath.Join(dir(t), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := demo.Start(t.Context(), demo.Options{Dir: file}); err == nil {
		t.Error("a file was taken for a directory")
	}
	// fleetd's start fails after the fleet's: the fleet must be gone again.
	where := dir(t)
	if err := os.WriteFile(filepath.Join(where, "state"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := demo.Start(t.Context(), demo.Options{Dir: where, Devices: 1}); err == nil {
		t.Error("fleetd started without a state directory")
	}
	if err := os.Remove(filepath.Join(where, "state")); err != nil {
		t.Fatal(err)
	}
	env, err := demo.Start(t.Context(), demo.Options{Dir: where, Devices: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := demo.Start(t.Context(), demo.Options{Dir: where, Devices: 1}); err == nil {
		t.Error("two demos run in one directory")
	}
	if got := devices(t, env); len(got) != 1 {
		t.Errorf("the first demo has %d devices after the second was refused", len(got))
	}
	if err := env.Close(); err != nil {
		t.Error(err)
	}
}
