package tlsaudit

import "slices"

// Bounds of one direction's reassembly. The largest hello that is read is half of
// maxStream; most fit a packet or two.
const (
	maxStream = 256 << 10
	maxParts  = 256
)

// stream puts the beginning of one direction together, from a sequence number on.
type stream struct {
	start uint32
	data  []byte // without a gap from start on
	lent  bool   // data is the packet's
	cut   bool   // what follows was on the wire and not captured
	parts []part // behind a gap, by their places
}

// part is a segment that came before those before it.
type part struct {
	at   int // from start
	data []byte
	wire int // its length on the wire
}

// size is what the stream takes of memory.
func (s *stream) size() int {
	n := cap(s.data)
	for i := range s.parts {
		n += cap(s.parts[i].data)
	}
	return n
}

// add takes a segment of wire bytes of which data was captured. False means that it
// lies too far ahead, or that there are too many: what is missing will not come.
func (s *stream) add(seq uint32, data []byte, wire int) bool {
	at := int(int32(seq - s.start)) //nolint:gosec // sequence numbers wrap
	if at < 0 {
		if wire <= -at {
			return true
		}
		data, wire, at = data[min(len(data), -at):], wire+at, 0
	}
	if at > len(s.data) {
		return s.keep(part{at: at, data: data, wire: wire})
	}
	if !s.join(part{at: at, data: data, wire: wire}) {
		return false
	}
	for len(s.parts) > 0 && s.parts[0].at <= len(s.data) {
		if !s.join(s.parts[0]) {
			return false
		}
		s.parts = slices.Delete(s.parts, 0, 1)
	}
	return true
}

// join appends what is new of a part that begins within or right behind the data.
func (s *stream) join(p part) bool {
	known := len(s.data) - p.at
	if known >= p.wire {
		return true
	}
	if p.at+len(p.data) > maxStream {
		return false
	}
	switch {
	case len(s.data) == 0:
		// Most hellos are in one packet, and need no copy.
		s.data, s.lent, s.cut = p.data[:len(p.data):len(p.data)], true, len(p.data) < p.wire
	case known <= len(p.data):
		s.data, s.lent, s.cut = append(s.data, p.data[known:]...), false, len(p.data) < p.wire
	}
	return true
}

// own makes the data a copy where it is still the packet's.
func (s *stream) own() {
	if s.lent {
		s.data, s.lent = slices.Clone(s.data), false
	}
}

// keep holds a copy of a part until what is before it comes.
func (s *stream) keep(p part) bool {
	if p.at+len(p.data) > maxStream || len(s.parts) == maxParts {
		return false
	}
	i, found := slices.BinarySearchFunc(s.parts, p.at, func(q part, at int) int { return q.at - at })
	if found && s.parts[i].wire >= p.wire {
		return true
	}
	p.data = slices.Clone(p.data)
	s.parts = slices.Insert(s.parts, i, p)
	return true
}
