package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"capfleet/internal/device"
	"capfleet/internal/device/endace"
	"capfleet/internal/device/sshconn"
)

// benchCLI measures connect, the three commands and close, without jobs, parsing
// and ledger; with a device that answers at once and with one that takes 20 ms a
// turn.
func benchCLI(ctx context.Context, o options, log io.Writer) (results []result, err error) {
	for _, c := range []struct {
		turn time.Duration
		goal float64
	}{{0, 1.5}, {20 * time.Millisecond, 1.3}} {
		r, err := benchTurns(ctx, o, log, c.turn, c.goal)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	return results, nil
}

func benchTurns(ctx context.Context, o options, log io.Writer, turn time.Duration, goal float64) (r result, err error) {
	f, err := startFleet(ctx, o, turn)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	p, err := newPath()
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	name := fmt.Sprintf("CLI path, %d devices, %d at once, %v a turn / shell loop", o.devices, o.workers, turn)
	return paired(ctx, log, name, o.rounds, goal,
		func(ctx context.Context) (time.Duration, error) { return p.all(ctx, f.probes, o.workers) },
		func(ctx context.Context) (time.Duration, error) { return shellLoop(ctx, f.probes, o.workers) })
}

// path is our side: dialer and driver as the daemon has them.
type path struct {
	dialer *sshconn.Dialer
	driver device.Driver
}

func newPath() (*path, error) {
	driver, err := endace.New("")
	if err != nil {
		return nil, err
	}
	return &path{dialer: sshconn.NewDialer(sshconn.Options{}), driver: driver}, nil
}

func (p *path) close() error { return p.dialer.Close() }

func (p *path) all(ctx context.Context, targets []target, workers int) (time.Duration, error) {
	begin := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for _, t := range targets {
		g.Go(func() error { return p.once(ctx, t.dev) })
	}
	err := g.Wait()
	return time.Since(begin), err
}

func (p *path) once(ctx context.Context, dev *device.Device) error {
	conn, err := p.dialer.Dial(ctx, dev)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	session, err := p.driver.Open(ctx, dev, conn)
	if err != nil {
		return err
	}
	out, err := session.Run(ctx, device.Command{Line: "show files system"})
	if err != nil {
		return err
	}
	if !strings.Contains(out.Text, "Bytes Usable") {
		return fmt.Errorf("%s: unexpected output %.80q", dev.Name, out.Text)
	}
	return session.Close()
}

// benchWaiting opens 500 sessions, runs a command on each that takes seconds to
// answer, and counts the processor time of this process meanwhile. There is no
// peer: the goal is a share of one core.
func benchWaiting(ctx context.Context, o options, log io.Writer) (results []result, err error) {
	const (
		sessions = 500
		turn     = 8 * time.Second
		window   = 5 * time.Second
		goal     = 0.05
	)
	o.devices = sessions
	f, err := startFleet(ctx, o, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	p, err := newPath()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()

	open := make([]device.Session, sessions)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(o.workers)
	for i, t := range f.probes {
		g.Go(func() error {
			conn, err := p.dialer.Dial(gctx, t.dev)
			if err != nil {
				return err
			}
			open[i], err = p.driver.Open(gctx, t.dev, conn)
			return err
		})
	}
	err = g.Wait()
	defer func() {
		for _, s := range open {
			if s != nil {
				_ = s.Conn().Close()
			}
		}
	}()
	if err != nil {
		return nil, err
	}
	if err := f.slow(ctx, turn); err != nil {
		return nil, err
	}

	var answered atomic.Int64
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	var wait errgroup.Group
	for _, s := range open {
		wait.Go(func() error {
			if _, err := s.Run(work, device.Command{Line: "show files system"}); err == nil {
				answered.Add(1)
			}
			return nil
		})
	}
	// Typing 500 commands is work, waiting for 500 answers is what is measured.
	if err := pause(ctx, time.Second); err != nil {
		return nil, err
	}
	runtime.GC()
	before, begin := cpuTime(), time.Now()
	if err := pause(ctx, window); err != nil {
		return nil, err
	}
	cores := (cpuTime() - before).Seconds() / time.Since(begin).Seconds()
	early := answered.Load()
	cancel()
	_ = wait.Wait()
	if early > 0 {
		return nil, fmt.Errorf("%d of %d sessions were answered before the window ended", early, sessions)
	}
	fmt.Fprintf(log, "   %d sessions waiting: %.4f cores\n", sessions, cores)
	return []result{{name: fmt.Sprintf("%d sessions waiting for output, cores used", sessions),
		ours: fmt.Sprintf("%.4f", cores), peer: "none", ratio: cores, spread: "one run",
		goal: fmt.Sprintf("at most %g", goal), ok: cores <= goal}}, nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// cpuTime is the processor time that this process has used.
func cpuTime() time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}
