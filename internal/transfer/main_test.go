package transfer_test

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"capfleet/internal/device"
	"capfleet/internal/device/linux"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/device/sshconn/sshdtest"
	"capfleet/internal/leaktest"
	"capfleet/internal/transfer"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// content is a file's worth of bytes that do not repeat.
func content(tb testing.TB, size int64) string {
	tb.Helper()
	name := filepath.Join(tb.TempDir(), "source")
	f, err := os.Create(name)
	if err != nil {
		tb.Fatal(err)
	}
	var seed [32]byte
	copy(seed[:], tb.Name())
	if _, err := io.CopyN(f, rand.NewChaCha8(seed), size); err != nil {
		tb.Fatal(err)
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
	return name
}

// upload is of a local file to a path.
func upload(tb testing.TB, source, target string) transfer.Upload {
	tb.Helper()
	f, err := os.Open(source)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Close() })
	info, err := f.Stat()
	if err != nil {
		tb.Fatal(err)
	}
	return transfer.Upload{Source: f, Size: info.Size(), SHA256: sum(tb, source), Path: target, Tools: tools(tb)}
}

func sum(tb testing.TB, name string) string {
	tb.Helper()
	f, err := os.Open(name)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		tb.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func md5sum(tb testing.TB, name string) string {
	tb.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	return fmt.Sprintf("%x", md5.Sum(raw))
}

// tools are those that ship for Linux hosts.
func tools(tb testing.TB) device.FilesDefinition {
	tb.Helper()
	d, err := linux.New("")
	if err != nil {
		tb.Fatal(err)
	}
	return d.Definition().Files
}

// sameFile fails unless a file has the source's content and nothing else is in
// its folder.
func sameFile(tb testing.TB, target, source string) {
	tb.Helper()
	if sum(tb, target) != sum(tb, source) {
		tb.Errorf("%s is not what was sent", target)
	}
	entries, err := os.ReadDir(filepath.Dir(target))
	if err != nil {
		tb.Fatal(err)
	}
	if len(entries) != 1 {
		tb.Errorf("left beside the file: %v", entries)
	}
}

// host is an sshd, perhaps behind a line that is cut.
type host struct {
	dialer *sshconn.Dialer
	dev    *device.Device
}

func newHost(tb testing.TB, srv *sshdtest.Server, dev *device.Device) *host {
	tb.Helper()
	h := &host{dialer: sshconn.NewDialer(sshconn.Options{}), dev: dev}
	tb.Cleanup(func() { _ = h.dialer.Close() })
	return h
}

// dial gives one connection that ends with the test.
func (h *host) dial(tb testing.TB) device.Conn {
	tb.Helper()
	conn, err := h.dialer.Dial(tb.Context(), h.dev)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

// connect dials anew each time and closes what was before.
func (h *host) connect(tb testing.TB) transfer.Connect {
	tb.Helper()
	var last device.Conn
	tb.Cleanup(func() {
		if last != nil {
			_ = last.Close()
		}
	})
	return func(ctx context.Context) (device.Conn, error) {
		if last != nil {
			_ = last.Close()
		}
		var err error
		last, err = h.dialer.Dial(ctx, h.dev)
		return last, err
	}
}

// line is a TCP connection to a server that is cut after some bytes: both sides
// get a reset, and what was under way is lost.
type line struct {
	addr string
	mu   sync.Mutex
	cuts int
	// next gives how many bytes each way the next connection carries; negative is
	// any number.
	next func() (up, down int64)
}

func newLine(tb testing.TB, target string, next func() (up, down int64)) *line {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &line{addr: l.Addr().String(), next: next}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.carry(tb, c, target) })
		}
	})
	tb.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return p
}

func (p *line) carry(tb testing.TB, near net.Conn, target string) {
	tb.Helper()
	far, err := net.Dial("tcp", target)
	if err != nil {
		tb.Error(err)
		_ = near.Close()
		return
	}
	p.mu.Lock()
	up, down := p.next()
	p.mu.Unlock()
	var once sync.Once
	end := func(cut bool) {
		once.Do(func() {
			if cut {
				p.mu.Lock()
				p.cuts++
				p.mu.Unlock()
				_ = near.(*net.TCPConn).SetLinger(0)
				_ = far.(*net.TCPConn).SetLinger(0)
			}
			_ = near.Close()
			_ = far.Close()
		})
	}
	var both sync.WaitGroup
	both.Go(func() { end(copyMost(far, near, up)) })
	both.Go(func() { end(copyMost(near, far, down)) })
	both.Wait()
}

// copyMost reports whether the limit ended it.
func copyMost(dst io.Writer, src io.Reader, most int64) bool {
	if most < 0 {
		_, _ = io.Copy(dst, src)
		return false
	}
	n, err := io.CopyN(dst, src, most)
	return err == nil && n == most
}

func (p *line) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cuts
}

// through is the device as it is reached over the line.
func (p *line) through(tb testing.TB, srv *sshdtest.Server) *device.Device {
	tb.Helper()
	dev := srv.Device("probe")
	dev.Port = sshdtest.PortOf(tb, p.addr)
	var known strings.Builder
	for _, key := range srv.HostKeys {
		fmt.Fprintln(&known, xknownhosts.Line([]string{p.addr}, sshdtest.PublicKey(tb, key+".pub")))
	}
	dev.KnownHosts = filepath.Join(tb.TempDir(), "known_hosts")
	if err := os.WriteFile(dev.KnownHosts, []byte(known.String()), 0o600); err != nil {
		tb.Fatal(err)
	}
	return dev
}
