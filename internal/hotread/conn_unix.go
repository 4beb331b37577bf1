//go:build unix

package hotread

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// much is how many bytes at once make a connection a busy one.
	much = 16 << 10
	// patience is how long a read waits by itself, in milliseconds. A thread is held
	// meanwhile, so an idle connection never waits like this.
	patience = 5
)

// Conn makes a connection's reads cheaper while it is busy. One that is not of the
// system's is given back as it is. As with any connection, Read is for one goroutine at
// a time and Close may be called meanwhile; it takes effect within 5 ms.
func Conn(c net.Conn) net.Conn {
	sys, ok := c.(syscall.Conn)
	if !ok {
		return c
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return c
	}
	return &conn{Conn: c, raw: raw}
}

type conn struct {
	net.Conn
	raw  syscall.RawConn
	busy bool
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if !c.busy || len(p) == 0 {
		n, err := c.Conn.Read(p)
		c.busy = n >= much
		return n, err
	}
	var n int
	var err error
	waited := false
	failed := c.raw.Read(func(fd uintptr) bool {
		for {
			n, err = unix.Read(int(fd), p)
			switch {
			case errors.Is(err, unix.EINTR):
			case errors.Is(err, unix.EAGAIN) && !waited:
				waited = true
				// Whatever comes of it, the next read tells.
				_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, patience) //nolint:gosec // a file descriptor
			default:
				return !errors.Is(err, unix.EAGAIN)
			}
		}
	})
	switch {
	case failed != nil:
		return 0, failed
	case err != nil:
		return 0, &net.OpError{Op: "read", Net: c.RemoteAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError("read", err)}
	case n == 0:
		return 0, io.EOF
	}
	// A reader that asks for little, such as a header, says nothing about the stream.
	c.busy = n >= much || len(p) < much && n == len(p)
	return n, nil
}
