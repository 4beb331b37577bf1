package metrics

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// Kinds of sessions, and the result of what went well; what did not has the kind
// of its fault.
const (
	shell   = "shell"
	exec    = "exec"
	sftp    = "sftp"
	success = "success"
)

// ssh is what is counted around the dialer.
type ssh struct {
	dials       *prometheus.CounterVec
	took        prometheus.Histogram
	connections prometheus.Gauge
	sessions    *prometheus.GaugeVec
	opened      *prometheus.CounterVec
}

func newSSH() ssh {
	const subsystem = "ssh"
	s := ssh{
		dials: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: "dials_total",
			Help: "Connections tried since start; result is success or the kind of failure."}, []string{"result"}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Subsystem: subsystem, Name: "dial_duration_seconds",
			Help: "How long it took to connect and log in, where that succeeded.", Buckets: prometheus.ExponentialBucketsRange(0.01, 30, 10)}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: "connections",
			Help: "Connections to devices that are open."}),
		sessions: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: "sessions",
			Help: "Sessions with devices that are open, by type."}, []string{"type"}),
		opened: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: "sessions_total",
			Help: "Sessions asked for since start, by type; result is success or the kind of failure."}, []string{"type", "result"}),
	}
	for _, kind := range []fault.Kind{success, fault.Unreachable, fault.Timeout, fault.Auth, fault.HostKey} {
		s.dials.WithLabelValues(string(kind))
	}
	for _, kind := range []string{shell, exec, sftp} {
		s.sessions.WithLabelValues(kind)
		s.opened.WithLabelValues(kind, success)
		s.opened.WithLabelValues(kind, string(fault.Busy))
	}
	return s
}

func (s ssh) collectors() []prometheus.Collector {
	return []prometheus.Collector{s.dials, s.took, s.connections, s.sessions, s.opened}
}

func result(err error) string {
	if err == nil {
		return success
	}
	return string(fault.KindOf(err))
}

// Dialer counts around another dialer.
func (m *Metrics) Dialer(next device.Dialer) device.Dialer { return dialer{next, m.ssh} }

type dialer struct {
	next device.Dialer
	ssh  ssh
}

func (d dialer) Dial(ctx context.Context, dev *device.Device) (device.Conn, error) {
	began := time.Now()
	c, err := d.next.Dial(ctx, dev)
	d.ssh.dials.WithLabelValues(result(err)).Inc()
	if err != nil {
		return nil, err
	}
	d.ssh.took.Observe(time.Since(began).Seconds())
	d.ssh.connections.Inc()
	return &conn{Conn: c, ssh: d.ssh, open: map[string]int{}}, nil
}

// conn counts the sessions of a connection.
type conn struct {
	device.Conn
	ssh ssh

	mu     sync.Mutex
	closed bool
	open   map[string]int
}

// began notes a session that was asked for and gives what notes its end, which may
// be called twice. A connection's end is the end of its sessions.
func (c *conn) began(kind string, err error) (ended func()) {
	c.ssh.opened.WithLabelValues(kind, result(err)).Inc()
	if err != nil {
		return func() {}
	}
	return c.running(kind)
}

func (c *conn) running(kind string) (ended func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return func() {}
	}
	c.open[kind]++
	c.ssh.sessions.WithLabelValues(kind).Inc()
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.closed {
			return
		}
		c.open[kind]--
		c.ssh.sessions.WithLabelValues(kind).Dec()
	})
}

func (c *conn) Close() error {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		c.ssh.connections.Dec()
		for kind, n := range c.open {
			c.ssh.sessions.WithLabelValues(kind).Sub(float64(n))
		}
	}
	c.mu.Unlock()
	return c.Conn.Close()
}

func (c *conn) Shell(ctx context.Context, def *device.Definition) (device.Shell, error) {
	s, err := c.Conn.Shell(ctx, def)
	ended := c.began(shell, err)
	if err != nil {
		return nil, err
	}
	return countedShell{s, ended}, nil
}

// Exec counts a command's session while it runs; a command that ends badly was a
// session nevertheless, and has its kind.
func (c *conn) Exec(ctx context.Context, req device.ExecRequest) (device.ExecResult, error) {
	ended := c.running(exec)
	defer ended()
	res, err := c.Conn.Exec(ctx, req)
	c.ssh.opened.WithLabelValues(exec, result(err)).Inc()
	return res, err
}

func (c *conn) Files(ctx context.Context) (device.Files, error) {
	f, err := c.Conn.Files(ctx)
	ended := c.began(sftp, err)
	if err != nil {
		return nil, err
	}
	return files{f, ended}, nil
}

type countedShell struct {
	device.Shell
	ended func()
}

func (s countedShell) Close() error {
	s.ended()
	return s.Shell.Close()
}

type files struct {
	device.Files
	ended func()
}

func (f files) Close() error {
	f.ended()
	return f.Files.Close()
}
