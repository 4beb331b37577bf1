package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What is asked of the rings of a fleet: fifty devices begin within ringSkew, and are
// stopped within ringStop of a trigger.
const (
	ringDevices = 50
	ringSkew    = 100 * time.Millisecond
	ringStop    = 2 * time.Second
	ringPatient = 5 * time.Minute
)

// benchRings begins rings on fifty devices and lets a line of a log stop them. The
// devices are names of one OpenSSH sshd, each with a connection, a tcpdump and a reader
// of the log of its own, so that processes and times are the system's; the simulator's
// devices have no processes whose birth and death could be looked at. All of them share
// this machine's cores, which a fleet does not.
func benchRings(ctx context.Context, o options, log io.Writer) (results []result, err error) {
	s, err := startSSHD(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	var inventory strings.Builder
	fmt.Fprintf(&inventory, "version: 1\nknown_hosts: %s\nsites:\n  a: {}\n  b: {}\ncredentials:\n  default: {username: %s, private_key: {file: %s}}\ndevices:\n",
		s.path("known_hosts"), s.dev.Credentials.Username, s.path("client"))
	for i := range ringDevices {
		fmt.Fprintf(&inventory, "  - {name: d%02d, site: %c, platform: linux, address: \"127.0.0.1:%d\", credentials: default, ssh: {connect_timeout: 3m, command_timeout: 3m}}\n", i, 'a'+rune(i%2), s.dev.Port)
	}
	socket, _, stop, err := s.serve(ctx, o, inventory.String())
	if err != nil {
		return nil, err
	}
	defer stop()
	r := rings{ctl: func(ctx context.Context, args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, filepath.Join(o.bin, "fleetctl"), append([]string{"--server", socket}, args...)...)
		out, err := cmd.Output()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("fleetctl %s: %w: %s", args[0], err, exit.Stderr)
		}
		return out, err
	}}
	var skews, stops []float64
	for round := range min(o.rounds, 5) {
		r.dir, r.log = s.path(fmt.Sprintf("rings%d", round)), s.path(fmt.Sprintf("messages%d", round))
		skew, stop, err := r.round(ctx)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(log, "   %d rings: began within %v, stopped %v after the trigger\n", ringDevices, skew.Round(time.Millisecond), stop.Round(time.Millisecond))
		skews, stops = append(skews, skew.Seconds()), append(stops, stop.Seconds())
	}
	return []result{
		against(fmt.Sprintf("start of %d rings, first to last", ringDevices), skews, ringSkew),
		against(fmt.Sprintf("trigger to all %d rings stopped", ringDevices), stops, ringStop),
	}, nil
}

// against gives the line for seconds that have a goal and no peer.
func against(name string, seconds []float64, goal time.Duration) result {
	m := median(seconds) / goal.Seconds()
	return result{name: name, ours: fmt.Sprintf("%.3f s", median(seconds)), peer: "none", ratio: m,
		spread: fmt.Sprintf("%.3f to %.3f s", slices.Min(seconds), slices.Max(seconds)), goal: fmt.Sprintf("at most %v", goal), ok: m <= 1}
}

// rings are those of one round.
type rings struct {
	ctl      func(ctx context.Context, args ...string) ([]byte, error)
	dir, log string
}

// round begins the rings and stops them: skew is between the moments at which the first
// and the last tcpdump made its file, stop from writing the line to the end of the last
// tcpdump.
func (r *rings) round(ctx context.Context) (skew, stop time.Duration, err error) {
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		return 0, 0, err
	}
	if err := os.WriteFile(r.log, nil, 0o600); err != nil {
		return 0, 0, err
	}
	out, err := r.ctl(ctx, "capture", "start", "--all", "--on", "lo=udp port 9", "--ring", "2x1MB", "--min-free", "0", "--dir", r.dir,
		"--until-log", "TRIGGER", "--log", r.log, "--after", "0s", "--limit", "15m", "--detach")
	if err != nil {
		return 0, 0, err
	}
	job := strings.TrimSpace(string(out))
	var files []string
	if err := until(ctx, func() (bool, error) {
		if files, err = filepath.Glob(filepath.Join(r.dir, "*", "*.pcap0")); err != nil {
			return false, err
		}
		return len(files) == ringDevices, r.ended(ctx, job)
	}); err != nil {
		return 0, 0, fmt.Errorf("%d of %d rings began: %w", len(files), ringDevices, err)
	}
	if skew, err = births(files); err != nil {
		return 0, 0, err
	}
	captures, err := r.captures()
	if err != nil {
		return 0, 0, err
	}
	defer func() {
		for _, fd := range captures {
			_ = unix.Close(fd)
		}
	}()
	if len(captures) != ringDevices {
		said, err := r.ctl(ctx, "job", "show", job)
		return 0, 0, errors.Join(fmt.Errorf("%d tcpdumps run, want %d; the job is:\n%s", len(captures), ringDevices, said), err)
	}
	// The logs are followed a moment later.
	if err := pause(ctx, 5*time.Second); err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	if err := os.WriteFile(r.log, []byte("the TRIGGER\n"), 0o600); err != nil {
		return 0, 0, err
	}
	for _, fd := range captures {
		if err := gone(fd, ringPatient); err != nil {
			return 0, 0, err
		}
	}
	stop = time.Since(begin)
	_, err = r.ctl(ctx, "-q", "job", "watch", job)
	return skew, stop, err
}

// ended is an error when the job has ended, too early.
func (r *rings) ended(ctx context.Context, job string) error {
	out, err := r.ctl(ctx, "job", "show", job, "-o", "json")
	if err != nil {
		return err
	}
	var shown struct {
		FinishedAt *time.Time `json:"finished_at"`
	}
	if err := json.Unmarshal(out, &shown); err != nil {
		return err
	}
	if shown.FinishedAt != nil {
		return fmt.Errorf("job %s has ended: %s", job, out)
	}
	return nil
}

// births gives the time between the first and the last birth of files.
func births(files []string) (time.Duration, error) {
	var first, last time.Time
	for i, name := range files {
		var st unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, name, 0, unix.STATX_BTIME, &st); err != nil {
			return 0, fmt.Errorf("see when %s was made: %w", name, err)
		}
		if st.Mask&unix.STATX_BTIME == 0 {
			return 0, fmt.Errorf("the file system of %s does not say when a file was made", name)
		}
		at := time.Unix(st.Btime.Sec, int64(st.Btime.Nsec))
		if i == 0 || at.Before(first) {
			first = at
		}
		if at.After(last) {
			last = at
		}
	}
	return last.Sub(first), nil
}

// captures gives a handle of each tcpdump that writes below the directory.
func (r *rings) captures() ([]int, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var fds []int
	for _, dir := range dirs {
		line, err := os.ReadFile(filepath.Join(dir, "cmdline")) // processes come and go
		if err != nil || !strings.HasPrefix(string(line), "tcpdump\x00") || !strings.Contains(string(line), r.dir+"/") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return nil, err
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return fds, fmt.Errorf("watch process %d: %w", pid, err)
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

// gone waits for the end of a process.
func gone(fd int, patience time.Duration) error {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds())) //nolint:gosec // a file descriptor
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n == 0:
			return fmt.Errorf("a tcpdump still runs %v after the trigger", patience)
		default:
			return nil
		}
	}
}

// until asks again and again until it is so.
func until(ctx context.Context, so func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, ringPatient)
	defer cancel()
	for {
		yes, err := so()
		if yes || err != nil {
			return err
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
}
