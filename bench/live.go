package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is the unit of /proc/PID/stat on every Linux that Go runs on.
const ticksPerSecond = 100

// benchLive holds a capture of 1 GB, from OpenSSH's sshd through fleetd to
// fleetctl, against ssh and cat. The device's tcpdump is a stand-in that writes a
// file, so that what is measured is the way and not the capturing.
func benchLive(ctx context.Context, o options, log io.Writer) (results []result, err error) {
	s, err := startSSHD(ctx, "SetEnv PATH=$BIN:/usr/local/bin:/usr/bin:/bin")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	file, err := standIn(s, gigabyte)
	if err != nil {
		return nil, err
	}
	inventory := fmt.Sprintf("version: 1\nknown_hosts: %s\ncredentials:\n  default: {username: %s, private_key: {file: %s}}\n"+
		"devices:\n  - {name: peer, platform: linux, address: \"127.0.0.1:%d\", credentials: default}\n",
		s.path("known_hosts"), s.dev.Credentials.Username, s.path("client"), s.dev.Port)
	socket, daemon, stop, err := s.serve(ctx, o, inventory)
	if err != nil {
		return nil, err
	}
	defer stop()
	var cpu [][2]float64
	var ours float64
	r, err := paired(ctx, log, "live capture of 1 GB / ssh cat", o.rounds, 1.15,
		func(ctx context.Context) (time.Duration, error) {
			before, err := cpuOf(daemon)
			if err != nil {
				return 0, err
			}
			took, own, err := timed(ctx, exec.CommandContext(ctx, filepath.Join(o.bin, "fleetctl"), "--server", socket, "-q",
				"capture", "live", "peer", "-i", "eth0", "-f", "tcp"), gigabyte)
			if err != nil {
				return 0, err
			}
			after, err := cpuOf(daemon)
			ours = own + after - before
			return took, err
		},
		func(ctx context.Context) (time.Duration, error) {
			args := append([]string{"-p", strconv.Itoa(s.dev.Port)}, s.args...)
			took, own, err := timed(ctx, exec.CommandContext(ctx, "ssh", append(args, s.dev.Credentials.Username+"@127.0.0.1", "cat", file)...), gigabyte)
			if err == nil {
				cpu = append(cpu, [2]float64{ours, own})
			}
			return took, err
		})
	if err != nil {
		return nil, err
	}
	memory, err := peakOf(daemon)
	if err != nil {
		return nil, err
	}
	const most = 150e6
	return []result{r, compare("its CPU, fleetd and fleetctl / ssh", cpu[1:], 2.0), {
		name: "fleetd's memory at its peak", ours: fmt.Sprintf("%.0f MB", memory/1e6), peer: fmt.Sprintf("%.0f MB", most/1e6),
		ratio: memory / most, spread: "one run", goal: "at most 1", ok: memory <= most,
	}}, nil
}

// timed runs a command whose output is thrown away and must have a size. CPU is in
// seconds.
func timed(ctx context.Context, cmd *exec.Cmd, size int64) (took time.Duration, cpu float64, err error) {
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{out}, make([]byte, 256<<10))
	err = errors.Join(err, cmd.Wait())
	took = time.Since(begin)
	if err == nil && (n < size || n > size+size/100) {
		err = fmt.Errorf("%d bytes came, want %d", n, size)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, errs.String())
	}
	return took, (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), ctx.Err()
}

// standIn writes a capture of packets as a busy link has them, and a tcpdump that
// gives it.
func standIn(s *sshd, size int) (file string, err error) {
	file = s.path("file.pcap")
	f, err := os.Create(file)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	b = append(b, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0)
	payload := make([]byte, 1514)
	for written, i := 0, 0; written < size; i++ {
		n := []int{66, 1514, 1514, 590}[i%4]
		for _, v := range []int{1_700_000_000 + i/100_000, i % 100_000 * 10, n, n} {
			b = binary.LittleEndian.AppendUint32(b, uint32(v)) //nolint:gosec // all below 2^32
		}
		b = append(b, payload[:n]...)
		written += 16 + n
		if len(b) > 1<<20 || written >= size {
			if _, err := f.Write(b); err != nil {
				return "", err
			}
			b = b[:0]
		}
	}
	if err := os.Mkdir(s.path("bin"), 0o700); err != nil {
		return "", err
	}
	script := "#!/bin/sh\ncase $1 in -h) echo 'tcpdump [-U]'; exit ;; -D) echo 1.eth0; exit ;; esac\n" +
		"for a; do [ \"$a\" = -d ] && exit; done\nexec cat " + file + "\n"
	return file, os.WriteFile(s.path("bin/tcpdump"), []byte(script), 0o700) //nolint:gosec // it is to be run
}

// cpuOf gives the CPU time of a process in seconds.
func cpuOf(pid int) (float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(f))
	}
	user, err := strconv.ParseFloat(f[11], 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseFloat(f[12], 64)
	return (user + system) / ticksPerSecond, err
}

// peakOf gives the largest memory that a process has had, in bytes.
func peakOf(pid int) (float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" {
			kib, err := strconv.ParseFloat(f[1], 64)
			return kib * 1024, err
		}
	}
	return 0, errors.New("the system does not say how much memory fleetd has")
}
