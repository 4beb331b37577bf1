// Package daemon joins the parts of fleetd and looks after their life: what is
// opened in which order, what is closed in which, and the one explicit list each
// of drivers and of operations.
//
// It is the one way in as well: the API, and later schedules, start work through
// Start, which resolves a selection against the inventory, lets the operation
// check the request, and gives the engine a job whose devices are fixed.
//
// The ledger is authoritative about jobs and the inventory file about devices.
// What this package holds in memory is the inventory as it was read last.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"capfleet/internal/api"
	"capfleet/internal/artifact"
	"capfleet/internal/device"
	"capfleet/internal/device/inventory"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/fault"
	"capfleet/internal/history"
	"capfleet/internal/jobs"
	"capfleet/internal/ledger"
	"capfleet/internal/metrics"
	"capfleet/internal/notify"
	"capfleet/internal/operation"
	"capfleet/internal/override"
	"capfleet/internal/parse"
	"capfleet/internal/runner"
	"capfleet/internal/schedule"
	"capfleet/internal/secret"
	"capfleet/internal/stream"
	"capfleet/internal/transfer"
)

// stopTimeout is how long running work is given to leave its devices safe when
// the daemon stops. What has not ended then is set back at the next start, as
// after a crash.
const stopTimeout = 15 * time.Second

// Daemon is a fleetd that is set up. Run runs it.
type Daemon struct {
	opts     Options
	log      *slog.Logger
	now      func() time.Time
	started  time.Time
	version  api.Version
	listener net.Listener
	server   *api.Server

	inventory  atomic.Pointer[inventory.Inventory] // replaced as a whole
	reloading  sync.Mutex                          // one Reload at a time
	platforms  []string                            // names of the drivers
	notifier   notifier
	metrics    *metrics.Metrics
	scrapes    net.Listener // nil when metrics are on the socket alone
	drivers    map[string]device.Driver
	operations map[string]operation.Operation
	engine     *jobs.Engine
	schedules  *schedule.Scheduler
	notify     *notify.Notifier
	history    *history.Store
	assessed   assessed
	handled    mark // of the events that history and notifications are made of
	artifacts  *artifact.Store
	ledger     *ledger.DB
	overrides  *override.Store
	streams    stream.Hub // live captures and their readers
	listed     deviceBodies
	dialer     *sshconn.Dialer

	closing sync.Mutex
	pinning sync.Mutex // of files of pinned certificates
	undo    []step
}

// step is something that New did, to be undone in reverse.
type step struct {
	name string
	undo func() error
}

// New reads and opens everything and binds the socket, so that whatever is wrong
// is known at once and a client can connect when it returns. The ctx is for
// opening alone. Run or Close must follow; a New that fails leaves nothing open.
func New(ctx context.Context, opts Options) (_ *Daemon, err error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	d := &Daemon{opts: opts, log: opts.Logger, now: opts.Now}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.now == nil {
		d.now = time.Now
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if d.notifier, err = newNotifier(ctx, opts.Notify.Socket, d.log); err != nil {
		return nil, err
	}
	d.done("service manager", d.notifier.close)
	d.notifier.tell("reading the ledger")
	d.started = d.now().UTC()
	version, commit := Build(opts.Version)
	d.version = api.Version{Version: version, Commit: commit, Go: runtime.Version(), StartedAt: d.started,
		Socket: opts.Socket, State: opts.StateDir}
	if err := d.lock(); err != nil {
		return nil, err
	}
	if err := d.open(ctx); err != nil {
		return nil, err
	}
	if err := d.listen(ctx); err != nil {
		return nil, err
	}
	if err := d.listenMetrics(ctx); err != nil {
		return nil, err
	}
	d.server = api.New(api.Options{Service: service{d}, Metrics: d.metrics.Handler(), Logger: d.log})
	return d, nil
}

// lock takes the state directory.
func (d *Daemon) lock() error {
	if err := privateDir(d.opts.StateDir); err != nil {
		return fault.Wrap(fault.Storage, "make the state directory", err)
	}
	release, err := lockState(d.opts.StateDir)
	if err != nil {
		return err
	}
	d.done("lock", release)
	return nil
}

// open reads inventory and platforms and opens what is kept in the state
// directory.
func (d *Daemon) open(ctx context.Context) error {
	drivers, err := platforms(d.opts.Overrides)
	if err != nil {
		return err
	}
	d.drivers = map[string]device.Driver{}
	for _, driver := range drivers {
		d.drivers[driver.Platform()] = driver
		if d.opts.Tune != nil {
			d.opts.Tune(driver.Definition())
		}
		d.platforms = append(d.platforms, driver.Platform())
		if source := driver.Definition().Source; source != device.BuiltIn {
			d.log.Info("platform overridden", "platform", driver.Platform(), "file", source)
		}
	}
	inv, err := inventory.Load(d.opts.Inventory, inventory.Options{Platforms: d.platforms})
	if err != nil {
		return err
	}
	d.setInventory(inv)

	db, err := ledger.Open(d.opts.ledgerPath(), d.opts.ledgerOptions())
	if err != nil {
		return err
	}
	d.ledger = db
	d.done("ledger", db.Close)
	d.artifacts, err = artifact.Open(filepath.Join(d.opts.StateDir, "artifacts"), db, artifact.Options{Quota: d.opts.Upkeep.ArtifactQuota, Logger: d.log, Now: d.now})
	if err != nil {
		return err
	}
	d.overrides = override.New(d.opts.Overrides)
	dialer := sshconn.NewDialer(sshconn.Options{Logger: d.log})
	d.done("connections", dialer.Close)
	d.dialer = dialer
	secrets := &secret.Resolver{}
	d.done("secrets", func() error { secrets.Close(); return nil })
	d.history = history.New(db, d.opts.Upkeep.HistoryAge)
	ops := operations(parse.NewLibrary(d.opts.Overrides), dialer, d.definition, secrets, d.artifacts, &d.streams, d.rings(secrets, dialer, transfer.NewBuffers(0)), d.dossiers(secrets, dialer),
		history.NewOperation(d.history, d.caughtUp))
	d.operations = map[string]operation.Operation{}
	for _, op := range ops {
		d.operations[op.Name()] = op
	}
	limits, err := d.opts.Limits.WithDefaults()
	if err != nil {
		return err
	}
	d.metrics = d.newMetrics(db, limits)
	d.engine, err = jobs.Open(ctx, jobs.Options{
		Ledger: db,
		Runner: runner.New(runner.Options{Operations: ops, Drivers: drivers, Dialer: d.metrics.Dialer(dialer), Artifacts: d.artifacts,
			Logger: d.log, Now: d.now}),
		Limits: limits,
		Retry:  d.opts.Retry,
		Logger: d.log,
		Now:    d.now,
	})
	if err != nil {
		return err
	}
	return d.openDerived()
}

// setInventory puts an inventory into force. Jobs that exist keep the devices as
// they were resolved.
func (d *Daemon) setInventory(inv *inventory.Inventory) {
	d.inventory.Store(inv)
	const shown = 20
	warnings := inv.Warnings()
	for i, w := range warnings {
		if i == shown {
			d.log.Warn("inventory has more warnings", "left_out", len(warnings)-shown)
			break
		}
		d.log.Warn("inventory", "warning", w)
	}
}

// definition finds the definition in force of a platform.
func (d *Daemon) definition(platform string) (*device.Definition, bool) {
	driver, ok := d.drivers[platform]
	if !ok {
		return nil, false
	}
	return driver.Definition(), true
}

// listen binds the socket.
func (d *Daemon) listen(ctx context.Context) error {
	ln, remove, err := listen(ctx, d.opts.Socket, d.opts.SocketGroup)
	if err != nil {
		return err
	}
	d.listener = ln
	d.done("socket", func() error {
		// Serve has closed it if it ran.
		if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return errors.Join(err, remove())
		}
		return remove()
	})
	return nil
}

// Socket is the path of the socket.
func (d *Daemon) Socket() string { return d.opts.Socket }

// Run answers requests and does the work of jobs until ctx ends, and then stops
// in order: nothing new is accepted, streams of events end, running work is told
// to end and given a bounded time, and everything is closed. It returns nil when
// it was told to stop and may be called once.
func (d *Daemon) Run(ctx context.Context) (err error) {
	defer func() {
		if err = errors.Join(err, d.Close()); err == nil {
			d.log.Info("fleetd has stopped")
		}
	}()
	d.log.Info("fleetd is ready", "pid", os.Getpid(), "socket", d.opts.Socket, "state", d.opts.StateDir,
		"inventory", d.opts.Inventory, "devices", len(d.inventory.Load().Devices()))

	// The two end one after the other, so neither gets ctx itself.
	own := context.WithoutCancel(ctx)
	followQueue, err := d.followQueue(own)
	if err != nil {
		return err
	}
	serveCtx, stopServing := context.WithCancel(own)
	defer stopServing()
	workCtx, stopWork := context.WithCancel(own)
	defer stopWork()
	served, worked := make(chan error, 1), make(chan error, 1)
	var beside sync.WaitGroup
	beside.Go(func() { d.reload(serveCtx) })
	beside.Go(func() { d.upkeep(serveCtx) })
	beside.Go(func() { d.schedules.Run(serveCtx) })
	beside.Go(func() { d.assessAll(serveCtx) })
	beside.Go(func() { d.derive(serveCtx) })
	beside.Go(func() { d.notify.Run(serveCtx) })
	beside.Go(func() { d.watchdog(workCtx) })
	beside.Go(func() { d.serveMetrics(workCtx) })
	beside.Go(func() { followQueue(workCtx) })
	defer beside.Wait()
	defer stopWork()
	defer stopServing()
	go func() { served <- d.server.Serve(serveCtx, d.listener) }()
	go func() { worked <- d.engine.Run(workCtx) }()

	d.notifier.tell(d.serving(), "READY=1")
	select {
	case <-ctx.Done():
		d.log.Info("fleetd is stopping")
		d.notifier.tell("stopping", "STOPPING=1")
	case err := <-served: // before it was told to
		stopWork()
		return errors.Join(unexpected("the API", err), d.await(worked))
	case err := <-worked:
		stopServing()
		return errors.Join(unexpected("the engine", err), <-served)
	}
	stopServing()
	err = <-served // bounded by the server
	stopWork()
	return errors.Join(err, d.await(worked))
}

// await waits a bounded time for running work.
func (d *Daemon) await(worked <-chan error) error {
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case err := <-worked:
		return err
	case <-timer.C:
		return fault.New(fault.Timeout, "running work did not end within %v; it will be taken up at the next start", stopTimeout)
	}
}

func unexpected(part string, err error) error {
	if err == nil {
		err = errors.New("it ended by itself")
	}
	return fault.Wrap(fault.Internal, part+" failed", err)
}

// done remembers how to undo a step of New.
func (d *Daemon) done(name string, undo func() error) { d.undo = append(d.undo, step{name, undo}) }

// Close undoes New in reverse. Run does it itself; it is for a Daemon that is not
// run. It may be called twice.
func (d *Daemon) Close() error {
	d.closing.Lock()
	defer d.closing.Unlock()
	var errs []error
	for ; len(d.undo) > 0; d.undo = d.undo[:len(d.undo)-1] {
		s := d.undo[len(d.undo)-1]
		if err := s.undo(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", s.name, err))
		}
	}
	return errors.Join(errs...)
}
