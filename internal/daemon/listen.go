package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"capfleet/internal/fault"
)

// listen binds a Unix socket that only its owner can connect to. One that is
// left over from a fleetd that died is taken away; one that somebody answers on
// is fault.Conflict. remove takes the socket away again if it is still ours.
func listen(ctx context.Context, path string) (_ net.Listener, remove func() error, err error) {
	act := "listen on socket " + path
	if err := socketDir(filepath.Dir(path)); err != nil {
		return nil, nil, fault.Wrap(fault.Invalid, act, err)
	}
	if err := clearStale(ctx, path); err != nil {
		return nil, nil, fault.Wrap(fault.Conflict, act, err)
	}
	lc := net.ListenConfig{Control: ownerOnly}
	ln, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, nil, fault.Wrap(fault.Invalid, act, err)
	}
	// The file may be somebody else's by the time we close; see remove.
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, nil, fault.Wrap(fault.Invalid, act, errors.Join(err, ln.Close()))
	}
	ours, err := os.Lstat(path)
	if err != nil {
		return nil, nil, fault.Wrap(fault.Invalid, act, errors.Join(err, ln.Close()))
	}
	return ln, func() error {
		now, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(now, ours) {
			return nil
		}
		if err != nil {
			return err
		}
		return os.Remove(path)
	}, nil
}

// socketDir makes the socket's folder where there is none. A folder that exists
// is left as it is: it may be everybody's, like /tmp, and the socket has its own
// mode.
func socketDir(dir string) error {
	err := os.MkdirAll(filepath.Dir(dir), 0o755)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// clearStale takes away a socket on which nobody listens.
func clearStale(ctx context.Context, path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode()&fs.ModeSocket == 0 {
		return fault.New(fault.Conflict, "there is a file of that name which is no socket")
	}
	d := net.Dialer{Timeout: time.Second}
	conn, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		pid := peerPID(conn)
		_ = conn.Close()
		return &fault.Error{Kind: fault.Conflict, Act: fmt.Sprintf("another fleetd%s answers there", withPID(pid)),
			Next: "stop that one, or name another socket with --socket"}
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}
