package pcap

import (
	"encoding/binary"
	"math/bits"
)

// cursors is how many places of a segment are walked at once. Where a record ends
// is known only once its header is there, so that a single walk waits for memory
// at every packet; several walks wait together.
const cursors = 4

// layout is what the walk of a pcap file needs to know.
type layout struct {
	dec    *classicDecoder
	header int    // size of a record's header
	limit  uint32 // the largest captured length
	swap   bool   // not little-endian
	plain  bool   // little-endian, and the lengths as they should be
	epoch  uint32 // seconds of the first record
	parts  uint32 // parts of a second
}

func (r *Reader) layout(d *classicDecoder, first []byte) layout {
	return layout{
		dec: d, header: d.header, limit: d.link.maxPacket(),
		swap: d.variant.big, plain: !d.variant.big && d.lengths == captured1st,
		epoch: byteOrder(d.variant.big).Uint32(first), parts: uint32(d.clock.ticks), //nolint:gosec // 10^6 or 10^9
	}
}

// Window is a part of a pcap file with the records that begin in it.
type Window struct {
	layout
	data    []byte // from base on: the segment, and as much as its last record may need
	mapping []byte // that data is a part of; nil when it was read
	base    int64  // of data[0] in the capture
	runs    [cursors][]uint32
	starts  [cursors][]uint32 // memory of the runs
	end     int               // where the first record behind the segment begins
	whole   bool              // every record up to end is good
	number  uint64            // of packets before the first
	bytes   []byte            // of the packet that Packet gave last
	touched byte              // keeps what is read ahead from being left out
	// The packet that Packet is giving.
	index uint64
	place int64
}

// Link is the link type of all packets.
func (w *Window) Link() LinkType { return w.dec.link }

// Before is the number of packets before the window's first, for Take.
func (w *Window) Before() uint64 { return w.number }

// Len is the number of packets.
func (w *Window) Len() int {
	n := 0
	for _, run := range w.runs {
		n += len(run)
	}
	return n
}

// Runs gives where the packets' records begin: together in the order of the file.
// Index and place of a packet name it to Frame, Record and Packet.
func (w *Window) Runs() [cursors][]uint32 { return w.runs }

// Frame gives the captured bytes of the packet whose record begins at a place that
// Runs gave, and its length on the wire, for Sift to look at. The bytes may be mapped
// from the file: when that shrinks, Sift ends at the touch and the window is read
// otherwise.
func (w *Window) Frame(at uint32) (frame []byte, wire uint32) {
	from := int(at)
	header := w.data[from : from+recordHeader]
	captured, wire := binary.LittleEndian.Uint32(header[8:]), binary.LittleEndian.Uint32(header[12:])
	if !w.plain {
		rec := w.dec.record(header)
		captured, wire = rec.captured, rec.original
	}
	from += w.header
	// Not beyond the window, should the file be written to meanwhile.
	return w.data[from:min(len(w.data), from+int(captured))], wire
}

// PlainHeader is the length of a record's header that Plain speaks of.
const PlainHeader = recordHeader

// Plain gives the window's bytes, in which a packet's record begins at its place with
// PlainHeader bytes, the captured length at the eighth and the one on the wire at the
// twelfth, both little-endian. It is for a Sift that cannot afford Frame; false where
// records look different. A length may reach beyond the window, should the file be
// written to meanwhile.
func (w *Window) Plain() (data []byte, ok bool) {
	return w.data, w.plain && w.header == recordHeader
}

// Time gives when the packet was captured.
func (w *Window) Time(at uint32) Timestamp { return w.dec.record(w.data[at:]).time }

func (w *Window) word(at int) uint32 {
	v := binary.LittleEndian.Uint32(w.data[at:])
	if w.swap {
		v = bits.ReverseBytes32(v)
	}
	return v
}

// captured gives the captured length of the record at a place with room for its
// header.
func (w *Window) captured(at int) uint32 {
	if w.plain {
		return binary.LittleEndian.Uint32(w.data[at+8:])
	}
	return w.dec.record(w.data[at:]).captured
}

// next gives where the record behind the one at a place begins; false when that
// one is not there in full or cannot be.
func (w *Window) next(at int) (int, bool) {
	if at > len(w.data)-w.header {
		return 0, false
	}
	size := w.captured(at)
	end := at + w.header + int(size)
	return end, size <= w.limit && end <= len(w.data)
}

// plausible is how many records must follow each other where one is looked for.
const plausible = 6

// find gives the first place from at on where records seem to begin; false when
// there is none before limit. It may be wrong: the walk before tells.
func (w *Window) find(at, limit int) (int, bool) {
	limit = min(limit, len(w.data)-w.header)
	for ; at < limit; at++ {
		if sec := w.word(at); sec-w.epoch+nearby > 2*nearby {
			continue
		}
		if w.follow(at) {
			return at, true
		}
	}
	return 0, false
}

// nearby is how many seconds from the first record another one is looked for: a
// year.
const nearby = 365 * 24 * 3600

func (w *Window) follow(at int) bool {
	for range plausible {
		if at > len(w.data)-w.header {
			return true // as far as can be seen
		}
		if sec := w.word(at); sec-w.epoch+nearby > 2*nearby || w.word(at+4) >= w.parts {
			return false
		}
		rec := w.dec.record(w.data[at:])
		if rec.captured > rec.original || rec.captured > w.limit || rec.original == 0 {
			return false
		}
		at += w.header + int(rec.captured)
	}
	return true
}

// walk finds the records that begin before segment, from the place first on. Runs
// holds them up to the end or to the first that is not good.
func (w *Window) walk(first, segment int) {
	var at, until [cursors]int
	at[0], until[cursors-1] = first, segment
	n := 1
	for ; n < cursors; n++ {
		place, ok := w.find(max(first, segment*n/cursors), segment*(n+1)/cursors)
		if !ok {
			break
		}
		at[n], until[n-1] = place, place
	}
	until[n-1] = segment
	for i := range w.runs {
		w.runs[i] = nil
		if need := segment/recordHeader + 2; cap(w.starts[i]) < need/cursors+need/8 {
			w.starts[i] = make([]uint32, need/cursors+need/8)
		}
	}
	ok := w.interleave(&at, &until, n)
	for i := range n {
		if ok[i] && (at[i] == until[i] || i == n-1 && at[i] > until[i]) {
			continue
		}
		// It is damaged, or the next one was begun at a wrong place: from here on one
		// walk tells.
		for j := i + 1; j < cursors; j++ {
			w.runs[j] = nil
		}
		if !ok[i] {
			w.end, w.whole = at[i], false
			return
		}
		w.alone(i, at[i], segment)
		return
	}
	w.end, w.whole = at[n-1], true
}

// interleave walks n cursors up to their limits, one record of each in turn.
// Afterwards at has where each stopped; false for one that stopped early.
func (w *Window) interleave(at, until *[cursors]int, n int) (ok [cursors]bool) {
	together := 0
	if n == cursors && w.plain {
		together = w.abreast(at, until)
	}
	for i := range n {
		here, count := at[i], together
		ok[i] = true
		for here < until[i] && count < len(w.starts[i]) {
			next, good := w.next(here)
			if !good {
				ok[i] = false
				break
			}
			w.starts[i][count] = uint32(here) //nolint:gosec // within a window
			count++
			here = next
		}
		at[i], w.runs[i] = here, w.starts[i][:count]
	}
	return ok
}

// ahead is where in a record the walk looks a second time.
const ahead = 80

// abreast takes as many steps as all cursors can, and gives how many. It is written
// out so that a step is a few instructions, and the processor waits for the memory
// of all at once.
func (w *Window) abreast(at, until *[cursors]int) (steps int) {
	data, limit := w.data, w.limit
	a, b, c, d := at[0], at[1], at[2], at[3]
	least := min(len(w.starts[0]), len(w.starts[1]), len(w.starts[2]), len(w.starts[3]))
	sa, sb, sc, sd := w.starts[0][:least], w.starts[1][:least], w.starts[2][:least], w.starts[3][:least]
	last := len(data) - w.header - int(limit) // a record that begins here is within the data
	ua, ub, uc, ud := min(until[0], last), min(until[1], last), min(until[2], last), min(until[3], last)
	header := w.header
	touched := byte(0)
	for ; steps < least; steps++ {
		if a >= ua || b >= ub || c >= uc || d >= ud {
			break
		}
		la, lb := binary.LittleEndian.Uint32(data[a+8:]), binary.LittleEndian.Uint32(data[b+8:])
		lc, ld := binary.LittleEndian.Uint32(data[c+8:]), binary.LittleEndian.Uint32(data[d+8:])
		if la > limit || lb > limit || lc > limit || ld > limit {
			break
		}
		// The packets' headers are in the next line of the cache: it may come now.
		touched ^= data[a+ahead] ^ data[b+ahead] ^ data[c+ahead] ^ data[d+ahead]
		sa[steps], sb[steps], sc[steps], sd[steps] = uint32(a), uint32(b), uint32(c), uint32(d) //nolint:gosec // within a window
		a, b, c, d = a+header+int(la), b+header+int(lb), c+header+int(lc), d+header+int(ld)
	}
	at[0], at[1], at[2], at[3] = a, b, c, d
	w.touched = touched
	return steps
}

// alone walks on from the end of a run to the end of the segment.
func (w *Window) alone(i, at, segment int) {
	run := w.runs[i]
	w.whole = true
	for at < segment {
		next, ok := w.next(at)
		if !ok {
			w.whole = false
			break
		}
		run = append(run, uint32(at)) //nolint:gosec // within a window
		at = next
	}
	w.runs[i], w.end = run, at
}
