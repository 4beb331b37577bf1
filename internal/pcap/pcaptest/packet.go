package pcaptest

import (
	"encoding/binary"
	"slices"
)

// Ethernet gives a frame.
func Ethernet(etherType uint16, body ...byte) []byte {
	b := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}
	return append(binary.BigEndian.AppendUint16(b, etherType), body...)
}

// VLAN gives what follows the EtherType of a tag.
func VLAN(id, etherType uint16, body ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	return append(binary.BigEndian.AppendUint16(b, etherType), body...)
}

// IPv4 gives a packet from 10.0.0.1 to 10.0.0.2. Options fill their own padding;
// fragment holds flags and offset as they lie in the header.
func IPv4(protocol byte, fragment uint16, options []byte, body ...byte) []byte {
	header := 20 + len(options)
	b := []byte{byte(0x40 | header/4), 0}
	b = binary.BigEndian.AppendUint16(b, uint16(header+len(body))) //nolint:gosec // tests give short packets
	b = append(b, 0x12, 0x34)
	b = binary.BigEndian.AppendUint16(b, fragment)
	b = append(b, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2)
	b = append(b, options...)
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	sum += sum >> 16
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum)) //nolint:gosec // folded
	return append(b, body...)
}

// IPv6 gives a packet from 2001:db8::1 to 2001:db8::2; next is the first header
// of the body.
func IPv6(next byte, body ...byte) []byte {
	b := []byte{0x60, 0, 0, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(len(body))) //nolint:gosec // tests give short packets
	b = append(b, next, 63)
	for _, last := range []byte{1, 2} {
		b = append(b, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last)
	}
	return append(b, body...)
}

// UDP gives a datagram from port 4000 to port 4739.
func UDP(payload ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, 4000)
	b = binary.BigEndian.AppendUint16(b, 4739)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload))) //nolint:gosec // tests give short packets
	return append(append(b, 0, 0), payload...)
}

// TCP gives a segment from port 40000 to port 443; options fill their own padding.
func TCP(seq, ack uint32, flags byte, options []byte, payload ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, 40000)
	b = binary.BigEndian.AppendUint16(b, 443)
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, ack)
	b = append(b, byte((20+len(options))/4<<4), flags, 0xff, 0xff, 0, 0, 0, 0)
	return append(append(b, options...), payload...)
}

// ARP gives a message between 10.0.0.1 and 10.0.0.2.
func ARP(operation uint16) []byte {
	b := []byte{0, 1, 8, 0, 6, 4}
	b = binary.BigEndian.AppendUint16(b, operation)
	b = append(b, 2, 0, 0, 0, 0, 2, 10, 0, 0, 1)
	return append(b, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2)
}

// Packet is a packet with its link type.
type Packet struct {
	Name string
	Link uint32
	Data []byte
}

// Packets gives a packet of every link layer and every form of header that
// package layers looks into. All carry UDP or TCP but the fragments and ARP.
func Packets() []Packet {
	udp, tcp := UDP([]byte("hello")...), TCP(1000, 2000, 0x18, []byte{1, 1, 1, 1}, []byte("hello")...)
	ip4, ip6 := IPv4(17, 0, nil, udp...), IPv6(6, tcp...)
	hop := slices.Concat([]byte{60, 0, 1, 4, 0, 0, 0, 0}, []byte{43, 0, 1, 4, 0, 0, 0, 0}, []byte{6, 0, 0, 0, 0, 0, 0, 0}, tcp)
	first := slices.Concat([]byte{17, 0, 0, 1, 0, 0, 0, 7}, udp, []byte{0, 0, 0})
	later := append([]byte{17, 0, 0, 16, 0, 0, 0, 7}, "rest"...)
	auth := slices.Concat([]byte{6, 4, 0, 0}, make([]byte, 20), tcp)
	sll := func(kind uint16, body []byte) []byte {
		b := []byte{0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0}
		return append(binary.BigEndian.AppendUint16(b, kind), body...)
	}
	sll2 := func(kind uint16, body []byte) []byte {
		b := binary.BigEndian.AppendUint16(nil, kind)
		b = append(b, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0)
		return append(b, body...)
	}
	return []Packet{
		{"ethernet ipv4 udp", 1, Ethernet(0x0800, ip4...)},
		{"ethernet ipv6 tcp", 1, Ethernet(0x86dd, ip6...)},
		{"vlan", 1, Ethernet(0x8100, VLAN(0x2064, 0x0800, ip4...)...)},
		{"qinq", 1, Ethernet(0x88a8, VLAN(200, 0x8100, VLAN(300, 0x86dd, ip6...)...)...)},
		{"padded", 1, append(Ethernet(0x0800, ip4...), make([]byte, 9)...)},
		{"ipv4 options", 1, Ethernet(0x0800, IPv4(17, 0, []byte{7, 7, 4, 0, 0, 0, 0, 0}, udp...)...)},
		{"ipv4 do not fragment", 1, Ethernet(0x0800, IPv4(6, 0x4000, nil, tcp...)...)},
		{"ipv4 first fragment", 1, Ethernet(0x0800, IPv4(17, 0x2000, nil, append(udp, 0, 0, 0)...)...)},
		{"ipv4 later fragment", 1, Ethernet(0x0800, IPv4(17, 2, nil, []byte("rest")...)...)},
		{"ipv6 extension headers", 1, Ethernet(0x86dd, IPv6(0, hop...)...)},
		{"ipv6 first fragment", 1, Ethernet(0x86dd, IPv6(44, first...)...)},
		{"ipv6 later fragment", 1, Ethernet(0x86dd, IPv6(44, later...)...)},
		{"ipv6 authentication", 1, Ethernet(0x86dd, IPv6(51, auth...)...)},
		{"arp", 1, Ethernet(0x0806, ARP(1)...)},
		{"arp unknown", 1, Ethernet(0x0806, ARP(77)...)},
		{"cooked", 113, sll(0x0800, ip4)},
		{"cooked vlan", 113, sll(0x8100, VLAN(5, 0x86dd, ip6...))},
		{"cooked 2", 276, sll2(0x86dd, ip6)},
		{"raw 4", 101, ip4},
		{"raw 6", 101, ip6},
		{"ipv4", 228, ip4},
		{"ipv6", 229, ip6},
		{"null little-endian", 0, append([]byte{2, 0, 0, 0}, ip4...)},
		{"null big-endian", 0, append([]byte{0, 0, 0, 30}, ip6...)},
		{"loop", 108, append([]byte{0, 0, 0, 24}, ip6...)},
	}
}
