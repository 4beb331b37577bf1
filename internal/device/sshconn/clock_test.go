package sshconn_test

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"capfleet/internal/device"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/fault"
)

// Time in these tests is synctest's; so the wire has to be in memory.

// wire is one direction of an in-memory connection, without a limit.
type wire struct {
	mu     sync.Mutex
	cond   sync.Cond
	buf    []byte
	closed bool
	frozen bool // what is written is lost
}

func newWire() *wire {
	w := &wire{}
	w.cond.L = &w.mu
	return w
}

func (w *wire) read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.buf) == 0 && !w.closed {
		w.cond.Wait()
	}
	if len(w.buf) == 0 {
		return 0, io.EOF
	}
	n := copy(p, w.buf)
	w.buf = w.buf[n:]
	return n, nil
}

func (w *wire) write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return 0, net.ErrClosed
	}
	if !w.frozen {
		w.buf = append(w.buf, p...)
		w.cond.Broadcast()
	}
	return len(p), nil
}

func (w *wire) set(f func(*wire)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w)
	w.cond.Broadcast()
}

// memConn is one end of an in-memory connection.
type memConn struct {
	net.Conn // nil: deadlines are not used
	in, out  *wire
}

func (c *memConn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c *memConn) Write(p []byte) (int, error) { return c.out.write(p) }
func (c *memConn) RemoteAddr() net.Addr        { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 22} }
func (c *memConn) LocalAddr() net.Addr         { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 40000} }
func (c *memConn) Close() error {
	c.in.set(func(w *wire) { w.closed = true })
	c.out.set(func(w *wire) { w.closed = true })
	return nil
}

// network dials servers by host:port, in memory.
type network struct {
	servers map[string]*server
	mu      sync.Mutex
	last    *memConn // our end of the latest connection
}

func (n *network) dial(_ context.Context, _, address string) (net.Conn, error) {
	s := n.servers[address]
	if s == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: io.ErrClosedPipe}
	}
	up, down := newWire(), newWire()
	s.wg.Go(func() { s.serve(&memConn{in: up, out: down}) }) //nolint:contextcheck // a server has no caller
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last = &memConn{in: down, out: up}
	return n.last, nil
}

// inBubble runs a test in virtual time with servers in memory, by address.
func inBubble(t *testing.T, addresses []string, test func(t *testing.T, n *network, d *sshconn.Dialer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := &network{servers: map[string]*server{}}
		for _, a := range addresses {
			s := newServer(t)
			s.addr = a
			n.servers[a] = s
		}
		d := sshconn.NewDialer(sshconn.Options{DialContext: n.dial})
		test(t, n, d)
		_ = d.Close()
		for _, s := range n.servers {
			s.hangUp()
			s.wg.Wait()
		}
	})
}

const alone = "192.0.2.1:22"

func TestKeepaliveEndsADeadConnection(t *testing.T) {
	inBubble(t, []string{alone}, func(t *testing.T, n *network, d *sshconn.Dialer) {
		t.Helper()
		srv := n.servers[alone]
		srv.prepare()
		srv.session = func(s *serverSession) { s.untilClosed() }
		conn, err := d.Dial(t.Context(), srv.device(t, "probe"))
		if err != nil {
			t.Fatal(err)
		}
		result := make(chan error, 1)
		go func() {
			_, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"x"}, Timeout: -1})
			result <- err
		}()
		synctest.Wait()
		n.last.in.set(func(w *wire) { w.frozen = true })
		start := time.Now()
		wantFault(t, <-result, fault.Disconnected, "command", "3 keepalives were not answered")
		// 15 s to the first and three more intervals without an answer.
		if took := time.Since(start); took < 45*time.Second || took > 60*time.Second {
			t.Errorf("it took %v", took)
		}
		_, err = conn.Exec(t.Context(), device.ExecRequest{Args: []string{"x"}})
		wantFault(t, err, fault.Disconnected, "session", "3 keepalives were not answered")
		_ = conn.Close()
	})
}

func TestKeepaliveKeepsAnIdleConnection(t *testing.T) {
	inBubble(t, []string{alone}, func(t *testing.T, n *network, d *sshconn.Dialer) {
		t.Helper()
		srv := n.servers[alone]
		srv.prepare()
		srv.session = func(s *serverSession) { s.exit(0) }
		conn, err := d.Dial(t.Context(), srv.device(t, "probe"))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if _, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"x"}}); err != nil {
			t.Errorf("after an hour: %v", err)
		}
		if got := srv.keepalives.Load(); got < 230 || got > 240 {
			t.Errorf("%d keepalives in an hour at 15 s", got)
		}
		_ = conn.Close()
	})
}

func TestDataIsASignOfLife(t *testing.T) {
	inBubble(t, []string{alone}, func(t *testing.T, n *network, d *sshconn.Dialer) {
		t.Helper()
		srv := n.servers[alone]
		srv.prepare()
		srv.deaf = true
		stop := make(chan struct{})
		srv.session = func(s *serverSession) {
			tick := time.NewTicker(10 * time.Second)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					_, _ = s.Write([]byte("."))
				case <-stop:
					s.untilClosed()
					return
				}
			}
		}
		conn, err := d.Dial(t.Context(), srv.device(t, "probe"))
		if err != nil {
			t.Fatal(err)
		}
		var got atomic.Int64
		result := make(chan error, 1)
		go func() {
			_, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"x"}, Timeout: -1, Stdout: counter{&got}})
			result <- err
		}()
		time.Sleep(time.Hour)
		if got.Load() < 350 {
			t.Fatalf("%d bytes", got.Load())
		}
		close(stop)
		wantFault(t, <-result, fault.Disconnected, "command", "keepalives")
		_ = conn.Close()
	})
}

type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

func TestIdleHopIsClosed(t *testing.T) {
	const bastion, target = "192.0.2.1:22", "192.0.2.2:22"
	inBubble(t, []string{bastion, target}, func(t *testing.T, n *network, d *sshconn.Dialer) {
		t.Helper()
		b, s := n.servers[bastion], n.servers[target]
		b.prepare()
		s.prepare()
		b.forward = n.dial
		dev := hopped(t, b, s)
		visit := func() {
			conn, err := d.Dial(t.Context(), dev)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
			synctest.Wait()
		}
		visit()
		time.Sleep(29 * time.Second)
		if b.open() != 1 {
			t.Error("the hop was closed before its idle time")
		}
		visit()
		time.Sleep(29 * time.Second)
		if b.open() != 1 || b.dialled() != 1 {
			t.Errorf("the hop was not used again: %d open, %d dialled", b.open(), b.dialled())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if b.open() != 0 {
			t.Error("the hop stays open without a device")
		}
	})
}

func TestRefusedHopIsAskedAgainLater(t *testing.T) {
	const bastion, target = "192.0.2.1:22", "192.0.2.2:22"
	inBubble(t, []string{bastion, target}, func(t *testing.T, n *network, d *sshconn.Dialer) {
		t.Helper()
		b, s := n.servers[bastion], n.servers[target]
		var locked atomic.Bool
		locked.Store(true)
		password := b.config.PasswordCallback
		b.config.PasswordCallback = func(c ssh.ConnMetadata, pw []byte) (*ssh.Permissions, error) {
			if locked.Load() {
				return nil, io.EOF
			}
			return password(c, pw)
		}
		b.prepare()
		s.prepare()
		b.forward = n.dial
		dev := hopped(t, b, s)
		for range 59 {
			_, err := d.Dial(t.Context(), dev)
			wantFault(t, err, fault.Auth, "jump")
			time.Sleep(time.Second)
		}
		if got := len(b.tried()); got != 1 {
			t.Errorf("%d logins in a minute", got)
		}
		locked.Store(false)
		time.Sleep(2 * time.Second)
		conn, err := d.Dial(t.Context(), dev)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	})
}
