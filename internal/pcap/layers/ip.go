package layers

const (
	minIPv4 = 20
	sizeIP6 = 40
	minTCP  = 20
	sizeUDP = 8
)

// IPv6 extension headers that lead to the transport header.
const (
	extHopByHop    = 0
	extRouting     = 43
	extFragment    = 44
	extAuth        = 51
	extDestination = 60
	extMobility    = 135
	extHIP         = 139
	extShim6       = 140
)

func (d *decoder) ipv4(off int) {
	f := d.f
	if !d.has(off, minIPv4, BadIPHeader) {
		return
	}
	b := f.Data[off:]
	if b[0]>>4 != 4 {
		f.Oddity |= WrongVersion
		return
	}
	header, total := int(b[0]&0x0f)*4, int(be16(b[2:]))
	switch {
	case header < minIPv4, total != 0 && total < header:
		f.Oddity |= BadIPHeader
		return
	case total == 0:
		// Segmentation offload: the length did not fit or is filled in later.
		total = d.wire - off
	case total > d.wire-off:
		f.Oddity |= BadIPLength
		total = d.wire - off
	}
	f.Version, f.Network = 4, off
	f.End = min(len(f.Data), off+total)
	f.ID = uint32(be16(b[4:]))
	flags := be16(b[6:])
	f.DontFragment, f.MoreFragments = flags&0x4000 != 0, flags&0x2000 != 0
	f.FragmentOffset = int(flags&0x1fff) * 8
	f.Fragment = f.MoreFragments || f.FragmentOffset != 0
	f.TTL, f.Protocol = b[8], b[9]
	f.Transport = min(off+header, f.End)
	if !d.has(off, header, BadIPHeader) {
		return
	}
	if header > total {
		f.Oddity |= BadIPHeader
		return
	}
	d.transport(off+header, off+total)
}

func (d *decoder) ipv6(off int) {
	f := d.f
	if !d.has(off, sizeIP6, BadIPHeader) {
		return
	}
	b := f.Data[off:]
	if b[0]>>4 != 6 {
		f.Oddity |= WrongVersion
		return
	}
	end := off + sizeIP6 + int(be16(b[4:]))
	if b[4] == 0 && b[5] == 0 {
		// A jumbogram, or segmentation offload: up to the end of the frame.
		end = d.wire
	}
	if end > d.wire {
		f.Oddity |= BadIPLength
		end = d.wire
	}
	f.Version, f.Network, f.TTL, f.Protocol = 6, off, b[7], b[6]
	f.End = min(len(f.Data), end)
	at := off + sizeIP6
	f.Transport = min(at, f.End)
	// Each extension header is 8 bytes or longer, so this comes to an end.
	for {
		var size int
		switch f.Protocol {
		case extHopByHop, extRouting, extDestination, extMobility, extHIP, extShim6:
			if !d.within(at, 2, end) {
				return
			}
			size = (int(f.Data[at+1]) + 1) * 8
		case extAuth:
			if !d.within(at, 2, end) {
				return
			}
			// At least 8, though its unit would allow less.
			size = max((int(f.Data[at+1])+2)*4, 8)
		case extFragment:
			if !d.within(at, 8, end) {
				return
			}
			size = 8
			field := be16(f.Data[at+2:])
			f.FragmentOffset, f.MoreFragments = int(field&^7), field&1 != 0
			f.Fragment = f.MoreFragments || f.FragmentOffset != 0
			f.ID = be32(f.Data[at+4:])
		default:
			d.transport(at, end)
			return
		}
		if !d.within(at, size, end) {
			return
		}
		f.Protocol = f.Data[at]
		at += size
		f.Transport = min(at, f.End)
		if f.FragmentOffset != 0 {
			// What follows is the middle of something, not a header.
			return
		}
	}
}

// within is has for a header of an IP packet that ends at end.
func (d *decoder) within(at, n, end int) bool {
	if at+n > end {
		d.f.Oddity |= BadIPHeader
		return false
	}
	return d.has(at, n, BadIPHeader)
}

// transport reads the TCP or UDP header at off of an IP packet that ends at end
// on the wire.
func (d *decoder) transport(off, end int) {
	f := d.f
	f.Transport = min(off, f.End)
	if f.FragmentOffset != 0 {
		return
	}
	var size int
	switch f.Protocol {
	case ProtoTCP:
		size = minTCP
	case ProtoUDP:
		size = sizeUDP
	default:
		return
	}
	if off+size > end {
		if !f.Fragment {
			f.Oddity |= BadTransport
		}
		return
	}
	// The ports are worth having even when the rest was cut off.
	if d.has(off, 4, BadTransport) {
		f.SrcPort, f.DstPort = be16(f.Data[off:]), be16(f.Data[off+2:])
	}
	if !d.has(off, size, BadTransport) {
		return
	}
	b := f.Data[off:]
	if f.Protocol == ProtoTCP {
		f.Seq, f.Ack, f.Flags = be32(b[4:]), be32(b[8:]), b[13]
		size = int(b[12]>>4) * 4
		if size < minTCP || off+size > end {
			f.Oddity |= BadTransport
			return
		}
		if !d.has(off, size, BadTransport) {
			return
		}
	} else if length := int(be16(b[4:])); length != 0 && (length < sizeUDP || !f.Fragment && off+length > end) {
		f.Oddity |= BadTransport
		return
	} else if length != 0 && !f.Fragment {
		end = off + length
	}
	f.HasTransport = true
	f.Payload, f.PayloadLength = off+size, end-off-size
}
