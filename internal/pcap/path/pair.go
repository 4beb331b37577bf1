package path

import (
	"cmp"
	"slices"

	"capfleet/internal/pcap/layers"
)

// pair is two places one after the other on the path.
type pair struct {
	near, far *place // near is closer to the client
	streams   []*stream
	clock     clock
	mappings  map[mappingKey]*Mapping
}

// stream is one direction of a conversation as both places of a pair have it. One of
// the flows may be nil: nothing of it was seen there.
type stream struct {
	near, far *flow
	// away says that it goes from near to far.
	away bool
	// proxied: the far side is a connection of its own, which carries the same data.
	proxied bool
	// depth is how much there is at both places of what its packets carry.
	depth depth
	// seqDelta and ackDelta are what is added to numbers between near and far.
	seqDelta, ackDelta uint32
	// toFar and toNear give for each packet of a side the one on the other, or unmatched,
	// or covered.
	toFar, toNear []int32
}

const (
	unmatched int32 = -1
	// covered packets are there, cut otherwise into packets.
	covered int32 = -2
	// apart packets are no part of what a proxy hands on.
	apart int32 = -3
)

// Mapping is a translation that was found, or a proxy.
type Mapping struct {
	Between [2]string `json:"between"`
	From    string    `json:"from"` // address at the first of them
	To      string    `json:"to"`
	// Kind is source_nat, destination_nat, or proxy: a connection of its own.
	Kind  string `json:"kind"`
	Flows int    `json:"flows"`
	back  int    // the same, of the way back
}

type mappingKey struct {
	from, to [16]byte
	kind     string
}

// newPair finds which flows of two places belong together.
func newPair(near, far *place) *pair {
	p := &pair{near: near, far: far, mappings: map[mappingKey]*Mapping{}}
	nearOf, farOf := make([]int32, len(far.flows)), make([]int32, len(near.flows))
	for i := range nearOf {
		nearOf[i] = unmatched
	}
	for i := range near.flows {
		farOf[i] = unmatched
		if j, ok := far.byTuple[near.flows[i].tuple]; ok {
			farOf[i], nearOf[j] = int32(j), int32(i) //nolint:gosec // bounded by maxPackets
		}
	}
	p.discover(farOf, nearOf)
	for i := range near.flows {
		s := &stream{near: &near.flows[i]}
		if farOf[i] >= 0 {
			s.far = &far.flows[farOf[i]]
			s.depth = max(s.near.depth, s.far.depth)
		}
		p.streams = append(p.streams, s)
	}
	for j := range far.flows {
		if nearOf[j] < 0 {
			p.streams = append(p.streams, &stream{far: &far.flows[j]})
		}
	}
	p.deltas()
	return p
}

// content is what a packet of one connection has in common with that of a translated
// one.
type content struct {
	value    uint64
	protocol uint8
	syn      bool
	head     bool // of the first bytes alone
}

// votes is how many packets of a flow are looked at to find the other flow.
const votes = 16

// contents gives what a flow is recognised by; where packets were cut, by less, too.
func (pl *place) contents(f *flow, short bool, give func(c content, weight int)) {
	n := 0
	for _, i := range f.packets {
		k := &pl.packets[i]
		switch {
		case f.tuple.protocol == layers.ProtoTCP && k.flags&layers.SYN != 0:
			give(content{value: uint64(k.seq), protocol: f.tuple.protocol, syn: true}, 4)
		case k.hash != 0 && k.size > 0 && !f.tuple.fragment:
			give(content{value: k.hash, protocol: f.tuple.protocol}, 1)
			if short {
				give(content{value: uint64(k.head), protocol: f.tuple.protocol, head: true}, 1)
			}
		default:
			continue
		}
		if n++; n == votes {
			return
		}
	}
}

// discover pairs flows whose addresses differ by what they carry: translations that
// nobody told of, and proxies.
func (p *pair) discover(farOf, nearOf []int32) {
	index := map[content][]int32{}
	for j := range p.far.flows {
		if nearOf[j] >= 0 {
			continue
		}
		p.far.contents(&p.far.flows[j], p.short(), func(c content, _ int) {
			if l := index[c]; len(l) < 8 && !slices.Contains(l, int32(j)) { //nolint:gosec // bounded by maxPackets
				index[c] = append(l, int32(j)) //nolint:gosec // bounded by maxPackets
			}
		})
	}
	if len(index) == 0 {
		return
	}
	tally := map[int32]int{}
	for i := range p.near.flows {
		if farOf[i] >= 0 {
			continue
		}
		clear(tally)
		p.near.contents(&p.near.flows[i], p.short(), func(c content, weight int) {
			for _, j := range index[c] {
				tally[j] += weight
			}
		})
		best := p.favourite(&p.near.flows[i], tally)
		if best >= 0 && nearOf[best] < 0 {
			p.join(int32(i), best, farOf, nearOf) //nolint:gosec // bounded by maxPackets
		}
	}
}

func (p *pair) short() bool { return p.near.short || p.far.short }

// favourite gives the flow that has most in common with one, unmatched where several
// have. An answer may repeat the question, and hosts may ask the same: among flows
// that carry about as much of it, the ends that a translation left alone decide.
func (p *pair) favourite(f *flow, tally map[int32]int) int32 {
	most := 0
	for _, n := range tally {
		most = max(most, n)
	}
	best, lead := unmatched, 0
	for j, n := range tally {
		if n*2 < most {
			continue
		}
		score := f.tuple.alike(p.far.flows[j].tuple)*votes*8 + n
		if score > lead {
			best, lead = j, score
		} else if score == lead {
			best = unmatched // not one, but several
		}
	}
	return best
}

// alike is how much of two tuples is the same; addresses tell more than ports.
func (t tuple) alike(o tuple) (n int) {
	for _, same := range []struct {
		yes    bool
		weight int
	}{{t.src == o.src, 2}, {t.dst == o.dst, 2}, {t.srcPort == o.srcPort, 1}, {t.dstPort == o.dstPort, 1}} {
		if same.yes {
			n += same.weight
		}
	}
	return n
}

// join pairs two flows and their other directions.
func (p *pair) join(i, j int32, farOf, nearOf []int32) {
	farOf[i], nearOf[j] = j, i
	ri, ok := p.near.byTuple[p.near.flows[i].tuple.reverse()]
	if !ok || farOf[ri] >= 0 {
		return
	}
	if rj, ok := p.far.byTuple[p.far.flows[j].tuple.reverse()]; ok && nearOf[rj] < 0 {
		farOf[ri], nearOf[rj] = int32(rj), int32(ri) //nolint:gosec // bounded by maxPackets
	}
}

// deltas learns how sequence numbers differ, and what is a proxy.
func (p *pair) deltas() {
	of := map[*flow]*stream{}
	for _, s := range p.streams {
		if s.near != nil && s.far != nil {
			of[s.near] = s
			if s.near.tuple.protocol == layers.ProtoTCP {
				s.seqDelta, s.proxied = p.learn(s)
			}
		}
	}
	for _, s := range p.streams {
		if s.near == nil || s.far == nil {
			continue
		}
		if r, ok := p.near.byTuple[s.near.tuple.reverse()]; ok {
			if back := of[&p.near.flows[r]]; back != nil {
				s.ackDelta = back.seqDelta
				s.proxied = s.proxied || back.proxied
				back.proxied = s.proxied
			}
		}
	}
}

// learn gives what is added to the sequence numbers of a TCP stream, and whether the
// far side is a connection of its own.
func (p *pair) learn(s *stream) (delta uint32, proxied bool) {
	if n, f := syn(p.near, s.near), syn(p.far, s.far); n != nil && f != nil {
		translated := s.near.tuple != s.far.tuple
		return f.seq - n.seq, translated && f.seq != n.seq && f.id != n.id
	}
	// Without the beginning: what equal data say most often.
	if s.depth == nothing {
		return 0, false
	}
	at := map[datagram]uint32{}
	data := func(k *packet) datagram {
		d := k.datagram(s.depth)
		d.seq = 0
		return d
	}
	for _, i := range s.far.packets[:min(len(s.far.packets), 4096)] {
		k := &p.far.packets[i]
		if k.size >= 8 {
			at[data(k)] = k.seq
		}
	}
	counts := map[uint32]int{}
	for _, i := range s.near.packets[:min(len(s.near.packets), 4096)] {
		k := &p.near.packets[i]
		if seq, ok := at[data(k)]; ok && k.size >= 8 {
			counts[seq-k.seq]++
		}
	}
	most := 0
	for d, n := range counts {
		if n > most || n == most && d == 0 {
			delta, most = d, n
		}
	}
	return delta, false
}

func syn(pl *place, f *flow) *packet {
	for _, i := range f.packets[:min(len(f.packets), 64)] {
		if k := &pl.packets[i]; k.flags&layers.SYN != 0 {
			return k
		}
	}
	return nil
}

// note keeps a translation that was found. What is the source on the way there is the
// destination on the way back.
func (p *pair) note(s *stream) {
	add := func(from, to [16]byte, source bool) {
		kind := "destination_nat"
		if source == s.away {
			kind = "source_nat"
		}
		if s.proxied {
			kind = "proxy"
		}
		k := mappingKey{from, to, kind}
		m := p.mappings[k]
		if m == nil {
			m = &Mapping{Between: [2]string{p.near.Name, p.far.Name}, From: addr(from).String(), To: addr(to).String(), Kind: kind}
			p.mappings[k] = m
		}
		if s.away {
			m.Flows++
		} else {
			m.back++
		}
	}
	if s.near.tuple.src != s.far.tuple.src {
		add(s.near.tuple.src, s.far.tuple.src, true)
	}
	if s.near.tuple.dst != s.far.tuple.dst {
		add(s.near.tuple.dst, s.far.tuple.dst, false)
	}
}

// found gives the translations in a fixed order.
func (p *pair) found() []Mapping {
	out := make([]Mapping, 0, len(p.mappings))
	for _, m := range p.mappings {
		m.Flows = max(m.Flows, m.back)
		out = append(out, *m)
	}
	slices.SortFunc(out, func(a, b Mapping) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.Kind, b.Kind))
	})
	return out
}
