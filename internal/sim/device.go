package sim

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// device is one simulated appliance. What lasts is in st, which the store
// guards; mu guards what belongs to this run. Where several locks are held they
// are taken in the order Fleet.pairs, device.mu, Fleet.mu, store.
type device struct {
	spec
	fleet   *Fleet
	peer    *device // of the HA pair
	board   *board  // its BMC; nil where it has none
	persona personality
	files   *tree
	st      *deviceState

	ordered   atomic.Pointer[faults] // in force
	processes processTable

	mu        sync.Mutex
	orders    map[string]func(*faults)
	port      int
	listener  net.Listener
	accepting chan struct{} // closed once the last listener's accept loop has ended
	conns     map[io.Closer]struct{}
	booting   bool
	halted    bool
	stopLoop  context.CancelFunc // of reboot_loop
	holder    *osmCLI            // the session in configuration mode

	power      context.Context //nolint:containedctx // from one power-on to the next power-off; nil while off
	powerOff   context.CancelFunc
	installing bool
	live       *liveInstall         // of a BIG-IP
	images     map[string]time.Time // when files in its image directory got their names
}

// personality is how the devices of one platform talk.
type personality interface {
	// version is the SSH identification after "SSH-2.0-".
	version() string
	// shell runs an interactive session to its end and gives the exit status.
	shell(s *session) int
	// exec runs one command line until it or ctx ends and gives the exit status.
	exec(ctx context.Context, s *session, line string) int
	// furnish lists the files that a device has from the start, by absolute path;
	// a path ending in "/" is a directory.
	furnish(d *device) map[string]string
	// settings are what a new device is configured with.
	settings(d *device) map[string]string
	// live gives the content of a file that changes by itself, or nil.
	live(d *device, path string) []byte
	// home is the directory in which a user's sessions start.
	home(user string) string
}

func newDevice(f *Fleet, s spec, st *deviceState) *device {
	d := &device{spec: s, fleet: f, st: st, port: st.Port,
		orders: map[string]func(*faults){}, conns: map[io.Closer]struct{}{}}
	switch s.platform {
	case platformOSm:
		d.persona = f.osm
	case platformBigIP:
		d.persona = f.bigip
	default:
		d.persona = f.linux
	}
	d.files = newTree(filepath.Join(f.dir, "devices", s.name), d)
	healthy := defaultFaults()
	d.ordered.Store(&healthy)
	return d
}

// random gives a device's own stream of numbers, the same for the same seed,
// device and purpose.
func (d *device) random(purpose string) *rand.Rand {
	h := fnv.New64a()
	_, _ = io.WriteString(h, d.name+"\x00"+purpose)
	return rand.New(rand.NewPCG(d.fleet.store.state.Seed, h.Sum64())) //nolint:gosec // figures that can be had again, nothing to guess
}

// powerOn opens the port for the first time in this run.
func (d *device) powerOn() error {
	finish := false
	d.fleet.store.change(func() {
		if d.st.BootTime.IsZero() {
			r := d.random("boot")
			d.st.BootTime = time.Now().Add(-time.Hour - time.Duration(r.Int64N(int64(90*24*time.Hour)))).UTC().Truncate(time.Millisecond)
			d.st.FailoverSince = d.st.BootTime.Add(3 * time.Minute)
			d.st.Standby = d.haPeer != "" && d.name > d.haPeer
			d.st.Running = d.persona.settings(d)
			d.st.Saved = maps.Clone(d.st.Running)
		}
		finish = d.st.Booting
	})
	if finish {
		d.finishBoot()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.bind(); err != nil {
		if d.port == 0 {
			return err
		}
		taken := d.port
		d.port = 0
		if err := d.bind(); err != nil {
			return err
		}
		d.fleet.log.Warn("simulated device has a new port", "device", d.name, "taken", taken, "port", d.port)
	}
	return nil
}

// bind opens the device's port. The caller holds mu.
func (d *device) bind() error {
	var lc net.ListenConfig
	l, err := lc.Listen(d.fleet.ctx, "tcp4", loopback(d.port))
	if err != nil {
		return fmt.Errorf("open port of %s: %w", d.name, err)
	}
	addr, ok := l.Addr().(*net.TCPAddr)
	accepting := make(chan struct{})
	if !ok || !d.fleet.spawn(func() { defer close(accepting); d.accept(l) }) {
		return l.Close()
	}
	d.listener, d.accepting, d.port = l, accepting, addr.Port
	if d.power == nil {
		d.power, d.powerOff = context.WithCancel(d.fleet.ctx)
	}
	d.fleet.claimPort(d, d.port)
	d.fleet.store.change(func() { d.st.Port = d.port })
	return nil
}

func (d *device) listenPort() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.port
}

// up tells whether the device runs and can be reached. The caller holds mu.
func (d *device) up() bool { return !d.halted && !d.booting && !d.ordered.Load().down }

func (d *device) isUp() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.up()
}

// settle brings the port in line with up. The caller holds mu.
func (d *device) settle() {
	switch {
	case !d.up():
		if d.listener != nil {
			_ = d.listener.Close() // the accept loop ends with it
			d.listener = nil
		}
		for c := range d.conns {
			_ = c.Close() // its own reader and writer report the cut
		}
		clear(d.conns)
		d.holder = nil
		if d.power != nil {
			d.powerOff()
			d.power = nil
		}
	case d.listener == nil:
		if d.bind() != nil {
			d.fleet.spawn(d.rebind)
		}
	}
}

// rebind tries until the port is free again: another process may have been given
// it while the device was down.
func (d *device) rebind() {
	for pause(d.fleet.ctx, 20*time.Millisecond) == nil {
		d.mu.Lock()
		done := !d.up() || d.listener != nil || d.bind() == nil
		d.mu.Unlock()
		if done {
			return
		}
	}
}

// track adds a connection to those that a power cut takes along. It closes the
// connection and says false where there is nobody to talk to.
func (d *device) track(c io.Closer) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.up() {
		_ = c.Close() // nobody has used it yet
		return false
	}
	d.conns[c] = struct{}{}
	return true
}

func (d *device) untrack(c io.Closer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, c)
}

// halt ends everything of this run.
func (d *device) halt() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.halted = true
	if d.stopLoop != nil {
		d.stopLoop()
	}
	d.settle()
}

// obey puts one order in force.
func (d *device) obey(o order) error {
	if o.entry.event != nil && !o.clear {
		return o.entry.event(d, o.arg)
	}
	var set func(*faults)
	if !o.clear {
		var err error
		if set, err = o.entry.set(o.arg); err != nil {
			return err
		}
		if o.entry.Name == "old_algorithms" {
			if err := d.ensureLegacyKey(); err != nil {
				return err
			}
		}
	}
	d.mu.Lock()
	switch {
	case !o.clear:
		d.orders[o.entry.Name] = set
	case o.entry.Name != "":
		delete(d.orders, o.entry.Name)
	default:
		clear(d.orders)
	}
	now := defaultFaults()
	for set := range maps.Values(d.orders) {
		set(&now)
	}
	before := d.ordered.Swap(&now)
	d.settle()
	accepting := d.accepting
	if now.rebootLoop != before.rebootLoop {
		d.loop(now.rebootLoop)
	}
	d.mu.Unlock()
	if now.down && accepting != nil {
		// The port is closed once the accept loop has let go of it; until then the
		// kernel still takes connections, and whoever ordered this would meet one.
		<-accepting
	}
	if now.down && !before.down {
		d.yieldRole("peer down")
	}
	return nil
}

// loop starts or stops rebooting for ever. The caller holds mu.
func (d *device) loop(uptime time.Duration) {
	if d.stopLoop != nil {
		d.stopLoop()
		d.stopLoop = nil
	}
	if uptime == 0 || d.halted {
		return
	}
	ctx, stop := context.WithCancel(d.fleet.ctx)
	started := d.fleet.spawn(func() {
		for pause(ctx, uptime) == nil {
			if d.reboot("reboot loop") != nil {
				return
			}
			if pause(ctx, d.ordered.Load().bootTime) != nil {
				return
			}
		}
	})
	if !started {
		stop()
		return
	}
	d.stopLoop = stop
}

// reboot takes the device down, forgets what was not saved, and brings it back
// after its boot time. A device that is booting already goes on doing so.
func (d *device) reboot(reason string) error {
	d.yieldRole("peer reboots")
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.booting || d.halted {
		return nil
	}
	if !d.fleet.spawn(d.boot) {
		return ErrNotRunning
	}
	d.booting = true
	captured := d.isCapturing()
	d.note(eventReload, "reason=%q", reason)
	if captured {
		d.note(eventCaptureStop, "reason=reload")
	}
	d.fleet.store.change(func() {
		d.st.Booting = true
		d.st.Running = maps.Clone(d.st.Saved)
	})
	d.settle()
	return nil
}

func (d *device) boot() {
	if pause(d.fleet.ctx, d.ordered.Load().bootTime) != nil {
		return // the next run finishes the boot
	}
	for d.ordered.Load().change.neverReturns {
		if pause(d.fleet.ctx, 10*time.Millisecond) != nil {
			return // as above
		}
	}
	d.finishBoot()
	d.mu.Lock()
	d.booting = false
	d.settle()
	d.mu.Unlock()
	d.claimRole("peer down at boot")
}

func (d *device) finishBoot() {
	var left, moved bool
	var boots int
	change := &d.ordered.Load().change
	first := firstVolumes(d)
	d.fleet.store.change(func() {
		left = d.st.Maintenance && !change.inMaintenance
		d.st.Maintenance, d.st.Booting = change.inMaintenance, false
		d.st.CaptureDown, d.st.CaptureStopped = change.noCapture, time.Time{}
		if change.unchanged && d.st.Unbooted {
			d.st.Packages = d.st.PackagesBefore
		}
		d.st.PackagesBefore, d.st.Unbooted = nil, false
		if d.platform == platformBigIP {
			moved = d.bootVolume(change, first)
		}
		if change.noConfig {
			d.st.Running, d.st.Saved = nil, nil
		}
		d.st.BootTime = time.Now().UTC()
		d.st.Boots++
		boots = d.st.Boots
		d.st.FailoverSince = d.st.BootTime
	})
	if err := d.files.forget("/dev/shm", "/run"); err != nil {
		d.fleet.log.Warn("simulated memory file systems not emptied", "device", d.name, "err", err)
	}
	if left {
		d.note(eventMaintenanceOff, "by=boot")
	}
	if d.platform == platformBigIP {
		d.note(eventBoot, "boots=%d volume=%s", boots, activeVolume(d))
	} else {
		d.note(eventBoot, "boots=%d", boots)
	}
	if moved && change.firmwareReboot > 0 {
		d.fleet.spawn(func() {
			if pause(d.fleet.ctx, change.firmwareReboot) == nil {
				_ = d.reboot("firmware update") // fails only when the fleet is closing
			}
		})
	}
	if d.isCapturing() {
		d.note(eventCaptureStart, "reason=boot")
	}
}

// note writes the journal.
func (d *device) note(event, format string, args ...any) {
	d.fleet.journal.add(d.name, event, fmt.Sprintf(format, args...))
}

// state reads what the device remembers.
func (d *device) state() deviceState {
	var st deviceState
	d.fleet.store.read(func() {
		st = *d.st
		st.Running = maps.Clone(d.st.Running)
	})
	return st
}

// uptime since the last boot.
func (d *device) uptime() time.Duration { return time.Since(d.state().BootTime) }

// setting reads one setting of the running configuration.
func (d *device) setting(key string) (string, bool) {
	var value string
	var ok bool
	d.fleet.store.read(func() { value, ok = d.st.Running[key] })
	return value, ok
}

// configure changes the running configuration; an empty value takes the setting
// out of it.
func (d *device) configure(key, value string) {
	d.fleet.store.change(func() {
		if value == "" {
			delete(d.st.Running, key)
			return
		}
		if d.st.Running == nil {
			d.st.Running = map[string]string{}
		}
		d.st.Running[key] = value
	})
}

// saveConfig makes the running configuration the one that boots.
func (d *device) saveConfig(user string) {
	d.fleet.store.change(func() { d.st.Saved = maps.Clone(d.st.Running) })
	d.note(eventSave, "user=%s", user)
}

// hostname as the device shows it.
func (d *device) hostname() string {
	if d.state().Inoperative {
		return "localhost" // it has not loaded its own
	}
	if h, ok := d.setting("hostname"); ok {
		return h
	}
	return d.name
}

// ensureLegacyKey gives the device the RSA key that old_algorithms needs, and
// lets known_hosts know: only the algorithms shall stand in a client's way.
func (d *device) ensureLegacyKey() error {
	if len(d.state().LegacyKey) > 0 {
		return nil
	}
	key, err := newLegacyKey()
	if err != nil {
		return err
	}
	d.fleet.store.change(func() { d.st.LegacyKey = key })
	return d.fleet.writeKnownHosts()
}

// hostSigner is the key that the device presents under the faults in force.
func (d *device) hostSigner(f *faults) (ssh.Signer, error) {
	if f.oldAlgorithms {
		return legacySigner(d.state().LegacyKey)
	}
	return ssh.NewSignerFromKey(d.fleet.keys.hostKey(d.name, boolInt(f.otherHostKey)))
}

// publicHostKeys are the device's true host keys.
func (d *device) publicHostKeys() ([]ssh.PublicKey, error) {
	own, err := ssh.NewPublicKey(d.fleet.keys.hostKey(d.name, 0).Public())
	if err != nil {
		return nil, err
	}
	keys := []ssh.PublicKey{own}
	if raw := d.state().LegacyKey; len(raw) > 0 {
		signer, err := legacySigner(raw)
		if err != nil {
			return nil, err
		}
		keys = append(keys, signer.PublicKey())
	}
	return keys, nil
}
