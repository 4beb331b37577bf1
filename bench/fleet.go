package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/device/inventory"
	"capfleet/internal/sim"
)

// target is one simulated probe as the peers need it.
type target struct {
	name, addr, user, password string
	dev                        *device.Device
}

const ready = "ready"

// serve runs a simulated fleet until standard input ends.
func serve(ctx context.Context, o options) error {
	fleet, err := sim.New(sim.Options{Dir: o.serve, Devices: o.devices, TurnDelay: o.turn})
	if err != nil {
		return err
	}
	if err := fleet.Start(ctx); err != nil {
		return err
	}
	fmt.Println(ready)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	<-ctx.Done()
	return fleet.Close()
}

// fleet is a simulated fleet in a process of its own.
type fleet struct {
	dir     string
	probes  []target // o.devices of them, reachable without a jump host
	process *exec.Cmd
	stdin   io.WriteCloser
}

// startFleet starts enough devices that o.devices of them are probes which
// anyone can reach directly.
func startFleet(ctx context.Context, o options, turn time.Duration) (*fleet, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "fleet-bench-")
	if err != nil {
		return nil, err
	}
	f := &fleet{dir: dir}
	f.process = exec.CommandContext(ctx, self, "-serve", dir, "-devices", strconv.Itoa(4*o.devices+40), "-turn", turn.String())
	f.process.Stderr = os.Stderr
	if f.stdin, err = f.process.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := f.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := f.process.Start(); err != nil {
		return nil, err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || strings.TrimSpace(line) != ready {
		return nil, errors.Join(fmt.Errorf("the simulated fleet did not start: %q", line), err, f.close())
	}
	inv, err := inventory.Load(filepath.Join(dir, "inventory.yaml"), inventory.Options{Platforms: []string{"endace_osm", "f5_bigip", "linux"}})
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	for _, d := range inv.Devices() {
		// The probes of nyc know keyboard-interactive alone, which netmiko's SSH
		// library cannot do after a password was refused.
		if d.Platform != "endace_osm" || d.Site == "nyc" || len(d.Jump) > 0 || len(f.probes) == o.devices {
			continue
		}
		pw, err := d.Credentials.Password.Resolve(ctx)
		if err != nil {
			return nil, errors.Join(err, f.close())
		}
		f.probes = append(f.probes, target{name: d.Name, addr: net.JoinHostPort(d.Host, strconv.Itoa(d.Port)),
			user: d.Credentials.Username, password: pw.Reveal(), dev: d})
	}
	if len(f.probes) < o.devices {
		return nil, errors.Join(fmt.Errorf("only %d of %d probes", len(f.probes), o.devices), f.close())
	}
	return f, nil
}

func (f *fleet) close() error {
	_ = f.stdin.Close()
	err := f.process.Wait()
	return errors.Join(err, os.RemoveAll(f.dir))
}

// slow orders every probe to take the given time for each turn from now on.
func (f *fleet) slow(ctx context.Context, turn time.Duration) error {
	for _, t := range f.probes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := sim.OrderRunning(f.dir, t.name, "slow="+turn.String()); err != nil {
			return err
		}
	}
	return nil
}
