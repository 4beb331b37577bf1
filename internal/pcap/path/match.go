package path

import (
	"cmp"
	"slices"

	"capfleet/internal/pcap/layers"
)

// keyed is a packet by a digest of what it is recognised by.
type keyed struct {
	key   uint64
	index int32 // into flow.packets
}

// mix spreads the bits of a key; packets that fall together by chance are told apart
// by comparing them.
func mix(h, v uint64) uint64 {
	h ^= v
	h *= 0x9e3779b97f4a7c15
	return h ^ h>>29
}

func (s *stream) keys(pl *place, f *flow, far bool) []keyed {
	out := make([]keyed, len(f.packets))
	for i, n := range f.packets {
		out[i] = keyed{s.key(&pl.packets[n], far), int32(i)} //nolint:gosec // bounded by maxPackets
	}
	slices.SortFunc(out, func(a, b keyed) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.index, b.index)) })
	return out
}

func (s *stream) tcp() bool {
	f := s.near
	if f == nil {
		f = s.far
	}
	return f.tuple.protocol == layers.ProtoTCP && !f.tuple.fragment
}

func (s *stream) number(k *packet, far bool) segment {
	if far {
		return k.number(s.seqDelta, s.ackDelta)
	}
	return k.number(0, 0)
}

func (s *stream) key(k *packet, far bool) uint64 {
	if s.tcp() {
		n := s.number(k, far)
		return mix(mix(mix(uint64(n.flags), uint64(n.seq)), uint64(n.ack)), uint64(n.size))
	}
	d := k.datagram(s.depth)
	return mix(mix(mix(1, d.hash), uint64(d.size)), uint64(d.seq))
}

func (s *stream) same(near, far *packet) bool {
	if s.tcp() {
		return s.number(near, false) == s.number(far, true)
	}
	return near.datagram(s.depth) == far.datagram(s.depth)
}

// groups calls fn for the packets of both sides that are recognised by the same.
func (s *stream) groups(p *pair, fn func(near, far []keyed)) {
	a, b := s.keys(p.near, s.near, false), s.keys(p.far, s.far, true)
	for len(a) > 0 && len(b) > 0 {
		switch c := cmp.Compare(a[0].key, b[0].key); {
		case c < 0:
			a = a[1:]
		case c > 0:
			b = b[1:]
		default:
			n, m := run(a), run(b)
			fn(a[:n], b[:m])
			a, b = a[n:], b[m:]
		}
	}
}

// run is how many of the first have the same key.
func run(k []keyed) int {
	n := 1
	for n < len(k) && k[n].key == k[0].key {
		n++
	}
	return n
}

// match finds for each packet of a stream the same one at the other place.
func (s *stream) match(p *pair) {
	if s.near != nil {
		s.toFar = filled(len(s.near.packets))
	}
	if s.far != nil {
		s.toNear = filled(len(s.far.packets))
	}
	if s.near == nil || s.far == nil {
		return
	}
	usual := p.clock.usual(s.away)
	s.groups(p, func(near, far []keyed) {
		if len(near) == 1 && len(far) == 1 {
			s.settle(p, near[0].index, far[0].index)
			return
		}
		s.assign(p, near, far, usual)
	})
	if s.tcp() {
		s.cover(p)
	}
	if s.proxied {
		s.setApart(p)
	}
}

func filled(n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = unmatched
	}
	return out
}

// settle takes two packets for one, if they are and the later is not too early.
func (s *stream) settle(p *pair, near, far int32) {
	a, b := p.nearPacket(s, near), p.farPacket(s, far)
	if !s.same(a, b) || p.clock.known && p.clock.delay(a.at, b.at, s.away) < -p.clock.early {
		return
	}
	s.toFar[near], s.toNear[far] = far, near
}

func (p *pair) packet(s *stream, i int32, far bool) *packet {
	if far {
		return p.farPacket(s, i)
	}
	return p.nearPacket(s, i)
}

func (p *pair) nearPacket(s *stream, i int32) *packet { return &p.near.packets[s.near.packets[i]] }
func (p *pair) farPacket(s *stream, i int32) *packet  { return &p.far.packets[s.far.packets[i]] }

// assign pairs packets that are all alike (repetitions): each that arrives with the one
// sent whose delay is nearest to the usual one. The identification of IP, where both
// have one, decides first.
func (s *stream) assign(p *pair, near, far []keyed, usual int64) {
	const most = 256 // of more nothing can be told apart by; they go in order
	if len(near) > most || len(far) > most {
		for i := range min(len(near), len(far)) {
			s.settle(p, near[i].index, far[i].index)
		}
		return
	}
	for _, byID := range []bool{true, false} {
		for _, f := range far {
			if s.toNear[f.index] >= 0 {
				continue
			}
			b := p.farPacket(s, f.index)
			best, least := unmatched, int64(0)
			for _, n := range near {
				a := p.nearPacket(s, n.index)
				if s.toFar[n.index] >= 0 || byID && (a.id == 0 || a.id != b.id) {
					continue
				}
				off := p.clock.delay(a.at, b.at, s.away) - usual
				if off < 0 {
					off = -off
				}
				if best < 0 || off < least {
					best, least = n.index, off
				}
			}
			if best >= 0 {
				s.settle(p, best, f.index)
			}
		}
	}
}

// span is a part of a stream of bytes.
type span struct {
	from, to uint32
}

// cover finds packets whose bytes are at the other place in other packets.
func (s *stream) cover(p *pair) {
	near, far := s.left(p, false), s.left(p, true)
	if len(near) == 0 || len(far) == 0 {
		return
	}
	s.coverBy(p, s.toFar, near, far, false)
	s.coverBy(p, s.toNear, far, near, true)
}

// left gives the packets with data of one side that have no equal, by index.
func (s *stream) left(p *pair, far bool) (out []int32) {
	to, flow, pl := s.toFar, s.near, p.near
	if far {
		to, flow, pl = s.toNear, s.far, p.far
	}
	for i, m := range to {
		if m == unmatched && pl.packets[flow.packets[i]].size > 0 {
			out = append(out, int32(i)) //nolint:gosec // bounded by maxPackets
		}
	}
	return out
}

// coverBy takes each of some packets for seen if all of its bytes are free in the
// spans of the others, and uses those up, so that what was sent twice must be there
// twice.
func (s *stream) coverBy(p *pair, to []int32, some, others []int32, some2far bool) {
	var free spans
	for _, i := range others {
		free.add(s.spanOf(p, i, !some2far))
	}
	free.sort()
	for _, i := range some {
		if free.take(s.spanOf(p, i, some2far)) {
			to[i] = covered
		}
	}
}

func (s *stream) spanOf(p *pair, i int32, far bool) span {
	k, delta := p.packet(s, i, far), uint32(0)
	if far {
		delta = s.seqDelta
	}
	from := k.seq - delta
	if k.flags&layers.SYN != 0 {
		from++ // it takes a number itself
	}
	return span{from, from + k.size}
}

// setApart takes out what a proxy does not hand on: everything without data.
func (s *stream) setApart(p *pair) {
	for i, m := range s.toFar {
		if k := p.nearPacket(s, int32(i)); m == unmatched && k.size == 0 && k.flags&layers.SYN == 0 { //nolint:gosec // bounded by maxPackets
			s.toFar[i] = apart
		}
	}
	for i, m := range s.toNear {
		if k := p.farPacket(s, int32(i)); m == unmatched && k.size == 0 && k.flags&layers.SYN == 0 { //nolint:gosec // bounded by maxPackets
			s.toNear[i] = apart
		}
	}
}
