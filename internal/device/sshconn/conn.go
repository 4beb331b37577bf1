package sshconn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/secret"
)

// Conn is a connection to a device; see device.Conn for the contract.
//
// A session counts against the limit from the request for it until the server
// has confirmed that it is closed: a server that is slow to let go of one would
// refuse the next.
type Conn struct {
	link    *link
	dev     *device.Device
	facts   device.ConnFacts
	secrets *secret.Resolver
	log     *slog.Logger
	slots   chan struct{} // one element for each session in use

	mu       sync.Mutex
	closed   bool
	sessions map[*session]struct{}
	shells   map[*openShell]struct{}
	// freed says that a session has closed since the device was last asked again.
	freed bool
}

var _ device.Conn = (*Conn)(nil)

func newConn(l *link, dev *device.Device, facts device.ConnFacts, secrets *secret.Resolver, log *slog.Logger) *Conn {
	return &Conn{
		link: l, dev: dev, facts: facts, secrets: secrets, log: log,
		slots:    make(chan struct{}, l.ep.ssh.MaxSessions),
		sessions: map[*session]struct{}{},
		shells:   map[*openShell]struct{}{},
	}
}

// Facts tells what was learned while connecting. LocalAddress is empty behind a
// jump host: the device sees the jump host's address then, not ours.
func (c *Conn) Facts() device.ConnFacts { return c.facts }

// Close ends the sessions and the connection, within 100 ms. Commands that still
// run are told to end first. Later calls do nothing.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closed = true
	sessions := slices.Collect(maps.Keys(c.sessions))
	shells := slices.Collect(maps.Keys(c.shells))
	c.mu.Unlock()
	if len(sessions) > 0 && !c.link.lost() {
		for _, s := range sessions {
			c.link.spawn(s.stop)
		}
		c.drain()
	}
	c.link.end(errClosed)
	var closing sync.WaitGroup
	for _, s := range shells {
		closing.Go(func() { _ = s.Close() })
	}
	await(closing.Wait)
	await(c.link.wg.Wait)
	return nil
}

// drain waits a moment for all sessions to be confirmed closed.
func (c *Conn) drain() {
	grace := time.NewTimer(closeGrace)
	defer grace.Stop()
	for range cap(c.slots) {
		select {
		case c.slots <- struct{}{}:
		case <-c.link.done:
			return
		case <-grace.C:
			return
		}
	}
}

// take waits for a place for one more session.
func (c *Conn) take(ctx context.Context, act string) error {
	select {
	case c.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case c.slots <- struct{}{}:
		return nil
	case <-c.link.done:
		return c.link.disconnected(act, stageSession)
	case <-ctx.Done():
		n := cap(c.slots)
		told := fmt.Errorf("all %d sessions of the connection (ssh.max_sessions) are in use", n)
		kind := fault.Busy
		if errors.Is(context.Cause(ctx), context.Canceled) {
			kind = fault.Canceled
		}
		return &fault.Error{Kind: kind, Act: act, Device: c.dev.Name, Stage: stageSession, Err: told,
			Next: "wait for one to end, or raise max_sessions if the device allows more"}
	}
}

func (c *Conn) give() { <-c.slots }

// session is one channel of type "session".
type session struct {
	conn *Conn
	ch   ssh.Channel
	// ended is closed when the command's end is known or the channel is closed;
	// closed only with the channel.
	ended, closed chan struct{}
	once          sync.Once
	// ending says that the channel is about to be closed; Conn.mu guards it. gone is
	// closed when the connection has forgotten the session.
	ending bool
	gone   chan struct{}

	// Set before ended is closed.
	hasStatus bool
	status    int
	signal    string
	signalMsg string
}

// open opens a session and sets it up by requests. A place is waited for until
// ctx ends, the device's answers no longer than the connect timeout after that.
// When time is up the session is stopped in the background.
func (c *Conn) open(ctx context.Context, act string, setup func(*session) error) (*session, error) {
	if err := c.take(ctx, act); err != nil {
		return nil, err
	}
	ctx, cancel := within(ctx, c.link.ep.ssh.ConnectTimeout, "ssh.connect_timeout")
	defer cancel()
	ch, reqs, err := c.openChannel(ctx, act)
	if err != nil {
		return nil, c.openFailure(ctx, act, err)
	}
	s := &session{conn: c, ch: ch, ended: make(chan struct{}), closed: make(chan struct{}), gone: make(chan struct{})}
	if !c.link.spawn(func() { s.serve(reqs) }) {
		c.give()
		return nil, c.link.disconnected(act, stageSession)
	}
	c.mu.Lock()
	closing := c.closed
	if !closing {
		c.sessions[s] = struct{}{}
	}
	c.mu.Unlock()
	if closing {
		c.link.spawn(s.stop)
		return nil, c.link.disconnected(act, stageSession)
	}
	result := make(chan error, 1)
	if !c.link.spawn(func() { result <- setup(s) }) {
		return nil, c.link.disconnected(act, stageSession)
	}
	select {
	case err = <-result:
	case <-ctx.Done():
		err = ctx.Err()
	case <-c.link.done:
		err = errClosed
	}
	if err != nil {
		c.link.spawn(s.stop)
		return nil, c.openFailure(ctx, act, err)
	}
	return s, nil
}

// openChannel opens a session's channel. A device that has no session left may
// only not have let go yet of one that has ended; OpenSSH does so some time after
// it has confirmed the end. So it is asked once more then. The caller has taken a
// place, which is given back on errors.
func (c *Conn) openChannel(ctx context.Context, act string) (ssh.Channel, <-chan *ssh.Request, error) {
	for {
		ch, reqs, err := c.link.openChannel(ctx, "session", nil, c.give)
		if err == nil || !noneLeft(err) || !c.awaitFree(ctx) {
			return ch, reqs, err
		}
		if err := c.take(ctx, act); err != nil {
			return nil, nil, err
		}
	}
}

// noneLeft reports whether the device refused a session because it has too many.
// OpenSSH says "connect failed" when MaxSessions is reached.
func noneLeft(err error) bool {
	refused, ok := errors.AsType[*ssh.OpenChannelError](err)
	return ok && (refused.Reason == ssh.ConnectionFailed || refused.Reason == ssh.ResourceShortage)
}

// awaitFree reports whether a session has closed since the device was last asked
// again, waiting for one that has ended. It is false when none has.
func (c *Conn) awaitFree(ctx context.Context) bool {
	for {
		c.mu.Lock()
		if c.freed {
			c.freed = false
			c.mu.Unlock()
			return true
		}
		var ending *session
		for s := range c.sessions {
			if s.ending {
				ending = s
			}
		}
		c.mu.Unlock()
		if ending == nil {
			return false
		}
		select {
		case <-ending.gone:
		case <-ctx.Done():
			return false
		case <-c.link.done:
			return false
		}
	}
}

// openFailure words a session that did not come about.
func (c *Conn) openFailure(ctx context.Context, act string, err error) *fault.Error {
	fail := func(kind fault.Kind, err error, next string) *fault.Error {
		return &fault.Error{Kind: kind, Act: act, Device: c.dev.Name, Stage: stageSession, Next: next, Err: err}
	}
	if c.link.lost() {
		return c.link.disconnected(act, stageSession)
	}
	if ctx.Err() != nil {
		end := ctxError(ctx)
		return fail(end.Kind, end.Err, "")
	}
	if have, ok := errors.AsType[*fault.Error](err); ok {
		return fail(have.Kind, have.Err, have.Next)
	}
	refused, ok := errors.AsType[*ssh.OpenChannelError](err)
	if !ok {
		return fail(fault.Refused, fmt.Errorf("the device closed the session at once: %s", foreign(err.Error())), "")
	}
	told := fmt.Errorf("the device refused one more session: %s (%s)", foreign(refused.Message), refused.Reason)
	switch refused.Reason {
	case ssh.Prohibited:
		return fail(fault.Refused, told, "allow sessions for this user on the device")
	case ssh.UnknownChannelType:
		return fail(fault.Unsupported, told, "")
	default:
		next := "allow a session for this user on the device"
		if n := cap(c.slots); n > 1 {
			next = fmt.Sprintf("the device allows fewer sessions than ssh.max_sessions (%d): lower it in the inventory", n)
		}
		return fail(fault.Busy, told, next)
	}
}

// serve takes the server's requests until the channel is closed, then gives the
// session's place back.
func (s *session) serve(reqs <-chan *ssh.Request) {
	for req := range reqs {
		switch req.Type {
		case "exit-status":
			var msg struct{ Status uint32 }
			if ssh.Unmarshal(req.Payload, &msg) == nil && !s.isEnded() {
				s.hasStatus, s.status = true, int(msg.Status)
				s.end()
			}
		case "exit-signal":
			var msg struct {
				Signal     string
				CoreDumped bool
				Message    string
				Lang       string
			}
			if ssh.Unmarshal(req.Payload, &msg) == nil && !s.isEnded() {
				s.signal, s.signalMsg = foreign(msg.Signal), foreign(msg.Message)
				s.end()
			}
		default:
			_ = req.Reply(false, nil)
		}
	}
	if !s.isEnded() {
		s.end()
	}
	close(s.closed)
	c := s.conn
	c.mu.Lock()
	delete(c.sessions, s)
	c.freed = true
	c.mu.Unlock()
	close(s.gone)
	c.give()
}

// end says that the command's end is known. It is for serve alone.
func (s *session) end() {
	s.leave()
	close(s.ended)
}

// leave marks the session as one whose place will be free soon.
func (s *session) leave() {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.ending = true
}

// isEnded is for serve alone, which is the one that closes ended.
func (s *session) isEnded() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// request makes a channel request and waits for the answer.
func (s *session) request(name string, payload any) error {
	var raw []byte
	if payload != nil {
		raw = ssh.Marshal(payload)
	}
	ok, err := s.ch.SendRequest(name, true, raw)
	if err != nil {
		return err
	}
	if !ok {
		return &fault.Error{Kind: fault.Refused, Err: fmt.Errorf("the device refused the request %q", name), Next: requestHint(name)}
	}
	return nil
}

func requestHint(name string) string {
	switch name {
	case "exec":
		return "it does not run commands without a shell for this user"
	case "subsystem":
		return "enable the SFTP subsystem on the device"
	case "pty-req":
		return "allow terminals for this user on the device"
	default:
		return ""
	}
}

// stop asks a running command to end and closes the channel. It may block on a
// frozen connection, so it runs in a goroutine of the link.
func (s *session) stop() {
	s.once.Do(func() {
		s.leave()
		select {
		case <-s.closed:
			return
		case <-s.ended:
		default:
			// The command may ignore it; then the closed pipes end it.
			_, _ = s.ch.SendRequest("signal", false, ssh.Marshal(struct{ Name string }{string(ssh.SIGTERM)}))
		}
		_ = s.ch.Close()
	})
}
