package f5

import (
	"encoding/binary"
	"hash/crc32"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/layers"
)

// Strip takes the trailer off a packet, and the frame check sequence that may be
// before it, where it is one by its value. False means that the packet is no traffic
// but the description of the capture, and is to be left out.
func Strip(p *pcap.Packet, f *layers.Frame) (keep bool) {
	if p.Link != pcap.LinkEthernet {
		return true
	}
	if layers.IsF5FileInfo(p.Data) {
		return false
	}
	layers.Decode(p.Link, p.Data, p.Length, f)
	t, ok := Find(f, p.Length)
	if !ok {
		return true
	}
	end := t.Start
	if at := end - fcsSize; at >= f.End && crc32.ChecksumIEEE(p.Data[:at]) == binary.LittleEndian.Uint32(p.Data[at:]) {
		end = at
	}
	cut := len(p.Data) - end
	p.Data = p.Data[:end]
	p.Length -= uint32(cut) //nolint:gosec // the whole frame was captured, so it is not longer than that
	return true
}
