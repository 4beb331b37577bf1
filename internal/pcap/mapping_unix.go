//go:build unix

package pcap

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mapFile maps a part of a file, which need not begin on a page: data is the part
// within the mapping, which unmapFile takes.
func mapFile(file *os.File, from int64, size int) (mapping, data []byte, err error) {
	skip := int(from % int64(os.Getpagesize()))
	mapping, err = unix.Mmap(int(file.Fd()), from-int64(skip), skip+size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map %s: %w", file.Name(), err)
	}
	return mapping, mapping[skip:], nil
}

func unmapFile(mapping []byte) {
	_ = unix.Munmap(mapping) // it was mapped, and is forgotten either way
}
