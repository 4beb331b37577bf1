//go:build !unix || solaris || aix

package sshconn

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// tryLock takes the lock on a folder; nil when somebody has it. Where folders
// cannot be locked it is a file, which a crash leaves behind: the error after the
// wait names the folder, and .known_hosts.lock in it is to be removed.
func tryLock(dir string) (unlock func(), err error) {
	path := filepath.Join(dir, ".known_hosts.lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return func() {
		_ = f.Close()
		_ = os.Remove(path)
	}, nil
}

func keepOwner(*os.File, fs.FileInfo) error { return nil }

func syncDir(string) error { return nil }
