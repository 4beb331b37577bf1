package layers

import "encoding/binary"

const (
	macHeader = 14
	tagSize   = 4
	// minEtherType is the smallest value that is a type, maxLength8023 the largest
	// that is a length.
	minEtherType  = 1536
	maxLength8023 = 1500
)

// F5's first packet has this type and text; it describes the capture and is no
// traffic.
const (
	etherF5 = 0x05ff
	textF5  = "F5-Pseudo-pkt\x00"
)

func (d *decoder) ethernet() {
	if !d.has(0, macHeader, Runt) {
		return
	}
	b := d.f.Data
	d.f.Ethernet = true
	if b[6]&1 != 0 {
		d.f.Oddity |= GroupSource
	}
	d.behind(be16(b[12:]), macHeader)
}

// behind goes on at off, behind an EtherType, and passes over VLAN tags.
func (d *decoder) behind(kind uint16, off int) {
	f := d.f
	for kind == EtherVLAN || kind == EtherQinQ || kind == EtherOldQinQ {
		if !d.has(off, tagSize, Runt) {
			f.EtherType = kind
			return
		}
		if f.Tags < MaxTags {
			f.VLAN[f.Tags] = be16(f.Data[off:]) & 0x0fff
		}
		f.Tags++
		kind = be16(f.Data[off+2:])
		off += tagSize
	}
	switch {
	case kind >= minEtherType:
		f.EtherType = kind
		d.network(off)
	case kind > maxLength8023:
		if f.EtherType = kind; !IsF5FileInfo(f.Data) {
			f.Oddity |= UndefinedType
		}
	case int(kind) > d.wire-off:
		f.Oddity |= BadLength
	}
}

// IsF5FileInfo reports whether an Ethernet frame is the description that a BIG-IP
// puts before the packets.
func IsF5FileInfo(b []byte) bool {
	return len(b) >= macHeader+len(textF5) && be16(b[12:]) == etherF5 && string(b[macHeader:macHeader+len(textF5)]) == textF5
}

// cooked reads a Linux cooked header of size bytes with the protocol at off. Small
// protocol numbers are the kernel's own and no lengths.
func (d *decoder) cooked(size, off int) {
	if !d.has(0, size, Runt) {
		return
	}
	if kind := be16(d.f.Data[off:]); kind >= minEtherType {
		d.behind(kind, size)
	}
}

// loopback reads the address family before the packet. On NULL it is in the byte
// order of the host that captured, which the file does not tell; all families are
// below 65536, so the order shows.
func (d *decoder) loopback(network bool) {
	if !d.has(0, 4, Runt) {
		return
	}
	family := be32(d.f.Data)
	if !network && family > 0xffff {
		family = binary.LittleEndian.Uint32(d.f.Data)
	}
	switch family {
	case 2: // AF_INET everywhere
		d.raw(4, 4)
	case 10, 24, 28, 30: // AF_INET6 of Linux, NetBSD and OpenBSD, FreeBSD, macOS
		d.raw(4, 6)
	}
}

// raw reads IP of the given version; 0 takes either.
func (d *decoder) raw(off int, version uint8) {
	if !d.has(off, 1, Runt) {
		return
	}
	got := d.f.Data[off] >> 4
	if version == 0 {
		version = got
	}
	switch version {
	case 4:
		d.ipv4(off)
	case 6:
		d.ipv6(off)
	default:
		d.f.Oddity |= WrongVersion
	}
}

// network goes on behind an EtherType.
func (d *decoder) network(off int) {
	switch d.f.EtherType {
	case EtherIPv4:
		d.ipv4(off)
	case EtherIPv6:
		d.ipv6(off)
	case EtherARP:
		d.arp(off)
	}
}
