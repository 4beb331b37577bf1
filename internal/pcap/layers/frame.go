// Package layers finds addresses, ports and payload in the bytes of a packet:
// Ethernet with VLAN tags, Linux cooked captures, loopback and raw IP, then ARP,
// IPv4, IPv6, TCP and UDP.
//
// The bytes are authoritative and hostile. A Frame holds offsets into them and
// nothing is copied or allocated; what does not add up is an Oddity, and what was
// found before it stays good. A packet that was captured in part is decoded as
// far as it goes, and Cut tells.
package layers

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"capfleet/internal/pcap"
)

// MaxTags is how many VLAN tags are kept; more are passed over and counted.
const MaxTags = 4

// EtherTypes that are looked into.
const (
	EtherIPv4    = 0x0800
	EtherARP     = 0x0806
	EtherVLAN    = 0x8100
	EtherIPv6    = 0x86dd
	EtherQinQ    = 0x88a8
	EtherOldQinQ = 0x9100 // QinQ before 802.1ad
)

// IP protocol numbers that are looked into.
const (
	ProtoTCP = 6
	ProtoUDP = 17
)

// TCP flags.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
)

// Oddity is a set of things in a packet that do not add up.
type Oddity uint32

// The oddities.
const (
	// Runt is a frame shorter than its link layer's header.
	Runt Oddity = 1 << iota
	// GroupSource is an Ethernet source address that is a group address.
	GroupSource
	// UndefinedType is an EtherType from 1501 to 1535, neither length nor type.
	UndefinedType
	// BadLength is an 802.3 length beyond the frame.
	BadLength
	// UnknownARP is an ARP operation that no registry knows.
	UnknownARP
	// BadARP is ARP whose address lengths contradict their types, or too short.
	BadARP
	// WrongVersion is IP of another version than the link layer says.
	WrongVersion
	// BadIPHeader is an IP header whose lengths cannot be.
	BadIPHeader
	// BadIPLength is an IP length beyond the frame on the wire.
	BadIPLength
	// BadTransport is a TCP or UDP header whose lengths cannot be.
	BadTransport
)

// Frame is what was found in a packet. Offsets count in Data, and mean something
// only where the layer is there: Version for Network, HasTransport for Payload.
type Frame struct {
	Data []byte
	// Cut is set when the captured bytes end within a header that is looked into.
	Cut    bool
	Oddity Oddity

	// Ethernet is set when the packet has an Ethernet header at the start.
	Ethernet bool
	// EtherType is the innermost, behind VLAN tags; 0 for 802.3 and where the link
	// layer has none.
	EtherType uint16
	// VLAN holds the identifiers of the tags, outermost first; Tags counts them.
	VLAN [MaxTags]uint16
	Tags int

	// Version is 4 or 6 for IP, else 0.
	Version uint8
	// Protocol is the transport protocol, behind extension headers.
	Protocol uint8
	TTL      uint8
	// Network is the offset of the IP or ARP header, End that of the first byte
	// behind the IP packet: padding and trailers lie there. Both are within Data.
	Network, End int
	// Fragment is set for each part of a fragmented packet; only the one with
	// FragmentOffset 0 has a transport header.
	Fragment, MoreFragments, DontFragment bool
	FragmentOffset                        int // bytes
	ID                                    uint32

	// Transport is the offset of what follows IP; HasTransport tells whether it is
	// a TCP or UDP header that is there in full.
	Transport        int
	HasTransport     bool
	SrcPort, DstPort uint16
	Seq, Ack         uint32
	Flags            uint8 // of TCP
	// Payload is the offset of what TCP or UDP carry, up to End.
	Payload int
	// PayloadLength is the payload's length on the wire.
	PayloadLength int

	ARP ARP
}

// Unknown says which packets that were read of a capture are of a link layer that
// nobody looks into here, so that a result does not tell of them; nil where there are
// none.
func Unknown(r *pcap.Reader) error {
	var unknown error
	for _, i := range r.Interfaces() {
		switch i.Link {
		case pcap.LinkEthernet, pcap.LinkLinuxSLL, pcap.LinkLinuxSLL2, pcap.LinkNull, pcap.LinkLoop, pcap.LinkRaw, pcap.LinkIPv4, pcap.LinkIPv6:
			continue
		}
		if i.Packets > 0 {
			unknown = errors.Join(unknown, fmt.Errorf("%w: %d packets are of %v, a link layer that is not looked into", pcap.ErrUnsupported, i.Packets, i.Link))
		}
	}
	return unknown
}

// Decode looks into a packet of wire bytes of which data was captured. The
// frame's former contents are forgotten.
func Decode(link pcap.LinkType, data []byte, wire uint32, f *Frame) {
	*f = Frame{Data: data, End: len(data)}
	d := decoder{f: f, wire: max(int(wire), len(data))}
	switch link {
	case pcap.LinkEthernet:
		d.ethernet()
	case pcap.LinkLinuxSLL:
		d.cooked(16, 14)
	case pcap.LinkLinuxSLL2:
		d.cooked(20, 0)
	case pcap.LinkNull:
		d.loopback(false)
	case pcap.LinkLoop:
		d.loopback(true)
	case pcap.LinkRaw:
		d.raw(0, 0)
	case pcap.LinkIPv4:
		d.raw(0, 4)
	case pcap.LinkIPv6:
		d.raw(0, 6)
	}
}

// Source gives the source address of an IP packet; the zero Addr when there is none.
func (f *Frame) Source() netip.Addr { return f.address(12, 8) }

// Destination gives the destination address of an IP packet.
func (f *Frame) Destination() netip.Addr { return f.address(16, 24) }

func (f *Frame) address(at4, at6 int) netip.Addr {
	switch f.Version {
	case 4:
		return netip.AddrFrom4([4]byte(f.Data[f.Network+at4:]))
	case 6:
		return netip.AddrFrom16([16]byte(f.Data[f.Network+at6:]))
	}
	return netip.Addr{}
}

// PayloadBytes gives what was captured of the payload of TCP or UDP.
func (f *Frame) PayloadBytes() []byte {
	if !f.HasTransport {
		return nil
	}
	return f.Data[f.Payload:min(f.End, f.Payload+f.PayloadLength)]
}

// decoder works on one frame.
type decoder struct {
	f    *Frame
	wire int // length of the packet on the wire
}

// has reports whether n bytes from off were captured. When not, it notes whether
// they were cut off or never there.
func (d *decoder) has(off, n int, never Oddity) bool {
	if off+n <= len(d.f.Data) {
		return true
	}
	if off+n <= d.wire {
		d.f.Cut = true
	} else {
		d.f.Oddity |= never
	}
	return false
}

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
