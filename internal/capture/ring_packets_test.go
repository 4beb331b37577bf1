//go:build linux

package capture

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"

	"capfleet/internal/pcap"
)

// sequence gives the numbers that capturetest's generator put into UDP payloads, in
// the order of the file.
func sequence(t *testing.T, name string) []uint64 {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	r, err := pcap.NewReader(f, pcap.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out []uint64
	for {
		var p pcap.Packet
		err := r.Next(&p)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		const headers = 14 + 20 + 8
		if len(p.Data) >= headers+8 {
			out = append(out, binary.BigEndian.Uint64(p.Data[headers:]))
		}
	}
}
