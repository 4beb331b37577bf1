//go:build unix && !solaris && !aix

package sshconn

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// Other writers hold the lock for as long as it takes to write a small file.
const (
	lockWait  = 5 * time.Second
	lockPause = 10 * time.Millisecond
)

// lockDir takes the lock on a folder that writers of its files share. The file
// itself cannot carry it, because it is replaced.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(lockWait)
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = f.Close() }, nil
		case errors.Is(err, syscall.EINTR):
		case !errors.Is(err, syscall.EWOULDBLOCK):
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		case time.Now().After(deadline):
			_ = f.Close()
			return nil, fmt.Errorf("another process has had %s locked for %v", dir, lockWait)
		default:
			time.Sleep(lockPause)
		}
	}
}

// keepOwner gives f the owner of the file that it takes the place of. Only root
// may give files away; anybody else owned it before or could not.
func keepOwner(f *os.File, stat fs.FileInfo) error {
	sys, ok := stat.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return f.Chown(int(sys.Uid), int(sys.Gid))
}

// syncDir makes a rename in a folder durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return f.Sync()
}
