package daemon

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/ledger"
	"capfleet/internal/metrics"
)

// newMetrics makes the collectors. They ask the parts of the daemon at each
// scrape, which comes when all of them are there.
func (d *Daemon) newMetrics(db *ledger.DB, limits jobs.Limits) *metrics.Metrics {
	m := metrics.New(metrics.Options{
		Version:    d.version.Version,
		Commit:     d.version.Commit,
		Go:         d.version.Go,
		Operations: slices.Sorted(maps.Keys(d.operations)),
		Limits:     limits,
		Queue:      func(ctx context.Context) (jobs.Stats, error) { return d.engine.Stats(ctx) },
		Ledger:     db.Stats,
		Fleet:      d.fleetFigures,
		Capacity:   d.capacityFigures,
		Outbox:     d.outboxFigures,
		Logger:     d.log,
	})
	m.InventoryRead(d.now(), nil)
	return m
}

// fleetFigures counts the devices of the inventory by platform.
func (d *Daemon) fleetFigures(ctx context.Context) (map[string]metrics.Fleet, error) {
	facts, err := d.engine.AllDeviceFacts(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[string]metrics.Fleet, len(d.platforms))
	for _, p := range d.platforms {
		out[p] = metrics.Fleet{}
	}
	for _, dev := range d.inventory.Load().Devices() {
		f := out[dev.Platform]
		f.Devices++
		known, err := facts.Of(dev.Name)
		if err != nil {
			return nil, err
		}
		if known.LastError != "" {
			f.Failing++
		}
		out[dev.Platform] = f
	}
	return out, nil
}

// listenMetrics binds the TCP address on which metrics, and nothing else, are
// served besides the socket.
func (d *Daemon) listenMetrics(ctx context.Context) error {
	if d.opts.MetricsAddress == "" {
		return nil
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", d.opts.MetricsAddress)
	if err != nil {
		return fault.Wrap(fault.Invalid, "listen for metrics", err)
	}
	d.scrapes = ln
	d.done("metrics", func() error {
		if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	if !ln.Addr().(*net.TCPAddr).IP.IsLoopback() {
		d.log.Warn("metrics are open to the network, without a login", "address", ln.Addr().String())
	}
	return nil
}

// MetricsAddress is where metrics are served over TCP, or "".
func (d *Daemon) MetricsAddress() string {
	if d.scrapes == nil {
		return ""
	}
	return d.scrapes.Addr().String()
}

// serveMetrics answers scrapes over TCP until ctx ends.
func (d *Daemon) serveMetrics(ctx context.Context) {
	if d.scrapes == nil {
		return
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", d.metrics.Handler())
	hs := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(d.log.Handler(), slog.LevelWarn),
	}
	stop := context.AfterFunc(ctx, func() { _ = hs.Close() }) // a scrape can be cut
	defer stop()
	if err := hs.Serve(d.scrapes); !errors.Is(err, http.ErrServerClosed) {
		d.log.Error("metrics are not served over TCP any more", "err", err)
	}
}

// followQueue counts what happens to jobs from now on. It is called before work
// begins; what it returns runs until its context ends.
func (d *Daemon) followQueue(ctx context.Context) (func(context.Context), error) {
	stats, err := d.engine.Stats(ctx)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) { d.metrics.Follow(ctx, d.engine, stats.LastEvent) }, nil
}
