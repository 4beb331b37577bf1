//go:build unix && !linux

package client

import (
	"os/exec"
	"syscall"
)

// bind keeps a terminal's Ctrl-C from ssh: that is ours to handle, with requests
// still to be made. When we are killed its input ends, and it does; while it is
// still connecting, its ConnectTimeout ends it.
func bind(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// SIGTERM lets ssh end its own helpers (a ProxyCommand, a jump).
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
}
