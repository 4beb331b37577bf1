package xff

import (
	"bytes"
	"net/netip"
	"slices"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/flow"
)

// Bounds of the lines that are open at once. Beyond them the oldest are given up.
const (
	maxLines = 1 << 12
	maxParts = 16
)

// direction is one way of a connection.
type direction struct {
	flow.Key
	up bool
}

// line is a line that a segment left open, and that is or may become a header.
type line struct {
	direction
	hash    uint32
	watched bool
	next    uint32 // the sequence number of its next byte
	text    []byte // so far
	parts   []part // what came before its turn
	packet  uint64 // in which it begins
	time    pcap.Timestamp
	hasTime bool

	source, destination netip.AddrPort
	serial              uint64 // by age
}

// part is a segment that came before its turn, up to the end of its first line.
type part struct {
	seq  uint32
	data []byte
}

// table holds the open lines, one for each direction of a connection.
type table struct {
	all    map[direction]*line
	queue  []queued // by age; those that are gone are passed over
	serial uint64
}

type queued struct {
	direction
	serial uint64
}

func (t *table) reset() { t.all = map[direction]*line{} }

// take takes a segment that matters.
func (s *Search) take(p *pcap.Packet, seg *flow.Segment, g *glance) {
	var d direction
	d.up = seg.Key(&d.Key)
	begin := line{direction: d, hash: seg.Hash, packet: p.Number, time: p.Time, hasTime: p.HasTime, source: d.Low(), destination: d.High()}
	if !d.up {
		begin.source, begin.destination = begin.destination, begin.source
	}
	from, opens := 0, true // where the lines begin that count, and whether the last may stay open
	if l := s.lines.all[d]; l != nil {
		if from, opens = s.goOn(l, seg); from < 0 {
			return
		}
	}
	for _, h := range g.hits {
		if h.at >= from {
			s.hit(&begin, seg.Payload[h.at:h.at+h.name])
		}
	}
	// Of a packet that was cut, what follows is not known.
	if opens && g.open >= from && len(seg.Payload) == seg.Wire {
		begin.next = seg.Seq() + uint32(seg.Wire) //nolint:gosec // a segment
		s.begin(&begin, seg.Payload[g.open:])
	}
}

// goOn gives an open line what a segment has of it. It gives where the next line
// begins in the payload, -1 when there is none, and whether another line of this
// direction may be left open.
func (s *Search) goOn(l *line, seg *flow.Segment) (from int, opens bool) {
	ahead := int(int32(seg.Seq() - l.next)) //nolint:gosec // sequence numbers wrap
	switch {
	case ahead >= maxLine:
		s.end(l) // its end is lost
		return 0, true
	case ahead > 0:
		// Before its turn. What looks like a whole header in it is one.
		l.keep(seg)
		return 0, false
	case -ahead >= seg.Wire:
		return 0, false // a repetition
	}
	end := s.extend(l, seg.Payload[min(len(seg.Payload), -ahead):])
	if end >= 0 {
		return end - ahead, true
	}
	if len(seg.Payload) < seg.Wire {
		s.end(l) // the rest was not captured
	}
	for s.lines.all[l.direction] == l {
		b := l.turn()
		if b == nil || s.extend(l, b) >= 0 {
			break
		}
	}
	return -1, false
}

// keep holds a segment until its turn, up to the end of its first line.
func (l *line) keep(seg *flow.Segment) {
	seq := seg.Seq()
	if len(l.parts) == maxParts || slices.ContainsFunc(l.parts, func(p part) bool { return p.seq == seq }) {
		return
	}
	data := seg.Payload
	if end := bytes.IndexByte(data, '\n'); end >= 0 {
		data = data[:end+1]
	}
	l.parts = append(l.parts, part{seq, bytes.Clone(data)})
}

// turn gives the part whose turn it is, without what the line has of it; nil when
// there is none.
func (l *line) turn() []byte {
	for i, p := range l.parts {
		known := int(int32(l.next - p.seq)) //nolint:gosec // sequence numbers wrap
		if known >= 0 && known < len(p.data) {
			l.parts = slices.Delete(l.parts, i, i+1)
			return p.data[known:]
		}
	}
	return nil
}

// extend appends to a line, and gives where in b the next one begins; -1 when the
// line goes on.
func (s *Search) extend(l *line, b []byte) int {
	l.next += uint32(len(b)) //nolint:gosec // a segment
	end := bytes.IndexByte(b, '\n')
	part := b
	if end >= 0 {
		part = b[:end]
	}
	l.text = append(l.text, part...)
	m, name := s.headers.line(l.text)
	switch {
	case end >= 0:
		if m == header && s.names(l.text[:name], bytes.TrimSuffix(l.text[name+1:], []byte{'\r'})) {
			s.hit(l, l.text[:name])
		}
		s.end(l)
		return end + 1
	case m == other, len(l.text) > maxLine:
		s.end(l)
	}
	return -1
}

// begin opens a line; one that the direction had open is given up.
func (s *Search) begin(l *line, text []byte) {
	if old := s.lines.all[l.direction]; old != nil {
		s.end(old)
	}
	t := &s.lines
	for len(t.all) >= maxLines || len(t.queue) >= 2*maxLines {
		oldest := t.queue[0]
		t.queue = t.queue[1:]
		if l := t.all[oldest.direction]; l != nil && l.serial == oldest.serial {
			s.end(l)
		}
	}
	t.serial++
	opened := *l
	opened.serial, opened.text = t.serial, bytes.Clone(text)
	t.all[l.direction] = &opened
	t.queue = append(t.queue, queued{l.direction, t.serial})
	s.open.Set(opened.hash, &opened.watched, true)
}

// end forgets a line.
func (s *Search) end(l *line) {
	if s.lines.all[l.direction] == l {
		delete(s.lines.all, l.direction)
	}
	s.open.Set(l.hash, &l.watched, false)
}
