package path

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/layers"
)

// detail is what of a packet may be changed on the way and is told by Diff.
type detail struct {
	number  uint64 // in the capture
	payload uint64 // of all that was captured of what it carries
	have    uint32 // bytes of that
	source  [6]byte
	target  [6]byte
	vlan    uint16
	tags    uint8
	// ethernet says that both addresses are known, and that no tag was taken away by the
	// capture.
	ethernet bool
	traffic  uint8 // type of service, or traffic class
}

func (o *observer) detail(p *pcap.Packet, f *layers.Frame, carried []byte) detail {
	d := detail{number: p.Number, payload: maphash.Bytes(o.seed, carried), have: uint32(len(carried)), tags: uint8(min(f.Tags, math.MaxUint8)), vlan: f.VLAN[0]} //nolint:gosec // bounded
	if d.ethernet = f.Ethernet; f.Ethernet {
		d.target, d.source = [6]byte(p.Data), [6]byte(p.Data[6:])
	}
	switch b := p.Data[f.Network:]; f.Version {
	case 4:
		d.traffic = b[1]
	case 6:
		d.traffic = b[0]<<4 | b[1]>>4
	}
	return d
}

// Outcome is what became of a packet.
type Outcome string

// The outcomes.
const (
	Forwarded Outcome = "forwarded" // as it was
	Changed   Outcome = "changed"
	Recut     Outcome = "recut" // its bytes are there, in packets of another size
	Dropped   Outcome = "dropped"
)

// Change is a field that differs.
type Change struct {
	Field string `json:"field"`
	From  string `json:"from,omitempty"`
	To    string `json:"to,omitempty"`
}

// Fate is a packet of the first capture and what became of it in the second.
type Fate struct {
	Packet      uint64    `json:"packet"`
	Time        time.Time `json:"time"`
	Source      string    `json:"source"`
	Destination string    `json:"destination"`
	Protocol    string    `json:"protocol"`
	Flags       string    `json:"flags,omitempty"`
	Bytes       uint32    `json:"bytes"`
	Outcome     Outcome   `json:"outcome"`
	// Other is the packet's number in the second capture; nil where it is not one.
	Other *uint64 `json:"other_packet"`
	// Delay is from the first to the second in seconds, by the clocks as they are.
	Delay   *float64 `json:"delay_seconds"`
	Changes []Change `json:"changes"`
}

// DiffSummary counts.
type DiffSummary struct {
	Packets   uint64 `json:"packets"` // of the first, that are IP
	Forwarded uint64 `json:"forwarded"`
	Changed   uint64 `json:"changed"`
	Recut     uint64 `json:"recut"`
	Dropped   uint64 `json:"dropped"`
	// Added are in the second and not in the first.
	Added uint64 `json:"added"`
	// Other packets of the first are not IP and were not compared.
	Other uint64 `json:"other_packets"`
	// Fields counts the changes by field.
	Fields map[string]uint64 `json:"fields"`
}

// Diff says of each packet of one capture what became of it in another: forwarded,
// changed, or dropped. It calls give in the order of the first capture. What cannot
// be read of a capture is in the error, after everything before it was compared.
func Diff(ctx context.Context, first, second Capture, give func(*Fate) error) (DiffSummary, error) {
	a := &analysis{seed: maphash.MakeSeed()}
	for _, c := range []Capture{first, second} {
		p := newPlace(Hop{Name: c.Name, Captures: []Capture{c}})
		o := &observer{place: p, seed: a.seed, detailed: true}
		if err := o.readAll(ctx); err != nil {
			return DiffSummary{}, err
		}
		a.places = append(a.places, p)
	}
	near, far := a.places[0], a.places[1]
	p := newPair(near, far)
	p.orient()
	type found struct {
		s     *stream
		index int32
	}
	fates := make([]found, len(near.packets))
	sum := DiffSummary{Packets: uint64(len(near.packets)), Other: near.other, Fields: map[string]uint64{}}
	for _, s := range p.streams {
		s.match(p)
		for i, m := range s.toFar {
			fates[s.near.packets[i]] = found{s, m}
		}
		for _, m := range s.toNear {
			if m == unmatched {
				sum.Added++
			}
		}
	}
	order := make([]int, len(near.packets))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(x, y int) int { return cmp.Compare(near.details[x].number, near.details[y].number) })
	for n, i := range order {
		if n%4096 == 0 && ctx.Err() != nil {
			return sum, context.Cause(ctx)
		}
		f := p.fate(fates[i].s, uint32(i), fates[i].index) //nolint:gosec // bounded by maxPackets
		sum.count(f)
		if err := give(f); err != nil {
			return sum, err
		}
	}
	return sum, a.failed()
}

func (s *DiffSummary) count(f *Fate) {
	switch f.Outcome {
	case Forwarded:
		s.Forwarded++
	case Changed:
		s.Changed++
	case Recut:
		s.Recut++
	case Dropped:
		s.Dropped++
	}
	for _, c := range f.Changes {
		s.Fields[c.Field]++
	}
}

// fate tells of one packet.
func (p *pair) fate(s *stream, near uint32, far int32) *Fate {
	k, d, t := &p.near.packets[near], &p.near.details[near], s.near.tuple
	f := &Fate{Packet: d.number, Time: time.Unix(0, k.at).UTC(), Source: endpoint(t.src, t.srcPort), Destination: endpoint(t.dst, t.dstPort),
		Protocol: protocolName(t.protocol), Flags: flagNames(k.flags), Bytes: k.size, Outcome: Dropped, Changes: []Change{}}
	switch {
	case far == covered:
		f.Outcome = Recut
	case far >= 0:
		other := s.far.packets[far]
		f.Other = &p.far.details[other].number
		delay := float64(p.far.packets[other].at-k.at) / 1e9
		f.Delay = &delay
		if f.Changes = p.changes(s, near, other); len(f.Changes) > 0 {
			f.Outcome = Changed
		} else {
			f.Outcome = Forwarded
		}
	}
	return f
}

// changes compares two packets that are the same one.
func (p *pair) changes(s *stream, near, far uint32) []Change {
	out := []Change{}
	add := func(field, from, to string) {
		if from != to {
			out = append(out, Change{field, from, to})
		}
	}
	a, b := &p.near.details[near], &p.far.details[far]
	k, l := &p.near.packets[near], &p.far.packets[far]
	t, u := s.near.tuple, s.far.tuple
	if a.ethernet && b.ethernet { // what another link layer does not tell has not changed
		add("source_mac", macName(a.source), macName(b.source))
		add("destination_mac", macName(a.target), macName(b.target))
		add("vlan", vlanName(a), vlanName(b))
	}
	add("traffic_class", strconv.Itoa(int(a.traffic)), strconv.Itoa(int(b.traffic)))
	add("ttl", strconv.Itoa(int(k.ttl)), strconv.Itoa(int(l.ttl)))
	add("id", strconv.Itoa(int(k.id)), strconv.Itoa(int(l.id)))
	add("source", addr(t.src).String(), addr(u.src).String())
	add("destination", addr(t.dst).String(), addr(u.dst).String())
	add("source_port", strconv.Itoa(int(t.srcPort)), strconv.Itoa(int(u.srcPort)))
	add("destination_port", strconv.Itoa(int(t.dstPort)), strconv.Itoa(int(u.dstPort)))
	if s.tcp() {
		add("seq", strconv.FormatUint(uint64(k.seq), 10), strconv.FormatUint(uint64(l.seq), 10))
		add("ack", strconv.FormatUint(uint64(k.ack), 10), strconv.FormatUint(uint64(l.ack), 10))
		add("flags", flagNames(k.flags), flagNames(l.flags))
	}
	if a.have == b.have && a.payload != b.payload {
		out = append(out, Change{Field: "payload"})
	}
	return out
}

func macName(m [6]byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

func vlanName(d *detail) string {
	switch d.tags {
	case 0:
		return "none"
	case 1:
		return strconv.Itoa(int(d.vlan))
	}
	return fmt.Sprintf("%d and %d more", d.vlan, d.tags-1)
}

// newPlace gives an empty place.
func newPlace(h Hop) *place {
	return &place{Hop: h, byTuple: map[tuple]uint32{}, arp: map[netip.Addr]*ARP{}, first: math.MaxInt64, last: math.MinInt64, drops: h.Drops, dropsKnown: !h.DropsUnknown}
}
