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
	if link != pcap.LinkEthernet || len(b) < ethernet+minIPv4+minTCP {
		return decoded(link, b, wire, s)
	}
	at := ethernet
	kind := binary.LittleEndian.Uint16(b[12:])
	for kind == swapped(layers.EtherVLAN) || kind == swapped(layers.EtherQinQ) {
		if len(b) < at+tag+minIPv4+minTCP {
			return decoded(link, b, wire, s)
		}
		kind = binary.LittleEndian.Uint16(b[at+2:])
		at += tag
	}
	switch kind {
	case swapped(layers.EtherIPv4):
		// Neither options nor fragments.
		ip := b[at : at+minIPv4+minTCP]
		if ip[0] != 0x45 || binary.LittleEndian.Uint16(ip[6:])&swapped(0x3fff) != 0 {
			return decoded(link, b, wire, s)
		}
		if ip[9] != layers.ProtoTCP {
			return false
		}
		hash := mix(uint64(binary.LittleEndian.Uint32(ip[12:])^binary.LittleEndian.Uint32(ip[16:])), binary.LittleEndian.Uint32(ip[20:]))
		if s.set(b, wire, at, at+minIPv4, at+int(binary.BigEndian.Uint16(ip[2:]))) {
			s.Hash, s.Flags, s.version = hash, ip[minIPv4+13], 4
			return true
		}
	case swapped(layers.EtherIPv6):
		if len(b) < at+sizeIPv6+minTCP {
			return decoded(link, b, wire, s)
		}
		// No extension headers.
		ip := b[at : at+sizeIPv6+minTCP]
		if ip[0]>>4 == 6 && ip[6] == layers.ProtoTCP && s.set(b, wire, at, at+sizeIPv6, at+sizeIPv6+int(binary.BigEndian.Uint16(ip[4:]))) {
			s.Hash, s.Flags, s.version = hash6(ip, ip[sizeIPv6:]), ip[sizeIPv6+13], 6
			return true
		}
	case swapped(layers.EtherARP):
		return false
	}
	return decoded(link, b, wire, s)
}

// swapped is a number as it lies in a packet, read in the other order.
func swapped(v uint16) uint16 { return v>>8 | v<<8 }

// set takes a TCP header of a packet that ends at end on the wire; false when that
// needs a closer look.
func (s *Segment) set(b []byte, wire uint32, ip, tcp, end int) bool {
	size := int(b[tcp+12]>>4) * 4
	payload := tcp + size
	if size < minTCP || end < payload || end > int(wire) || payload > len(b) {
		return false
	}
	s.ip, s.tcp, s.packet = ip, tcp, b
	s.Wire, s.Payload = end-payload, b[payload:min(len(b), end)]
	return true
}

// mix gives a hash of both addresses and both ports, whatever their order.
func mix(addresses uint64, ports uint32) uint32 {
	h := addresses*0x9e3779b97f4a7c15 + uint64(ports>>16^ports&0xffff)*0xc2b2ae3d27d4eb4f + uint64(ports>>16+ports&0xffff)*0x165667b19e3779f9
	return uint32(h >> 32) //nolint:gosec // the upper half
}

func hash6(ip, tcp []byte) uint32 {
	le := binary.LittleEndian
	return mix(le.Uint64(ip[8:])^le.Uint64(ip[24:])^(le.Uint64(ip[16:])^le.Uint64(ip[32:]))*0x9e3779b97f4a7c15, le.Uint32(tcp))
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
		le := binary.LittleEndian
		s.Hash = mix(uint64(le.Uint32(ip[12:])^le.Uint32(ip[16:])), le.Uint32(tcp))
	} else {
		s.Hash = hash6(ip, tcp)
	}
	return true
}

// Seq gives the sequence number.
func (s *Segment) Seq() uint32 { return binary.BigEndian.Uint32(s.packet[s.tcp+4:]) }

// Ack gives the acknowledgement number, which means something with the flag ACK.
func (s *Segment) Ack() uint32 { return binary.BigEndian.Uint32(s.packet[s.tcp+8:]) }
