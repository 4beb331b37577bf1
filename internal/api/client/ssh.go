package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"capfleet/internal/fault"
)

// A fleetd elsewhere is reached by running the user's own ssh, so that their
// configuration, agent, known_hosts and jump hosts count and host keys are as
// strict as they are for them otherwise. On the other host ssh runs "fleetctl
// proxy", which joins its own input and output to the socket. Over ssh's
// forwarding of sockets this has three advantages: there is no socket or port on
// this machine that others could find, on Windows too; each side ends with the
// other, however that one ends; and the far side can say in words why a socket
// cannot be opened. Nothing but that command runs there, so a key can be bound to
// it with command="fleetctl proxy" in authorized_keys.
//
// One connection of HTTP is one ssh. They are few: requests of one fleetctl
// follow each other, beside at most one stream of events.

const (
	// greeting is the first line of the far side; what a login script printed before
	// it is skipped. The number changes when the two sides would not understand each
	// other any more.
	greeting = "fleetctl-proxy 1"
	// maxPreface bounds what may come before the greeting.
	maxPreface = 64 << 10
	// maxSaid bounds what is kept of ssh's own messages, from the end.
	maxSaid = 4 << 10
	// dying is how long an ssh is given to end by itself once it is told to.
	dying = time.Second
)

// sshServer is a fleetd on another host.
type sshServer struct {
	program string // ssh
	user    string // "" is what ssh's configuration says
	host    string
	port    string // "" as well
	socket  string // absolute path there; "" is what fleetctl finds there by itself
	name    string // as the user wrote it
}

func (s *sshServer) String() string { return s.name }

func (s *sshServer) server() string { return s.name }

// args is ssh's command line. It can neither ask (a passphrase, a host key), nor
// forward anything, nor stay behind as a master of connections.
func (s *sshServer) args() []string {
	args := []string{"-T", "-a", "-x"}
	for _, option := range []string{
		"BatchMode=yes", "ClearAllForwardings=yes", "PermitLocalCommand=no", "RemoteCommand=none", "ControlMaster=no",
		// A network that vanishes ends it, also when nobody is left to notice.
		"ConnectTimeout=30", "ServerAliveInterval=15", "ServerAliveCountMax=3",
		"LogLevel=ERROR",
	} {
		args = append(args, "-o", option)
	}
	if s.user != "" {
		args = append(args, "-l", s.user)
	}
	if s.port != "" {
		args = append(args, "-p", s.port)
	}
	command := "fleetctl proxy"
	if s.socket != "" {
		command += " --server " + quoted(s.socket)
	}
	return append(args, "--", s.host, command)
}

// quoted makes a word of a POSIX shell's command line.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func (s *sshServer) dial(ctx context.Context) (net.Conn, error) {
	program, err := exec.LookPath(s.program)
	if err != nil {
		return nil, &fault.Error{Kind: fault.Unavailable, Act: "cannot reach fleetd at " + s.name,
			Err: fmt.Errorf("there is no program %q", s.program), Next: "install OpenSSH's client"}
	}
	c, err := s.start(ctx, program)
	if err != nil {
		return nil, &fault.Error{Kind: fault.Unavailable, Act: "cannot reach fleetd at " + s.name, Err: err}
	}
	stop := context.AfterFunc(ctx, c.kill)
	noise, err := c.greeted()
	switch {
	case err == nil && stop():
		return c, nil
	case ctx.Err() != nil:
		_ = c.Close()
		return nil, ctx.Err()
	}
	// It ends by itself, and how it ends says why.
	_ = c.stdin.Close()
	c.await(dying)
	_ = c.Close()
	return nil, s.refused(c.cmd.ProcessState.ExitCode(), c.said.last(), noise)
}

// refused puts the end of an ssh that never connected into one line. A number
// over 127 is ssh's own; others are the far side's.
func (s *sshServer) refused(code int, said, noise string) error {
	try := "see whether this works: " + strings.Join(s.words(), " ")
	e := &fault.Error{Kind: fault.Unavailable, Act: "cannot reach fleetd at " + s.name, Next: try}
	if said == "" {
		said = noise
	}
	said = strings.TrimPrefix(said, "fleetctl: ")
	switch {
	case code == 127:
		e.Err, e.Next = fmt.Errorf("fleetctl is not found on %s", s.host), "install it there, in a directory of the PATH that ssh commands have"
	case strings.Contains(said, "Host key verification failed"):
		e.Err, e.Next = errors.New("the host key is unknown or changed"), "compare and accept it once with: "+strings.Join(s.words(), " ")
	case strings.Contains(said, "Permission denied (") || strings.Contains(said, "Too many authentication failures"):
		e.Err, e.Next = errors.New(said), "ssh must log in without a question; put the key into your agent"
	case code == fault.ExitUnavailable && said != "":
		e.Err, e.Next = fmt.Errorf("on %s: %s", s.host, said), ""
	case code == fault.ExitUsage && said != "":
		e.Err, e.Next = fmt.Errorf("fleetctl on %s: %s", s.host, said), "is it the same version as this one?"
	case said != "":
		e.Err = errors.New(said)
	default:
		e.Err = fmt.Errorf("ssh ended with %d and no word", code)
	}
	return e
}

// words is the plain ssh command that a person would try.
func (s *sshServer) words() []string {
	words := []string{"ssh"}
	if s.port != "" {
		words = append(words, "-p", s.port)
	}
	host := s.host
	if s.user != "" {
		host = s.user + "@" + host
	}
	return append(words, host, "fleetctl", "version")
}

// sshConn is a running ssh as a connection.
type sshConn struct {
	name   string
	cmd    *exec.Cmd
	stdin  *os.File
	stdout *os.File
	in     *bufio.Reader // of stdout
	said   *tail         // on standard error
	kill   context.CancelFunc
	done   chan struct{} // closed once it has ended
	close  func() error
}

func (s *sshServer) start(ctx context.Context, program string) (_ *sshConn, err error) {
	// Pipes of our own instead of exec's, which close themselves when the process
	// ends, and with deadlines.
	theirIn, ourIn, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	ourOut, theirOut, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, theirIn.Close(), ourIn.Close())
	}
	// The connection outlives the context of the request that made it.
	own, kill := context.WithCancel(context.WithoutCancel(ctx))
	c := &sshConn{name: s.name, stdin: ourIn, stdout: ourOut, in: bufio.NewReader(ourOut), said: &tail{}, kill: kill, done: make(chan struct{})}
	c.cmd = exec.CommandContext(own, program, s.args()...)
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = theirIn, theirOut, c.said
	c.cmd.WaitDelay = dying
	bind(c.cmd)
	c.close = sync.OnceValue(c.end)
	err = c.cmd.Start()
	_, _ = theirIn.Close(), theirOut.Close()
	if err != nil {
		kill()
		return nil, errors.Join(err, ourIn.Close(), ourOut.Close())
	}
	go func() {
		defer close(c.done)
		_ = c.cmd.Wait() // its exit code is looked at where it matters
	}()
	return c, nil
}

// greeted waits for the far side's first line. noise is the last line that came
// instead.
func (c *sshConn) greeted() (noise string, err error) {
	for read := 0; read < maxPreface; {
		part, err := c.in.ReadSlice('\n')
		read += len(part)
		line := cleaned(part)
		if line == greeting && err == nil {
			return "", nil
		}
		if line != "" {
			noise = line
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return noise, err
		}
	}
	return noise, errors.New("too much came before the greeting")
}

// await waits a bounded time for the process to end.
func (c *sshConn) await(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
	}
}

// Close ends the ssh, with it the far side, and waits for it.
func (c *sshConn) Close() error { return c.close() }

func (c *sshConn) end() error {
	c.kill()
	err := errors.Join(c.stdin.Close(), c.stdout.Close())
	<-c.done
	return err
}

func (c *sshConn) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	return n, c.cut(err)
}

func (c *sshConn) Write(p []byte) (int, error) {
	n, err := c.stdin.Write(p)
	return n, c.cut(err)
}

// cut gives the reason that ssh has told for the end of a connection in use.
func (c *sshConn) cut(err error) error {
	if err == nil || errors.Is(err, os.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	c.await(dying)
	if said := c.said.last(); said != "" {
		return &fault.Error{Kind: fault.Disconnected, Act: "connection to fleetd at " + c.name + " broke", Err: errors.New(said)}
	}
	return err
}

func (c *sshConn) LocalAddr() net.Addr  { return sshAddr("here") }
func (c *sshConn) RemoteAddr() net.Addr { return sshAddr(c.name) }

func (c *sshConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
func (c *sshConn) SetReadDeadline(t time.Time) error  { return c.stdout.SetReadDeadline(t) }
func (c *sshConn) SetWriteDeadline(t time.Time) error { return c.stdin.SetWriteDeadline(t) }

type sshAddr string

func (sshAddr) Network() string  { return "ssh" }
func (a sshAddr) String() string { return string(a) }

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - maxSaid; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

// last gives the last line that says something.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := bytes.Split(t.buf, []byte("\n"))
	for _, raw := range slices.Backward(lines) {
		if line := cleaned(raw); line != "" {
			return line
		}
	}
	return ""
}

// cleaned makes a line without control characters of bytes that may come from
// another host.
func cleaned(raw []byte) string {
	const most = 300
	line := strings.TrimSpace(strings.Map(func(r rune) rune {
		if control(r) {
			return -1
		}
		return r
	}, string(raw)))
	if len(line) > most {
		line = strings.ToValidUTF8(line[:most], "") + "..."
	}
	return line
}
