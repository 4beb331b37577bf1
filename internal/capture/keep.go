package capture

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// Keep is a process on a device that never stays longer than it is wanted. It is
// started over SSH exec, without a PTY, by a shell script of ours (keep.sh) that
// does on the device what nobody can do from here once we are gone:
//
//   - The process records its PID and its time of birth before it becomes the
//     command, in a folder that only its user can enter, in memory where there is
//     such a place. Nothing else is ever signalled: a PID that was given to another
//     process has another time of birth, a record of an earlier boot has another
//     boot id. Where nothing can be recorded, nothing is started.
//   - A guard ends it when Limit has passed. It counts by the time since boot, so a
//     clock that is set does not matter, and needs no timeout(1).
//   - A live process ends when its standard input does. sshd closes that when the
//     connection is gone, also after a kill -9 of fleetd. OpenSSH takes no signal for
//     a root login, and a tcpdump that sees no packet would not notice a closed
//     output, so neither is relied upon. A link that died without a word is noticed
//     by Lease: we send a line every so often, and the guard ends what has not heard
//     one.
//   - A ring (Detached) outlives the connection. Its guard ends it at Limit and
//     before the disk is full (Floor).
//   - Reap, after a reconnect, ends runs by name, and whatever is overdue because
//     even the guard was killed.
//
// SIGINT comes first, so that tcpdump writes out its buffer and its counts;
// SIGTERM and SIGKILL follow after a second each.
type Keep struct {
	// ID names the run on the device: 1 to 64 letters, digits and dashes. A new run
	// has a new one.
	ID string
	// Args is the command, by name or absolute path; nothing in it is seen by a shell.
	Args []string
	// Limit is how long it may run, in whole seconds rounded up.
	Limit time.Duration
	// Lease is how long a live run goes on without hearing from us; 0 is
	// DefaultLease. Rings have none.
	Lease time.Duration
	// Floor is the free space in KiB on the file system of Place below which it is
	// ended; 0 is none.
	Floor int64
	Place string
	// Before is a shell command that must succeed before it starts, After one that
	// undoes it once it has ended: on the device, by whoever is left to do it (the
	// script, its guard or Reap). Both are constants of ours and never hold input.
	Before, After string
	// Log is the file that gets the output of a ring.
	Log string
	// Sudo runs all of it as root through sudo -n.
	Sudo bool
}

const (
	// DefaultLease is how long a capture goes on without hearing from fleetd.
	DefaultLease = 30 * time.Second
	// guardPause is between two looks of the guard.
	guardPause = 5 * time.Second
	// beatsPerLease is how often we send a line within a lease.
	beatsPerLease = 5
	// endGrace is how long the device is given to end a run that was told to.
	endGrace = 15 * time.Second
	// maxSaid bounds what is kept of a command's stderr.
	maxSaid = 32 << 10
)

//go:embed keep.sh
var keepText string

var runID = regexp.MustCompile(`\A[A-Za-z0-9-]{1,64}\z`)

// script is keep.sh without its comments.
func script() string {
	var b strings.Builder
	for line := range strings.Lines(keepText) {
		if !strings.HasPrefix(strings.TrimLeft(line, "\t"), "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// keepArgs is the command line that runs a verb of the script.
func keepArgs(sudo bool, args ...string) []string {
	line := []string{"sh", "-c", `script=$1; shift; eval "$script"`, "capfleet", script()}
	if sudo {
		line = append([]string{"sudo", "-n"}, line...)
	}
	return append(line, args...)
}

func (k Keep) args(verb string) ([]string, error) {
	switch {
	case !runID.MatchString(k.ID):
		return nil, fault.New(fault.Internal, "%q does not name a run", k.ID)
	case len(k.Args) == 0:
		return nil, fault.New(fault.Internal, "run %s has no command", k.ID)
	case k.Limit <= 0:
		return nil, fault.New(fault.Invalid, "run %s has no time limit", k.ID)
	case k.Lease < 0 || k.Floor < 0:
		return nil, fault.New(fault.Internal, "run %s has a negative limit", k.ID)
	}
	args := []string{verb}
	lease := k.Lease
	if verb == "ring" {
		args, lease = append(args, k.Log), 0
	}
	pause := guardPause
	if lease > 0 {
		pause = min(pause, lease/2)
	}
	args = append(args, k.ID, seconds(k.Limit), seconds(lease), seconds(max(pause, time.Second)),
		strconv.FormatInt(k.Floor, 10), k.Place, k.Before, k.After)
	return keepArgs(k.Sudo, append(args, k.Args...)...), nil
}

// seconds rounds up: a limit of half a second is not none.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// Ended says how a live run ended.
type Ended struct {
	// Status is the command's exit status; -1 where the device did not say.
	Status int
	// Why is set when the guard ended it: limit, lease or floor.
	Why string
	// Said is what the command wrote to stderr, cleaned and bounded.
	Said string
}

// Live runs k until it ends by itself, stop is closed or ctx ends, and gives its
// standard output to out as it comes. In each case it returns after the process
// has ended on the device, or after 15 s at the most. What still comes after the
// stop is passed on: tcpdump's buffer. An error of out ends the run.
//
// The error is Disconnected when the connection was cut: then the device ends the
// run within the lease. ctx ending is no error of the run's.
func (k Keep) Live(ctx context.Context, conn device.Conn, out io.Writer, stop <-chan struct{}) (Ended, error) {
	if k.Lease == 0 {
		k.Lease = DefaultLease
	}
	args, err := k.args("live")
	if err != nil {
		return Ended{Status: -1}, err
	}
	// The run is ended through its input, so that its counts are still heard.
	execCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	input, beat := io.Pipe()
	defer func() { _ = input.Close() }()
	said := &listener{ended: make(chan struct{})}
	failing := &failingWriter{w: out, failed: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() { _ = beat.Close() }()
		pause := time.NewTicker(max(k.Lease/beatsPerLease, 100*time.Millisecond))
		defer pause.Stop()
		for {
			if _, err := io.WriteString(beat, "\n"); err != nil {
				return
			}
			select {
			case <-pause.C:
				continue
			case <-stop:
			case <-ctx.Done():
			case <-failing.failed:
			case <-said.ended:
			case <-execCtx.Done():
				return
			}
			break
		}
		_ = beat.Close()
		grace := time.NewTimer(endGrace)
		defer grace.Stop()
		select {
		case <-grace.C:
			cancel()
		case <-execCtx.Done():
		}
	})
	_, err = conn.Exec(execCtx, device.ExecRequest{Args: args, Stdin: input, Stdout: failing, Stderr: said, Timeout: -1})
	cancel()
	_ = input.Close()
	wg.Wait()
	end := said.end()
	switch {
	case failing.err() != nil:
		return end.Ended, failing.err()
	case end.refusal != "":
		return end.Ended, k.refused(end.refusal)
	case err != nil && end.Status < 0 && !fault.Is(err, fault.Canceled):
		return end.Ended, err
	}
	return end.Ended, nil
}

// refused words why the device's side did not start anything.
func (k Keep) refused(why string) error {
	e := &fault.Error{Kind: fault.Refused, Stage: "start", Act: "start " + k.Args[0]}
	switch why {
	case "missing":
		e.Kind, e.Err, e.Next = fault.Unsupported, fmt.Errorf("there is no %s", k.Args[0]), "install tcpdump on the device"
	case "nowhere":
		e.Kind = fault.Storage
		e.Err = errors.New("its PID cannot be recorded: none of /dev/shm, /run, /tmp and /var/tmp takes a file of ours")
		e.Next = "make room on the device; a process that is not recorded could not be ended for sure"
	case "proc":
		e.Kind, e.Err = fault.Unsupported, errors.New("the device has no /proc, by which a process is told from another")
	case "before":
		e.Err, e.Next = errors.New("what has to be set beforehand was refused"), "look at the rights of the login"
	default:
		e.Err = errors.New(clip(why))
	}
	return e
}

// Start starts k as a ring: it outlives the connection and this call.
func (k Keep) Start(ctx context.Context, conn device.Conn) error {
	if k.Log == "" {
		return fault.New(fault.Internal, "run %s has no log", k.ID)
	}
	args, err := k.args("ring")
	if err != nil {
		return err
	}
	res, err := conn.Exec(ctx, device.ExecRequest{Args: args, MaxBytes: maxSaid})
	if err != nil {
		return err
	}
	said := &listener{ended: make(chan struct{})}
	_, _ = said.Write(res.Stderr)
	switch end := said.end(); {
	case end.refusal != "":
		return k.refused(end.refusal)
	case res.Status != 0:
		return &fault.Error{Kind: fault.Refused, Act: "start " + k.Args[0], Stage: "start", Err: fmt.Errorf("exit status %d: %s", res.Status, clip(end.Said))}
	}
	return nil
}

// Run is a process that the device's side knows of.
type Run struct {
	ID    string
	PID   int
	Kind  string // live or ring
	State string // alive, gone (its record is left), ended (by this call), stuck, or unrestored (After failed)
	Why   string // limit, lease or floor, when the guard ended it
	Files string // its files on the device, without their suffix
}

// Runs tells which processes the device's side knows of, in no order.
func Runs(ctx context.Context, conn device.Conn, sudo bool) ([]Run, error) {
	return askKeep(ctx, conn, sudo, "list")
}

// Reap ends the named runs, and those that are overdue: past their limit or their
// lease by more than their guard would allow. It puts back what they changed and
// removes their records. The runs that it met are given, the others included. It
// may be called at any time by anyone who may log in as the same user; a run
// that is named and not there is no error.
func Reap(ctx context.Context, conn device.Conn, sudo bool, ids ...string) ([]Run, error) {
	for _, id := range ids {
		if !runID.MatchString(id) {
			return nil, fault.New(fault.Internal, "%q does not name a run", id)
		}
	}
	runs, err := askKeep(ctx, conn, sudo, append([]string{"reap"}, ids...)...)
	if err != nil {
		return runs, err
	}
	for _, r := range runs {
		switch r.State {
		case "stuck":
			return runs, &fault.Error{Kind: fault.Conflict, Act: "end run " + r.ID, Stage: "reap",
				Err: fmt.Errorf("process %d does not end", r.PID), Next: "look at the process on the device"}
		case "unrestored":
			return runs, &fault.Error{Kind: fault.Conflict, Act: "put back what run " + r.ID + " changed", Stage: "reap",
				Err: errors.New("the device refused it"), Next: "the command is in " + r.Files + ".after on the device"}
		}
	}
	return runs, nil
}

func askKeep(ctx context.Context, conn device.Conn, sudo bool, args ...string) ([]Run, error) {
	res, err := conn.Exec(ctx, device.ExecRequest{Args: keepArgs(sudo, args...), MaxBytes: 1 << 20})
	if err != nil {
		return nil, err
	}
	if res.Status != 0 {
		return nil, &fault.Error{Kind: fault.Refused, Act: "look for captures", Stage: "reap",
			Err: fmt.Errorf("exit status %d: %s", res.Status, clip(device.CleanText(res.Stderr)))}
	}
	var runs []Run
	for line := range strings.Lines(device.CleanText(res.Stdout)) {
		f := strings.Fields(line)
		if len(f) != 8 || f[0] != "@capfleet" || f[1] != "run" {
			continue
		}
		r := Run{ID: f[2], Kind: f[4], State: f[5], Why: strings.Trim(f[6], "-"), Files: f[7]}
		r.PID, _ = strconv.Atoi(f[3]) // 0 where nothing was recorded
		runs = append(runs, r)
	}
	return runs, nil
}

// listener reads a run's stderr: what the command says, and the script's lines.
type listener struct {
	mu    sync.Mutex
	said  []byte
	over  bool
	ended chan struct{} // closed once the script said that the command has ended
}

// Write implements io.Writer. It keeps the end of what is said: the counts.
func (l *listener) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = append(l.said, p...)
	if cut := len(l.said) - maxSaid; cut > 0 {
		l.said = append(l.said[:0], l.said[cut:]...)
	}
	if i := strings.LastIndex(string(l.said), "\n"+mark+"ended "); !l.over && i >= 0 && strings.Contains(string(l.said[i+1:]), "\n") {
		l.over = true
		close(l.ended)
	}
	return len(p), nil
}

// mark begins the script's own lines.
const mark = "@capfleet "

type heard struct {
	Ended
	refusal string
}

func (l *listener) end() heard {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := heard{Ended: Ended{Status: -1}}
	var said strings.Builder
	for line := range strings.Lines(device.CleanText(l.said)) {
		f := strings.Fields(line)
		switch {
		case len(f) >= 3 && f[0]+" " == mark && f[1] == "ended":
			if n, err := strconv.Atoi(f[2]); err == nil {
				h.Status = n
			}
			if len(f) > 3 {
				h.Why = f[3]
			}
		case len(f) >= 3 && f[0]+" " == mark && f[1] == "refused":
			h.refusal = f[2]
		default:
			said.WriteString(line)
		}
	}
	h.Said = strings.TrimSpace(said.String())
	return h
}

// failingWriter remembers the first error of a writer; what comes after it is
// thrown away, so that the device's side can still end in order.
type failingWriter struct {
	w      io.Writer
	mu     sync.Mutex
	first  error
	failed chan struct{}
}

func (f *failingWriter) Write(p []byte) (int, error) {
	if f.err() != nil {
		return len(p), nil //nolint:nilerr // the source is read on; err says it
	}
	if _, err := f.w.Write(p); err != nil {
		f.mu.Lock()
		f.first = err
		close(f.failed)
		f.mu.Unlock()
	}
	return len(p), nil
}

func (f *failingWriter) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.first
}

func clip(s string) string {
	const most = 300
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
