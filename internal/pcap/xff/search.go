package xff

import (
	"bytes"
	"net/netip"
	"strings"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/flow"
)

// Hit is a header that names the address.
type Hit struct {
	// Packet is the number of the packet in which the header's line begins, Time when
	// that was captured.
	Packet  uint64
	Time    pcap.Timestamp
	HasTime bool
	// Source and Destination are those of that packet.
	Source, Destination netip.AddrPort
	// Header is its name as it was sent.
	Header string
}

// Search looks for an address. It is a pcap.Sifter for one capture, and not safe for
// concurrent use beside that.
type Search struct {
	address netip.Addr
	headers *names
	found   func(Hit)

	open   flow.Watch
	lines  table
	packet pcap.Packet
}

// New gives a Search for an address in the values of headers, see Headers; found is
// called for each header that names it, in the order in which they end.
func New(address netip.Addr, headers []string, found func(Hit)) *Search {
	s := &Search{address: address.Unmap().WithZone(""), headers: newNames(headers), found: found}
	s.lines.reset()
	return s
}

// maxLine is how much of a line is kept while it goes from packet to packet. Servers
// take 8 to 16 KiB of headers in all.
const maxLine = 16 << 10

// glance is what a segment's payload shows by itself.
type glance struct {
	hits []place
	// open is where a line begins that the payload leaves open and that is, or may
	// become, a header that is looked at; -1 when there is none.
	open int
}

// place is a header in a payload: where its line begins, and the name's length.
type place struct{ at, name int }

// look reads the lines of a payload, appending to hits. Its very beginning is taken
// for that of a line; Search.take knows better where a line goes on there.
func (s *Search) look(b []byte, hits []place) glance {
	g := glance{hits: hits, open: -1}
	for at := 0; ; {
		rest := b[at:]
		if m, name := s.headers.line(rest); m != other {
			end := bytes.IndexByte(rest, '\n')
			if end < 0 {
				g.open = at
				return g
			}
			if m == header && s.names(rest[:name], bytes.TrimSuffix(rest[name+1:end], []byte{'\r'})) {
				g.hits = append(g.hits, place{at, name})
			}
			at += end + 1
			continue
		}
		next := bytes.IndexByte(rest, '\n')
		if next < 0 {
			return g
		}
		at += next + 1
	}
}

// Packet takes the next packet.
func (s *Search) Packet(p *pcap.Packet) {
	var seg flow.Segment
	if !flow.Peek(p.Link, p.Data, p.Length, &seg) || len(seg.Payload) == 0 {
		return
	}
	var hits [8]place
	g := s.look(seg.Payload, hits[:0])
	if len(g.hits) > 0 || g.open >= 0 || s.open.Has(seg.Hash) {
		s.take(p, &seg, &g)
	}
}

// mark is a packet of a window that may matter.
type mark struct {
	hash  uint32
	place uint32
	index uint32 // doubled; 1 is added when it matters by itself
}

// Sift marks the packets that name the address, or leave a header open.
func (s *Search) Sift(w *pcap.Window, former any) any {
	marks, ok := former.(*[]mark)
	if !ok {
		marks = new([]mark)
	}
	list := (*marks)[:0]
	link, index := w.Link(), uint32(0)
	var seg flow.Segment
	var hits [8]place
	for _, run := range w.Runs() {
		for _, at := range run {
			frame, wire := w.Frame(at)
			if flow.Peek(link, frame, wire, &seg) && len(seg.Payload) > 0 {
				g := s.look(seg.Payload, hits[:0])
				m := mark{seg.Hash, at, index}
				if len(g.hits) > 0 || g.open >= 0 {
					m.index++
				}
				list = append(list, m)
			}
			index += 2
		}
	}
	*marks = list
	return marks
}

// Take takes the packets that matter.
func (s *Search) Take(w *pcap.Window, sifted any) {
	for _, m := range *sifted.(*[]mark) { //nolint:forcetypeassert // what Sift gave
		if m.index&1 != 0 || s.open.Has(m.hash) {
			w.Packet(int(m.index>>1), m.place, nil, &s.packet)
			s.Packet(&s.packet)
		}
	}
}

// hit gives a header.
func (s *Search) hit(l *line, name []byte) {
	s.found(Hit{
		Packet: l.packet, Time: l.time, HasTime: l.hasTime,
		Source: l.source, Destination: l.destination, Header: strings.Clone(string(name)),
	})
}
