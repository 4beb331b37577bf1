//go:build linux || darwin

package ledger

import (
	"os"
	"syscall"
)

// sameOwner gives a file to the owner of a directory. Only root can; whoever else
// made the file in it owns it already, or could not use the directory either.
func sameOwner(name, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return os.Chown(name, int(st.Uid), int(st.Gid))
}
