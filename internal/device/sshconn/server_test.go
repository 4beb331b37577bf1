package sshconn_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/leaktest"
	"capfleet/internal/secret"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// server is an SSH server that behaves as badly as a test wants. It speaks the
// protocol through x/crypto, so that what goes wrong is what was asked for.
type server struct {
	addr   string
	config *ssh.ServerConfig
	keys   []ssh.Signer
	// wire gets every new TCP connection; false ends the handling there.
	wire func(net.Conn) bool
	// session gets every session with its first request that is no pty-req or env.
	session func(s *serverSession)
	// afterLogin gets every connection that has logged in.
	afterLogin func(*ssh.ServerConn)
	// refuse rejects session channels.
	refuse *ssh.OpenChannelError
	// forward dials for direct-tcpip; nil is the network.
	forward func(ctx context.Context, network, address string) (net.Conn, error)
	deaf    bool // answers no global request

	keepalives atomic.Int64

	mu       sync.Mutex
	attempts []string // authentication attempts, without the first "none"
	dials    int
	now      int
	live     []net.Conn
	wg       sync.WaitGroup
}

type serverSession struct {
	ssh.Channel
	requests <-chan *ssh.Request
	kind     string // exec, shell, subsystem
	command  string
	conn     *ssh.ServerConn
	wire     net.Conn
}

func (s *serverSession) exit(status uint32) {
	_, _ = s.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
	_ = s.Close()
}

// untilClosed returns when the client has closed the session.
func (s *serverSession) untilClosed() {
	for range s.requests {
	}
}

// newServer makes a server that accepts user "fleet" with password "correct".
func newServer(tb testing.TB) *server {
	tb.Helper()
	s := &server{config: &ssh.ServerConfig{
		PasswordCallback: func(_ ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			if string(password) == "correct" {
				return nil, nil
			}
			return nil, errors.New("no")
		},
	}}
	s.keys = []ssh.Signer{newKey(tb)}
	return s
}

func newKey(tb testing.TB) ssh.Signer {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return signerOf(tb, key)
}

func newRSAKey(tb testing.TB) ssh.Signer {
	tb.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	return signerOf(tb, key)
}

func signerOf(tb testing.TB, key any) ssh.Signer {
	tb.Helper()
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return signer
}

// start listens on loopback until the test ends.
func (s *server) start(tb testing.TB) *server {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s.addr = listener.Addr().String()
	s.prepare()
	s.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { s.serve(conn) })
		}
	})
	tb.Cleanup(func() {
		_ = listener.Close()
		s.hangUp()
		s.wg.Wait()
	})
	return s
}

func (s *server) prepare() {
	for _, key := range s.keys {
		s.config.AddHostKey(key)
	}
	s.config.AuthLogCallback = func(_ ssh.ConnMetadata, method string, _ error) {
		if method != "none" {
			s.mu.Lock()
			s.attempts = append(s.attempts, method)
			s.mu.Unlock()
		}
	}
}

// hangUp cuts every connection.
func (s *server) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.live {
		_ = c.Close()
	}
}

func (s *server) tried() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.attempts)
}

// open is the number of connections now.
func (s *server) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *server) dialled() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dials
}

func (s *server) serve(wire net.Conn) {
	s.mu.Lock()
	s.dials++
	s.now++
	s.live = append(s.live, wire)
	s.mu.Unlock()
	defer func() {
		_ = wire.Close()
		s.mu.Lock()
		s.now--
		s.mu.Unlock()
	}()
	if s.wire != nil && !s.wire(wire) {
		return
	}
	conn, chans, reqs, err := ssh.NewServerConn(wire, s.config)
	if err != nil {
		return
	}
	if s.afterLogin != nil {
		s.afterLogin(conn)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for r := range reqs {
			if r.Type == "keepalive@openssh.com" {
				s.keepalives.Add(1)
			}
			if !s.deaf {
				_ = r.Reply(false, nil)
			}
		}
	})
	for nc := range chans {
		switch {
		case nc.ChannelType() == "direct-tcpip":
			wg.Go(func() { s.forwardTo(nc) })
		case nc.ChannelType() != "session":
			_ = nc.Reject(ssh.UnknownChannelType, "unknown")
		case s.refuse != nil:
			_ = nc.Reject(s.refuse.Reason, s.refuse.Message)
		default:
			wg.Go(func() { s.accept(conn, wire, nc) })
		}
	}
}

func (s *server) accept(conn *ssh.ServerConn, wire net.Conn, nc ssh.NewChannel) {
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	defer func() { _ = ch.Close() }()
	for r := range reqs {
		if r.Type == "pty-req" || r.Type == "env" {
			_ = r.Reply(true, nil)
			continue
		}
		var payload struct{ Value string }
		_ = ssh.Unmarshal(r.Payload, &payload)
		_ = r.Reply(s.session != nil, nil)
		if s.session != nil {
			rest := make(chan *ssh.Request, 64)
			var wg sync.WaitGroup
			wg.Go(func() {
				defer close(rest)
				for r := range reqs {
					select {
					case rest <- r:
					default:
					}
				}
			})
			s.session(&serverSession{ch, rest, r.Type, payload.Value, conn, wire})
			_ = ch.Close()
			wg.Wait()
			return
		}
	}
}

// forwardTo joins a direct-tcpip channel to its target.
func (s *server) forwardTo(nc ssh.NewChannel) {
	var to struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if err := ssh.Unmarshal(nc.ExtraData(), &to); err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, "bad request")
		return
	}
	dial := s.forward
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	out, err := dial(context.Background(), "tcp", net.JoinHostPort(to.Host, strconv.FormatUint(uint64(to.Port), 10)))
	if err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, "Connection refused")
		return
	}
	ch, reqs, err := nc.Accept()
	if err != nil {
		_ = out.Close()
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { ssh.DiscardRequests(reqs) })
	wg.Go(func() {
		_, _ = io.Copy(out, ch)
		_ = out.Close()
	})
	_, _ = io.Copy(ch, out)
	_ = ch.Close()
	wg.Wait()
}

// device is an inventory entry for the server with password "correct", known by
// its host keys.
func (s *server) device(tb testing.TB, name string) *device.Device {
	tb.Helper()
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		tb.Fatal(err)
	}
	var n int
	if _, err := fmt.Sscan(port, &n); err != nil {
		tb.Fatal(err)
	}
	settings := device.DefaultSSH()
	settings.ConnectTimeout = 5 * time.Second
	return &device.Device{
		Name: name, Platform: "linux", Host: host, Port: n, SSH: settings,
		Credentials: passwordOf(tb, "correct"),
		KnownHosts:  s.knownHosts(tb),
	}
}

func (s *server) knownHosts(tb testing.TB) string {
	tb.Helper()
	var b bytes.Buffer
	for _, key := range s.keys {
		fmt.Fprintln(&b, xknownhosts.Line([]string{s.addr}, key.PublicKey()))
	}
	return fileOf(tb, "known_hosts", b.String())
}

func fileOf(tb testing.TB, name, content string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func passwordOf(tb testing.TB, password string) device.Credentials {
	tb.Helper()
	return device.Credentials{Name: "default", Username: "fleet", Password: secret.Ref{File: fileOf(tb, "password", password+"\n")}}
}

// wantFault checks kind and stage, and that the text holds all of parts.
func wantFault(tb testing.TB, err error, kind fault.Kind, stage string, parts ...string) {
	tb.Helper()
	if err == nil {
		tb.Fatalf("no error, want %s at %s", kind, stage)
	}
	if got := fault.KindOf(err); got != kind {
		tb.Errorf("kind %s, want %s: %v", got, kind, err)
	}
	if got := fault.StageOf(err); got != stage {
		tb.Errorf("stage %q, want %q: %v", got, stage, err)
	}
	for _, part := range parts {
		if !bytes.Contains([]byte(err.Error()), []byte(part)) {
			tb.Errorf("the error does not say %q: %v", part, err)
		}
	}
}

// soon fails the test when f takes longer than limit, and then some for a machine
// that is busy with other tests: what it tells apart is ending at once and ending
// with a timeout, of which the tests have none under 4 s.
func soon(tb testing.TB, limit time.Duration, what string, f func()) {
	tb.Helper()
	start := time.Now()
	f()
	const busy = 3 * time.Second
	if took := time.Since(start); took > limit+busy {
		tb.Errorf("%s took %v, want about %v", what, took, limit)
	}
}

// mute keeps a connection without a word until the other side leaves.
func mute(conn net.Conn) bool {
	_, _ = io.Copy(io.Discard, conn)
	return false
}

// cancelAfter gives a context that is cancelled once started is closed.
func cancelOn(tb testing.TB, started <-chan struct{}) context.Context {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-started:
			cancel()
		case <-tb.Context().Done():
		}
	}()
	tb.Cleanup(func() {
		cancel()
		<-done
	})
	return ctx
}
