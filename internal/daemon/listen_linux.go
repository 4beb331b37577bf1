package daemon

import (
	"net"
	"syscall"
)

// ownerOnly gives the socket its mode before it has a name, so that there is no
// moment in which somebody else could connect.
func ownerOnly(_, _ string, c syscall.RawConn) error {
	var cerr error
	if err := c.Control(func(fd uintptr) { cerr = syscall.Fchmod(int(fd), 0o600) }); err != nil {
		return err
	}
	return cerr
}

// peerPID asks the kernel which process is at the other end; 0 is unknown.
func peerPID(conn net.Conn) int {
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return 0
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	if err := raw.Control(func(fd uintptr) {
		if cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	}); err != nil {
		return 0
	}
	return pid
}
