package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"capfleet/internal/fault"
)

// listen binds a Unix socket that only its owner, and the members of a group
// unless that is "", can connect to. One that is left over from a fleetd that died is taken away; one that somebody answers on
// is fault.Conflict. remove takes the socket away again if it is still ours.
func listen(ctx context.Context, path, group string) (_ net.Listener, remove func() error, err error) {
	act := "listen on socket " + path
	gid, err := groupID(group)
	if err != nil {
		return nil, nil, fault.Wrap(fault.Invalid, act, err)
	}
	if err := socketDir(filepath.Dir(path), gid); err != nil {
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
	if err := admit(path, gid); err != nil {
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

// noGroup is the group id of none.
const noGroup = -1

func groupID(name string) (int, error) {
	if name == "" {
		return noGroup, nil
	}
	if id, err := strconv.Atoi(name); err == nil && id >= 0 {
		return id, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return noGroup, fault.New(fault.Invalid, "there is no group %q to open the socket to", name)
	}
	return strconv.Atoi(g.Gid)
}

// admit opens the socket to its owner and a group. It has the owner's mode until
// the group is the right one.
func admit(path string, gid int) error {
	if gid == noGroup {
		return os.Chmod(path, 0o600)
	}
	if err := os.Chown(path, -1, gid); err != nil {
		return &fault.Error{Kind: fault.Invalid, Act: fmt.Sprintf("open it to group %d", gid), Err: err,
			Next: "the user of fleetd must be a member of the group"}
	}
	return os.Chmod(path, 0o660) //nolint:gosec // what was asked for
}

// socketDir makes the socket's folder where there is none, for those who may
// connect. A folder that exists
// is left as it is: it may be everybody's, like /tmp, and the socket has its own
// mode.
func socketDir(dir string, gid int) error {
	err := os.MkdirAll(filepath.Dir(dir), 0o755) //nolint:gosec // the way to it, as the system has it
	if err != nil {
		return err
	}
	switch err := os.Mkdir(dir, 0o700); {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil || gid == noGroup:
		return err
	}
	if err := os.Chown(dir, -1, gid); err != nil {
		return err
	}
	return os.Chmod(dir, 0o710) //nolint:gosec // the group must reach the socket
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
