package sim

import (
	"context"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
)

// statusKilled as an exit status means that the session has none to give.
const statusKilled = -1

// session is one session channel: a shell, a command or SFTP.
type session struct {
	dev  *device
	conn *connection
	ch   ssh.Channel
	ctx  context.Context //nolint:containedctx // of the channel's life
	user string

	// Set before the program starts, except for the size.
	env        map[string]string
	hasPTY     bool
	cols, rows atomic.Int32
	term       *terminal

	interrupt atomic.Pointer[context.CancelFunc] // stops the running command
	joins     sync.WaitGroup                     // what must have ended before the session has
}

type ptyRequest struct {
	Term                    string
	Columns, Rows           uint32
	PixelWidth, PixelHeight uint32
	Modes                   string
}

type windowChange struct {
	Columns, Rows           uint32
	PixelWidth, PixelHeight uint32
}

type envRequest struct{ Name, Value string }

type stringRequest struct{ Value string }

type exitSignal struct {
	Signal     string
	CoreDumped bool
	Message    string
	Language   string
}

// session serves one session channel to its end.
func (c *connection) session(nc ssh.NewChannel) {
	limit := int64(maxSessions)
	if n := c.dev.ordered.Load().sessions; n > 0 {
		limit = n
	}
	defer c.sessions.Add(-1)
	if c.sessions.Add(1) > limit {
		_ = nc.Reject(ssh.ConnectionFailed, "open failed")
		return
	}
	ch, requests, err := nc.Accept()
	if err != nil {
		return // the client left
	}
	defer func() { _ = ch.Close() }() // the program's own end closes it too
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	s := &session{dev: c.dev, conn: c, ch: ch, ctx: ctx, user: c.account.username,
		env: map[string]string{"SSH_CONNECTION": c.between()}}

	defer s.joins.Wait()
	defer cancel()
	started := false
	for r := range requests {
		run, ok := s.request(r, started)
		if r.WantReply && r.Reply(ok, nil) != nil {
			return
		}
		if run != nil {
			started = true
			s.joins.Go(func() { s.finish(run()) })
		}
	}
}

// request handles one request; a program to run is given back.
func (s *session) request(r *ssh.Request, started bool) (run func() int, ok bool) {
	switch r.Type {
	case "pty-req":
		var p ptyRequest
		if started || ssh.Unmarshal(r.Payload, &p) != nil {
			return nil, false
		}
		s.hasPTY = true
		s.env["TERM"] = p.Term
		s.resize(p.Columns, p.Rows)
		return nil, true
	case "window-change":
		var w windowChange
		if ssh.Unmarshal(r.Payload, &w) != nil {
			return nil, false
		}
		s.resize(w.Columns, w.Rows)
		return nil, true
	case "env":
		var e envRequest
		if started || ssh.Unmarshal(r.Payload, &e) != nil || e.Name != "LANG" && !strings.HasPrefix(e.Name, "LC_") {
			return nil, false
		}
		s.env[e.Name] = e.Value
		return nil, true
	case "signal":
		s.interruptCommand()
		return nil, true
	case "shell":
		if started {
			return nil, false
		}
		return s.runShell, true
	case "exec":
		var e stringRequest
		if started || ssh.Unmarshal(r.Payload, &e) != nil {
			return nil, false
		}
		ctx, done := s.command(s.ctx) // now: a signal may follow at once
		return func() int {
			defer done(true)
			return s.runExec(ctx, e.Value)
		}, true
	case "subsystem":
		var e stringRequest
		if started || ssh.Unmarshal(r.Payload, &e) != nil || e.Value != "sftp" {
			return nil, false
		}
		return s.runSFTP, true
	default: // agent and X11 forwarding among them
		return nil, false
	}
}

func (s *session) resize(cols, rows uint32) {
	s.cols.Store(int32(min(cols, 10000)))
	s.rows.Store(int32(min(rows, 10000)))
}

// interruptCommand stops the command that runs, as Ctrl-C or a signal does.
func (s *session) interruptCommand() bool {
	cancel := s.interrupt.Load()
	if cancel == nil {
		return false
	}
	(*cancel)()
	return true
}

// command is the context of one command, which an interrupt ends. done says that
// the command is over; its context ends then, or later with the parent where
// the command has left something running.
func (s *session) command(parent context.Context) (ctx context.Context, done func(end bool)) {
	ctx, cancel := context.WithCancel(parent)
	s.interrupt.Store(&cancel)
	if s.term != nil {
		s.term.in.overtake()
	}
	return ctx, func(end bool) {
		s.interrupt.Store(nil)
		if end {
			cancel()
		}
	}
}

// silent tells whether the session is never answered, and waits for its end then.
func (s *session) silent() bool {
	if !s.dev.ordered.Load().muteAfterLogin {
		return false
	}
	<-s.ctx.Done()
	return true
}

func (s *session) runShell() int {
	if s.silent() {
		return statusKilled
	}
	s.term = newTerminal(s)
	status := s.dev.persona.shell(s)
	_ = s.term.Flush()
	return status
}

func (s *session) runExec(ctx context.Context, line string) int {
	if s.silent() || s.turn(ctx) != nil {
		return statusKilled
	}
	if s.hasPTY {
		s.term = newTerminal(s)
		defer func() { _ = s.term.Flush() }()
	}
	status := s.dev.persona.exec(ctx, s, line)
	if ctx.Err() != nil && !s.hasPTY {
		return statusKilled
	}
	return status
}

// finish tells the client how the program ended and closes the channel. Errors
// mean that the client is gone.
func (s *session) finish(status int) {
	if s.ctx.Err() == nil {
		_ = s.ch.CloseWrite()
		if status == statusKilled {
			_, _ = s.ch.SendRequest("exit-signal", false, ssh.Marshal(exitSignal{Signal: "TERM"}))
		} else {
			_, _ = s.ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(status & 0xff)}))
		}
	}
	_ = s.ch.Close()
}

// turn is the time that a device takes before it answers.
func (s *session) turn(ctx context.Context) error {
	d := s.dev.fleet.delay + s.dev.ordered.Load().slow
	if d == 0 {
		return ctx.Err()
	}
	if s.term != nil {
		_ = s.term.Flush()
	}
	return pause(ctx, d)
}

// stdout and stderr are where programs of an exec session write.
func (s *session) stdout() io.Writer {
	if s.term != nil {
		return s.term
	}
	return wire{s, s.ch}
}

func (s *session) stderr() io.Writer {
	if s.term != nil {
		return s.term
	}
	return wire{s, s.ch.Stderr()}
}

// wire is the last stretch to the client. Under the fault drip it carries one
// byte at a time.
type wire struct {
	s *session
	w io.Writer
}

func (w wire) Write(p []byte) (int, error) {
	pauseFor := w.s.dev.ordered.Load().drip
	if pauseFor == 0 {
		return w.w.Write(p)
	}
	for i := range p {
		if _, err := w.w.Write(p[i : i+1]); err != nil {
			return i, err
		}
		if err := pause(w.s.ctx, pauseFor); err != nil {
			return i + 1, err
		}
	}
	return len(p), nil
}
