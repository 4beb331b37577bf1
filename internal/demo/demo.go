// Package demo runs a simulated fleet and a fleetd that works with it in one
// process, with nothing to install and nothing to configure. It is what
// `fleetctl demo` stands on and what tests of the command line run against; what
// it joins is exactly what fleetd and `fleetctl sim` are apart.
package demo

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"capfleet/internal/daemon"
	"capfleet/internal/fault"
	"capfleet/internal/sim"
)

// Files in the directory of an Env, beside those of the simulated fleet.
const (
	stateDir     = "state"
	overridesDir = "overrides" // need not exist
	socketFile   = "fleetd.sock"
	logFile      = "fleetd.log"
)

// retryBase is shorter than fleetd's own: a device on loopback that refuses
// connections will not need seconds to come back.
const retryBase = 200 * time.Millisecond

// Options describe a demo.
type Options struct {
	// Dir holds everything: the simulated fleet, fleetd's state, socket and log. It
	// is created with owner-only rights; one that held a demo before continues it.
	Dir string
	// Devices is how many; 0 means as many as Dir held before, or the simulator's
	// default.
	Devices int
	// Faults are orders for the simulated fleet: DEVICE:FAULT[=ARGUMENT].
	Faults []string
	// Logger gets fleetd's log; nil writes it to Dir/fleetd.log.
	Logger *slog.Logger
}

// Env is a running demo. Its methods may be called from several goroutines.
type Env struct {
	fleet  *sim.Fleet
	daemon *daemon.Daemon
	log    *os.File // nil when the caller brought a logger

	cancel context.CancelFunc
	done   chan struct{} // closed once fleetd has stopped
	err    error         // how; set before done is closed
}

// Start starts the simulated fleet, then fleetd, and returns when a client can
// connect. Both run until ctx ends or Close is called; Close must be called in
// either case.
func Start(ctx context.Context, opts Options) (*Env, error) {
	if opts.Dir == "" {
		return nil, fault.New(fault.Invalid, "a demo needs a directory")
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, "find the demo's directory", err)
	}
	fleet, err := sim.New(sim.Options{Dir: dir, Devices: opts.Devices, Faults: opts.Faults})
	if err != nil {
		return nil, simError("plan the simulated fleet", err)
	}
	e := &Env{fleet: fleet, done: make(chan struct{})}
	if err := e.start(ctx, dir, opts.Logger); err != nil {
		return nil, err
	}
	return e, nil
}

// start brings up what New has planned and undoes it in reverse when it fails.
func (e *Env) start(ctx context.Context, dir string, log *slog.Logger) (err error) {
	var undo []func() error
	defer func() {
		if err == nil {
			return
		}
		for i := len(undo) - 1; i >= 0; i-- {
			err = errors.Join(err, undo[i]())
		}
	}()
	// The fleet ends after fleetd, in Close, so that work that is being stopped
	// still finds its devices.
	undo = append(undo, e.fleet.Close)
	if err := e.fleet.Start(context.WithoutCancel(ctx)); err != nil {
		return simError("start the simulated fleet", err)
	}
	if log == nil {
		e.log, err = os.OpenFile(filepath.Join(dir, logFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fault.Wrap(fault.Storage, "open the log", err)
		}
		undo = append(undo, e.log.Close)
		log = slog.New(slog.NewTextHandler(e.log, nil))
	}
	ctx, e.cancel = context.WithCancel(ctx)
	undo = append(undo, func() error { e.cancel(); return nil })
	opts := daemon.Options{
		StateDir:  filepath.Join(dir, stateDir),
		Inventory: e.fleet.Inventory(),
		Socket:    filepath.Join(dir, socketFile),
		Overrides: filepath.Join(dir, overridesDir),
		Logger:    log,
	}
	opts.Retry.Base = retryBase
	opts.Tune = quicken
	if e.daemon, err = daemon.New(ctx, opts); err != nil {
		return err
	}
	go func() {
		defer close(e.done)
		e.err = e.daemon.Run(ctx)
	}()
	return nil
}

// Fleet is the simulated fleet.
func (e *Env) Fleet() *sim.Fleet { return e.fleet }

// Socket is where fleetd listens.
func (e *Env) Socket() string { return e.daemon.Socket() }

// Stopped is closed once fleetd has stopped, by itself or because it was told to.
func (e *Env) Stopped() <-chan struct{} { return e.done }

// Close stops fleetd, then the fleet, and waits for both. It gives what fleetd
// ended with, if that was an error. It may be called twice.
func (e *Env) Close() error {
	e.cancel()
	<-e.done
	err := errors.Join(e.err, e.fleet.Close())
	if e.log != nil {
		if cerr := e.log.Close(); cerr != nil && !errors.Is(cerr, os.ErrClosed) {
			err = errors.Join(err, cerr)
		}
	}
	return err
}

func simError(act string, err error) error {
	kind := fault.Internal
	if errors.Is(err, sim.ErrInvalid) {
		kind = fault.Invalid
	}
	return fault.Wrap(kind, act, err)
}
