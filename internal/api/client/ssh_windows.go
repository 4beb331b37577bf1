package client

import (
	"os/exec"
	"syscall"
)

// bind keeps the console's Ctrl-C from ssh: that is ours to handle, with requests
// still to be made. When we are ended its input ends, and it does; while it is
// still connecting, its ConnectTimeout ends it. To stop it is to kill it.
func bind(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}
