package tlsaudit

import (
	"hash/maphash"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/flow"
	"capfleet/internal/pcap/layers"
)

// Audit finds TLS sessions. It is a pcap.Sifter for one capture, and not safe for
// concurrent use beside that.
type Audit struct {
	found func(*Session)
	// watched has the connections whose payload matters, open those whose end does.
	watched, open *flow.Watch
	seed          maphash.Seed // of the sums of keys
	table         table
	packet        pcap.Packet
}

// New gives an Audit that calls found for each session once nothing more can become
// known of it: when its connection closes, at the latest in Close. The session
// belongs to found.
func New(found func(*Session)) *Audit {
	a := &Audit{found: found, watched: flow.NewWatch(), open: flow.NewWatch(), seed: maphash.MakeSeed()}
	a.table.audit = a
	a.table.reset()
	return a
}

// Packet takes the next packet.
func (a *Audit) Packet(p *pcap.Packet) {
	var f flow.Segment
	if !flow.Peek(p.Link, p.Data, p.Length, &f) {
		return
	}
	if m := matter(&f); a.wants(m, f.Hash) {
		s := segment{packet: p.Number, time: p.Time, hasTime: p.HasTime}
		a.set(&s, &f, m)
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
type matters uint8

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
