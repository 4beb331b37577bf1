package sshconn_test

import (
	"context"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/device/sshconn/sshdtest"
	"capfleet/internal/fault"
)

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
