// Package f5 reads what a BIG-IP adds to the packets that its tcpdump captures: a
// trailer with the traffic processor (TMM), virtual server and flow behind each
// packet, secrets of TLS sessions, and a description of the capture before the first
// packet.
//
// The trailer's own lengths are authoritative only where they end with the frame:
// bytes that are no trailer must never be taken for one. docs/formats/f5.md has the
// layouts.
package f5

import (
	"net/netip"

	"capfleet/internal/pcap/layers"
)

// Trailer is what was added to one packet. Parts are nil where the capture's noise
// level left them out.
type Trailer struct {
	// Start is the offset of the trailer in the frame; Size its length.
	Start, Size int
	// Legacy says that it is of TMOS before 14.
	Legacy bool
	// Noise is the noise level of the capture, as far as the trailer shows it: 0 to 3.
	Noise  int
	Low    *Low
	Medium *Medium
	High   *High
	TLS    []TLS
	// Unknown counts parts of a type or version that is not known here.
	Unknown int
}

// Low is the noise level n.
type Low struct {
	Ingress bool
	// Slot counts from 1, TMM from 0.
	Slot, TMM int
	// HardwareAction is 0 not set, 1 challenge, 2 drop, 3 forward.
	HardwareAction             int
	VirtualServer, Port, Trunk string
}

// Medium is the noise level nn.
type Medium struct {
	// Flow and Peer identify the flow and the one on the other side of the proxy; 0 is
	// none.
	Flow, Peer uint64
	Flags      uint64 // the high part first
	FlowType   uint8
	HAUnit     uint8
	Priority   uint8
	// Cause says why a connection was reset, "" where it was not; Peer says that the
	// other side was.
	Cause     string
	CauseAt   uint64 // address in the program
	CauseLine uint16 // of its source
	CausePeer bool
}

// High is the noise level nnn: the flow on the other side. It is nil where Medium says
// that there is none, whatever its bytes are then.
type High struct {
	Protocol                  uint8
	VLAN                      uint16
	Remote, Local             netip.AddrPort
	RemoteDomain, LocalDomain uint16 // route domains, where the addresses carry them
}

// Find gives the trailer of a frame that was captured whole; wire is its length on
// the wire.
func Find(f *layers.Frame, wire uint32) (*Trailer, bool) {
	t, ok := find(f, wire)
	if !ok {
		return nil, false
	}
	switch {
	case t.High != nil:
		t.Noise = 3
	case t.Medium != nil:
		t.Noise = 2
	case t.Low != nil:
		t.Noise = 1
	}
	if t.Medium != nil && t.Medium.Peer == 0 {
		t.High = nil
	}
	return t, true
}

func find(f *layers.Frame, wire uint32) (*Trailer, bool) {
	if !f.Ethernet || int(wire) > len(f.Data) || layers.IsF5FileInfo(f.Data) {
		return nil, false
	}
	var from int
	switch {
	case f.Version != 0 && f.Oddity&layers.BadIPLength == 0:
		from = f.End
	case f.ARP.Present:
		from = f.Network + arpSize
	default:
		// Its end is not known, but a new trailer says its own length.
		return search(f.Data)
	}
	if from >= len(f.Data) {
		return nil, false
	}
	// A short frame is padded with zeros; no trailer begins with one.
	at := from
	for at < len(f.Data) && f.Data[at] == 0 {
		at++
	}
	// The frame's own check sequence may be before it, and have begun with zeros.
	for i := at; i <= at+fcsSize; i++ {
		if t, ok := parseNew(f.Data, i); ok {
			return t, true
		}
	}
	return parseLegacy(f.Data, at)
}

const (
	arpSize = 28
	fcsSize = 4
)

// search looks for a new trailer that ends with the frame.
func search(data []byte) (*Trailer, bool) {
	for at := 14; at+headerSize <= len(data); at++ {
		if t, ok := parseNew(data, at); ok {
			return t, true
		}
	}
	return nil, false
}
