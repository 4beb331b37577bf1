package tlsaudit

import (
	"capfleet/internal/pcap"
	"capfleet/internal/pcap/flow"
	"capfleet/internal/pcap/layers"
	"capfleet/internal/pcap/tlshello"
)

// side is an end of a connection, by the order of the addresses.
type side int

func sideOf(low bool) side {
	if low {
		return 0
	}
	return 1
}

func (s side) peer() side { return 1 - s }

// segment is a segment that may matter.
type segment struct {
	key      flow.Key
	sender   side
	sum      uint64 // of the key
	hash     uint32
	seq, ack uint32
	flags    uint8
	hasTime  bool
	matters  matters
	wire     int    // length of the payload on the wire
	payload  []byte // what was captured of it
	packet   uint64
	time     pcap.Timestamp
}

// set takes what a packet shows; its number and time are the caller's.
func (a *Audit) set(s *segment, f *flow.Segment, m matters) {
	s.sender = sideOf(f.Key(&s.key))
	s.sum, s.hash = s.key.Sum(a.seed), f.Hash
	s.seq, s.ack, s.flags, s.matters = f.Seq(), f.Ack(), f.Flags, m
	s.wire, s.payload = f.Wire, f.Payload
}

// phase says what is looked for in one direction.
type phase int

const (
	// unknown: nothing, but a segment that begins like a hello is one.
	unknown phase = iota
	// awaiting: what the direction says from a certain sequence number on.
	awaiting
	// done: as unknown, and it said something before.
	done
)

// half is one direction of a connection.
type half struct {
	phase  phase
	opened bool // its SYN was seen, with the sequence number isn
	isn    uint32
	closed bool // its FIN was seen
	stream stream
	// alike is set when nothing but its first bytes spoke for a message.
	alike  bool
	parses int // of the stream
	parse  int // the length from which on it is worth another
	// Where the last message lay, so that a repetition is known for one.
	said       bool
	begin, end uint32
	// first is the packet in which the stream begins.
	first   uint64
	time    pcap.Timestamp
	hasTime bool
}

// connection is a TCP connection in which hellos are looked for.
type connection struct {
	audit        *Audit
	older, newer *connection
	alike        *connection // another one whose key has the same sum
	key          flow.Key
	sum          uint64 // of the key
	hash         uint32
	// The audit's sets that hold the hash.
	watched, open bool
	ended         bool // it was closed; only repetitions are expected
	queued        int  // its place among those that were closed, from 1
	counted       int  // what the table counts for its streams
	halves        [2]half
	// server is the end that answers, where known.
	server      side
	serverKnown bool
	session     *Session
}

// segment takes a segment that may matter.
func (a *Audit) segment(s *segment) {
	c := a.table.get(s)
	if s.flags&layers.SYN != 0 {
		c = a.opening(c, s)
	}
	if c == nil {
		if len(s.payload) == 0 || !begins(s.payload) {
			return
		}
		c = a.table.add(s)
	}
	if s.wire > 0 {
		c.payload(s)
	}
	if s.flags&(layers.FIN|layers.RST) != 0 {
		c.close(s)
	}
	c.rewatch()
	a.table.settle(c)
}

// opening takes a SYN. One that was seen before changes nothing.
func (a *Audit) opening(c *connection, s *segment) *connection {
	if c != nil && !c.opens(s) {
		c = nil
	}
	if c == nil {
		c = a.table.add(s)
	}
	h, peer := &c.halves[s.sender], &c.halves[s.sender.peer()]
	if !h.opened {
		h.opened, h.isn = true, s.seq
		if h.phase == unknown {
			c.await(s.sender, s.seq+1)
		}
	}
	c.server, c.serverKnown = s.sender.peer(), true
	if s.flags&layers.ACK != 0 {
		c.server = s.sender
		if !peer.opened && peer.phase == unknown {
			c.await(s.sender.peer(), s.ack)
		}
	}
	s.seq++ // of the data that it may carry
	return c
}

// opens reports whether a SYN belongs to the opening of this connection, and is not
// that of another one with the same ends.
func (c *connection) opens(s *segment) bool {
	h, peer := &c.halves[s.sender], &c.halves[s.sender.peer()]
	switch {
	case h.opened:
		return h.isn == s.seq
	case s.flags&layers.ACK != 0:
		return peer.opened && s.ack-peer.isn-1 < 1<<16 // the SYN may have carried data
	}
	return h.phase == awaiting && h.stream.start == s.seq+1 // its answer came first
}

// await makes a direction's stream begin at a sequence number.
func (c *connection) await(who side, seq uint32) {
	h := &c.halves[who]
	h.phase, h.stream, h.alike, h.parses, h.parse, h.first = awaiting, stream{start: seq}, false, 0, 0, 0
}

// leave ends the stream of a direction.
func (c *connection) leave(who side) {
	h := &c.halves[who]
	h.phase, h.stream = done, stream{}
}

// payload takes what a segment carries.
func (c *connection) payload(s *segment) {
	h := &c.halves[s.sender]
	if h.phase != awaiting {
		if len(s.payload) == 0 || !begins(s.payload) || h.repeats(s.seq) {
			return
		}
		c.await(s.sender, s.seq)
		h.alike = true
	}
	ok := h.stream.add(s.seq, s.payload, s.wire)
	defer h.stream.own()
	if ahead := int32(s.seq - h.stream.start); h.first == 0 && ahead <= 0 && int(ahead)+s.wire > 0 { //nolint:gosec // sequence numbers wrap
		h.first, h.time, h.hasTime = s.packet, s.time, s.hasTime
	}
	if !ok {
		c.settle(s.sender)
		c.leave(s.sender)
		if len(s.payload) > 0 && begins(s.payload) && !h.repeats(s.seq) {
			c.payload(s)
		}
		return
	}
	c.examine(s.sender, s.ack, s.flags&layers.ACK != 0)
}

// repeats reports whether a sequence number lies in the last message.
func (h *half) repeats(seq uint32) bool {
	return h.said && int32(seq-h.begin) >= 0 && int32(seq-h.end) < 0 //nolint:gosec // sequence numbers wrap
}

// freeParses is how often a stream is parsed as each segment comes; after that it
// must grow by a quarter, so that many small segments cost no more than they bring.
const freeParses = 32

// examine looks for a message at the beginning of a stream.
func (c *connection) examine(who side, ack uint32, acks bool) {
	for h := &c.halves[who]; h.phase == awaiting; {
		b, skipped := behindChange(h.stream.data)
		if len(b) == 0 {
			if h.stream.cut {
				c.leave(who)
			}
			return
		}
		if len(h.stream.data) < h.parse && !h.stream.cut {
			return
		}
		m := message{Hello: tlshello.Parse(b), skipped: skipped, ack: ack, acks: acks}
		if m.Kind == tlshello.None && !tlshello.Possible(b) {
			c.foreign(who)
			return
		}
		if !m.Complete {
			if !h.stream.cut {
				if h.parses++; h.parses > freeParses {
					h.parse = len(h.stream.data) * 5 / 4
				}
				return
			}
			m.truncated = true
			if !c.classify(who, b, &m.Hello) {
				c.leave(who)
				return
			}
		}
		c.hear(who, &m)
	}
}

// changeCipherSpec is a record that a side may send before its second hello so that
// it looks like TLS 1.2 (RFC 8446 appendix D.4).
const changeCipherSpec = 6

func behindChange(b []byte) (rest []byte, skipped int) {
	for len(b) >= changeCipherSpec && b[0] == 20 && b[1] == 3 && b[3] == 0 && b[4] == 1 {
		b = b[changeCipherSpec:]
		skipped += changeCipherSpec
	}
	if len(b) > 0 && len(b) < changeCipherSpec && b[0] == 20 {
		return nil, skipped // the rest of one may follow
	}
	return b, skipped
}

// foreign gives a connection up that speaks something else at its beginning: what
// begins like a hello later is still found.
func (c *connection) foreign(who side) {
	for _, s := range []side{who, who.peer()} {
		if h := &c.halves[s]; h.phase == awaiting && (s == who || len(h.stream.data) == 0) {
			c.leave(s)
		}
	}
}

// classify judges a message that is not there in full, and gives it a kind where the
// bytes do not reach that. False means that they say too little.
func (c *connection) classify(who side, b []byte, hello *tlshello.Hello) bool {
	if c.halves[who].alike {
		return hello.FieldKnown || hello.Kind == tlshello.Alert
	}
	if hello.Kind == tlshello.None {
		if !c.serverKnown {
			return false
		}
		hello.Kind, hello.Size = tlshello.Client, len(b)
		if who == c.server {
			hello.Kind = tlshello.Server
		}
	}
	return true
}

// begin begins a session with what a side says.
func (c *connection) begin(who side, kind tlshello.Kind) {
	c.give()
	c.server, c.serverKnown = who.peer(), true
	if kind != tlshello.Client {
		c.server = who
	}
	h := &c.halves[who]
	client, server := c.key.Low(), c.key.High()
	if c.server == 0 {
		client, server = server, client
	}
	c.session = &Session{Packet: h.first, Time: h.time, HasTime: h.hasTime, Client: client, Server: server}
}

// give hands the session over.
func (c *connection) give() {
	if c.session != nil {
		c.audit.found(c.session)
		c.session = nil
	}
}
