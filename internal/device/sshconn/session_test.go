package sshconn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
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

func TestFilesOnRealSSHD(t *testing.T) {
	srv := sshdtest.Start(t, sshdtest.Options{})
	conn := dial(t, newDialer(t, sshconn.Options{}), srv.Device("probe"))
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hotfix.end"), make([]byte, 12345), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "a b"), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := conn.Files(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	st, err := f.Stat(filepath.Join(dir, "hotfix.end"))
	if err != nil || st.Size() != 12345 || st.Mode().Perm() != 0o640 || st.IsDir() {
		t.Errorf("stat: %v, %v", st, err)
	}
	entries, err := f.ReadDir(dir)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	if err != nil || !slices.Equal(names, []string{"a b", "hotfix.end"}) {
		t.Errorf("list: %q, %v", names, err)
	}
	// OpenSSH's sftp sees the same names.
	batch := fileOf(t, "batch", "ls -1 \""+dir+"\"\n")
	out, err := exec.Command("sftp", "-q", "-F", "none", "-b", batch, "-o", "UserKnownHostsFile="+srv.KnownHosts,
		"-i", srv.ClientKey, "-P", strconv.Itoa(srv.Port), srv.User+"@"+srv.Host).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !strings.Contains(string(out), "/"+name+"\n") {
			t.Errorf("sftp does not list %q:\n%s", name, out)
		}
	}
	home, err := f.RealPath(".")
	if err != nil || !filepath.IsAbs(home) {
		t.Errorf("home %q, %v", home, err)
	}
	_, err = f.Stat(filepath.Join(dir, "none"))
	wantFault(t, err, fault.NotFound, "sftp", "stat "+dir)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
	_, err = f.ReadDir(filepath.Join(dir, "hotfix.end"))
	if !fault.Is(err, fault.Refused) && !fault.Is(err, fault.NotFound) {
		t.Errorf("listing a file: %v", err)
	}
	for range 2 {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	_, err = f.Stat("/")
	wantFault(t, err, fault.Disconnected, "sftp", "the SFTP session was closed")
}

func TestFilesEndWithTheirContext(t *testing.T) {
	srv := newServer(t)
	asked := make(chan struct{}, 1)
	srv.session = func(s *serverSession) {
		_, _ = io.ReadFull(s, make([]byte, 9))            // init
		_, _ = s.Write([]byte{0, 0, 0, 5, 2, 0, 0, 0, 3}) // version 3
		_, _ = io.ReadFull(s, make([]byte, 4))            // a request
		asked <- struct{}{}
		_, _ = io.Copy(io.Discard, s)
	}
	conn := dial(t, newDialer(t, sshconn.Options{}), srv.start(t).device(t, "probe"))
	ctx, cancel := context.WithCancel(t.Context())
	f, err := conn.Files(ctx)
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() {
		_, err := f.Stat("/")
		result <- err
	}()
	<-asked
	cancel()
	soon(t, 100*time.Millisecond, "cancelling", func() { wantFault(t, <-result, fault.Canceled, "sftp") })
	_, err = f.RealPath(".")
	wantFault(t, err, fault.Canceled, "sftp")
}

func TestFilesThatDoNotStart(t *testing.T) {
	t.Run("no subsystem", func(t *testing.T) {
		srv := newServer(t)
		conn := dial(t, newDialer(t, sshconn.Options{}), srv.start(t).device(t, "probe"))
		_, err := conn.Files(t.Context())
		wantFault(t, err, fault.Refused, "sftp", "enable the SFTP subsystem")
	})
	t.Run("garbage", func(t *testing.T) {
		srv := newServer(t)
		srv.session = func(s *serverSession) {
			_, _ = s.Write([]byte("This account is not available.\n"))
			_, _ = io.Copy(io.Discard, s)
		}
		conn := dial(t, newDialer(t, sshconn.Options{}), srv.start(t).device(t, "probe"))
		_, err := conn.Files(t.Context())
		wantFault(t, err, fault.Refused, "sftp", "the SFTP server did not start")
	})
	t.Run("mute", func(t *testing.T) {
		srv := newServer(t)
		srv.session = func(s *serverSession) { _, _ = io.Copy(io.Discard, s) }
		dev := srv.start(t).device(t, "probe")
		dev.SSH.ConnectTimeout = time.Second // the login must have ended by then
		conn := dial(t, newDialer(t, sshconn.Options{}), dev)
		_, err := conn.Files(t.Context())
		wantFault(t, err, fault.Timeout, "session", "no answer within 1s")
	})
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

// freezer is a TCP proxy that can stop passing bytes on, as a host under SIGSTOP
// or a dead path does.
type freezer struct {
	addr   string
	frozen chan struct{}
}

func newFreezer(tb testing.TB, target string) *freezer {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	f := &freezer{addr: listener.Addr().String(), frozen: make(chan struct{})}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var live []net.Conn
	pass := func(dst, src net.Conn) {
		buf := make([]byte, 32<<10)
		for {
			n, err := src.Read(buf)
			select {
			case <-f.frozen:
				<-tb.Context().Done()
				return
			default:
			}
			if _, werr := dst.Write(buf[:n]); err != nil || werr != nil {
				_ = dst.Close()
				return
			}
		}
	}
	wg.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				_ = in.Close()
				continue
			}
			mu.Lock()
			live = append(live, in, out)
			mu.Unlock()
			wg.Go(func() { pass(out, in) })
			wg.Go(func() { pass(in, out) })
		}
	})
	tb.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for _, c := range live {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return f
}

func TestFrozenDevice(t *testing.T) {
	srv := newServer(t)
	srv.session = func(s *serverSession) {
		switch s.kind {
		case "shell":
			box(s)
		case "subsystem":
			_, _ = io.ReadFull(s, make([]byte, 9))            // init
			_, _ = s.Write([]byte{0, 0, 0, 5, 2, 0, 0, 0, 3}) // version 3
			s.untilClosed()
		default:
			_, _ = s.Write([]byte("ready\n"))
			_, _ = io.Copy(io.Discard, s)
		}
	}
	srv.start(t)
	proxy := newFreezer(t, srv.addr)
	dev := srv.device(t, "probe")
	dev.Port = sshdtest.PortOf(t, proxy.addr)
	line, err := os.ReadFile(dev.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	dev.KnownHosts = fileOf(t, "known_hosts", strings.Replace(string(line), strconv.Itoa(sshdtest.PortOf(t, srv.addr)), strconv.Itoa(dev.Port), 1))
	conn := dial(t, newDialer(t, sshconn.Options{}), dev)
	sh, err := conn.Shell(t.Context(), linuxDefinition(t))
	if err != nil {
		t.Fatal(err)
	}
	ready := &firstWrite{seen: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	files, err := conn.Files(ctx)
	if err != nil {
		t.Fatal(err)
	}
	running := make(chan error, 1)
	go func() {
		// So much input that the connection's own buffers fill and writing blocks.
		_, err := conn.Exec(ctx, device.ExecRequest{Args: []string{"x"}, Stdin: endless{}, Stdout: ready, Timeout: -1})
		running <- err
	}()
	<-ready.seen
	close(proxy.frozen)
	asking := make(chan error, 1)
	go func() {
		_, err := files.Stat("/")
		asking <- err
	}()

	short, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	soon(t, 250*time.Millisecond, "a command line's command with a deadline of 100 ms", func() {
		if _, err := sh.Run(short, device.Command{Line: "echo x"}); !fault.Is(err, fault.Timeout) {
			t.Errorf("got %v", err)
		}
	})
	soon(t, 100*time.Millisecond, "opening with an ended context", func() {
		if _, err := conn.Files(short); !fault.Is(err, fault.Timeout) {
			t.Errorf("got %v", err)
		}
	})
	cancel()
	soon(t, 100*time.Millisecond, "cancelling the command", func() { wantFault(t, <-running, fault.Canceled, "command") })
	soon(t, 100*time.Millisecond, "cancelling SFTP", func() { wantFault(t, <-asking, fault.Canceled, "sftp") })
	soon(t, 100*time.Millisecond, "closing the shell", func() { _ = sh.Close() })
	soon(t, 100*time.Millisecond, "closing", func() { _ = conn.Close() })
}

// endless is input without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
