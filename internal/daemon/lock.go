package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"capfleet/internal/fault"
)

const lockFile = "fleetd.lock"

// errLocked is what tryLock gives when another process holds the lock.
var errLocked = errors.New("locked")

// lockState takes a state directory for this process. The lock is the kernel's
// and ends with the process, however it ends; the file holds the process id for
// people and for the error of a second fleetd, and stays.
func lockState(dir string) (release func() error, err error) {
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fault.Wrap(fault.Storage, "lock the state directory", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := tryLock(f); err != nil {
		if !errors.Is(err, errLocked) {
			return nil, fault.Wrap(fault.Storage, "lock the state directory", err)
		}
		return nil, &fault.Error{Kind: fault.Conflict, Act: "use state directory " + dir,
			Err:  fmt.Errorf("another fleetd%s is using it", holder(path)),
			Next: "stop that one, or name another directory with --state"}
	}
	if err := f.Truncate(0); err != nil {
		return nil, fault.Wrap(fault.Storage, "lock the state directory", err)
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return nil, fault.Wrap(fault.Storage, "lock the state directory", err)
	}
	return f.Close, nil
}

// holder names the process in a lock file, as far as it can be read.
func holder(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return ""
	}
	return withPID(pid)
}

func withPID(pid int) string {
	if pid <= 0 {
		return ""
	}
	return fmt.Sprintf(" (process %d)", pid)
}

// privateDir makes a folder that only its owner can enter.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	st, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return os.Chmod(dir, 0o700) //nolint:gosec // a folder needs its x
	}
	return nil
}
