package sim

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// The log of a Linux host and of a BIG-IP, as its syslog daemon writes it. A line and
// a rotation are events to order: they are what captures wait for.

const (
	systemLog = "/var/log/messages"
	// keptLogs is how many old ones logrotate keeps.
	keptLogs = 4
)

// syslogLine is a line as syslog daemons have written it since RFC 3164.
func (d *device) syslogLine(at time.Time, text string) string {
	return fmt.Sprintf("%s %s %s\n", at.UTC().Format("Jan _2 15:04:05"), d.hostname(), text)
}

// bootLog is what the log says from the start.
func bootLog(d *device) string {
	boot := d.state().BootTime
	return d.syslogLine(boot, "kernel: Linux version "+d.persona.(mounted).kernel(d).release) +
		d.syslogLine(boot.Add(4*time.Second), "sshd[612]: Server listening on 0.0.0.0 port 22.")
}

// log has the daemon write a line.
func (d *device) log(text string) error {
	if text == "" {
		return fmt.Errorf("%w: a text is needed, as in log=no space left", ErrInvalid)
	}
	line := d.syslogLine(time.Now(), text)
	if !d.takeSpace(systemLog, int64(len(line))) {
		return nil // as the daemon does: there is nobody to tell
	}
	f, err := d.files.openFile(systemLog, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, line)
	return errors.Join(err, f.Close())
}

// How logrotate goes about it: another file gets the name, or the file is copied and
// emptied (copytruncate).
const (
	rotateRename = "rename"
	rotateCopy   = "copy"
)

// rotateLog is logrotate.
func (d *device) rotateLog(how string) error {
	root, err := d.files.open()
	if err != nil {
		return err
	}
	old := func(n int) string { return inside(fmt.Sprintf("%s.%d", systemLog, n)) }
	for n := keptLogs - 1; n > 0; n-- {
		if err := root.Rename(old(n), old(n+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	switch how {
	case "", rotateRename:
		if err := root.Rename(inside(systemLog), old(1)); err != nil {
			return err
		}
		return root.WriteFile(inside(systemLog), nil, 0o640)
	case rotateCopy:
		text, err := root.ReadFile(inside(systemLog))
		if err == nil {
			err = root.WriteFile(old(1), text, 0o640)
		}
		if err != nil {
			return err
		}
		return root.WriteFile(inside(systemLog), nil, 0o640)
	default:
		return fmt.Errorf("%w: %q is neither %s nor %s", ErrInvalid, how, rotateRename, rotateCopy)
	}
}
