package path

import (
	"math"
	"slices"
	"time"

	"capfleet/internal/pcap/layers"
)

// clock is how far the clock of the far place is ahead of the near one's.
type clock struct {
	known  bool // from both directions
	oneWay bool // from one: as if the way took no time
	// slack is what the offset may be wrong by where no packet tells it: somebody else
	// does, or the captures are taken to have begun together, or the clocks to agree.
	slack int64
	// offset holds at the near place's time pivot; from there on the far clock gains
	// rate nanoseconds in each.
	offset, pivot int64
	rate          float64
	// early is how much before its time a packet may seem to arrive, by what is known of
	// how steady the clocks are.
	early int64
	// usualAway and usualBack are the middle delays of each direction.
	usualAway, usualBack int64
}

// ahead is the offset at a time of the near place.
func (c *clock) ahead(near int64) int64 { return c.offset + c.gained(near) }

func (c *clock) gained(near int64) int64 { return int64(c.rate * float64(near-c.pivot)) }

// delay is how long a packet took, by the near place's clock.
func (c *clock) delay(near, far int64, away bool) int64 {
	if d := far - c.ahead(near) - near; away {
		return d
	} else {
		return -d
	}
}

// toFar and toNear give a time of one place by the other's clock.
func (c *clock) toFar(near int64) int64 { return near + c.ahead(near) }
func (c *clock) toNear(far int64) int64 { return far - c.ahead(far-c.offset) }

func (c *clock) usual(away bool) int64 {
	if away {
		return c.usualAway
	}
	return c.usualBack
}

// sample is a packet that is at both places without a doubt.
type sample struct {
	near, far int64
}

// orient finds out which streams go from near to far, and how the clocks differ, from
// packets that are recognised by something that no other packet has.
func (p *pair) orient() {
	samples := make(map[*stream][]sample, len(p.streams))
	clientSide := map[[16]byte]int{}
	for _, s := range p.streams {
		if s.near == nil || s.far == nil {
			continue
		}
		less, more := 0, 0
		s.groups(p, func(near, far []keyed) {
			if len(near) != 1 || len(far) != 1 {
				return
			}
			a, b := p.nearPacket(s, near[0].index), p.farPacket(s, far[0].index)
			if !s.same(a, b) || s.proxied && a.size == 0 {
				return
			}
			samples[s] = append(samples[s], sample{a.at, b.at})
			switch {
			case a.ttl > b.ttl:
				less++
			case a.ttl < b.ttl:
				more++
			}
		})
		if s.proxied {
			continue // a new packet has a new TTL
		}
		switch {
		case less > more:
			clientSide[s.near.tuple.src]++
			clientSide[s.near.tuple.dst]--
		case more > less:
			clientSide[s.near.tuple.src]--
			clientSide[s.near.tuple.dst]++
		}
	}
	for _, s := range p.streams {
		if s.away = p.goesAway(s, clientSide); s.near != nil && s.far != nil && s.near.tuple != s.far.tuple {
			p.note(s)
		}
	}
	p.estimate(samples)
}

// goesAway reports whether a stream goes from the client's side: by the TTL, which
// falls on the way, otherwise by who began the conversation.
func (p *pair) goesAway(s *stream, clientSide map[[16]byte]int) bool {
	f, pl := s.near, p.near
	if f == nil {
		f, pl = s.far, p.far
	}
	if c := clientSide[f.tuple.src] - clientSide[f.tuple.dst]; c != 0 {
		return c > 0
	}
	first := &pl.packets[f.packets[0]]
	if first.flags&layers.SYN != 0 {
		return first.flags&layers.ACK == 0
	}
	back, ok := pl.byTuple[f.tuple.reverse()]
	if !ok || len(pl.flows[back].packets) == 0 {
		return true
	}
	other := &pl.packets[pl.flows[back].packets[0]]
	if other.flags&layers.SYN != 0 {
		return other.flags&layers.ACK != 0
	}
	// A capture may begin between a question and its answer: ports that systems give out
	// for a while tell more than what comes first.
	if s, d := f.tuple.srcPort >= ephemeral, f.tuple.dstPort >= ephemeral; s != d {
		return s
	}
	if first.at != other.at {
		return first.at < other.at
	}
	return f.tuple.srcPort >= f.tuple.dstPort // the server's is the known, low one
}

// ephemeral is where the ports begin that Linux gives to clients; other systems begin
// above it.
const ephemeral = 32768

// estimate gives the clock that the samples say.
func (p *pair) estimate(samples map[*stream][]sample) {
	shortest := map[bool]int64{true: math.MaxInt64, false: math.MaxInt64}
	var all [2][]int64
	c := &p.clock
	c.steadiness(samples)
	for s, list := range samples {
		for _, x := range list {
			d := x.far - x.near - c.gained(x.near)
			n := 0
			if !s.away {
				d, n = -d, 1
			}
			shortest[s.away] = min(shortest[s.away], d)
			all[n] = append(all[n], d)
		}
	}
	switch away, back := len(all[0]) > 0, len(all[1]) > 0; {
	case away && back:
		c.known = true
		c.offset = (shortest[true] - shortest[false]) / 2
	case away:
		c.oneWay, c.offset = true, shortest[true]
	case back:
		c.oneWay, c.offset = true, -shortest[false]
	}
	switch {
	case c.known || c.oneWay:
	case p.near.Clock != nil && p.far.Clock != nil:
		c.slack = int64(p.near.ClockWithin + p.far.ClockWithin)
		c.offset = int64(*p.far.Clock - *p.near.Clock)
	case p.near.Began != nil && p.far.Began != nil:
		c.slack = int64(500 * time.Millisecond)
		c.offset = p.far.Began.UnixNano() - p.near.Began.UnixNano()
	default:
		c.slack = int64(2 * time.Second) // hosts that keep their time by NTP are better
	}
	// Without a packet in a direction the way is taken to be as long as back.
	if len(all[0]) > 0 {
		c.usualAway = middle(all[0]) - c.offset
		c.usualBack = max(c.usualAway, 0)
	}
	if len(all[1]) > 0 {
		c.usualBack = middle(all[1]) + c.offset
	}
	if len(all[0]) == 0 {
		c.usualAway = max(c.usualBack, 0)
	}
}

func middle(v []int64) int64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[len(v)/2]
}
