package sshconn

import (
	"cmp"
	"context"
	"net"

	"golang.org/x/crypto/ssh"

	"capfleet/internal/device"
	"capfleet/internal/device/sshconn/shell"
	"capfleet/internal/secret"
)

// terminalType is asked for with every PTY. A dumb terminal makes pagers ask
// whether that is meant; what a vt100 gets in escapes is taken out again.
const terminalType = "vt100"

// A definition that was not loaded may have no size. Wide, so that nothing is
// wrapped; high, so that little is paged.
const (
	terminalWidth  = 511
	terminalHeight = 999
)

// ptyRequest is the payload of RFC 4254, section 6.2.
type ptyRequest struct {
	Term                         string
	Columns, Rows, Width, Height uint32
	Modes                        string
}

// Shell opens an interactive shell; see device.Conn.
func (c *Conn) Shell(ctx context.Context, def *device.Definition) (device.Shell, error) {
	s, err := c.open(ctx, "open shell", func(s *session) error {
		pty := ptyRequest{
			Term:    terminalType,
			Columns: wireInt(cmp.Or(def.Shell.TerminalWidth, terminalWidth)),
			Rows:    wireInt(cmp.Or(def.Shell.TerminalHeight, terminalHeight)),
			Modes:   string([]byte{ssh.ECHO, 0, 0, 0, 1, 0}), // echo on; end of modes
		}
		if err := s.request("pty-req", pty); err != nil {
			return err
		}
		return s.request("shell", nil)
	})
	if err != nil {
		return nil, err
	}
	near, ok := c.link.bridge(s.ch, true)
	if !ok {
		return nil, c.link.disconnected("open shell", stageSession)
	}
	opts := shell.Options{
		Device:         c.dev.Name,
		CommandTimeout: c.link.ep.ssh.CommandTimeout,
		Logger:         c.log,
	}
	if ref := c.dev.Credentials.Enable; !ref.IsZero() {
		opts.Enable = func(ctx context.Context) (secret.String, error) { return c.secrets.Resolve(ctx, ref) }
	}
	sh, err := shell.Open(ctx, &terminal{near, c.link}, def, opts)
	if err != nil {
		_ = near.Close()
		return nil, err
	}
	open := &openShell{Shell: sh, conn: c}
	if !c.keep(open) {
		_ = sh.Close()
		return nil, c.link.disconnected("open shell", stageSession)
	}
	return open, nil
}

// openShell is a shell that its connection closes if nobody else does.
type openShell struct {
	*shell.Shell
	conn *Conn
}

func (s *openShell) Close() error {
	s.conn.mu.Lock()
	delete(s.conn.shells, s)
	s.conn.mu.Unlock()
	return s.Shell.Close()
}

// keep notes a shell; false when the connection is closed already.
func (c *Conn) keep(s *openShell) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.shells[s] = struct{}{}
	return true
}

// terminal is a shell's channel. Its end says why, where the connection is.
type terminal struct {
	net.Conn
	link *link
}

func (t *terminal) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	if err != nil && t.link.lost() {
		err = t.link.disconnected("read from the terminal", stageSession)
	}
	return n, err
}

func (t *terminal) Write(p []byte) (int, error) {
	n, err := t.Conn.Write(p)
	if err != nil && t.link.lost() {
		err = t.link.disconnected("write to the terminal", stageSession)
	}
	return n, err
}
