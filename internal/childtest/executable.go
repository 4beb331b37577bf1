package childtest

import (
	"io"
	"os"
	"syscall"
	"testing"
)

// Executable writes a program that a test is to run. It has been closed everywhere
// before it is used: the lock makes sure that no other test forks while it is open,
// whose child would hold it and have the system call it busy.
func Executable(tb testing.TB, path string, content io.Reader) {
	tb.Helper()
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755) //nolint:gosec // it is to be run
	if err != nil {
		tb.Fatal(err)
	}
	_, err = io.Copy(file, content)
	if e := file.Close(); err == nil {
		err = e
	}
	if err != nil {
		tb.Fatal(err)
	}
}
