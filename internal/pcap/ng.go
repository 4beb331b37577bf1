package pcap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Block types of pcapng.
const (
	blockInterface   = 1
	blockPacket      = 2 // obsolete
	blockSimple      = 3
	blockNames       = 4
	blockStatistics  = 5
	blockEnhanced    = 6
	blockSecrets     = 10
	blockCustom      = 0xbad
	blockCustomLocal = 0x40000bad // not to be copied
	blockSection     = 0x0a0d0d0a // reads alike in both byte orders
)

const (
	byteOrderMagic = 0x1a2b3c4d
	blockOverhead  = 12 // type and both lengths
	// maxPacketOptions is how much a packet block may have beside its packet.
	maxPacketOptions = 1 << 20
)

// Smallest sizes of blocks by type: overhead and fixed fields.
const (
	minSection    = blockOverhead + 16
	minInterface  = blockOverhead + 8
	minEnhanced   = blockOverhead + 20
	minSimple     = blockOverhead + 4
	minStatistics = blockOverhead + 12
)

func isSectionHeader(magic []byte) bool { return binary.LittleEndian.Uint32(magic) == blockSection }

// ngDecoder reads pcapng.
type ngDecoder struct {
	big    bool
	base   int // index of the section's first interface
	clocks []resolution
	// limit is the largest packet of any interface.
	limit uint32
	// skipping is what is left of a block that is passed over.
	skipping int64
	// trailer is the length that the end of that block must repeat; 0 when none.
	trailer uint32
	kept    int // bytes of descriptions that are kept
}

// begin reads the first section header.
func (d *ngDecoder) begin(r *Reader) error {
	d.limit = LinkEthernet.maxPacket()
	_, err := d.block(r, nil)
	if errors.Is(err, io.EOF) {
		return r.ended(err, 0, "the section header")
	}
	return err
}

func (d *ngDecoder) next(r *Reader, p *Packet) error {
	for {
		if got, err := d.block(r, p); got || err != nil {
			return err
		}
	}
}

// block reads one block, and reports whether it held a packet, which is in p.
func (d *ngDecoder) block(r *Reader, p *Packet) (bool, error) {
	if d.trailer != 0 {
		return false, d.finishSkip(r)
	}
	b, err := r.win.peek(8)
	if err != nil {
		if len(b) == 0 && errors.Is(err, io.EOF) {
			return false, io.EOF
		}
		return false, r.ended(err, len(b), "a block header")
	}
	order := byteOrder(d.big)
	kind := order.Uint32(b)
	if kind == blockSection {
		if order, err = d.sectionOrder(r); err != nil {
			return false, err
		}
		b, _ = r.win.peek(8)
	}
	total := order.Uint32(b[4:])
	if total < blockOverhead || total%4 != 0 {
		return false, r.fail(ErrDamaged, r.win.pos, fmt.Sprintf("a block of %d bytes", total), nil)
	}
	smallest, largest := d.bounds(kind)
	if largest == 0 {
		d.count(r, kind)
		d.trailer, d.skipping = total, int64(total)-4
		return false, d.finishSkip(r)
	}
	if total < smallest {
		return false, r.fail(ErrDamaged, r.win.pos, fmt.Sprintf("a block of type %d with %d bytes, when it has at least %d", kind, total, smallest), nil)
	}
	if total > largest {
		return false, r.fail(ErrTooLarge, r.win.pos, fmt.Sprintf("a block of type %d with %d bytes, when at most %d are read", kind, total, largest), nil)
	}
	b, err = r.win.peek(int(total))
	if err != nil {
		return false, r.ended(err, len(b), fmt.Sprintf("a block of %d bytes", total))
	}
	if again := order.Uint32(b[total-4:]); again != total {
		return false, r.mismatch(r.win.pos, total, again)
	}
	body := b[8 : total-4]
	packet := false
	switch kind {
	case blockSection:
		err = d.section(r, body, order == binary.BigEndian)
	case blockInterface:
		err = d.addInterface(r, body)
	case blockStatistics:
		err = d.statistics(r, body)
	default:
		packet = true
		err = d.packet(r, kind, body, p)
	}
	if err != nil {
		return false, err
	}
	r.win.consume(int(total))
	return packet, nil
}

// bounds gives the sizes between which a block is read; blocks without are
// passed over.
func (d *ngDecoder) bounds(kind uint32) (smallest, largest uint32) {
	switch kind {
	case blockSection:
		return minSection, maxDescription
	case blockInterface:
		return minInterface, maxDescription
	case blockStatistics:
		return minStatistics, maxDescription
	case blockEnhanced, blockPacket:
		return minEnhanced, d.limit + maxPacketOptions
	case blockSimple:
		return minSimple, d.limit + maxPacketOptions
	}
	return 0, 0
}

func (d *ngDecoder) count(r *Reader, kind uint32) {
	switch kind {
	case blockNames:
		r.blocks.NameResolution++
	case blockSecrets:
		r.blocks.Secrets++
	case blockCustom, blockCustomLocal:
		r.blocks.Custom++
	default:
		r.blocks.Other++
	}
}

// finishSkip passes over the rest of a block and looks at its end.
func (d *ngDecoder) finishSkip(r *Reader) error {
	left, err := r.win.skip(d.skipping)
	d.skipping = left
	if err != nil {
		return r.ended(err, 0, fmt.Sprintf("a block of %d bytes", d.trailer))
	}
	b, err := r.win.peek(4)
	if err != nil {
		return r.ended(err, len(b), fmt.Sprintf("the end of a block of %d bytes", d.trailer))
	}
	total := d.trailer
	if again := byteOrder(d.big).Uint32(b); again != total {
		return r.mismatch(r.win.pos+4-int64(total), total, again)
	}
	d.trailer = 0
	r.win.consume(4)
	return nil
}

func (r *Reader) mismatch(offset int64, first, second uint32) error {
	return r.fail(ErrDamaged, offset, fmt.Sprintf("a block of %d bytes ends with the length %d", first, second), nil)
}

// sectionOrder gives the byte order of the section that begins.
func (d *ngDecoder) sectionOrder(r *Reader) (binary.ByteOrder, error) {
	b, err := r.win.peek(12)
	if err != nil {
		return nil, r.ended(err, len(b), "a section header")
	}
	for _, big := range []bool{false, true} {
		if order := byteOrder(big); order.Uint32(b[8:]) == byteOrderMagic {
			return order, nil
		}
	}
	return nil, r.fail(ErrDamaged, r.win.pos, fmt.Sprintf("a section with the byte-order magic % x", b[8:12]), nil)
}

// section begins a section. Interfaces are numbered anew in each.
func (d *ngDecoder) section(r *Reader, body []byte, big bool) error {
	order := byteOrder(big)
	s := Section{BigEndian: big, Major: order.Uint16(body[4:]), Minor: order.Uint16(body[6:])}
	if s.Major != 1 || s.Minor != 0 && s.Minor != 2 { // 1.2 was written for 1.0
		return r.fail(ErrUnsupported, r.win.pos, fmt.Sprintf("pcapng version %d.%d", s.Major, s.Minor), nil)
	}
	if len(r.sections) == maxSections {
		return r.fail(ErrTooLarge, r.win.pos, fmt.Sprintf("more than %d sections", maxSections), nil)
	}
	opts := Options{raw: body[16:], big: big}
	if err := d.keep(r, opts); err != nil {
		return err
	}
	for code, value := range opts.All() {
		switch code {
		case optComment:
			s.Comments = append(s.Comments, text(value))
		case 2:
			s.Hardware = text(value)
		case 3:
			s.OS = text(value)
		case 4:
			s.Application = text(value)
		}
	}
	d.big = big
	d.base = len(r.interfaces)
	r.sections = append(r.sections, s)
	return nil
}

// keep counts what a block's options take, and refuses damaged ones.
func (d *ngDecoder) keep(r *Reader, opts Options) error {
	if opts.Damaged() {
		return r.fail(ErrDamaged, r.win.pos, "an option goes beyond its block", nil)
	}
	if d.kept += len(opts.raw); d.kept > maxDescription {
		return r.fail(ErrTooLarge, r.win.pos, fmt.Sprintf("sections and interfaces are described in more than %d bytes", maxDescription), nil)
	}
	return nil
}

// addInterface adds an interface to the section.
func (d *ngDecoder) addInterface(r *Reader, body []byte) error {
	order := byteOrder(d.big)
	if len(r.interfaces) == maxInterfaces {
		return r.fail(ErrTooLarge, r.win.pos, fmt.Sprintf("more than %d interfaces", maxInterfaces), nil)
	}
	opts := Options{raw: body[8:], big: d.big}
	if err := d.keep(r, opts); err != nil {
		return err
	}
	i := Interface{
		Section: len(r.sections) - 1, Link: LinkType(order.Uint16(body)).canonical(), SnapLen: order.Uint32(body[4:]),
		TicksPerSecond: 1_000_000, FCSLength: -1,
	}
	for code, value := range opts.All() {
		switch {
		case code == optComment:
			i.Comments = append(i.Comments, text(value))
		case code == 2:
			i.Name = text(value)
		case code == 3:
			i.Description = text(value)
		case code == 9 && len(value) == 1:
			ticks, ok := ticksPerSecond(value[0])
			if !ok {
				return r.fail(ErrUnsupported, r.win.pos, fmt.Sprintf("the timestamp resolution %#02x", value[0]), nil)
			}
			i.TicksPerSecond = ticks
		case code == 11 && len(value) > 1 && value[0] == 0: // 0: a filter as text
			i.Filter = text(value[1:])
		case code == 12:
			i.OS = text(value)
		case code == 13 && len(value) == 1:
			i.FCSLength = int(value[0])
		case code == 14 && len(value) == 8:
			i.OffsetSeconds = int64(order.Uint64(value)) //nolint:gosec // a signed number by the format
		case code == 15:
			i.Hardware = text(value)
		}
	}
	r.interfaces = append(r.interfaces, i)
	d.clocks = append(d.clocks, resolution{ticks: i.TicksPerSecond, offset: i.OffsetSeconds})
	d.limit = max(d.limit, i.Link.maxPacket())
	return nil
}

// ticksPerSecond reads a resolution: a power of 2 or 10, negative.
func ticksPerSecond(resol byte) (uint64, bool) {
	exponent := resol & 0x7f
	if resol&0x80 != 0 {
		return 1 << (exponent & 63), exponent < 64
	}
	if exponent > 19 {
		return 0, false
	}
	ticks := uint64(1)
	for range exponent {
		ticks *= 10
	}
	return ticks, true
}

// lookup gives the index of an interface of the section.
func (d *ngDecoder) lookup(r *Reader, id uint32) (int, error) {
	if known := len(r.interfaces) - d.base; uint64(id) >= uint64(known) { //nolint:gosec // a length
		return 0, r.fail(ErrDamaged, r.win.pos, fmt.Sprintf("interface %d, when the section has %d", id, known), nil)
	}
	return d.base + int(id), nil
}

// statistics counts an interface's statistics.
func (d *ngDecoder) statistics(r *Reader, body []byte) error {
	order := byteOrder(d.big)
	index, err := d.lookup(r, order.Uint32(body))
	if err != nil {
		return err
	}
	i := &r.interfaces[index]
	i.Statistics++
	r.blocks.Statistics++
	for code, value := range (Options{raw: body[12:], big: d.big}).All() {
		switch {
		case code == 4 && len(value) == 8:
			i.Received, i.HasReceived = order.Uint64(value), true
		case code == 5 && len(value) == 8:
			i.Dropped, i.HasDropped = order.Uint64(value), true
		}
	}
	return nil
}

// packet reads the body of a block that holds a packet.
func (d *ngDecoder) packet(r *Reader, kind uint32, body []byte, p *Packet) error {
	order := byteOrder(d.big)
	var id, captured, original uint32
	var data []byte
	switch kind {
	case blockSimple:
		original, data = order.Uint32(body), body[4:]
	case blockPacket:
		id, captured, original, data = uint32(order.Uint16(body)), order.Uint32(body[12:]), order.Uint32(body[16:]), body[20:]
	default:
		id, captured, original, data = order.Uint32(body), order.Uint32(body[12:]), order.Uint32(body[16:]), body[20:]
	}
	index, err := d.lookup(r, id)
	if err != nil {
		return err
	}
	in := &r.interfaces[index]
	if kind == blockSimple {
		// It does not say how much was captured.
		captured = original
		if in.SnapLen > 0 {
			captured = min(captured, in.SnapLen)
		}
	}
	if uint64(captured) > uint64(len(data)) {
		return r.fail(ErrDamaged, r.win.pos, fmt.Sprintf("a packet of %d bytes in a block with room for %d", captured, len(data)), nil)
	}
	if limit := in.Link.maxPacket(); captured > limit {
		return r.fail(ErrDamaged, r.win.pos, fmt.Sprintf("a packet of %d bytes, when at most %d can be", captured, limit), nil)
	}
	in.Packets++
	*p = Packet{Number: r.count + 1, Offset: r.win.pos, Interface: index, Link: in.Link, Length: original, Data: data[:captured]}
	if kind != blockSimple {
		p.HasTime = true
		p.Time = d.clocks[index].timestamp(uint64(order.Uint32(body[4:]))<<32 | uint64(order.Uint32(body[8:])))
		p.Options = Options{raw: data[min(len(data), padded(int(captured))):], big: d.big}
	}
	return nil
}
