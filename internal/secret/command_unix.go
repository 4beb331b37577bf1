//go:build unix

package secret

import (
	"os/exec"
	"syscall"
)

// detach gives a command a session of its own, so that it has no terminal to ask
// on, and has the end of its context end everything it started. The func ends
// what is left of it after it ran.
func detach(cmd *exec.Cmd) (kill func()) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return func() { _ = cmd.Cancel() }
}
