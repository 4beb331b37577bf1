package sshconn_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"capfleet/internal/device"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/device/sshconn/sshdtest"
	"capfleet/internal/fault"
)

// linuxDefinition describes the command line of boxConfig.
func linuxDefinition(tb testing.TB) *device.Definition {
	tb.Helper()
	def, err := device.LoadDefinition([]byte(`
platform: box
description: a POSIX shell with a fixed prompt
transport: shell
shell:
  modes:
    - {name: main, pattern: 'box [$#] ?', examples: ['box # ', 'box $ ']}
  working_mode: main
  errors: ['not found$']
`), "test")
	if err != nil {
		tb.Fatal(err)
	}
	return def
}

// boxConfig makes a real sshd give every user a shell with the prompt "box # ",
// and commands and SFTP as they are.
func boxConfig(tb testing.TB) []string {
	tb.Helper()
	script := fileOf(tb, "box", `#!/bin/sh
case "$SSH_ORIGINAL_COMMAND" in
"") PS1="box # " exec sh -i ;;
internal-sftp) exec /usr/lib/openssh/sftp-server ;;
*) exec sh -c "$SSH_ORIGINAL_COMMAND" ;;
esac
`)
	if err := os.Chmod(script, 0o700); err != nil {
		tb.Fatal(err)
	}
	return []string{"ForceCommand " + script}
}

func TestCommandLineExecAndFilesAtOnce(t *testing.T) {
	srv := sshdtest.Start(t, sshdtest.Options{Config: boxConfig(t)})
	conn := dial(t, newDialer(t, sshconn.Options{}), srv.Device("probe"))
	stuck := &stuckWriter{entered: make(chan struct{}), release: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	var wg sync.WaitGroup
	wg.Go(func() { // a stalled stream in the way of the others
		_, err := conn.Exec(ctx, device.ExecRequest{Raw: "cat /dev/zero", Stdout: stuck, Timeout: -1})
		wantFault(t, err, fault.Canceled, "command")
	})
	<-stuck.entered
	var work sync.WaitGroup
	work.Go(func() {
		sh, err := conn.Shell(t.Context(), linuxDefinition(t))
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = sh.Close() }()
		for i := range 20 {
			out, err := sh.Run(t.Context(), device.Command{Line: fmt.Sprintf("echo turn %d", i)})
			if want := fmt.Sprintf("turn %d\n", i); err != nil || out.Text != want {
				t.Errorf("got %q, %v", out.Text, err)
				return
			}
		}
	})
	work.Go(func() {
		var n countingWriter
		_, err := conn.Exec(t.Context(), device.ExecRequest{Raw: "head -c 64000000 /dev/zero", Stdout: &n})
		if err != nil || n != 64_000_000 {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
	work.Go(func() {
		files, err := conn.Files(t.Context())
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = files.Close() }()
		for range 50 {
			if _, err := files.ReadDir("/etc"); err != nil {
				t.Error(err)
				return
			}
		}
	})
	work.Wait()
	cancel()
	close(stuck.release)
	wg.Wait()
	if n := srv.Peak(); n != 1 {
		t.Errorf("%d connections were used", n)
	}
}

type countingWriter int64

func (w *countingWriter) Write(p []byte) (int, error) {
	*w += countingWriter(len(p))
	return len(p), nil
}

func TestShellEndsWithItsConnection(t *testing.T) {
	srv := sshdtest.Start(t, sshdtest.Options{Config: boxConfig(t)})
	conn := dial(t, newDialer(t, sshconn.Options{}), srv.Device("probe"))
	sh, err := conn.Shell(t.Context(), linuxDefinition(t))
	if err != nil {
		t.Fatal(err)
	}
	soon(t, 100*time.Millisecond, "closing", func() { _ = conn.Close() })
	_, err = sh.Run(t.Context(), device.Command{Line: "echo"})
	if !fault.Is(err, fault.Disconnected) {
		t.Errorf("got %v", err)
	}
	_ = sh.Close()
}

func TestSessionsAreCounted(t *testing.T) {
	srv := sshdtest.Start(t, sshdtest.Options{})
	dev := srv.Device("probe")
	dev.SSH.MaxSessions = 2
	conn := dial(t, newDialer(t, sshconn.Options{}), dev)
	open := make([]device.Files, 0, 2)
	for range 2 {
		f, err := conn.Files(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, f)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := conn.Files(ctx)
	wantFault(t, err, fault.Busy, "session", "all 2 sessions", "ssh.max_sessions")
	canceled, stop := context.WithCancel(t.Context())
	stop()
	_, err = conn.Exec(canceled, device.ExecRequest{Args: []string{"true"}})
	wantFault(t, err, fault.Canceled, "session", "all 2 sessions")

	waiting := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"true"}})
		waiting <- err
	}()
	_ = open[0].Close()
	if err := <-waiting; err != nil {
		t.Errorf("a place became free: %v", err)
	}
	_ = open[1].Close()
	// Many more, one after the other and at once: every place comes back.
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			if _, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"true"}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestServerHasFewerSessions(t *testing.T) {
	srv := sshdtest.Start(t, sshdtest.Options{Config: []string{"MaxSessions 1"}})
	conn := dial(t, newDialer(t, sshconn.Options{}), srv.Device("probe"))
	f, err := conn.Files(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(t.Context(), device.ExecRequest{Args: []string{"true"}})
	wantFault(t, err, fault.Busy, "session", "refused one more session", "lower it in the inventory")
	if _, err := f.Stat("/"); err != nil {
		t.Errorf("the open session suffered: %v", err)
	}
	_ = f.Close()
	eventually(t, "a session is free again", func() bool {
		_, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"true"}})
		return err == nil
	})
}

func TestServerRefusesSessions(t *testing.T) {
	tests := map[ssh.RejectionReason]fault.Kind{
		ssh.ResourceShortage: fault.Busy,
		ssh.ConnectionFailed: fault.Busy,
		ssh.Prohibited:       fault.Refused,
	}
	for reason, kind := range tests {
		srv := newServer(t)
		srv.refuse = &ssh.OpenChannelError{Reason: reason, Message: "no\x1b[31m way\n"}
		conn := dial(t, newDialer(t, sshconn.Options{}), srv.start(t).device(t, "probe"))
		for range 10 { // more often than there are places
			_, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"true"}})
			wantFault(t, err, kind, "session", "no[31m way")
		}
	}
}

func TestCloseIsQuickAndFinal(t *testing.T) {
	srv := sshdtest.Start(t, sshdtest.Options{})
	d := newDialer(t, sshconn.Options{})
	conn := dial(t, d, srv.Device("probe"))
	pid := &firstWrite{seen: make(chan struct{})}
	result := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), device.ExecRequest{Raw: talker, Stdout: pid, Timeout: -1})
		result <- err
	}()
	<-pid.seen
	soon(t, 100*time.Millisecond, "closing", func() { _ = conn.Close() })
	if err := <-result; err == nil {
		t.Error("the command ended well")
	}
	soon(t, 100*time.Millisecond, "closing again", func() { _ = conn.Close() })
	_, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"true"}})
	wantFault(t, err, fault.Disconnected, "session", "the connection was closed")
	wantGone(t, pid.String())
}

func TestCloseTellsCommandsToEnd(t *testing.T) {
	srv := newServer(t)
	signals := make(chan string, 1)
	srv.session = func(s *serverSession) {
		_, _ = s.Write([]byte("started"))
		for r := range s.requests {
			if r.Type == "signal" {
				signals <- string(r.Payload[4:])
			}
		}
	}
	conn := dial(t, newDialer(t, sshconn.Options{}), srv.start(t).device(t, "probe"))
	started := &firstWrite{seen: make(chan struct{})}
	result := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"tcpdump"}, Stdout: started, Timeout: -1})
		result <- err
	}()
	<-started.seen
	_ = conn.Close()
	select {
	case got := <-signals:
		if got != "TERM" {
			t.Errorf("signal %q", got)
		}
	case <-time.After(5 * time.Second):
		t.Error("the command was not told to end")
	}
	if err := <-result; err == nil {
		t.Error("the command ended well")
	}
}

func TestHundredOpensAndClosesLeaveNothing(t *testing.T) {
	srv := newServer(t)
	srv.session = func(s *serverSession) {
		if s.kind == "shell" {
			box(s)
			return
		}
		_, _ = s.Write([]byte("ok\n"))
		s.exit(0)
	}
	dev := srv.start(t).device(t, "probe")
	d := newDialer(t, sshconn.Options{})
	def := linuxDefinition(t)
	round := func() {
		conn, err := d.Dial(t.Context(), dev)
		if err != nil {
			t.Fatal(err)
		}
		sh, err := conn.Shell(t.Context(), def)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := sh.Run(t.Context(), device.Command{Line: "echo hello"}); err != nil || out.Text != "hello\n" {
			t.Fatalf("%q, %v", out.Text, err)
		}
		if _, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"true"}}); err != nil {
			t.Fatal(err)
		}
		soon(t, 100*time.Millisecond, "closing", func() { _ = conn.Close() })
	}
	round()
	settled := func() (files, goroutines int) {
		eventually(t, "the server lets go", func() bool {
			files, goroutines = openFiles(t), runtime.NumGoroutine()
			return srv.open() == 0
		})
		return files, goroutines
	}
	files, goroutines := settled()
	for range 100 {
		round()
	}
	eventually(t, "nothing is left", func() bool {
		f, g := settled()
		return f <= files && g <= goroutines
	})
	if t.Failed() {
		f, g := settled()
		stacks := make([]byte, 1<<20)
		t.Logf("files %d, then %d; goroutines %d, then %d\n%s", files, f, goroutines, g, stacks[:runtime.Stack(stacks, true)])
	}
}

// openFiles counts this process's descriptors.
func openFiles(tb testing.TB) int {
	tb.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		tb.Fatal(err)
	}
	return len(entries)
}

// box is a tiny command line that knows echo.
func box(s *serverSession) {
	_, _ = s.Write([]byte("box # "))
	var line []byte
	buf := make([]byte, 256)
	for {
		n, err := s.Read(buf)
		for _, c := range buf[:n] {
			switch c {
			case '\r', '\n':
				_, _ = s.Write([]byte("\r\n"))
				if rest, ok := bytes.CutPrefix(line, []byte("echo ")); ok {
					_, _ = s.Write(append(rest, '\r', '\n'))
				}
				_, _ = s.Write([]byte("box # "))
				line = line[:0]
			default:
				line = append(line, c)
				_, _ = s.Write([]byte{c})
			}
		}
		if err != nil {
			return
		}
	}
}
