//go:build linux

package capture

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"capfleet/internal/capture/capturetest"
	"capfleet/internal/device"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/fault"
)

// localConn runs commands by the shell of this machine, as sshd would.
type localConn struct {
	device.Conn
	shell string
	env   []string
	dir   string
	login bool // the line goes through a shell of its own, as with sshd
}

func (c localConn) Exec(ctx context.Context, req device.ExecRequest) (device.ExecResult, error) {
	args := slices.Clone(req.Args)
	if args[0] == "sh" && c.shell != "" {
		args[0] = c.shell
	}
	if c.login {
		args = []string{"sh", "-c", sshconn.Quote(args)}
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env, cmd.Dir = c.env, c.dir
	cmd.Stdin = req.Stdin
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if req.Stdout != nil {
		cmd.Stdout = req.Stdout
	}
	if req.Stderr != nil {
		cmd.Stderr = req.Stderr
	}
	// Like sshconn, do not wait for a Read of the caller's own.
	var in io.WriteCloser
	if req.Stdin != nil {
		cmd.Stdin = nil
		var err error
		if in, err = cmd.StdinPipe(); err != nil {
			return device.ExecResult{}, err
		}
		go func() {
			_, _ = io.Copy(in, req.Stdin)
			_ = in.Close()
		}()
	}
	if err := cmd.Start(); err != nil {
		return device.ExecResult{}, err
	}
	_ = cmd.Wait()
	return device.ExecResult{Stdout: out.Bytes(), Stderr: errs.Bytes(), Status: cmd.ProcessState.ExitCode()}, ctx.Err()
}

// shells are the kinds of sh that devices have: dash, bash, and bash that behaves
// as sh does.
func shells(t *testing.T, f func(t *testing.T, conn device.Conn)) {
	for _, shell := range []string{"dash", "bash"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			f(t, localConn{shell: shell})
		})
	}
}

// runName is a run's name that no other test has.
func runName(t *testing.T) string {
	t.Helper()
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, t.Name())
	return fmt.Sprintf("%.40s-%x", clean, time.Now().UnixNano())
}

// lines is a Writer that tells when it has got a line.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
	got chan struct{}
}

func newLines() *lines { return &lines{got: make(chan struct{}, 1)} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(p)
	select {
	case l.got <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *lines) wait(t *testing.T, text string) {
	t.Helper()
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	for !strings.Contains(l.String(), text) {
		select {
		case <-l.got:
		case <-late.C:
			t.Fatalf("no %q in %q", text, l.String())
		}
	}
}

// stays is a command that prints its PID and stays; it says so when it is told to
// end. Unlike tcpdump a shell cannot catch the SIGINT that its parent ignores.
func stays() []string {
	return []string{"sh", "-c", `trap 'echo interrupted >&2; exit 0' INT TERM; echo "pid $$"; while :; do sleep 0.2; done`}
}

// pidOf reads what stays has printed.
func pidOf(t *testing.T, out string) int {
	t.Helper()
	var pid int
	if _, err := fmt.Sscanf(out[strings.Index(out, "pid "):], "pid %d", &pid); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	return pid
}

func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func waitEnded(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); running(pid); {
		if time.Now().After(deadline) {
			t.Fatalf("process %d runs on", pid)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// no files of a run may stay behind.
func checkForgotten(t *testing.T, id string) {
	t.Helper()
	for _, base := range []string{"/dev/shm", "/run", "/tmp", "/var/tmp"} {
		left, err := filepath.Glob(fmt.Sprintf("%s/capfleet-%d/%s.*", base, os.Getuid(), id))
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

func TestLiveEndsWhenStopped(t *testing.T) {
	t.Parallel()
	shells(t, func(t *testing.T, conn device.Conn) {
		for name, end := range map[string]func(stop func(), cancel context.CancelFunc){
			"stop":    func(stop func(), _ context.CancelFunc) { stop() },
			"context": func(_ func(), cancel context.CancelFunc) { cancel() },
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				k := Keep{ID: runName(t), Args: stays(), Limit: time.Hour}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				stop := make(chan struct{})
				out := newLines()
				done := make(chan struct{})
				var ended Ended
				var err error
				go func() {
					defer close(done)
					ended, err = k.Live(ctx, conn, out, stop)
				}()
				out.wait(t, "\n")
				end(func() { close(stop) }, cancel)
				<-done
				if err != nil || ended.Status != 0 || ended.Said != "interrupted" || ended.Why != "" {
					t.Errorf("%+v, %v", ended, err)
				}
				if pid := pidOf(t, out.String()); running(pid) {
					t.Errorf("process %d runs on", pid)
				}
				checkForgotten(t, k.ID)
			})
		}
	})
}

func TestLiveEndsByItself(t *testing.T) {
	t.Parallel()
	shells(t, func(t *testing.T, conn device.Conn) {
		k := Keep{ID: runName(t), Args: []string{"sh", "-c", "echo out; echo err >&2; exit 3"}, Limit: time.Hour}
		out := newLines()
		ended, err := k.Live(t.Context(), conn, out, nil)
		if err != nil || ended.Status != 3 || ended.Said != "err" || out.String() != "out\n" {
			t.Errorf("%+v, %v, %q", ended, err, out.String())
		}
		checkForgotten(t, k.ID)
	})
}

// The dead-man switch: nobody tells it to end, and it does.
func TestGuardEnds(t *testing.T) {
	t.Parallel()
	for why, k := range map[string]Keep{
		"limit": {Limit: 2 * time.Second, Lease: 3 * time.Second},
		"floor": {Limit: time.Hour, Lease: 3 * time.Second, Floor: 1 << 50, Place: "/"},
	} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			shells(t, func(t *testing.T, conn device.Conn) {
				k := k
				k.ID, k.Args = runName(t), stays()
				out := newLines()
				ended, err := k.Live(t.Context(), conn, out, nil)
				if err != nil || ended.Why != why || ended.Said != "interrupted" {
					t.Errorf("%+v, %v", ended, err)
				}
				checkForgotten(t, k.ID)
			})
		})
	}
}

// A link that died without a word: the device's end of it stays open, and nothing
// comes through it any more.
func TestLeaseEndsWhatHearsNothing(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"dash", "bash"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			k := Keep{ID: runName(t), Args: stays(), Limit: time.Hour, Lease: 2 * time.Second}
			args, err := k.args("live")
			if err != nil {
				t.Fatal(err)
			}
			args[0] = shell
			cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out := newLines()
			cmd.Stdout = out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			// The guard ends the shell as well, which waits for its input still.
			_ = cmd.Wait()
			_ = in.Close()
			if strings.Contains(out.String(), "\n") {
				waitEnded(t, pidOf(t, out.String()))
			}
			checkForgotten(t, k.ID)
		})
	}
}

// Whatever is killed first, the rest ends the process.
func TestEndsWhoeverIsKilled(t *testing.T) {
	t.Parallel()
	k := Keep{ID: runName(t), Args: stays(), Limit: time.Hour, Lease: 2 * time.Second}
	args, err := k.args("live")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out := newLines()
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.wait(t, "\n")
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitEnded(t, pidOf(t, out.String())) // by the guard
	_ = in.Close()
	_ = cmd.Wait()
	// Its record is overdue or gone, and anyone may clear it.
	if _, err := Reap(t.Context(), localConn{}, false, k.ID); err != nil {
		t.Error(err)
	}
	checkForgotten(t, k.ID)
}

func TestReapAfterReconnect(t *testing.T) {
	t.Parallel()
	shells(t, func(t *testing.T, conn device.Conn) {
		dir := t.TempDir()
		undone := filepath.Join(dir, "undone")
		k := Keep{ID: runName(t), Args: stays(), Limit: time.Hour, Log: filepath.Join(dir, "log"), After: "echo >> " + undone}
		if err := k.Start(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		// The call has returned and the process runs on.
		var pid int
		for pid == 0 {
			runs, err := Runs(t.Context(), conn, false)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range runs {
				if r.ID == k.ID && r.State == "alive" && r.Kind == "ring" {
					pid = r.PID
				}
			}
		}
		if _, err := Reap(t.Context(), conn, false, "another-run"); err != nil || !running(pid) {
			t.Fatalf("another's reaper: %v, running %v", err, running(pid))
		}
		if _, err := Reap(t.Context(), conn, false, k.ID); err != nil {
			t.Fatal(err)
		}
		if running(pid) {
			t.Errorf("process %d runs on", pid)
		}
		if done, err := os.ReadFile(undone); err != nil || string(done) != "\n" {
			t.Errorf("undone %q, %v; want once", done, err)
		}
		checkForgotten(t, k.ID)
		for _, id := range []string{k.ID, "never-there"} {
			if _, err := Reap(t.Context(), conn, false, id); err != nil {
				t.Error(err)
			}
		}
	})
}

// D3: a PID that another process has by now is not signalled, nor one of another
// boot.
func TestD3ReusedPIDIsNotKilled(t *testing.T) {
	t.Parallel()
	victim := exec.CommandContext(t.Context(), "sleep", "600")
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = victim.Process.Kill(); _ = victim.Wait() }()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", victim.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	began := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))[19]
	dir := fmt.Sprintf("/dev/shm/capfleet-%d", os.Getuid())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, record := range map[string]string{
		"birth": fmt.Sprintf("%d %d %s live 0 1\n", victim.Process.Pid, 1, strings.TrimSpace(string(boot))),
		"boot":  fmt.Sprintf("%d %s %s live 0 1\n", victim.Process.Pid, began, "6bd2e0b4-0000-4000-8000-000000000000"),
	} {
		id := runName(t) + name
		if err := os.WriteFile(filepath.Join(dir, id+".pid"), []byte(record), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Reap(t.Context(), localConn{}, false, id); err != nil {
			t.Error(err)
		}
		if !running(victim.Process.Pid) {
			t.Fatal("a process was ended that was never ours")
		}
		checkForgotten(t, id)
	}
}

func TestBeforeAndAfter(t *testing.T) {
	t.Parallel()
	shells(t, func(t *testing.T, conn device.Conn) {
		log := filepath.Join(t.TempDir(), "log")
		k := Keep{ID: runName(t), Args: []string{"sh", "-c", "echo runs >> " + log}, Limit: time.Hour,
			Before: "echo before >> " + log, After: "echo after >> " + log}
		if _, err := k.Live(t.Context(), conn, io.Discard, nil); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(log); string(got) != "before\nruns\nafter\n" {
			t.Errorf("%q", got)
		}
		k.ID, k.Before = runName(t)+"b", "false"
		if _, err := k.Live(t.Context(), conn, io.Discard, nil); !fault.Is(err, fault.Refused) || !strings.Contains(err.Error(), "set beforehand") {
			t.Errorf("%v", err)
		}
		if got, _ := os.ReadFile(log); string(got) != "before\nruns\nafter\nafter\n" {
			t.Errorf("%q: it is put back, and nothing was started", got)
		}
	})
}

func TestNothingIsStartedWithoutTheProgram(t *testing.T) {
	t.Parallel()
	shells(t, func(t *testing.T, conn device.Conn) {
		k := Keep{ID: runName(t), Args: []string{"no-such-tcpdump"}, Limit: time.Hour}
		_, err := k.Live(t.Context(), conn, io.Discard, nil)
		if !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), "install tcpdump") {
			t.Errorf("%v", err)
		}
	})
}

// An output that cannot be written ends the run in order; what the command still
// says is heard.
func TestLiveEndsWhenItsOutputCannotBeWritten(t *testing.T) {
	t.Parallel()
	k := Keep{ID: runName(t), Args: stays(), Limit: time.Hour}
	r, w := io.Pipe()
	_ = r.CloseWithError(fault.New(fault.Storage, "disk full"))
	ended, err := k.Live(t.Context(), localConn{}, w, nil)
	if !fault.Is(err, fault.Storage) || ended.Said != "interrupted" {
		t.Errorf("%+v, %v", ended, err)
	}
	checkForgotten(t, k.ID)
}

// The same through OpenSSH, with a link that goes without a word.
func TestLiveOverCutLink(t *testing.T) {
	t.Parallel()
	bed := capturetest.New(t)
	conn := bed.Dial(t)
	k := Keep{ID: runName(t), Args: []string{"tcpdump", "-i", capturetest.Interface, "-U", "-w", "-", "port 9"}, Limit: time.Hour, Lease: 2 * time.Second}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	out := newLines()
	go func() {
		_, err := k.Live(ctx, conn, out, nil)
		done <- err
	}()
	bed.WaitRuns(t, "tcpdump", 1)
	bed.Cut(t)
	bed.WaitGone(t, "tcpdump")
	bed.WaitGone(t, "sh")
	cancel()
	_ = conn.Close()
	<-done
	bed.Join(t)
	checkForgotten(t, k.ID)
}
