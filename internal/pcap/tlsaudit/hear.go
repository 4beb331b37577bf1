package tlsaudit

import (
	"capfleet/internal/pcap/layers"
	"capfleet/internal/pcap/tlshello"
)

// message is what a direction said, and what is known about that.
type message struct {
	tlshello.Hello
	skipped        int    // bytes of the stream before it
	truncated, gap bool   // why it is not complete
	ack            uint32 // what its last segment acknowledged, if acks
	acks           bool
}

// hear takes a message at the beginning of a stream, and settles what the direction
// is awaited to say next.
func (c *connection) hear(who side, m *message) {
	h := &c.halves[who]
	if !h.said || h.stream.start != h.end { // else it goes on from the one before
		h.begin = h.stream.start
	}
	h.said, h.end = true, h.stream.start+uint32(m.skipped+m.Size) //nolint:gosec // bounded by the stream
	more := c.understand(who, m)
	if s := c.session; s != nil && m.Kind != tlshello.Alert {
		s.Truncated = s.Truncated || m.truncated
		s.Gap = s.Gap || m.gap
	}
	if more && m.Complete {
		c.goOn(who, h.end)
		return
	}
	c.leave(who)
}

// understand takes what a message means, and reports whether another is to come.
func (c *connection) understand(who side, m *message) (more bool) {
	switch m.Kind {
	case tlshello.Client:
		c.client(who, &m.Hello)
		// The answer begins where this side has read up to.
		if peer := &c.halves[who.peer()]; m.acks && peer.phase == unknown {
			c.await(who.peer(), m.ack)
		}
	case tlshello.Retry:
		c.answer(who)
		c.session.Retried = true
		if client := &c.halves[who.peer()]; client.said && client.phase != awaiting {
			c.await(who.peer(), client.end)
		}
		return true
	case tlshello.Server:
		c.answer(who)
		c.session.ServerHello = true
		c.session.Negotiated, c.session.HasNegotiated = m.Version()
	case tlshello.Alert:
		return c.alert(who, &m.Hello)
	}
	return false
}

// client takes a ClientHello.
func (c *connection) client(who side, hello *tlshello.Hello) {
	s := c.session
	switch {
	case s == nil, s.ClientHello && !s.mayRetry(), c.server == who:
		c.begin(who, tlshello.Client)
	case !s.ClientHello:
		// The answer was read first: this is where the session begins.
		h := &c.halves[who]
		s.Packet, s.Time, s.HasTime = h.first, h.time, h.hasTime
	}
	s = c.session
	if !s.ClientHello {
		s.Offered, s.HasOffered = hello.Version()
	}
	s.ClientHello = true
	if s.ServerName == "" {
		s.ServerName = hello.ServerName
	}
}

// answer makes sure that there is a session that a server's hello belongs to.
func (c *connection) answer(who side) {
	s := c.session
	if s == nil || s.ServerHello && !s.mayRetry() || c.server != who {
		c.begin(who, tlshello.Server)
	}
}

// alert takes an alert, and reports whether it was a mere warning.
func (c *connection) alert(who side, hello *tlshello.Hello) (warning bool) {
	const fatal = 2
	if hello.Level != fatal {
		return true
	}
	if s := c.session; s != nil && !s.HasAlert {
		s.Alert, s.HasAlert, s.AlertFromServer = hello.Description, true, who == c.server
	}
	return false
}

// goOn makes a direction's stream begin anew behind a message, with what is there
// of it already.
func (c *connection) goOn(who side, seq uint32) {
	h := &c.halves[who]
	old := h.stream
	first, at, has := h.first, h.time, h.hasTime
	c.await(who, seq)
	if n := int(seq - old.start); n < len(old.data) {
		wire := len(old.data) - n
		if old.cut {
			wire++
		}
		h.stream.add(seq, old.data[n:], wire)
		h.first, h.time, h.hasTime = first, at, has
	} else {
		h.stream.cut = old.cut
	}
	for _, p := range old.parts {
		h.stream.add(old.start+uint32(p.at), p.data, p.wire) //nolint:gosec // bounded by the stream
	}
}

// settle takes what there is of a direction's stream of which a part will not come.
func (c *connection) settle(who side) {
	h := &c.halves[who]
	if h.phase != awaiting {
		return
	}
	b, skipped := behindChange(h.stream.data)
	m := message{Hello: tlshello.Parse(b), skipped: skipped}
	if m.Kind == tlshello.None || m.Kind == tlshello.Alert {
		return
	}
	m.gap = !m.Complete
	if m.Complete || c.classify(who, b, &m.Hello) {
		c.hear(who, &m)
	}
}

// close takes a FIN or RST. After a FIN the rest of a stream may still come, where
// packets are out of order.
func (c *connection) close(s *segment) {
	c.halves[s.sender].closed = true
	if s.flags&layers.RST == 0 && (c.waits(s.sender) || c.watched && !c.halves[s.sender.peer()].closed || c.waits(s.sender.peer())) {
		return
	}
	c.ended = true
	c.finish()
}

// waits reports whether a part of a stream is there and the rest still to come.
func (c *connection) waits(who side) bool {
	h := &c.halves[who]
	return h.phase == awaiting && (len(h.stream.parts) > 0 || len(h.stream.data) > 0)
}

// finish gives what is known of the session, and ends both streams.
func (c *connection) finish() {
	first := side(0)
	if c.serverKnown {
		first = c.server.peer()
	}
	c.settle(first)
	c.settle(first.peer())
	for i := range c.halves {
		if c.halves[i].phase == awaiting {
			c.leave(side(i))
		}
	}
	c.give()
	c.rewatch()
}

// rewatch has the connection's payload looked at while a direction is awaited, and
// its end while there is a session to give.
func (c *connection) rewatch() {
	watched := c.halves[0].phase == awaiting || c.halves[1].phase == awaiting
	c.audit.watched.Set(c.hash, &c.watched, watched)
	c.audit.open.Set(c.hash, &c.open, watched || c.session != nil)
}

// held is what the streams take of memory.
func (c *connection) held() int { return c.halves[0].stream.size() + c.halves[1].stream.size() }

// useless reports whether the connection could as well be forgotten: it said nothing
// that was to be heard.
func (c *connection) useless() bool {
	return !c.watched && c.session == nil && !c.halves[0].said && !c.halves[1].said
}
