package info_test

import (
	"bytes"
	"io"
	"testing"

	"capfleet/internal/pcap/info"
)

// Whatever a file holds, the figures add up.
func FuzzRead(f *testing.F) {
	for _, file := range captures() {
		f.Add(file[:min(len(file), 4000)])
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		s, err := info.Read(t.Context(), struct{ io.Reader }{bytes.NewReader(file)}, info.Options{})
		if s == nil {
			t.Fatal(err)
		}
		packets, data := uint64(0), uint64(0)
		for _, i := range s.Interfaces {
			packets += i.Packets
		}
		if s.AveragePacketBytes != nil {
			data = uint64(*s.AveragePacketBytes*float64(s.Packets) + 0.5)
		}
		// Lengths are what the file says, and their average has 53 bits.
		if packets != s.Packets || s.CutPackets > s.Packets || s.DataBytes < 1<<50 && data != s.DataBytes || s.CapturedBytes > uint64(len(file))*1100 {
			t.Fatalf("%+v", s)
		}
		for _, o := range s.Oddities {
			if o.Packets == 0 || o.Packets > s.Packets || o.First == 0 || o.First > s.Packets {
				t.Fatalf("%+v of %d packets", o, s.Packets)
			}
		}
	})
}
