package xff

import (
	"bytes"
	"net/netip"
	"slices"
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

	open   *flow.Watch
	lines  table
	packet pcap.Packet
}

// New gives a Search for an address in the values of headers, see Headers; found is
// called for each header that names it, in the order in which they end.
func New(address netip.Addr, headers []string, found func(Hit)) *Search {
	s := &Search{address: address.Unmap().WithZone(""), headers: newNames(headers), found: found, open: flow.NewWatch()}
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
	at := 0
	if len(b) == 0 || !s.headers.first[b[0]] {
		at = s.headers.next(b, 0)
	}
	for at >= 0 {
		rest := b[at:]
		m, name := s.headers.line(rest)
		if m == other {
			at = s.headers.next(b, at)
			continue
		}
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			g.open = at
			break
		}
		if m == header && s.names(rest[:name], bytes.TrimSuffix(rest[name+1:end], []byte{'\r'})) {
			g.hits = append(g.hits, place{at, name})
		}
		at = s.headers.next(b, at+end)
	}
	return g
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

// marks are the packets of a window that may matter: for each packet where in
// Search.open its fate lies.
type marks struct{ slots []uint16 }

// Sift marks the packets that name the address, or leave a header open.
func (s *Search) Sift(w *pcap.Window, former any) any {
	m, ok := former.(*marks)
	if !ok {
		m = new(marks)
	}
	m.slots = slices.Grow(m.slots[:0], w.Len())
	var outlines [256]flow.Outline
	var hits [8]place
	for _, run := range w.Runs() {
		for part := range slices.Chunk(run, len(outlines)) {
			flow.Outlines(w, part, outlines[:])
			for i, at := range part {
				m.slots = append(m.slots, s.slot(w, &outlines[i], at, hits[:0]))
			}
		}
	}
	return m
}

// slot gives a packet's slot; hits is room to work in.
func (s *Search) slot(w *pcap.Window, o *flow.Outline, at uint32, hits []place) uint16 {
	if o.Nothing() {
		return flow.Never
	}
	var seg flow.Segment
	b, wire := w.Frame(at)
	if !o.Peek(w.Link(), b, wire, &seg) || len(seg.Payload) == 0 {
		return flow.Never
	}
	if g := s.look(seg.Payload, hits); len(g.hits) > 0 || g.open >= 0 {
		return flow.Always
	}
	return flow.Slot(seg.Hash)
}

// Take takes the packets that matter.
func (s *Search) Take(w *pcap.Window, sifted any) {
	all, index := sifted.(*marks).slots, 0 //nolint:forcetypeassert // what Sift gave
	for _, run := range w.Runs() {
		slots := all[index : index+len(run)]
		for i := s.open.Next(slots, 0); i < len(slots); i = s.open.Next(slots, i+1) {
			w.Packet(index+i, run[i], &s.packet)
			s.Packet(&s.packet)
		}
		index += len(run)
	}
}

// hit gives a header.
func (s *Search) hit(l *line, name []byte) {
	s.found(Hit{
		Packet: l.packet, Time: l.time, HasTime: l.hasTime,
		Source: l.source, Destination: l.destination, Header: strings.Clone(string(name)),
	})
}
