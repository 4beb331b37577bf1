package pcap

import (
	"math/bits"
	"time"
)

const nanosPerSecond = 1_000_000_000

// Timestamp is a time since 1970-01-01 UTC in the range that captures can hold,
// which is wider than that of a time.Duration. Nanos is always below a second; a
// finer resolution is cut off.
type Timestamp struct {
	Sec   int64
	Nanos uint32
}

// Moment gives the time where RFC 3339 can write it, nil for other years.
func (t Timestamp) Moment() *time.Time {
	if t.Sec < -1<<40 || t.Sec > 1<<40 {
		return nil
	}
	at := t.Time()
	if at.Year() < 0 || at.Year() > 9999 {
		return nil
	}
	return &at
}

// Time gives the timestamp in UTC.
func (t Timestamp) Time() time.Time { return time.Unix(t.Sec, int64(t.Nanos)).UTC() }

// Compare gives -1, 0 or 1 as t is before, at or after u.
func (t Timestamp) Compare(u Timestamp) int {
	switch {
	case t.Sec < u.Sec:
		return -1
	case t.Sec > u.Sec:
		return 1
	case t.Nanos < u.Nanos:
		return -1
	case t.Nanos > u.Nanos:
		return 1
	}
	return 0
}

// Since gives the seconds from u to t.
func (t Timestamp) Since(u Timestamp) float64 {
	return float64(t.Sec-u.Sec) + (float64(t.Nanos)-float64(u.Nanos))/nanosPerSecond
}

// Add gives the timestamp d later.
func (t Timestamp) Add(d time.Duration) Timestamp {
	nanos := int64(t.Nanos) + int64(d%time.Second)
	t.Sec += int64(d / time.Second)
	switch {
	case nanos < 0:
		t.Sec, nanos = t.Sec-1, nanos+nanosPerSecond
	case nanos >= nanosPerSecond:
		t.Sec, nanos = t.Sec+1, nanos-nanosPerSecond
	}
	t.Nanos = uint32(nanos) //nolint:gosec // below 10^9
	return t
}

// resolution is a clock of ticks per second, shifted by offset seconds.
type resolution struct {
	ticks  uint64
	offset int64
}

func (r resolution) timestamp(value uint64) Timestamp {
	sec, rest := value/r.ticks, value%r.ticks
	hi, lo := bits.Mul64(rest, nanosPerSecond)
	nanos, _ := bits.Div64(hi, lo, r.ticks)                            // rest < ticks, so the quotient fits
	return Timestamp{Sec: int64(sec) + r.offset, Nanos: uint32(nanos)} //nolint:gosec // wraps where the file's offset does; nanos is below 10^9
}

// Packet is one packet of a capture.
type Packet struct {
	// Number counts from 1.
	Number uint64
	// Offset is the place of the packet's record, as Error.Offset.
	Offset int64
	// Time is when it was captured. Simple packet blocks have none: HasTime is false.
	Time    Timestamp
	HasTime bool
	// Interface is an index into Reader.Interfaces, of all sections together.
	Interface int
	Link      LinkType
	// Length is the packet's length on the wire, as the file has it. It may be
	// smaller than len(Data) in odd files.
	Length uint32
	// Data is what was captured; valid until the next call of Next.
	Data []byte
	// Options are those of a pcapng packet block; as short-lived as Data.
	Options Options
}

// Interface is one capture interface. A pcap file has exactly one.
type Interface struct {
	Section int // index into Reader.Sections
	Link    LinkType
	// SnapLen is how many bytes of a packet are kept; 0 means no limit.
	SnapLen uint32
	// TicksPerSecond is the resolution of timestamps, OffsetSeconds what is added.
	TicksPerSecond uint64
	OffsetSeconds  int64
	// FCSLength is the length of the frame check sequence at the end of each
	// frame in bytes; -1 when the file does not say.
	FCSLength int

	Name, Description, Filter, OS, Hardware string
	Comments                                []string
	// Statistics counts the interface's statistics blocks. Received and Dropped
	// are those of the last one, Has… where it gives them.
	Statistics              int
	Received, Dropped       uint64
	HasReceived, HasDropped bool
	// Packets counts those of the interface that were read so far.
	Packets uint64
}

// Section is one section of a pcapng file; a pcap file has one without text.
type Section struct {
	BigEndian                 bool
	Major, Minor              uint16
	Hardware, OS, Application string
	Comments                  []string
}

// Blocks counts the blocks of a pcapng file that carry no packet.
type Blocks struct {
	NameResolution, Statistics, Secrets, Custom, Other uint64
}
