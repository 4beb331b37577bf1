//go:build unix

package cli

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// watchReader calls gone, at most once, when nobody can read any more what is
// written to f: the other end of a pipe or a socket has closed. A writer that has
// nothing to write would not notice. Stop ends the watch and waits for it. No
// file is no watch, and neither is one that the system cannot wait for.
func watchReader(f *os.File, gone func()) (stop func()) {
	if f == nil {
		return func() {}
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return func() {}
	}
	wake, waker, err := os.Pipe()
	if err != nil {
		return func() {}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() { _ = wake.Close() }()
		left := false
		// Not Fd, which would make the file a blocking one.
		_ = conn.Control(func(fd uintptr) { left = pollGone(int(fd), wake) })
		if left {
			gone()
		}
	})
	return sync.OnceFunc(func() {
		_ = waker.Close()
		wg.Wait()
	})
}

// pollGone waits until the other end of fd has closed, which is true, or that of wake.
func pollGone(fd int, wake *os.File) bool {
	watched := []unix.PollFd{
		{Fd: int32(fd)}, //nolint:gosec // a file descriptor; no events: errors and hang-ups are always told
		{Fd: int32(wake.Fd()), Events: unix.POLLIN},
	}
	for {
		_, err := unix.Poll(watched, -1)
		switch {
		case err == unix.EINTR: //nolint:errorlint // as the system gives it
			continue
		case err != nil || watched[1].Revents != 0:
			return false
		default:
			return watched[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
		}
	}
}
