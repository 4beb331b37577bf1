package rewrite

import (
	"encoding/binary"
	"math"
	"net/netip"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/layers"
)

// IP protocol and IPv6 extension header numbers.
const (
	protoICMP      = 1
	protoICMPv6    = 58
	protoDCCP      = 33
	protoUDPLite   = 136
	headerRouting  = 43
	headerFragment = 44
	headerAuth     = 51
)

const sizeIP6 = 40

// ip changes the IP packet that f found at base of the buffer, and the one that an
// ICMP error in it quotes.
func (w *Rewriter) ip(base int, f *layers.Frame, quoted bool) (changed bool) {
	at, transport := base+f.Network, base+f.Transport
	first, size := at+12, 4
	if f.Version == 6 {
		first, size = at+8, 16
	}
	changed = w.addressAt(w.buf[first:first+size], Source)
	changed = w.addressAt(w.buf[first+size:first+2*size], Destination) || changed
	if f.Version == 4 {
		header := cover{field: at + 10, from: at, to: at + int(w.buf[at]&0x0f)*4}
		w.checksum(header, header.to <= len(w.buf) && !quoted, quoted)
	}
	if f.FragmentOffset == 0 {
		end, known := ipEnd(w.buf[at:], f.Version)
		w.transport(f, cover{from: transport, to: at + end, addresses: [2]int{first, first + 2*size}, pseudo: true, protocol: f.Protocol},
			known && !f.Fragment && !quoted && !routed(w.buf[at:], f), quoted, &changed)
	}
	return changed
}

// ipEnd gives the length of a packet by its own header, and false where that does
// not tell: with segmentation offload, and of jumbograms.
func ipEnd(b []byte, version uint8) (int, bool) {
	if version == 4 {
		n := int(binary.BigEndian.Uint16(b[2:]))
		return n, n != 0
	}
	n := int(binary.BigEndian.Uint16(b[4:]))
	return sizeIP6 + n, n != 0
}

// transport changes ports and quoted packets and the checksum over c; whole says
// that c is all that the checksum covers, if it was captured.
func (w *Rewriter) transport(f *layers.Frame, c cover, whole, quoted bool, changed *bool) {
	var field int
	switch f.Protocol {
	case layers.ProtoTCP, layers.ProtoUDP:
		*changed = w.ports(c.from) || *changed
		if field = 16; f.Protocol == layers.ProtoUDP {
			field = 6
		}
	case protoICMP, protoICMPv6: // the other one of its IP version is none
		if (f.Protocol == protoICMP) != (f.Version == 4) {
			return
		}
		field, c.pseudo = 2, f.Version == 6
		if !quoted {
			*changed = w.quote(f.Protocol, c.from, min(c.to, len(w.buf))) || *changed
		}
	case protoDCCP, protoUDPLite:
		field, whole = 6, false // they may cover a part only
	default:
		return
	}
	if c.field = c.from + field; c.field+2 > len(w.buf) {
		return // cut before it
	}
	udp := f.Protocol == layers.ProtoUDP
	if udp {
		if f.Version == 4 && binary.BigEndian.Uint16(w.buf[c.field:]) == 0 {
			return // the sender left it out
		}
		length := int(binary.BigEndian.Uint16(w.buf[c.from+4:]))
		whole = whole && length >= 8 && length <= c.to-c.from
		if whole {
			c.to = c.from + length
		}
	}
	whole = whole && c.to >= c.field+2
	if !whole {
		c.to = math.MaxInt
	}
	w.checksum(c, whole && c.to <= len(w.buf), quoted)
	if udp && binary.BigEndian.Uint16(w.buf[c.field:]) == 0 {
		// Zero would say that there is none; in one's complement this is the same.
		binary.BigEndian.PutUint16(w.buf[c.field:], 0xffff)
	}
}

// checksum puts a checksum right: anew where all that it covers is there.
func (w *Rewriter) checksum(c cover, whole, quoted bool) {
	switch {
	case !whole:
		c.move(w.old, w.buf)
		if !quoted {
			w.result.Unproven++
		}
	case !c.renew(w.old, w.buf) && !quoted:
		w.result.Repaired++
	}
}

// ports changes the ports of the TCP or UDP header at from.
func (w *Rewriter) ports(from int) (changed bool) {
	for i, side := range []Side{Source, Destination} {
		at := from + 2*i
		if at+2 > len(w.buf) {
			break
		}
		old := binary.BigEndian.Uint16(w.buf[at:])
		if to, ok := w.rules.port(old, side); ok && to != old {
			binary.BigEndian.PutUint16(w.buf[at:], to)
			changed = true
		}
	}
	return changed
}

// quote changes the packet that an ICMP error quotes, as it was changed when it
// passed itself.
func (w *Rewriter) quote(protocol uint8, from, to int) bool {
	const header = 8
	if from+header >= to {
		return false
	}
	switch kind := w.buf[from]; {
	case protocol == protoICMPv6 && kind >= 1 && kind <= 4: // errors are below 128; these quote
	case protocol == protoICMP && (kind == 3 || kind == 4 || kind == 5 || kind == 11 || kind == 12):
	default:
		return false
	}
	var f layers.Frame
	layers.Decode(pcap.LinkRaw, w.buf[from+header:to], math.MaxUint16, &f)
	return f.Version != 0 && w.ip(from+header, &f, true)
}

// routed reports whether an IPv6 packet has a routing header: its checksum is then
// over the last destination and not over the one in the header.
func routed(b []byte, f *layers.Frame) bool {
	if f.Version != 6 {
		return false
	}
	next, at := b[6], sizeIP6
	for at+2 <= len(b) && at < f.Transport-f.Network {
		size := (int(b[at+1]) + 1) * 8
		switch next {
		case headerRouting:
			return true
		case headerFragment:
			size = 8
		case headerAuth:
			size = max((int(b[at+1])+2)*4, 8)
		}
		next, at = b[at], at+size
	}
	return false
}

// addressAt changes the address that lies in field.
func (w *Rewriter) addressAt(field []byte, side Side) bool {
	old, _ := netip.AddrFromSlice(field) // 4 or 16 bytes
	to, ok := w.rules.address(old, side)
	if !ok || to == old {
		return false
	}
	copy(field, to.AsSlice())
	return true
}
