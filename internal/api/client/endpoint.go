package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	slashpath "path"
	"path/filepath"
	"strings"
	"syscall"

	"capfleet/internal/fault"
)

// endpoint is a way to one fleetd.
type endpoint interface {
	// dial makes a connection that carries HTTP. One that cannot be made is
	// fault.Unavailable, in one line that names what was tried and what to do.
	dial(ctx context.Context) (net.Conn, error)
	// String names the way in errors.
	String() string
	// server is what New was given, with the path absolute.
	server() string
}

// parse reads a server: a path, unix:PATH, or ssh://[user@]host[:port][/socket].
func parse(server string) (endpoint, error) {
	if rest, ok := strings.CutPrefix(server, "ssh://"); ok {
		return parseSSH(server, rest)
	}
	return parseUnix(server)
}

// unixSocket is the path of a fleetd's socket on this machine.
type unixSocket string

func parseUnix(server string) (unixSocket, error) {
	p, ok := strings.CutPrefix(server, "unix:")
	if ok && strings.HasPrefix(p, "//") {
		p = p[2:]
	}
	switch {
	case p == "":
		return "", &fault.Error{Kind: fault.Invalid, Act: "no fleetd is named", Next: "set --server or FLEET_SERVER to its socket"}
	case strings.Contains(p, "://"):
		return "", &fault.Error{Kind: fault.Invalid, Act: fmt.Sprintf("server %q is not understood", server),
			Next: "give the path of fleetd's socket, or ssh://user@host"}
	}
	p, err := filepath.Abs(p)
	if err != nil {
		return "", fault.Wrap(fault.Invalid, "find socket "+server, err)
	}
	return unixSocket(p), nil
}

func (u unixSocket) String() string { return "unix socket " + string(u) }

func (u unixSocket) server() string { return string(u) }

func (u unixSocket) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", string(u))
	if err != nil && ctx.Err() == nil {
		return nil, unreachable(u, err)
	}
	return conn, err
}

// unreachable says in one line what was tried and how to start one.
func unreachable(u unixSocket, err error) error {
	reason := err
	next := "start it with: fleetd --inventory F, or set --server/FLEET_SERVER"
	switch {
	case errors.Is(err, os.ErrNotExist):
		reason = errors.New("no such file")
	case errors.Is(err, syscall.ECONNREFUSED):
		reason = errors.New("nobody listens on it")
	case errors.Is(err, os.ErrPermission):
		reason, next = errors.New("permission denied"), "be the user that fleetd runs as, or a member of the group of its socket; a new member logs in again"
	default:
		var op *net.OpError
		if errors.As(err, &op) {
			reason = op.Err
		}
	}
	return &fault.Error{Kind: fault.Unavailable, Act: "cannot reach fleetd at " + u.String(), Err: reason, Next: next}
}

// parseSSH reads what follows ssh://. Host and user reach the user's ssh
// configuration, where %h and %r may stand in a command line for a shell, so
// nothing that a shell knows is let in.
func parseSSH(server, rest string) (*sshServer, error) {
	bad := func(format string, args ...any) error {
		return &fault.Error{Kind: fault.Invalid, Act: fmt.Sprintf("server %q is not understood", server),
			Err: fmt.Errorf(format, args...), Next: "write ssh://user@host, ssh://user@host:port or ssh://user@host/path/to/socket"}
	}
	u, err := url.Parse("ssh://" + rest)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // without the address, which is told already
		}
		return nil, bad("%w", err)
	}
	if _, has := u.User.Password(); has {
		// Not even quoted: it holds a password.
		return nil, &fault.Error{Kind: fault.Invalid, Act: "server ssh://...@" + u.Host + " has a password in it",
			Next: "leave it out: ssh uses your keys and your agent"}
	}
	s := &sshServer{program: "ssh", host: u.Hostname(), port: u.Port(), user: u.User.Username(), socket: u.Path, name: server}
	switch {
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, bad("nothing may follow the path")
	case s.host == "":
		return nil, bad("it names no host")
	case !plain(s.host):
		return nil, bad("host %q has characters that no host has", s.host)
	case u.User != nil && !plain(s.user):
		return nil, bad("user %q has characters that no user name has", s.user)
	}
	if s.socket == "/" {
		s.socket = ""
	}
	if s.socket != "" && (strings.ContainsFunc(s.socket, control) || slashpath.Clean(s.socket) != s.socket) {
		return nil, bad("%q is not the path of a socket", s.socket)
	}
	return s, nil
}

// plain reports whether a host or user is safe as a word of a command line.
func plain(s string) bool {
	return s != "" && s[0] != '-' && !strings.ContainsFunc(s, func(r rune) bool {
		return control(r) || strings.ContainsRune(" '\"`$\\;&<>|(){}*?!#~", r)
	})
}

func control(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\uFFFD' }
