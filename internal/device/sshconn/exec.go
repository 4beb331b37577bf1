package sshconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// copyGrace is how long an ended command's copying may still take before it is
// left behind: it only does when the caller's own Writer is stuck.
const copyGrace = 50 * time.Millisecond

// Exec runs one command without a terminal; see device.Conn. The result holds
// what was read, also beside an error:
//
//   - Timeout and Canceled: the command was told to end (SIGTERM) and its session
//     closed; the connection stays usable;
//   - TooLarge: kept output passed MaxBytes; the command was ended likewise;
//   - Refused: it was ended by a signal (Status is 128 and the signal's number
//     where that is known) or the device gave no exit status, so that nothing
//     proves the output complete.
//
// A status other than 0 is no error of Exec's. Stdout and Stderr must be
// different writers or one that allows concurrent use. After a cancelled call no
// new Write begins, but one that is under way may outlast it. A Read of Stdin
// that blocks is left behind when the command ends.
func (c *Conn) Exec(ctx context.Context, req device.ExecRequest) (device.ExecResult, error) {
	start := time.Now()
	line, err := commandLine(req)
	act := "run " + foreign(line)
	if err != nil {
		return device.ExecResult{}, &fault.Error{Kind: fault.Invalid, Act: act, Device: c.dev.Name, Stage: stageCommand, Err: err}
	}
	switch {
	case req.Timeout > 0:
		var cancel context.CancelFunc
		ctx, cancel = within(ctx, req.Timeout, "the command's timeout")
		defer cancel()
	case req.Timeout == 0:
		var cancel context.CancelFunc
		ctx, cancel = within(ctx, c.link.ep.ssh.CommandTimeout, "ssh.command_timeout")
		defer cancel()
	}
	s, err := c.open(ctx, act, func(s *session) error {
		return s.request("exec", struct{ Command string }{line})
	})
	if err != nil {
		return device.ExecResult{Elapsed: time.Since(start)}, err
	}
	limit := req.MaxBytes
	if limit <= 0 {
		limit = device.DefaultMaxOutput
	}
	run := &execution{conn: c, session: s, act: act, limit: limit,
		stdout: &sink{to: req.Stdout, limit: limit}, stderr: &sink{to: req.Stderr, limit: limit}}
	result, err := run.wait(ctx, req.Stdin)
	result.Elapsed = time.Since(start)
	return result, err
}

// commandLine makes the line that the device's shell gets.
func commandLine(req device.ExecRequest) (string, error) {
	line := req.Raw
	switch {
	case req.Raw != "" && len(req.Args) > 0:
		return line, errors.New("a command has arguments or a raw line, not both")
	case req.Raw == "" && len(req.Args) == 0:
		return line, errors.New("the command is empty")
	case req.Raw == "":
		line = Quote(req.Args)
	}
	if strings.ContainsRune(line, 0) {
		return line, errors.New("a command cannot hold a NUL byte")
	}
	return line, nil
}

// execution is one command under way.
type execution struct {
	conn           *Conn
	session        *session
	act            string
	limit          int
	stdout, stderr *sink
}

func (x *execution) wait(ctx context.Context, stdin io.Reader) (device.ExecResult, error) {
	c, s := x.conn, x.session
	copied := make(chan error, 2)
	both := c.link.spawn(func() { copied <- x.stdout.fill(s.ch) })
	both = both && c.link.spawn(func() { copied <- x.stderr.fill(s.ch.Stderr()) })
	if !both {
		return x.result(), c.link.disconnected(x.act, stageCommand)
	}
	if stdin == nil {
		c.link.spawn(func() { _ = s.ch.CloseWrite() })
	} else {
		// Not the link's to wait for: only the caller can end a Read of its own.
		go feed(s.ch, stdin)
	}

	err := x.follow(ctx, copied)
	c.link.spawn(s.stop) // a formality when the command has ended
	x.stdout.shut()
	x.stderr.shut()
	return x.result(), err
}

// follow waits for both streams to end and for the exit status.
func (x *execution) follow(ctx context.Context, copied <-chan error) error {
	c, s := x.conn, x.session
	for range 2 {
		select {
		case err := <-copied:
			if err != nil {
				return x.copyFailure(err)
			}
		case <-ctx.Done():
			return x.interrupted(ctx)
		case <-c.link.done:
			return c.link.disconnected(x.act, stageCommand)
		}
	}
	select {
	case <-s.ended:
	case <-ctx.Done():
		end := ctxError(ctx)
		return x.fail(end.Kind, end.Err, "")
	case <-c.link.done:
		// The status may have come just before the end.
		if !s.hasEnded() {
			return c.link.disconnected(x.act, stageCommand)
		}
	}
	switch {
	case s.hasStatus:
		return nil
	case s.signal != "":
		told := fmt.Errorf("it was ended by signal %s", s.signal)
		if s.signalMsg != "" {
			told = fmt.Errorf("%w: %s", told, s.signalMsg)
		}
		return x.fail(fault.Refused, told, "")
	case c.link.lost():
		return c.link.disconnected(x.act, stageCommand)
	default:
		return x.fail(fault.Refused, errors.New("the device closed the session without an exit status: the output may not be complete"), "")
	}
}

// interrupted words the end of ctx; wait stops the command. Copying that is not stuck in a
// caller's Writer gets a moment to stop, so that the Writer is usually at rest.
func (x *execution) interrupted(ctx context.Context) error {
	x.stdout.shut()
	x.stderr.shut()
	x.rest()
	end := ctxError(ctx)
	next := ""
	if end.Kind == fault.Timeout {
		next = "the command was told to end; give it more time if it needs it"
	}
	return x.fail(end.Kind, end.Err, next)
}

// rest waits briefly until no Write is under way.
func (x *execution) rest() {
	grace := time.NewTimer(copyGrace)
	defer grace.Stop()
	for _, s := range []*sink{x.stdout, x.stderr} {
		select {
		case <-s.idle():
		case <-grace.C:
			return
		}
	}
}

func (x *execution) copyFailure(err error) error {
	if errors.Is(err, errOverLimit) {
		return x.fail(fault.TooLarge, fmt.Errorf("its output is larger than %d bytes; it was cut there and the command ended", x.limit), "")
	}
	return &fault.Error{Kind: fault.KindOf(err), Act: x.act, Device: x.conn.dev.Name, Stage: stageCommand,
		Err: fmt.Errorf("write its output: %w", err)}
}

func (x *execution) fail(kind fault.Kind, err error, next string) *fault.Error {
	return &fault.Error{Kind: kind, Act: x.act, Device: x.conn.dev.Name, Stage: stageCommand, Next: next, Err: err}
}

func (x *execution) result() device.ExecResult {
	r := device.ExecResult{Stdout: x.stdout.kept(), Stderr: x.stderr.kept()}
	if s := x.session; s.hasEnded() {
		r.Status = s.status
		if s.signal != "" {
			r.Status = 128 + signalNumber(s.signal)
		}
	}
	return r
}

// hasEnded reports whether the end of the command is known; its fields may be
// read then.
func (s *session) hasEnded() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// signalNumber gives the number of the signals of RFC 4254, section 6.10; 0 for
// another.
func signalNumber(name string) int {
	switch name {
	case "HUP":
		return 1
	case "INT":
		return 2
	case "QUIT":
		return 3
	case "ILL":
		return 4
	case "ABRT":
		return 6
	case "FPE":
		return 8
	case "KILL":
		return 9
	case "USR1":
		return 10
	case "SEGV":
		return 11
	case "USR2":
		return 12
	case "PIPE":
		return 13
	case "ALRM":
		return 14
	case "TERM":
		return 15
	default:
		return 0
	}
}

// feed gives a command its input and then the end of it.
func feed(ch interface {
	io.Writer
	CloseWrite() error
}, stdin io.Reader) {
	// A command may end without reading everything; its status tells enough.
	_, _ = io.Copy(onlyWriter{ch}, stdin)
	_ = ch.CloseWrite()
}

var errOverLimit = errors.New("over the limit")

// sink takes one stream of a command: into a Writer, or kept up to a limit.
type sink struct {
	to    io.Writer
	limit int

	mu      sync.Mutex
	buf     []byte
	closed  bool
	writing chan struct{} // closed when the Write under way has returned
}

// fill copies until the stream ends, the limit is passed or the sink is shut.
func (s *sink) fill(r io.Reader) error {
	_, err := io.Copy(onlyWriter{s}, onlyReader{r})
	if errors.Is(err, io.ErrClosedPipe) {
		return nil // shut
	}
	return err
}

// Write implements io.Writer for fill.
func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return 0, io.ErrClosedPipe
	}
	if s.to == nil {
		defer s.mu.Unlock()
		if room := s.limit - len(s.buf); len(p) > room {
			s.buf = append(s.buf, p[:room]...)
			return room, errOverLimit
		}
		s.buf = append(s.buf, p...)
		return len(p), nil
	}
	writing := make(chan struct{})
	s.writing = writing
	s.mu.Unlock()
	defer close(writing)
	return s.to.Write(p)
}

// shut lets no further Write begin.
func (s *sink) shut() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
}

// idle is closed when no Write is under way, which stays so after shut.
func (s *sink) idle() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writing == nil {
		s.writing = make(chan struct{})
		close(s.writing)
	}
	return s.writing
}

func (s *sink) kept() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf
}
