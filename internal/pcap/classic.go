package pcap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Sizes of pcap's headers.
const (
	fileHeader    = 24
	recordHeader  = 16
	patchedHeader = 24 // Kuznetzov's patched libpcap: interface, protocol, type follow
)

// variant is what the magic number of a pcap file says.
type variant struct {
	big     bool
	nano    bool
	patched bool
}

func classicVariant(magic []byte) (variant, bool) {
	for _, big := range []bool{false, true} {
		switch byteOrder(big).Uint32(magic) {
		case 0xa1b2c3d4:
			return variant{big: big}, true
		case 0xa1b23c4d:
			return variant{big: big, nano: true}, true
		case 0xa1b2cd34:
			return variant{big: big, patched: true}, true
		}
	}
	return variant{}, false
}

// swaps says how a file orders the two lengths of a record.
type swaps int

const (
	captured1st swaps = iota // as it should be
	captured2nd              // always the other way round
	smaller1st               // some writers did so and some so: the captured length is the smaller one
)

// lengthOrder gives the order by the version, as libpcap has it: writers before
// 2.3 had the lengths the other way round, those of 2.3 either way, and so has
// DG/UX, which calls itself 543.0.
func lengthOrder(major, minor uint16) swaps {
	switch {
	case major == 2 && minor < 3, major == 543 && minor == 0:
		return captured2nd
	case major == 2 && minor == 3:
		return smaller1st
	}
	return captured1st
}

// classicDecoder reads pcap.
type classicDecoder struct {
	variant variant
	lengths swaps
	clock   resolution
	link    LinkType
	header  int // size of a record's header
}

// begin reads the file's header.
func (d *classicDecoder) begin(r *Reader) error {
	b, err := r.win.peek(fileHeader)
	if err != nil {
		return r.ended(err, len(b), "the file header")
	}
	order := byteOrder(d.variant.big)
	major, minor := order.Uint16(b[4:]), order.Uint16(b[6:])
	if major != 2 && (major != 543 || minor != 0) {
		return r.fail(ErrUnsupported, r.win.pos, fmt.Sprintf("pcap version %d.%d", major, minor), nil)
	}
	linkField := order.Uint32(b[20:])
	fcs := -1
	if linkField&hasFCS != 0 {
		fcs = int(linkField>>fcsShift) * 2
	}
	d.link = LinkType(linkField & 0x03ffffff).canonical()
	d.lengths = lengthOrder(major, minor)
	d.clock = resolution{ticks: 1_000_000}
	if d.variant.nano {
		d.clock.ticks = nanosPerSecond
	}
	d.header = recordHeader
	if d.variant.patched {
		d.header = patchedHeader
	}
	r.sections = []Section{{BigEndian: d.variant.big, Major: major, Minor: minor}}
	r.interfaces = []Interface{{Link: d.link, SnapLen: order.Uint32(b[16:]), TicksPerSecond: d.clock.ticks, FCSLength: fcs}}
	r.win.consume(fileHeader)
	return nil
}

func (d *classicDecoder) next(r *Reader, p *Packet) error {
	b, err := r.win.peek(d.header)
	if err != nil {
		if len(b) == 0 && errors.Is(err, io.EOF) {
			return io.EOF
		}
		return r.ended(err, len(b), "a record header")
	}
	rec := d.record(b)
	if limit := d.link.maxPacket(); rec.captured > limit {
		return r.fail(ErrDamaged, r.win.pos, fmt.Sprintf("a packet of %d bytes, when at most %d can be", rec.captured, limit), nil)
	}
	size := d.header + int(rec.captured)
	b, err = r.win.peek(size)
	if err != nil {
		return r.ended(err, len(b), fmt.Sprintf("a packet of %d bytes", rec.captured))
	}
	*p = Packet{Number: r.count + 1, Offset: r.win.pos, Time: rec.time, HasTime: true, Link: d.link, Length: rec.original, Data: b[d.header:]}
	r.win.consume(size)
	return nil
}

// record is the header of a packet.
type record struct {
	time               Timestamp
	captured, original uint32
}

func (d *classicDecoder) record(b []byte) record {
	var sec, part, captured, original uint32
	if d.variant.big {
		sec, part, captured, original = binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])
	} else {
		sec, part, captured, original = binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
	}
	if d.lengths == captured2nd || d.lengths == smaller1st && captured > original {
		captured, original = original, captured
	}
	t := Timestamp{Sec: int64(sec), Nanos: part}
	switch {
	case uint64(part) >= d.clock.ticks: // a second or more: carried over
		t = d.clock.timestamp(uint64(part))
		t.Sec += int64(sec)
	case !d.variant.nano:
		t.Nanos *= 1000
	}
	return record{time: t, captured: captured, original: original}
}
