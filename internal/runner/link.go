package runner

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

// link is the way to one device: a connection and a session on it, opened when
// they are first asked for and again after they broke. One goroutine opens at a
// time; the others wait for what it opens.
type link struct {
	dev     *device.Device
	driver  device.Driver // nil where this fleetd has none for the platform
	dialer  device.Dialer
	log     *slog.Logger
	learned func(operation.Facts)

	gate    chan struct{} // of one: a mutex that a context can leave
	conn    *watchedConn
	session *watchedSession
}

// openConn gives the connection, dialling where there is none that works.
func (l *link) openConn(ctx context.Context) (device.Conn, error) {
	if err := l.enter(ctx); err != nil {
		return nil, err
	}
	defer l.leave()
	conn, err := l.dial(ctx)
	if err != nil {
		return nil, err // not conn: a nil *watchedConn in an interface is not nil
	}
	return conn, nil
}

// openSession gives the session, opening connection and session where needed. A
// kept connection can have died unnoticed; then there is one new one.
func (l *link) openSession(ctx context.Context) (device.Session, error) {
	if err := l.enter(ctx); err != nil {
		return nil, err
	}
	defer l.leave()
	if l.session != nil && !l.session.broken.Load() && !l.conn.broken.Load() {
		return l.session, nil
	}
	if l.driver == nil {
		return nil, &fault.Error{Kind: fault.Unsupported, Act: "open session", Device: l.dev.Name, Stage: "session",
			Err: errors.New("no driver for platform " + l.dev.Platform)}
	}
	l.endSession()
	old := l.conn != nil
	s, err := l.open(ctx)
	if fault.Is(err, fault.Disconnected) && old && ctx.Err() == nil {
		l.log.Info("connection was dead, dial again", "err", err)
		l.endConn()
		s, err = l.open(ctx)
	}
	if err != nil {
		return nil, err
	}
	l.session = s
	return s, nil
}

func (l *link) enter(ctx context.Context) error {
	select {
	case l.gate <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &fault.Error{Kind: fault.KindOf(ctx.Err()), Act: "open session", Device: l.dev.Name, Stage: "session", Err: ctx.Err()}
	}
}

func (l *link) leave() { <-l.gate }

func (l *link) open(ctx context.Context) (*watchedSession, error) {
	conn, err := l.dial(ctx)
	if err != nil {
		return nil, err
	}
	s, err := l.driver.Open(ctx, l.dev, conn)
	if err != nil {
		conn.note(err)
		return nil, err
	}
	return &watchedSession{Session: s}, nil
}

func (l *link) dial(ctx context.Context) (*watchedConn, error) {
	if l.conn != nil && !l.conn.broken.Load() {
		return l.conn, nil
	}
	l.endSession()
	l.endConn()
	conn, err := l.dialer.Dial(ctx, l.dev)
	if err != nil {
		return nil, err
	}
	l.conn = &watchedConn{Conn: conn}
	if f := conn.Facts(); f.HostKeySHA256 != "" {
		l.learned(operation.Facts{"host_key_sha256": f.HostKeySHA256})
	}
	return l.conn, nil
}

func (l *link) endSession() {
	if l.session == nil {
		return
	}
	if err := l.session.Session.Close(); err != nil {
		l.log.Debug("close session", "err", err)
	}
	l.session = nil
}

func (l *link) endConn() {
	if l.conn == nil {
		return
	}
	if err := l.conn.Conn.Close(); err != nil {
		l.log.Debug("close connection", "err", err)
	}
	l.conn = nil
}

// close ends session and connection, in this order.
func (l *link) close() {
	l.endSession()
	l.endConn()
}

// watchedConn notices that the connection has died, so that the next who asks
// for it gets a new one. An operation may close it, too.
type watchedConn struct {
	device.Conn
	broken atomic.Bool
}

func (c *watchedConn) note(err error) {
	if fault.Is(err, fault.Disconnected) {
		c.broken.Store(true)
	}
}

func (c *watchedConn) Shell(ctx context.Context, def *device.Definition) (device.Shell, error) {
	s, err := c.Conn.Shell(ctx, def)
	c.note(err)
	return s, err
}

func (c *watchedConn) Exec(ctx context.Context, req device.ExecRequest) (device.ExecResult, error) {
	res, err := c.Conn.Exec(ctx, req)
	c.note(err)
	return res, err
}

func (c *watchedConn) Files(ctx context.Context) (device.Files, error) {
	f, err := c.Conn.Files(ctx)
	c.note(err)
	return f, err
}

func (c *watchedConn) Close() error {
	c.broken.Store(true)
	return c.Conn.Close()
}

// watchedSession notices that a session cannot be used any more: after a cut, and
// after a timeout or a cancelled command, when a late answer could be taken for
// the next one's.
type watchedSession struct {
	device.Session
	broken atomic.Bool
}

func (s *watchedSession) Run(ctx context.Context, cmd device.Command) (device.Output, error) {
	out, err := s.Session.Run(ctx, cmd)
	switch fault.KindOf(err) {
	case fault.Disconnected, fault.Timeout, fault.Canceled:
		s.broken.Store(true)
	default:
	}
	return out, err
}

func (s *watchedSession) Close() error {
	s.broken.Store(true)
	return s.Session.Close()
}
