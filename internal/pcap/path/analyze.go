package path

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"capfleet/internal/pcap/layers"
)

// Analyze follows the packets of captures along a path. Captures that cannot be read
// to their end are used as far as they go: their hop has an Error, and the error joins
// them all. It needs 48 bytes for each packet, and as much again for two places.
func Analyze(ctx context.Context, hops []Hop, opts Options) (*Result, error) {
	if len(hops) < 2 {
		return nil, errors.New("a path has at least two places")
	}
	if opts.Lost == 0 {
		opts.Lost = 100
	}
	a := &analysis{opts: opts, seed: maphash.MakeSeed()}
	if err := a.observe(ctx, hops); err != nil {
		return nil, err
	}
	if opts.Whole {
		a.runWhole()
	}
	for i := range len(a.places) - 1 {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		p := newPair(a.places[i], a.places[i+1])
		p.orient()
		for _, s := range p.streams {
			s.match(p)
		}
		a.pairs = append(a.pairs, p)
		a.sum(p)
	}
	return a.result(), a.failed()
}

type analysis struct {
	opts   Options
	seed   maphash.Seed
	places []*place
	pairs  []*pair
	links  []Link
	lost   []LostPacket
}

// observe reads all places, as many at once as there are processors.
func (a *analysis) observe(ctx context.Context, hops []Hop) error {
	a.places = make([]*place, len(hops))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	maps := map[[16]byte][16]byte{}
	for i, h := range hops {
		next := make(map[[16]byte][16]byte, len(maps)+len(h.Maps))
		for to, from := range maps {
			next[to] = from
		}
		for _, m := range h.Maps {
			from := m.From.As16()
			if first, ok := maps[from]; ok {
				from = first // translated before
			}
			next[m.To.As16()] = from
		}
		maps = next
		g.Go(func() (err error) {
			a.places[i], err = observe(ctx, h, a.seed, next)
			return err
		})
	}
	return g.Wait()
}

func (a *analysis) failed() (err error) {
	for _, p := range a.places {
		switch {
		case p.failed == nil:
		case len(p.Captures) == 1 && p.Captures[0].Name == p.Name:
			err = errors.Join(err, p.failed)
		default:
			err = errors.Join(err, fmt.Errorf("%s: %w", p.Name, p.failed))
		}
	}
	return err
}

// runWhole takes every capture to have run as long as any.
func (a *analysis) runWhole() {
	for _, p := range a.places {
		if p.Began == nil {
			p.first = math.MinInt64 / 2
		}
		if p.Ended == nil {
			p.last = math.MaxInt64 / 2
		}
	}
}

// running gives from when to when a place is known to have captured.
func (p *place) running() (from, to int64) {
	from, to = p.first, p.last
	if p.Began != nil {
		from = p.Began.UnixNano()
	}
	if p.Ended != nil {
		to = p.Ended.UnixNano()
	}
	return from, to
}

// sum counts what happened between two places.
func (a *analysis) sum(p *pair) {
	away := Link{From: p.near.Name, To: p.far.Name, Direction: Forward}
	back := Link{From: p.far.Name, To: p.near.Name, Direction: Reverse}
	var delays [2][]int64
	for _, s := range p.streams {
		link, n := &away, 0
		if !s.away {
			link, n = &back, 1
		}
		a.sumStream(p, s, link, &delays[n])
	}
	for i, link := range []*Link{&away, &back} {
		if p.clock.known {
			link.Delay = percentiles(delays[i])
		}
		a.links = append(a.links, *link)
	}
}

func (a *analysis) sumStream(p *pair, s *stream, link *Link, delays *[]int64) {
	from, to, fromFlow, toFlow, there, here := p.near, p.far, s.near, s.far, s.toFar, s.toNear
	if !s.away {
		from, to, fromFlow, toFlow, there, here = to, from, toFlow, fromFlow, here, there
	}
	latest := unmatched
	for i, m := range there {
		k := &from.packets[fromFlow.packets[i]]
		if m == apart {
			continue
		}
		link.Sent++
		switch {
		case m >= 0:
			link.Seen++
			if m < latest {
				link.Reordered++
			}
			latest = max(latest, m)
			at := to.packets[toFlow.packets[m]].at
			if s.away {
				*delays = append(*delays, p.clock.delay(k.at, at, true))
			} else {
				*delays = append(*delays, p.clock.delay(at, k.at, false))
			}
		case m == covered:
			link.Seen++
			link.Recut++
		case !p.ran(to, s, k.at):
			link.Outside++
		default:
			link.Lost++
			a.keepLost(from, fromFlow, k, link)
		}
	}
	copies := map[uint64]bool{}
	for i, m := range here {
		if m != unmatched {
			continue
		}
		k := &to.packets[toFlow.packets[i]]
		link.Appeared++
		if fromFlow != nil && a.isCopy(s, p, k, copies) {
			link.Duplicated++
		}
	}
}

// isCopy reports whether a packet that appeared is a repetition of one that was sent.
// Seen holds what was sent, by key; it is filled once.
func (a *analysis) isCopy(s *stream, p *pair, k *packet, seen map[uint64]bool) bool {
	if len(seen) == 0 {
		flow, pl, far := s.near, p.near, false
		if !s.away {
			flow, pl, far = s.far, p.far, true
		}
		for _, i := range flow.packets {
			seen[s.key(&pl.packets[i], far)] = true
		}
	}
	return seen[s.key(k, s.away)]
}

// ran reports whether a place was capturing when a packet that left the other at a time
// must have come.
func (p *pair) ran(to *place, s *stream, left int64) bool {
	const margin = int64(20 * time.Millisecond)
	c := &p.clock
	due := c.toNear(left)
	if s.away {
		due = c.toFar(left)
	}
	due += max(c.usual(s.away), 0)
	from, until := to.running()
	if from > until {
		return false // nothing says that it ran
	}
	from, until = from+c.slack, until-c.slack
	if to.Began != nil {
		from += margin // it may have been faster than usual
	}
	if to.Ended != nil {
		until -= margin // it may have been on its way
	}
	return due >= from && due <= until
}

func (a *analysis) keepLost(pl *place, f *flow, k *packet, link *Link) {
	if len(a.lost) >= a.opts.Lost {
		return
	}
	t := f.tuple
	a.lost = append(a.lost, LostPacket{Time: time.Unix(0, k.at).UTC(), Source: endpoint(t.src, t.srcPort), Destination: endpoint(t.dst, t.dstPort),
		Protocol: protocolName(t.protocol), Flags: flagNames(k.flags), Bytes: k.size, Last: pl.Name, Missing: link.To, Direction: link.Direction})
}

func endpoint(a [16]byte, port uint16) string {
	if port == 0 {
		return addr(a).String()
	}
	return netip.AddrPortFrom(addr(a), port).String()
}

func protocolName(p uint8) string {
	switch p {
	case 1:
		return "icmp"
	case layers.ProtoTCP:
		return "tcp"
	case layers.ProtoUDP:
		return "udp"
	case 58:
		return "icmpv6"
	}
	return strconv.Itoa(int(p))
}

func flagNames(flags uint8) string {
	var names []string
	for _, f := range []struct {
		bit  uint8
		name string
	}{{layers.SYN, "SYN"}, {layers.FIN, "FIN"}, {layers.RST, "RST"}, {layers.ACK, "ACK"}} {
		if flags&f.bit != 0 {
			names = append(names, f.name)
		}
	}
	return strings.Join(names, ",")
}

func percentiles(d []int64) *Delay {
	if len(d) == 0 {
		return nil
	}
	slices.Sort(d)
	at := func(share float64) float64 {
		return float64(d[int(share*float64(len(d)-1))]) / 1e9
	}
	return &Delay{Min: at(0), Median: at(0.5), P95: at(0.95), P99: at(0.99), Max: at(1)}
}

func (a *analysis) result() *Result {
	slices.SortStableFunc(a.lost, func(x, y LostPacket) int { return x.Time.Compare(y.Time) })
	r := &Result{Links: a.links, Lost: a.lost, Mappings: []Mapping{}, Hops: a.hops()}
	if r.Lost == nil {
		r.Lost = []LostPacket{}
	}
	for _, p := range a.pairs {
		r.Mappings = append(r.Mappings, p.found()...)
	}
	r.Conversations = a.conversations()
	r.Verdict = a.verdict()
	if a.opts.Ladder > 0 {
		r.Ladder = a.ladder()
	}
	return r
}

// hops gives the places, with the offsets of their clocks from the first.
func (a *analysis) hops() []HopResult {
	out := make([]HopResult, 0, len(a.places))
	known, oneWay := true, false
	// All are told for one moment, in the middle of the first capture.
	moment, rate := int64(0), 0.0
	if all := a.places[0].packets; len(all) > 0 {
		moment = all[len(all)/2].at
	}
	at := moment
	for i, p := range a.places {
		h := HopResult{Name: p.Name, Packets: p.total, Other: p.other, Cut: p.cut, ARP: p.asked()}
		if p.total > 0 && p.first <= p.last && !(a.opts.Whole && p.Began == nil) {
			first, last := time.Unix(0, p.first).UTC(), time.Unix(0, p.last).UTC()
			h.First, h.LastAt = &first, &last
		}
		if i > 0 {
			c := &a.pairs[i-1].clock
			at, rate = c.toFar(at), rate+c.rate
			known = known && (c.known || c.oneWay)
			oneWay = oneWay || c.oneWay
		}
		if known {
			o := float64(at-moment) / 1e9
			h.Offset, h.OneWay, h.Drift = &o, oneWay, math.Round(rate*1e8)/100
		}
		if p.dropsKnown {
			d := p.drops
			h.Drops = &d
		}
		if p.failed != nil {
			h.Error = p.failed.Error()
		}
		out = append(out, h)
	}
	return out
}

func (p *place) asked() []ARP {
	out := make([]ARP, 0, len(p.arp))
	for _, q := range p.arp {
		out = append(out, *q)
	}
	slices.SortFunc(out, func(x, y ARP) int { return cmp.Or(cmp.Compare(y.Asked, x.Asked), x.Address.Compare(y.Address)) })
	return out
}

// conversations counts pairs of ends, of the place that has most of them.
func (a *analysis) conversations() int {
	most := 0
	for _, p := range a.places {
		n := 0
		for i := range p.flows {
			back, ok := p.byTuple[p.flows[i].tuple.reverse()]
			if !ok || int(back) >= i {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}
