//go:build unix

package cli

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// runEditor runs an editor on a file, through the shell, as EDITOR may hold
// arguments. It gets the terminal for itself: a Ctrl-C typed in it is the
// editor's, and does not end this program.
func runEditor(ctx context.Context, editor, file string) error {
	tty := int(os.Stdin.Fd())
	// The trap is the shell's own: it survives a Ctrl-C, the editor decides for itself.
	cmd := exec.CommandContext(ctx, "sh", "-c", "trap : INT; "+editor+` "$1"`, "sh", file)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	_, err := unix.IoctlGetInt(tty, unix.TIOCGPGRP)
	ours := err == nil // stdin is the terminal that controls us
	if ours {
		cmd.SysProcAttr = &syscall.SysProcAttr{Foreground: true, Ctty: tty}
		// Without this, taking the terminal back from the background would stop us.
		signal.Ignore(syscall.SIGTTOU)
		defer signal.Reset(syscall.SIGTTOU)
	}
	err = cmd.Run()
	if ours {
		err = errors.Join(err, unix.IoctlSetPointerInt(tty, unix.TIOCSPGRP, unix.Getpgrp()))
	}
	return err
}
