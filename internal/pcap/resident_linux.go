package pcap

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// resident reports whether a place of a file is in memory, so that touching its
// mapping does not wait for the disk: the system reads ahead for reads, and hardly
// for touches. Where the system cannot tell, it is taken for resident.
func resident(file *os.File, at int64) bool {
	var b [1]byte
	_, err := unix.Preadv2(int(file.Fd()), [][]byte{b[:]}, at, unix.RWF_NOWAIT)
	return !errors.Is(err, unix.EAGAIN)
}
