// Package flow finds the TCP segments in packets, and tells connections apart,
// fast enough that memory is what takes the time.
//
// Peek knows the shapes that nearly all packets have and asks package layers, which
// is authoritative, about every other; a test holds the two against each other.
// Nothing is copied or allocated.
package flow

import (
	"encoding/binary"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/layers"
)

// Segment is a TCP segment in the bytes of a packet.
type Segment struct {
	// Hash is the same for both directions of a connection.
	Hash uint32
	// Flags are those of TCP, see package layers.
	Flags uint8
	// version is that of IP.
	version uint8
	// Wire is the length of the payload on the wire, Payload what was captured of it.
	Wire    int
	Payload []byte
	// ip and tcp are where these headers begin.
	ip, tcp int
	packet  []byte
}

// Sizes of headers.
const (
	ethernet = 14
	tag      = 4
	minIPv4  = 20
	sizeIPv6 = 40
	minTCP   = 20
)

// Peek looks at a packet of wire bytes of which b was captured; false when it holds
// no TCP header, or only a part of one.
func Peek(link pcap.LinkType, b []byte, wire uint32, s *Segment) bool {
	if link != pcap.LinkEthernet {
		return decoded(link, b, wire, s)
	}
	var short [reach]byte
	near := &short
	if len(b) >= reach {
		near = (*[reach]byte)(b)
	} else {
		copy(short[:], b)
	}
	var o Outline
	glance(near, uint32(len(b)), wire, &o) //nolint:gosec // a packet
	return o.Peek(link, b, wire, s)
}

// decoded asks package layers.
func decoded(link pcap.LinkType, b []byte, wire uint32, s *Segment) bool {
	var f layers.Frame
	layers.Decode(link, b, wire, &f)
	if !f.HasTransport || f.Protocol != layers.ProtoTCP {
		return false
	}
	*s = Segment{Flags: f.Flags, version: f.Version, Wire: f.PayloadLength, Payload: f.PayloadBytes(), ip: f.Network, tcp: f.Transport, packet: b}
	ip, tcp := b[f.Network:], b[f.Transport:]
	if f.Version == 4 {
		s.Hash = mix(addresses4(ip), binary.LittleEndian.Uint32(tcp))
	} else {
		s.Hash = mix(addresses6(ip), binary.LittleEndian.Uint32(tcp))
	}
	return true
}

// Seq gives the sequence number.
func (s *Segment) Seq() uint32 { return binary.BigEndian.Uint32(s.packet[s.tcp+4:]) }

// Ack gives the acknowledgement number, which means something with the flag ACK.
func (s *Segment) Ack() uint32 { return binary.BigEndian.Uint32(s.packet[s.tcp+8:]) }
