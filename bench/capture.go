package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"capfleet/internal/pcap/corpus"
)

// captureSize is the size of each corpus: large enough that starting a process does
// not count, and small enough to stay in the page cache.
const captureSize = 1_000_000_000

// captures are the corpora of the comparisons.
type captures struct {
	full string // packets of about 900 bytes
	head string // the same traffic, of which 118 bytes a packet were captured
}

func writeCaptures(dir string, log io.Writer) (captures, error) {
	c := captures{filepath.Join(dir, "full.pcap"), filepath.Join(dir, "headers.pcap")}
	for path, spec := range map[string]corpus.Spec{
		c.full: {Seed: 1, Bytes: captureSize},
		c.head: {Seed: 1, Bytes: captureSize, SnapLen: 118, NoAcknowledgements: true},
	} {
		f, err := os.Create(path)
		if err != nil {
			return c, err
		}
		truth, err := corpus.Write(f, spec)
		if err == nil {
			err = f.Sync()
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return c, err
		}
		// Captures are read long after they were written.
		hourAgo := time.Now().Add(-time.Hour)
		if err := os.Chtimes(path, hourAgo, hourAgo); err != nil {
			return c, err
		}
		fmt.Fprintf(log, "   %s: %d packets, %d sessions, %d headers\n", filepath.Base(path), truth.Packets, len(truth.Sessions), len(truth.Forwarded))
	}
	return c, nil
}

// usage is what a process took.
type usage struct {
	wall, cpu time.Duration
	peak      int64 // bytes of memory
}

// took runs a program to its end, without its output.
func took(ctx context.Context, name string, args ...string) (usage, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	begin := time.Now()
	err := cmd.Run()
	u := usage{wall: time.Since(begin)}
	if err != nil {
		return u, fmt.Errorf("%s %v: %w", name, args, err)
	}
	u.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if r, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.peak = r.Maxrss << 10
	}
	return u, nil
}

// contest is two programs for the same work.
type contest struct {
	name       string
	rounds     int
	wall, cpu  float64 // goals; 0 means none
	ours, peer []string
	before     func() error // of each
}

// run measures both in turn, after an uncounted round, and gives a line for the time
// and one for that of the processors.
func (c contest) run(ctx context.Context, log io.Writer) (results []result, peak int64, err error) {
	var walls, cpus [][2]float64
	for i := -1; i < c.rounds; i++ {
		var u [2]usage
		for side, line := range [][]string{c.ours, c.peer} {
			if c.before != nil {
				if err := c.before(); err != nil {
					return nil, 0, err
				}
			}
			if u[side], err = took(ctx, line[0], line[1:]...); err != nil {
				return nil, 0, err
			}
		}
		fmt.Fprintf(log, "   %s: ours %v (cpu %v), peer %v (cpu %v)\n", c.name, u[0].wall.Round(time.Millisecond), u[0].cpu.Round(time.Millisecond),
			u[1].wall.Round(time.Millisecond), u[1].cpu.Round(time.Millisecond))
		peak = max(peak, u[0].peak)
		if i >= 0 {
			walls = append(walls, [2]float64{u[0].wall.Seconds(), u[1].wall.Seconds()})
			cpus = append(cpus, [2]float64{u[0].cpu.Seconds(), u[1].cpu.Seconds()})
		}
	}
	if c.wall > 0 {
		results = append(results, compare(c.name, walls, c.wall))
	}
	if c.cpu > 0 {
		results = append(results, compare(c.name+", processor time", cpus, c.cpu))
	}
	return results, peak, nil
}

// benchCaptures compares the analyses of captures with the tools that do the same,
// and with merely reading the file.
func benchCaptures(ctx context.Context, o options, log io.Writer) (results []result, err error) {
	dir, err := os.MkdirTemp("", "fleet-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	c, err := writeCaptures(dir, log)
	if err != nil {
		return nil, err
	}
	fleetctl := filepath.Join(o.bin, "fleetctl")
	audit := func(file string) []string { return []string{fleetctl, "pcap", "tls-audit", "-o", "csv", file} }
	search := []string{fleetctl, "pcap", "xff", "--ip", corpus.Address4, "-o", "csv", c.full}
	info := []string{fleetctl, "pcap", "info", "--no-hash", "-o", "json", c.full}
	tshark := []string{
		"tshark", "-n", "-r", c.full, "-Y", "tls.handshake.type == 1 or tls.handshake.type == 2", "-T", "fields", "-e", "ip.src", "-e", "ip.dst",
		"-e", "tls.handshake.version", "-e", "tls.handshake.extensions.supported_version", "-e", "tls.handshake.extensions_server_name",
	}
	var memory int64
	for _, one := range []contest{
		{name: "pcap tls-audit, 1 GB / cat", rounds: o.rounds, wall: 1, cpu: 1.3, ours: audit(c.full), peer: []string{"cat", c.full}},
		{name: "pcap tls-audit, 1 GB of headers / cat", rounds: o.rounds, wall: 2, ours: audit(c.head), peer: []string{"cat", c.head}},
		{name: "pcap xff, 1 GB / rg -c -a -i", rounds: o.rounds, wall: 1, ours: search, peer: []string{"rg", "-c", "-a", "-i", `x-forwarded-for:.*\b203\.0\.113\.77\b`, c.full}},
		{name: "pcap xff, 1 GB / rg -c -a of the address", rounds: o.rounds, wall: 1, ours: search, peer: []string{"rg", "-c", "-a", "-F", corpus.Address4, c.full}},
		{name: "pcap info, 1 GB / capinfos", rounds: o.rounds, wall: 0.6, ours: info, peer: []string{"capinfos", "-c", "-d", "-u", "-a", "-e", "-y", "-i", "-x", c.full}},
		{name: "pcap tls-audit, 1 GB, cold / cat", rounds: min(o.rounds, 5), wall: 1.3, ours: audit(c.full), peer: []string{"cat", c.full}, before: func() error { return forget(c.full) }},
		{name: "pcap tls-audit, 1 GB / tshark", rounds: 1, wall: 1.0 / 150, ours: audit(c.full), peer: tshark},
	} {
		rs, peak, err := one.run(ctx, log)
		if err != nil {
			return nil, err
		}
		memory = max(memory, peak)
		results = append(results, rs...)
	}
	const allowed = 200 << 20
	results = append(results, result{
		name: "pcap, most memory of any run / 200 MiB", ours: fmt.Sprintf("%d MiB", memory>>20), peer: "none", ratio: float64(memory) / allowed,
		spread: "all runs", goal: "at most 1", ok: memory <= allowed,
	})
	return results, nil
}

// forget drops a file from the page cache.
func forget(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return fmt.Errorf("drop %s from the page cache: %w", path, err)
	}
	return nil
}
