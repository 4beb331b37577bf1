package pcap

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

const (
	classicHeaderSize = 24
	recordHeaderSize  = 16
	magicNano         = 0xa1b23c4d
	magicMicro        = 0xa1b2c3d4
	// defaultSnapLen is what tcpdump and Wireshark write where there is no limit.
	defaultSnapLen = 256 << 10
	// The upper bits of the link type say that frames end with their frame check
	// sequence, and of how many 16-bit units it is.
	hasFCS      = 0x04000000
	fcsShift    = 28
	maxFCSUnits = 15
)

// Resolution is the unit of the timestamps of a pcap file.
type Resolution uint32

// The resolutions that a pcap file can have.
const (
	Nanoseconds  Resolution = 1
	Microseconds Resolution = 1000
)

// Writer writes a pcap file, little-endian. It is not safe for concurrent use.
// After an error nothing more is written and every call gives it.
type Writer struct {
	out  *bufio.Writer
	link LinkType
	unit Resolution
	snap uint32
	err  error
}

// NewWriter begins a pcap file of one link type on w. The snap length is what the
// header says; 0 stands for no limit. Time that a resolution cannot hold is cut off.
func NewWriter(w io.Writer, link LinkType, snap uint32, unit Resolution) (*Writer, error) {
	return NewWriterOf(w, Interface{Link: link, SnapLen: snap, FCSLength: -1}, unit)
}

// NewWriterOf is NewWriter for packets of an interface, with what a pcap file can say of
// it: link type, snap length, and the length of the frame check sequence.
func NewWriterOf(w io.Writer, i Interface, unit Resolution) (*Writer, error) {
	magic := uint32(magicMicro)
	switch unit {
	case Nanoseconds:
		magic = magicNano
	case Microseconds:
	default:
		return nil, fmt.Errorf("a pcap file has no timestamps of %d ns", unit)
	}
	snap, link := i.SnapLen, uint32(i.Link)
	if snap == 0 {
		snap = defaultSnapLen
	}
	if i.FCSLength >= 0 && i.FCSLength/2 <= maxFCSUnits {
		link |= hasFCS | uint32(i.FCSLength/2)<<fcsShift //nolint:gosec // bounded here
	}
	var h [classicHeaderSize]byte
	o := binary.LittleEndian
	o.PutUint32(h[0:], magic)
	o.PutUint16(h[4:], 2)
	o.PutUint16(h[6:], 4)
	o.PutUint32(h[16:], snap)
	o.PutUint32(h[20:], link)
	out := &Writer{out: bufio.NewWriterSize(w, 64<<10), link: i.Link, unit: unit, snap: snap}
	_, out.err = out.out.Write(h[:])
	return out, out.err
}

// Write adds a packet: its time, length and data; the number, offset, interface and
// options are no part of a pcap file. A packet of another link type is an error, and so
// is one without a time or with one that a pcap file cannot hold (before 1970, after
// 2106).
func (w *Writer) Write(p *Packet) error {
	switch {
	case w.err != nil:
	case p.Link != w.link:
		w.err = fmt.Errorf("a packet of link type %v does not fit into a pcap file of %v; pcapng holds both", p.Link, w.link)
	case !p.HasTime:
		w.err = fmt.Errorf("packet %d has no time, which a pcap file needs", p.Number)
	case p.Time.Sec < 0 || p.Time.Sec > math.MaxUint32:
		w.err = fmt.Errorf("packet %d is of %v, which a pcap file cannot hold", p.Number, p.Time.Time())
	case uint64(len(p.Data)) > uint64(p.Link.maxPacket()):
		w.err = fmt.Errorf("packet %d has %d bytes, more than a reader takes", p.Number, len(p.Data))
	default:
		var h [recordHeaderSize]byte
		o := binary.LittleEndian
		o.PutUint32(h[0:], uint32(p.Time.Sec))
		o.PutUint32(h[4:], p.Time.Nanos/uint32(w.unit))
		o.PutUint32(h[8:], uint32(len(p.Data))) //nolint:gosec // bounded above
		o.PutUint32(h[12:], p.Length)
		if _, w.err = w.out.Write(h[:]); w.err == nil {
			_, w.err = w.out.Write(p.Data)
		}
	}
	return w.err
}

// Flush hands on what is buffered. The file is whole after it.
func (w *Writer) Flush() error {
	if w.err == nil {
		w.err = w.out.Flush()
	}
	return w.err
}
