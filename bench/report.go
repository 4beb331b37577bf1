package main

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"capfleet/internal/api/client"
)

//go:embed *.py
var scripts embed.FS

// peer is something that does what fleetctl report does.
type peer struct {
	name   string
	goal   float64
	rounds int
	run    func(context.Context, options, *fleet) (time.Duration, error)
}

// benchReport compares with what is quick to measure.
func benchReport(ctx context.Context, o options, log io.Writer) ([]result, error) {
	return benchReports(ctx, o, log,
		peer{"shell loop", 2.0, o.rounds, func(ctx context.Context, o options, f *fleet) (time.Duration, error) {
			return shellLoop(ctx, f.probes, o.workers)
		}},
		peer{"xargs -P64 ssh", 0.25, min(o.rounds, 5), xargsOnce})
}

// benchNetmiko takes most of a minute for each round.
func benchNetmiko(ctx context.Context, o options, log io.Writer) ([]result, error) {
	return benchReports(ctx, o, log, peer{"netmiko, pool of 32", 0.01, min(o.rounds, 3), netmikoOnce})
}

// benchReports measures what an operator waits for: fleetctl report, with
// parsing and the ledger, through a fleetd that runs already.
func benchReports(ctx context.Context, o options, log io.Writer, peers ...peer) (results []result, err error) {
	f, err := startFleet(ctx, o, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	socket, stop, err := startDaemon(ctx, o, f)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()

	ours := func(ctx context.Context) (time.Duration, error) { return reportOnce(ctx, o, f, socket) }
	for _, p := range peers {
		r, err := paired(ctx, log, "fleetctl report / "+p.name, p.rounds, p.goal, ours,
			func(ctx context.Context) (time.Duration, error) { return p.run(ctx, o, f) })
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	return results, nil
}

// startDaemon runs the real fleetd beside the fleet, with more arguments, and waits
// until it answers.
func startDaemon(ctx context.Context, o options, f *fleet, more ...string) (socket string, stop func() error, err error) {
	socket = filepath.Join(f.dir, "d.sock")
	args := append([]string{"--inventory", filepath.Join(f.dir, "inventory.yaml"), "--state", filepath.Join(f.dir, "state"),
		"--socket", socket, "--log-level", "error", "--limit", strconv.Itoa(o.workers), "--limit-per-site", strconv.Itoa(o.workers)}, more...)
	cmd := exec.CommandContext(ctx, filepath.Join(o.bin, "fleetd"), args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		return cmd.Wait()
	}
	c, err := client.New(socket)
	if err != nil {
		return "", nil, errors.Join(err, stop())
	}
	deadline, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := c.Version(deadline); err == nil {
			return socket, stop, nil
		}
		select {
		case <-tick.C:
		case <-deadline.Done():
			return "", nil, errors.Join(errors.New("fleetd did not answer"), stop())
		}
	}
}

func reportOnce(ctx context.Context, o options, f *fleet, socket string) (time.Duration, error) {
	args := make([]string, 0, 3+len(f.probes))
	args = append(args, "report", "filesystem", "-o", "json")
	for _, t := range f.probes {
		args = append(args, t.name)
	}
	begin := time.Now()
	cmd := exec.CommandContext(ctx, filepath.Join(o.bin, "fleetctl"), args...)
	cmd.Env = append(os.Environ(), "FLEET_SERVER="+socket)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("%w: %s", err, tail(stderr.String()))
	}
	took := time.Since(begin)
	var got struct {
		Rows     []struct{ Device string }
		Failures []any
	}
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
		return 0, err
	}
	devices := map[string]bool{}
	for _, r := range got.Rows {
		devices[r.Device] = true
	}
	if len(devices) != len(f.probes) || len(got.Failures) > 0 {
		return 0, fmt.Errorf("%d of %d devices, %d failures", len(devices), len(f.probes), len(got.Failures))
	}
	return took, nil
}

// xargsOnce is the loose script: the commands piped into ssh, 64 at a time. ssh
// uses the configuration and the key that the simulator wrote.
func xargsOnce(ctx context.Context, o options, f *fleet) (time.Duration, error) {
	var names strings.Builder
	for _, t := range f.probes {
		names.WriteString(t.name + "\n")
	}
	script := `printf '%s\n' "$3" "$4" "$5" exit exit | ssh -tt -q -F "$1/ssh_config" -o BatchMode=yes "$2"`
	args := append([]string{"-P" + strconv.Itoa(o.workers), "-I{}", "sh", "-c", script, "sh", f.dir, "{}"}, commands()...)
	begin := time.Now()
	cmd := exec.CommandContext(ctx, "xargs", args...)
	cmd.Stdin = strings.NewReader(names.String())
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	took := time.Since(begin)
	if n := strings.Count(stdout.String(), "Bytes Usable"); n < len(f.probes) {
		return 0, fmt.Errorf("xargs ssh read %d of %d devices: %w %s", n, len(f.probes), err, tail(stderr.String()))
	}
	return took, nil
}

func netmikoOnce(ctx context.Context, _ options, f *fleet) (time.Duration, error) {
	script, err := scripts.ReadFile("netmiko_pool.py")
	if err != nil {
		return 0, err
	}
	var lines strings.Builder
	for _, t := range f.probes {
		fmt.Fprintf(&lines, "%s %d %s %s\n", t.dev.Host, t.dev.Port, t.user, t.password)
	}
	begin := time.Now()
	cmd := exec.CommandContext(ctx, "/usr/bin/python3", "-c", string(script), "32")
	cmd.Stdin = strings.NewReader(lines.String())
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("%w: %s", err, tail(stderr.String()))
	}
	took := time.Since(begin)
	if n, err := strconv.Atoi(strings.TrimSpace(stdout.String())); err != nil || n < 200*len(f.probes) {
		return 0, fmt.Errorf("netmiko read too little: %q", stdout.String())
	}
	return took, nil
}

// tail is the end of a process's complaint.
func tail(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "; ")
}
