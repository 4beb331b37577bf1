package flow

import (
	"encoding/binary"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/layers"
)

// reach is how many bytes, from the first of a frame on, a glance may look at.
const reach = 144

// Outline is a TCP segment as Segment, by places in its frame.
type Outline struct {
	// Hash is as Segment has it.
	Hash uint32
	// heads has from the lowest byte on the flags of TCP, where the headers of IP and
	// TCP begin, and where what they carry does.
	heads uint32
	// Captured is how many bytes of the payload were captured, Wire its length. A packet
	// that is none of TCP, or cut in its headers, has 0 and no flags.
	Captured, Wire int32
	// First is what the payload begins with, the first byte lowest, and then what lies
	// behind it: as much of it is true as was captured.
	First uint32
}

// unclear has all flags: such a packet needs Peek.
const unclear = 0xff

// Flags gives those of TCP, see package layers. All flags together mean that only Peek
// can tell.
func (o *Outline) Flags() uint8 { return uint8(o.heads) } //nolint:gosec // a byte of it

// Nothing reports whether the packet has no payload that was captured, or none of TCP.
func (o *Outline) Nothing() bool { return o.Captured == 0 && o.heads != unclear }

// Peek is Peek for the packet that the outline is of, and looks again only where it
// must.
func (o *Outline) Peek(link pcap.LinkType, b []byte, wire uint32, s *Segment) bool {
	switch o.heads {
	case 0:
		return false
	case unclear:
		return decoded(link, b, wire, s)
	}
	payload := int(o.heads >> 24)
	s.Hash, s.Flags, s.version, s.Wire = o.Hash, o.Flags(), 4, int(o.Wire)
	s.Payload, s.packet = b[payload:payload+int(o.Captured)], b
	s.ip, s.tcp = int(o.heads>>8&0xff), int(o.heads>>16&0xff)
	if s.tcp-s.ip == sizeIPv6 {
		s.version = 6
	}
	return true
}

// Outlines looks at the packets of a run of a window.
func Outlines(w *pcap.Window, run []uint32, out []Outline) {
	out = out[:len(run)]
	data, ok := w.Plain()
	const header = pcap.PlainHeader
	last := len(data) - header - reach
	if !ok || w.Link() != pcap.LinkEthernet {
		last = -1
	}
	for i, at := range run {
		if int(at) > last {
			out[i] = Outline{heads: unclear}
			continue
		}
		b := (*[header + reach]byte)(data[at:])
		glance((*[reach]byte)(b[header:]), binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:]), &out[i])
	}
}

// glance looks at an Ethernet frame of wire bytes of which some were captured. What
// lies behind those in b means nothing, but is looked at before that is known, so
// that there is little to decide. It knows the shapes that nearly all packets have: IP
// without options behind up to two tags, and no fragments.
func glance(b *[reach]byte, captured, wire uint32, o *Outline) {
	// The masks change nothing, and tell the compiler that places are within b.
	const within = 127
	le, be := binary.LittleEndian, binary.BigEndian
	ip := uint(ethernet)
	kind := le.Uint16(b[12:])
	if isTag(kind) {
		ip, kind = ethernet+tag, le.Uint16(b[12+tag:])
		if isTag(kind) {
			ip, kind = ethernet+2*tag, le.Uint16(b[12+2*tag:])
		}
	}
	ip &= 31
	var tcp, end uint
	var addresses uint64
	switch kind {
	case swapped(layers.EtherIPv4):
		if b[ip] != 0x45 || le.Uint16(b[ip+6:])&swapped(0x3fff) != 0 {
			*o = Outline{heads: unclear}
			return
		}
		if b[ip+9] != layers.ProtoTCP {
			*o = Outline{}
			return
		}
		tcp, end = ip+minIPv4, ip+uint(be.Uint16(b[ip+2:]))
		addresses = addresses4(b[ip:])
	case swapped(layers.EtherIPv6):
		if b[ip]>>4 != 6 || b[ip+6] != layers.ProtoTCP {
			*o = Outline{heads: unclear}
			return
		}
		tcp = ip + sizeIPv6
		end = tcp + uint(be.Uint16(b[ip+4:]))
		addresses = addresses6(b[ip:])
	case swapped(layers.EtherARP):
		*o = Outline{}
		return
	default:
		*o = Outline{heads: unclear}
		return
	}
	tcp &= within
	size := uint(b[tcp+12]>>4) * 4
	payload := (tcp + size) & within
	if size < minTCP || end < payload || end > uint(wire) || payload > uint(captured) {
		*o = Outline{heads: unclear}
		return
	}
	o.Hash = mix(addresses, le.Uint32(b[tcp:]))
	o.heads = uint32(b[tcp+13]) | uint32(ip<<8|tcp<<16|payload<<24)                  //nolint:gosec // within reach
	o.Captured, o.Wire = int32(min(uint(captured), end)-payload), int32(end-payload) //nolint:gosec // within an IP packet
	o.First = le.Uint32(b[payload:])
}

func isTag(kind uint16) bool {
	return kind == swapped(layers.EtherVLAN) || kind == swapped(layers.EtherQinQ)
}

// swapped is a number as it lies in a packet, read in the other order.
func swapped(v uint16) uint16 { return v>>8 | v<<8 }

// addresses4 and addresses6 give of both addresses what mix takes, whatever their
// order.
func addresses4(ip []byte) uint64 {
	le := binary.LittleEndian
	return uint64(le.Uint32(ip[12:]) ^ le.Uint32(ip[16:]))
}

func addresses6(ip []byte) uint64 {
	le := binary.LittleEndian
	return le.Uint64(ip[8:]) ^ le.Uint64(ip[24:]) ^ (le.Uint64(ip[16:])^le.Uint64(ip[32:]))*0x9e3779b97f4a7c15
}

// mix gives a hash of both addresses and both ports, whatever their order.
func mix(addresses uint64, ports uint32) uint32 {
	h := addresses*0x9e3779b97f4a7c15 + uint64(ports>>16^ports&0xffff)*0xc2b2ae3d27d4eb4f + uint64(ports>>16+ports&0xffff)*0x165667b19e3779f9
	return uint32(h >> 32) //nolint:gosec // the upper half
}
