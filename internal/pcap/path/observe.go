package path

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"net/netip"
	"time"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/layers"
)

// packet is what is kept of a packet at a place: 48 bytes.
type packet struct {
	at    int64  // nanoseconds since 1970 by the place's clock
	hash  uint64 // of the beginning of what it carries, 0 where there is nothing
	flow  uint32 // index into place.flows
	seq   uint32 // of TCP; of a fragment its offset
	ack   uint32
	size  uint32 // bytes carried, on the wire
	head  uint32 // as hash, of fewer bytes
	id    uint16 // identification of IPv4
	flags uint8  // of TCP
	ttl   uint8
}

// How much of what a packet carries is compared: what a capture with a sensible snap
// length has; and for flows with packets that were cut before that, at either place,
// what is left behind the headers by all but those that keep headers alone.
const (
	prefix      = 24
	shortPrefix = 8
)

// depth is how much there is of what all packets of a flow carry.
type depth uint8

const (
	wholePrefix depth = iota // prefix bytes, or all that is carried
	shorter                  // shortPrefix bytes, or all
	nothing
)

// tuple is one direction of a conversation. Addresses are as before all translations,
// IPv4 as mapped into IPv6.
type tuple struct {
	src, dst         [16]byte
	srcPort, dstPort uint16
	protocol         uint8
	fragment         bool // a later fragment, which has no ports
}

func (t tuple) reverse() tuple {
	t.src, t.dst = t.dst, t.src
	t.srcPort, t.dstPort = t.dstPort, t.srcPort
	return t
}

// flow is one direction of a conversation at a place.
type flow struct {
	tuple   tuple
	depth   depth
	packets []uint32 // indexes into place.packets, in order of time
}

// place is a hop with what was read of it.
type place struct {
	Hop
	packets     []packet
	flows       []flow
	byTuple     map[tuple]uint32
	first, last int64 // of all packets; math.MaxInt64 and MinInt64 without any
	total       uint64
	other       uint64 // packets that are not IP
	cut         uint64 // packets cut within the headers, which are not followed
	short       bool   // a flow has less than wholePrefix
	drops       uint64
	dropsKnown  bool
	arp         map[netip.Addr]*ARP
	failed      error
	// details, where they are kept, are by the index of the packet.
	details []detail
}

// ARP is what was asked for an address, by ARP or neighbour discovery.
type ARP struct {
	Address  netip.Addr `json:"address"`
	Asked    uint64     `json:"asked"`
	Answered uint64     `json:"answered"`
	MACs     []string   `json:"macs"` // who said that he has it
}

const maxARP = 1 << 12

// observer reads the captures of one place.
type observer struct {
	*place
	seed  maphash.Seed
	frame layers.Frame
	maps  map[[16]byte][16]byte // to what an address is brought back
	// detailed keeps what Diff compares.
	detailed bool
}

// observe reads a place. What cannot be read is in place.failed, and everything before
// it is used.
func observe(ctx context.Context, h Hop, seed maphash.Seed, maps map[[16]byte][16]byte) (*place, error) {
	p := newPlace(h)
	o := &observer{place: p, seed: seed, maps: maps}
	if err := o.readAll(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

// readAll reads the captures of the place.
func (o *observer) readAll(ctx context.Context) error {
	for _, c := range o.Captures {
		err := o.read(ctx, c)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			o.failed = errors.Join(o.failed, fmt.Errorf("%s: %w", c.Name, err))
		}
	}
	for i := range o.packets {
		f := &o.flows[o.packets[i].flow]
		f.packets = append(f.packets, uint32(i)) //nolint:gosec // bounded by maxPackets
	}
	return nil
}

// maxPackets bounds a place: 48 bytes are kept of each.
const maxPackets = math.MaxInt32

func (o *observer) read(ctx context.Context, c Capture) error {
	r, err := pcap.NewReader(c.Reader, pcap.ReaderOptions{})
	if err != nil {
		return err
	}
	var p pcap.Packet
	for n := 0; ; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := r.Next(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if len(o.packets) >= maxPackets {
			return fmt.Errorf("more than %d packets", maxPackets)
		}
		o.packet(&p)
	}
	for _, i := range r.Interfaces() {
		if i.HasDropped {
			o.drops += i.Dropped
			o.dropsKnown = true
		}
	}
	return layers.Unknown(r)
}

func (o *observer) packet(p *pcap.Packet) {
	o.total++
	if !p.HasTime {
		o.other++
		return
	}
	at := p.Time.Sec*int64(time.Second) + int64(p.Time.Nanos)
	o.first, o.last = min(o.first, at), max(o.last, at)
	f := &o.frame
	layers.Decode(p.Link, p.Data, p.Length, f)
	switch {
	case f.ARP.Present:
		o.asked(f)
		o.other++
		return
	case f.Cut && !f.HasTransport && f.EtherType != layers.EtherARP:
		o.cut++
		return
	case f.Version == 0:
		o.other++
		return
	}
	t := tuple{src: o.home(f.Source()), dst: o.home(f.Destination()), protocol: f.Protocol, fragment: f.FragmentOffset != 0}
	obs := packet{at: at, id: uint16(f.ID), ttl: f.TTL} //nolint:gosec // the lower half tells enough
	var carried []byte
	var whole uint32 // of what the packet is recognised by
	switch {
	case f.HasTransport:
		t.srcPort, t.dstPort = f.SrcPort, f.DstPort
		carried, obs.size = f.PayloadBytes(), uint32(max(f.PayloadLength, 0)) //nolint:gosec // below 2^32
		whole = obs.size
		if f.Protocol == layers.ProtoTCP {
			obs.seq, obs.ack, obs.flags = f.Seq, f.Ack, f.Flags&(layers.FIN|layers.SYN|layers.RST|layers.ACK)
		}
	default:
		carried = f.Data[min(f.Transport, f.End):f.End]
		obs.size = behindIP(f, p.Length)
		obs.seq, whole = uint32(f.FragmentOffset), obs.size
		if f.Protocol == 1 || f.Protocol == 58 {
			if o.neighbour(f, carried) {
				return
			}
			carried = icmpIdentity(carried)
			whole -= min(whole, 4)
		}
	}
	if len(carried) > 0 {
		obs.hash = maphash.Bytes(o.seed, carried[:min(len(carried), prefix)]) | 1
		obs.head = uint32(maphash.Bytes(o.seed, carried[:min(len(carried), shortPrefix)])) | 1 //nolint:gosec // half of it tells enough
	}
	obs.flow = o.flow(t)
	o.deepen(&o.flows[obs.flow], len(carried), int(whole))
	o.packets = append(o.packets, obs)
	if o.detailed {
		o.details = append(o.details, o.detail(p, f, carried))
	}
}

// behindIP gives how many bytes IP carries, by its own length or, where that is left to
// offloading, by that of the packet.
func behindIP(f *layers.Frame, wire uint32) uint32 {
	end := f.Network
	switch b := f.Data[f.Network:]; {
	case f.Version == 4 && b[2]|b[3] != 0:
		end += int(b[2])<<8 | int(b[3])
	case f.Version == 6 && b[4]|b[5] != 0:
		end += 40 + (int(b[4])<<8 | int(b[5]))
	default:
		end = int(wire)
	}
	return uint32(max(end-f.Transport, 0)) //nolint:gosec // a packet's length
}

// deepen notes how much was captured of what a packet is recognised by.
func (o *observer) deepen(f *flow, have, whole int) {
	switch {
	case have >= min(whole, prefix):
	case have >= min(whole, shortPrefix):
		f.depth, o.short = max(f.depth, shorter), true
	default:
		f.depth, o.short = nothing, true
	}
}

// icmpIdentity leaves out the checksum, which a translation of addresses changes in
// ICMPv6.
func icmpIdentity(b []byte) []byte {
	if len(b) < 4 {
		return b
	}
	return b[4:]
}

// home gives an address as it is before all translations.
func (o *observer) home(a netip.Addr) [16]byte {
	b := a.As16()
	if to, ok := o.maps[b]; ok {
		return to
	}
	return b
}

func (o *observer) flow(t tuple) uint32 {
	id, ok := o.byTuple[t]
	if !ok {
		id = uint32(len(o.flows)) //nolint:gosec // bounded by the packets
		o.flows = append(o.flows, flow{tuple: t})
		o.byTuple[t] = id
	}
	return id
}

// asked counts an ARP message.
func (o *observer) asked(f *layers.Frame) {
	switch a := &f.ARP; {
	case !a.SenderAddr.IsValid():
	case a.Operation == 1 && a.SenderAddr != a.TargetAddr:
		if q := o.question(a.TargetAddr); q != nil {
			q.Asked++
		}
	case a.Operation == 2:
		if q := o.question(a.SenderAddr); q != nil {
			q.answer(a.SenderMAC[:])
		}
	}
}

// neighbour counts a message of neighbour discovery, and reports whether it is one.
func (o *observer) neighbour(f *layers.Frame, icmp []byte) bool {
	if f.Protocol != 58 || len(icmp) < 24 || icmp[0] < 133 || icmp[0] > 137 {
		return false
	}
	target := netip.AddrFrom16([16]byte(icmp[8:]))
	switch icmp[0] {
	case 135:
		if q := o.question(target); q != nil {
			q.Asked++
		}
	case 136:
		if q := o.question(target); q != nil {
			var who []byte
			if len(icmp) >= 32 && icmp[24] == 2 {
				who = icmp[26:32]
			}
			q.answer(who)
		}
	}
	o.other++
	return true
}

func (o *observer) question(a netip.Addr) *ARP {
	q := o.arp[a]
	if q == nil && len(o.arp) < maxARP {
		q = &ARP{Address: a, MACs: []string{}}
		o.arp[a] = q
	}
	return q
}

func (q *ARP) answer(mac []byte) {
	q.Answered++
	if len(mac) != 6 || len(q.MACs) >= 8 {
		return
	}
	name := fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5])
	for _, m := range q.MACs {
		if m == name {
			return
		}
	}
	q.MACs = append(q.MACs, name)
}

// number is a key of a TCP packet within its direction that does not change from place
// to place once the difference of sequence numbers is taken away.
func (p *packet) number(seqDelta, ackDelta uint32) segment {
	s := segment{seq: p.seq - seqDelta, size: p.size, flags: p.flags & (layers.FIN | layers.SYN | layers.RST)}
	if p.size == 0 {
		s.ack = p.ack - ackDelta
		if p.flags&layers.ACK == 0 {
			s.ack = 0
		}
	}
	return s
}

// segment tells TCP packets apart.
type segment struct {
	seq, ack, size uint32
	flags          uint8
}

// datagram tells other packets apart.
type datagram struct {
	hash      uint64
	size, seq uint32
}

func (p *packet) datagram(d depth) datagram {
	switch d {
	case wholePrefix:
		return datagram{p.hash, p.size, p.seq}
	case shorter:
		return datagram{uint64(p.head), p.size, p.seq}
	default:
		return datagram{0, p.size, p.seq}
	}
}

func addr(b [16]byte) netip.Addr { return netip.AddrFrom16(b).Unmap() }
