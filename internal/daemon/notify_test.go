package daemon

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"capfleet/internal/api/client"
	"capfleet/internal/fault"
)

// manager is a service manager's end of NOTIFY_SOCKET.
type manager struct {
	t    *testing.T
	path string
	conn *net.UnixConn
}

func newManager(t *testing.T, path string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &manager{t, path, conn}
}

// next gives the next message's assignments.
func (m *manager) next() map[string]string {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		m.t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := m.conn.Read(buf)
	if err != nil {
		m.t.Fatalf("no message: %v", err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(buf[:n])) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok {
			m.t.Errorf("%q is no assignment", line)
		}
		out[key] = value
	}
	return out
}

// until waits for a message that has an assignment.
func (m *manager) until(key string) map[string]string {
	m.t.Helper()
	for {
		if got := m.next(); got[key] != "" {
			return got
		}
	}
}

// The manager hears READY=1 when clients are served and not before, RELOADING=1
// around a reload, and STOPPING=1.
func TestNotify(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"path": filepath.Join(place(t), "n"), "abstract": "@capfleet-test-" + strconv.Itoa(os.Getpid())} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newManager(t, path)
			opts := options(t, place(t), "")
			opts.Notify.Socket = path
			reload := make(chan os.Signal)
			opts.Reload = reload
			d, err := New(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			if first := m.next(); first["READY"] != "" || first["STATUS"] == "" {
				t.Errorf("before it serves: %v", first)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- d.Run(ctx) }()
			if ready := m.next(); ready["READY"] != "1" || !strings.Contains(ready["STATUS"], "2 devices") {
				t.Errorf("ready: %v", ready)
			}
			c, err := client.New(opts.Socket)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Version(t.Context()); err != nil {
				t.Errorf("it said that it was ready: %v", err)
			}

			for _, reloaded := range []struct{ inventory, status string }{{"version: 1\nnonsense: true\n", "refused"}, {minimal, "2 devices"}} {
				write(t, opts.Inventory, reloaded.inventory)
				reload <- syscall.SIGHUP
				if got := m.next(); got["RELOADING"] != "1" || got["MONOTONIC_USEC"] == "" {
					t.Errorf("reload began: %v", got)
				}
				if got := m.next(); got["READY"] != "1" || !strings.Contains(got["STATUS"], reloaded.status) {
					t.Errorf("reload ended: %v, want %q", got, reloaded.status)
				}
			}
			cancel()
			if got := m.next(); got["STOPPING"] != "1" {
				t.Errorf("stop: %v", got)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWatchdog(t *testing.T) {
	t.Parallel()
	m := newManager(t, filepath.Join(place(t), "n"))
	opts := options(t, place(t), "")
	opts.Notify = Notify{Socket: m.path, Watchdog: 40 * time.Millisecond}
	_, stop := run(t, opts)
	for range 4 {
		m.until("WATCHDOG")
	}
	stop()
}

// A start that fails is never called ready.
func TestNotReady(t *testing.T) {
	t.Parallel()
	m := newManager(t, filepath.Join(place(t), "n"))
	opts := options(t, place(t), "")
	write(t, opts.Inventory, "version: 1\nnonsense: true\n")
	opts.Notify.Socket = m.path
	if _, err := New(t.Context(), opts); !fault.Is(err, fault.Invalid) {
		t.Fatalf("got %v", err)
	}
	if err := m.conn.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for {
		n, err := m.conn.Read(buf)
		if err != nil {
			break
		}
		if strings.Contains(string(buf[:n]), "READY") {
			t.Errorf("told: %s", buf[:n])
		}
	}
	opts.Notify.Socket = "/nowhere/n"
	if _, err := New(t.Context(), opts); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "NOTIFY_SOCKET") {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestSocketGroup(t *testing.T) {
	t.Parallel()
	opts := options(t, place(t), "")
	opts.Socket = filepath.Join(filepath.Dir(opts.Socket), "run", "s")
	opts.SocketGroup = strconv.Itoa(os.Getgid())
	_, stop := run(t, opts)
	for path, mode := range map[string]os.FileMode{opts.Socket: 0o660, filepath.Dir(opts.Socket): 0o710} {
		st, err := os.Stat(path)
		if err != nil || st.Mode().Perm() != mode || int(st.Sys().(*syscall.Stat_t).Gid) != os.Getgid() {
			t.Errorf("%s: %v %v, want mode %o", path, st, err, mode)
		}
	}
	stop()
	opts.SocketGroup = "no such group"
	if _, err := New(t.Context(), opts); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "no such group") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(opts.Socket); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}
