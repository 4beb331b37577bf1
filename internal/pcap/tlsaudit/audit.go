package tlsaudit

import (
	"capfleet/internal/pcap"
	"capfleet/internal/pcap/flow"
	"capfleet/internal/pcap/layers"
)

// Audit finds TLS sessions. It is a pcap.Sifter for one capture, and not safe for
// concurrent use beside that.
type Audit struct {
	found func(*Session)
	// watched has the connections whose payload matters, open those whose end does.
	watched, open flow.Watch
	table         table
	packet        pcap.Packet
}

// New gives an Audit that calls found for each session once nothing more can become
// known of it: when its connection closes, at the latest in Close. The session
// belongs to found.
func New(found func(*Session)) *Audit {
	a := &Audit{found: found}
	a.table.audit = a
	a.table.reset()
	return a
}

// Packet takes the next packet.
func (a *Audit) Packet(p *pcap.Packet) {
	s := segment{packet: p.Number, time: p.Time, hasTime: p.HasTime}
	if flow.Peek(p.Link, p.Data, p.Length, &s.Segment) && a.wants(matter(&s.Segment), s.Hash) {
		a.segment(&s)
	}
}

// Flush gives the sessions of which both hellos were heard, also while their
// connections go on; an alert that follows is then not told. It is for captures
// that have no end.
func (a *Audit) Flush() {
	for c := a.table.ring.newer; c != &a.table.ring; c = c.newer {
		if s := c.session; s != nil && s.ClientHello && s.ServerHello {
			c.give()
		}
	}
}

// Close ends the audit: what is known of the sessions that are still open is given
// to found.
func (a *Audit) Close() {
	a.table.clear()
}

// matters says for which connections a segment matters.
type matters uint32

const (
	never   matters = iota
	watched         // those whose payload is being put together
	known           // those of which a session is open, or the payload watched: it ends one
	always          // it opens a connection, or begins like a hello
)

func matter(s *flow.Segment) matters {
	switch {
	case s.Flags&layers.SYN != 0, len(s.Payload) > 0 && begins(s.Payload):
		return always
	case s.Flags&(layers.FIN|layers.RST) != 0:
		return known
	case s.Wire > 0:
		return watched
	}
	return never
}

// wants reports whether a segment matters now.
func (a *Audit) wants(m matters, hash uint32) bool {
	switch m {
	case never:
		return false
	case watched:
		return a.watched.Has(hash)
	case known:
		return a.open.Has(hash)
	}
	return true
}

// begins reports whether a hello or an alert may begin with these bytes, of which
// there are some.
func begins(b []byte) bool {
	switch first := b[0]; {
	case first == 0x16:
		return (len(b) < 2 || b[1] == 3) && (len(b) < 6 || b[5] == 1 || b[5] == 2) && (len(b) < 10 || b[6] <= 1 && b[9] == 3)
	case first == 0x15:
		return len(b) >= 7 && b[1] == 3 && b[3] == 0 && b[4] == 2
	case first&0x80 != 0 && len(b) >= 11:
		return b[2] == 1 && (b[3] == 3 && b[4] <= 4 || b[3] == 0 && b[4] == 2) || b[2] == 4 && b[5] == 0 && b[6] == 2
	}
	return false
}

// marks are the packets of a window that may matter.
type marks struct {
	list []mark
	// copies has the records of the packets that matter always, one after the other: most of what
	// Take needs, and made where the window is warm.
	copies []byte
}

// mark is a packet that may matter.
type mark struct {
	hash  uint32
	place uint32 // of its record in the window
	index uint32 // four times the index, and the matters
	size  uint32 // of its copy, where there is one
}

// Sift marks the packets of a window that may matter.
func (a *Audit) Sift(w *pcap.Window, former any) any {
	m, ok := former.(*marks)
	if !ok {
		m = new(marks)
	}
	list, copies := m.list[:0], m.copies[:0]
	link, index := w.Link(), uint32(0)
	var s flow.Segment
	for _, run := range w.Runs() {
		for _, at := range run {
			frame, wire := w.Frame(at)
			if flow.Peek(link, frame, wire, &s) {
				switch m := matter(&s); m {
				case never:
				case always:
					record := w.Record(at)
					list = append(list, mark{s.Hash, at, index | uint32(m), uint32(len(record))}) //nolint:gosec // a packet
					copies = append(copies, record...)
				default:
					list = append(list, mark{s.Hash, at, index | uint32(m), 0})
				}
			}
			index += 4
		}
	}
	m.list, m.copies = list, copies
	return m
}

// Take takes the packets of a window that matter.
func (a *Audit) Take(w *pcap.Window, sifted any) {
	m := sifted.(*marks) //nolint:forcetypeassert // what Sift gave
	copies := m.copies
	for i := range m.list {
		k := &m.list[i]
		if !a.wants(matters(k.index&3), k.hash) {
			continue
		}
		record := copies[:k.size]
		copies = copies[k.size:]
		w.Packet(int(k.index>>2), k.place, record, &a.packet)
		a.Packet(&a.packet)
	}
}
