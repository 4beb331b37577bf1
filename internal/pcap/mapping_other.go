//go:build !unix

package pcap

import (
	"errors"
	"os"
)

// mapFile is not there: windows are read.
func mapFile(*os.File, int64, int) (mapping, data []byte, err error) {
	return nil, nil, errors.ErrUnsupported
}

func unmapFile([]byte) {}
