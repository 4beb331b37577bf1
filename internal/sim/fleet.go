package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// DefaultDevices is the size of a fleet when Options do not say.
const DefaultDevices = 24

// maxDevices keeps a typing mistake from eating every port of the machine.
const maxDevices = 20000

var (
	// ErrInvalid marks errors of usage: an unknown device, fault or argument.
	ErrInvalid = errors.New("invalid order")
	// ErrNotRunning means that no simulated fleet runs in the directory.
	ErrNotRunning = errors.New("no simulated fleet is running")
)

// Options describe a fleet.
type Options struct {
	// Dir holds the fleet's files; it is created with owner-only rights. A
	// directory that held a fleet before continues it: same ports, keys, states.
	Dir string
	// Devices is how many; 0 means as many as Dir held before, or DefaultDevices.
	Devices int
	// Faults are orders of the form DEVICE:NAME[=ARGUMENT]; DEVICE may be a glob.
	Faults []string
	// Seed of all figures that devices report; 0 means the one Dir held before, or 1.
	Seed uint64
	// TurnDelay is how long every device takes to answer a line or an exec request.
	TurnDelay time.Duration
	// Logger gets what goes wrong inside the simulator itself; nil discards it.
	Logger *slog.Logger
}

// DeviceInfo is what a client needs to know of one device.
type DeviceInfo struct {
	Name     string
	Platform string // endace_osm, f5_bigip or linux, as the inventory names them
	Site     string
	Role     string // probe, ltm, capture or bastion
	Addr     string // 127.0.0.1:port; empty before Start
	Username string
	Jump     string // the bastion without which the device cannot be reached
	HAPeer   string
}

// Fleet is a set of simulated devices. Its methods may be called from several
// goroutines.
type Fleet struct {
	dir   string
	log   *slog.Logger
	delay time.Duration
	first []order // from Options, in force when Start returns

	store   *store
	keys    keyring
	journal *journal
	ordered []*device // as planned: site by site
	devices map[string]*device
	osm     *osmPersonality
	bigip   *bigipPersonality
	linux   *linuxPersonality
	pairs   sync.Mutex // held while the roles of an HA pair change
	hosts   sync.Mutex // held while known_hosts is rewritten
	// sessions is the HTTPS that passes by all devices, made when it is first looked at.
	sessions func() ([]tlsSession, error)

	mu      sync.Mutex
	started bool
	closing bool
	byPort  map[int]*device
	ctx     context.Context //nolint:containedctx // of the fleet's life, from Start to Close
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	control *controlServer
	closed  chan struct{} // closed when Close is done
}

// New plans a fleet in opts.Dir and checks the options; it opens no port and
// writes nothing. Errors about options wrap ErrInvalid.
func New(opts Options) (*Fleet, error) {
	if opts.Dir == "" {
		return nil, fmt.Errorf("%w: a simulated fleet needs a directory", ErrInvalid)
	}
	if opts.Devices < 0 || opts.Devices > maxDevices {
		return nil, fmt.Errorf("%w: %d devices: between 1 and %d are possible", ErrInvalid, opts.Devices, maxDevices)
	}
	if opts.TurnDelay < 0 {
		return nil, fmt.Errorf("%w: turn delay %v is negative", ErrInvalid, opts.TurnDelay)
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("simulated fleet: %w", err)
	}
	st, err := openStore(dir)
	if err != nil {
		return nil, err
	}
	st.settle(opts.Devices, opts.Seed)
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &Fleet{
		dir: dir, log: log, delay: opts.TurnDelay,
		store: st, keys: keyring{secret: st.state.Secret},
		devices: make(map[string]*device, st.state.Count),
		byPort:  make(map[int]*device, st.state.Count),
		osm:     newOSm(), bigip: newBigIP(), linux: newLinux(),
		sessions: sync.OnceValues(recordSessions),
		closed:   make(chan struct{}),
	}
	for _, s := range plan(st.state.Count) {
		d := newDevice(f, s, st.device(s.name))
		f.ordered = append(f.ordered, d)
		f.devices[s.name] = d
	}
	for _, d := range f.ordered {
		d.peer = f.devices[d.haPeer]
	}
	f.planBMCs()
	for _, text := range opts.Faults {
		o, err := f.parseOrder(text)
		if err != nil {
			return nil, err
		}
		f.first = append(f.first, o)
	}
	return f, nil
}

// Start opens every device's port, writes the directory's files and returns
// when the fleet can be used. The fleet stops when ctx ends or Close is called;
// Close must be called in either case.
func (f *Fleet) Start(ctx context.Context) error {
	f.mu.Lock()
	if f.started || f.closing {
		f.mu.Unlock()
		return errors.New("simulated fleet: started twice or after Close")
	}
	f.started = true
	f.ctx, f.cancel = context.WithCancel(ctx)
	f.mu.Unlock()

	if err := f.start(); err != nil {
		return errors.Join(err, f.Close())
	}
	// The devices go quiet as soon as the caller's context ends, not only when
	// Close is called.
	f.spawn(func() {
		<-f.ctx.Done()
		for _, d := range f.ordered {
			d.halt()
		}
	})
	return nil
}

func (f *Fleet) start() error {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return fmt.Errorf("simulated fleet: %w", err)
	}
	var err error
	if f.control, err = openControl(f); err != nil {
		return err
	}
	if f.journal, err = openJournal(filepath.Join(f.dir, journalFile), f.log); err != nil {
		return err
	}
	f.spawn(func() { f.store.run(f.ctx, f.log) })
	for _, d := range f.ordered {
		if err := d.powerOn(); err != nil {
			return fmt.Errorf("simulated fleet: %w", err)
		}
	}
	if err := f.startBMCs(); err != nil {
		return fmt.Errorf("simulated fleet: %w", err)
	}
	for _, o := range f.first {
		if err := f.apply(o); err != nil {
			return err
		}
	}
	if err := f.writeFiles(); err != nil {
		return err
	}
	f.spawn(f.control.serve)
	return f.store.save()
}

// spawn runs fn in a goroutine that Close waits for. It does nothing once the
// fleet is closing, and says so.
func (f *Fleet) spawn(fn func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closing || f.ctx == nil {
		return false
	}
	f.wg.Go(fn)
	return true
}

// Close stops all devices, waits for everything that the fleet started and
// saves its state. It may be called twice.
func (f *Fleet) Close() error {
	f.mu.Lock()
	if f.closing {
		f.mu.Unlock()
		<-f.closed
		return nil
	}
	f.closing = true
	f.mu.Unlock()
	defer close(f.closed)

	if f.cancel == nil {
		return nil // never started
	}
	f.cancel()
	var errs []error
	if f.control != nil {
		errs = append(errs, f.control.close())
	}
	for _, d := range f.ordered {
		d.halt()
	}
	f.wg.Wait()
	for _, d := range f.ordered {
		errs = append(errs, d.files.close())
	}
	if f.journal != nil {
		errs = append(errs, f.store.save(), f.journal.close())
	}
	return errors.Join(errs...)
}

// Dir is the fleet's directory, absolute.
func (f *Fleet) Dir() string { return f.dir }

// Inventory is the path of the inventory file that describes this fleet.
func (f *Fleet) Inventory() string { return filepath.Join(f.dir, inventoryFile) }

// Devices lists the fleet, site by site.
func (f *Fleet) Devices() []DeviceInfo {
	out := make([]DeviceInfo, 0, len(f.ordered))
	for _, d := range f.ordered {
		info := DeviceInfo{
			Name: d.name, Platform: d.platform, Site: d.site, Role: d.role,
			Username: credential(d.login).username, Jump: d.jump, HAPeer: d.haPeer,
		}
		if port := d.listenPort(); port != 0 {
			info.Addr = loopback(port)
		}
		out = append(out, info)
	}
	return out
}

// Order gives one device (or a glob of names) a fault, a variant or an event,
// written NAME[=ARGUMENT]; "none" clears everything ordered, "none=NAME" one
// thing. Orders lists the names. Errors about the order wrap ErrInvalid.
func (f *Fleet) Order(device, fault string) error {
	o, err := f.parseOrder(device + ":" + fault)
	if err != nil {
		return err
	}
	f.mu.Lock()
	running := f.started && !f.closing
	f.mu.Unlock()
	if !running {
		return fmt.Errorf("order %s for %s: %w", fault, device, ErrNotRunning)
	}
	return f.apply(o)
}

// deviceAt finds the device behind an address that a client asked a bastion
// for. Only loopback addresses can name one.
func (f *Fleet) deviceAt(host string, port int) *device {
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.byPort[port]
}

func (f *Fleet) claimPort(d *device, port int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.byPort[port] = d
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
