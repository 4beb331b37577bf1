package client

import (
	"os/exec"
	"syscall"
)

// bind has ssh end with us even on kill -9, while it is still connecting and does
// not watch its input, and keeps a terminal's Ctrl-C from it: that is ours to
// handle, with requests still to be made.
//
// The kernel ties the signal to the thread that starts the process. Go ends a
// thread only with a goroutine that has locked itself to it, which none here does.
func bind(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	// SIGTERM lets ssh end its own helpers (a ProxyCommand, a jump).
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
}
