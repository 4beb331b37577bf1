//go:build linux || darwin

package ledger

import "syscall"

// freeSpace is how many bytes this process may still write in a directory.
func freeSpace(dir string) (bytes uint64, known bool, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, false, err
	}
	return st.Bavail * uint64(st.Bsize), true, nil
}
