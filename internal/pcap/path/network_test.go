package path_test

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/path"
)

// network is a path of places with links between them that delay, lose, translate and
// cut packets otherwise. It knows the truth.
type network struct {
	rng   *rand.Rand
	links []link
	// clocks are how far each place's clock is ahead of the true time.
	clocks []time.Duration
	seen   [][]frame // by place
	ident  uint16
}

// link is between two places.
type link struct {
	delay, jitter time.Duration
	routed        bool // takes one off the TTL
	// loss is the share that is lost in each direction: away from the client, and back.
	loss [2]float64
	// nat translates the client's address on the far side; seq is added to sequence
	// numbers of the client's side.
	nat netip.Addr
	seq uint32
	// merge has two segments in a row come as one on the far side.
	merge bool
}

// frame is a packet that a place saw.
type frame struct {
	at   time.Duration
	data []byte
}

var (
	client = netip.MustParseAddr("10.1.0.7")
	server = netip.MustParseAddr("192.0.2.9")
)

// packet is a TCP or UDP packet on its way.
type wire struct {
	away     bool
	udp      bool
	icmp     []byte // instead of either
	client   netip.Addr
	port     uint16 // of the client
	seq, ack uint32
	flags    byte
	payload  []byte
	ttl      byte
	id       uint16
}

func newNetwork(seed uint64, places int) *network {
	n := &network{rng: rand.New(rand.NewPCG(seed, 1)), seen: make([][]frame, places)}
	for i := range places {
		n.clocks = append(n.clocks, time.Duration(n.rng.Int64N(int64(4*time.Second)))-2*time.Second)
		if i > 0 {
			n.links = append(n.links, link{delay: time.Duration(50+n.rng.IntN(3000)) * time.Microsecond, jitter: 40 * time.Microsecond, routed: n.rng.IntN(2) == 0})
		}
	}
	return n
}

// send takes a packet over the whole path from a time on and gives when it arrived;
// false where it was lost.
func (n *network) send(at time.Duration, w wire) (time.Duration, bool) {
	n.ident++
	w.id, w.ttl, w.client = n.ident, 64, client
	if w.udp && n.rng.IntN(2) == 0 {
		w.id = 0
	}
	order := make([]int, len(n.seen))
	for i := range order {
		order[i] = i
	}
	if !w.away {
		slices.Reverse(order)
		// It comes from the server's side of every translation.
		for _, l := range n.links {
			n.translate(&w, l, true)
		}
	}
	n.note(order[0], at, w)
	for i, place := range order[1:] {
		l, direction := n.links[min(place, order[i])], 0
		if !w.away {
			direction = 1
		}
		if n.rng.Float64() < l.loss[direction] {
			return at, false
		}
		at += l.delay + time.Duration(n.rng.ExpFloat64()*float64(l.jitter))
		if l.routed {
			w.ttl--
		}
		n.translate(&w, l, w.away)
		n.note(place, at, w)
	}
	return at, true
}

// translate takes a packet over a link's translation, away or back.
func (n *network) translate(w *wire, l link, away bool) {
	if l.nat.IsValid() {
		if w.client = l.nat; !away {
			w.client = client
		}
	}
	delta := l.seq
	if !away {
		delta = -delta
	}
	if w.away {
		w.seq += delta
	} else {
		w.ack += delta
	}
}

func (n *network) note(place int, at time.Duration, w wire) {
	n.seen[place] = append(n.seen[place], frame{at + n.clocks[place], w.bytes()})
}

// bytes gives the packet as Ethernet.
func (w wire) bytes() []byte {
	var t []byte
	ports := []uint16{w.port, 443}
	if !w.away {
		ports = []uint16{443, w.port}
	}
	for _, p := range ports {
		t = binary.BigEndian.AppendUint16(t, p)
	}
	protocol := byte(6)
	switch {
	case w.icmp != nil:
		protocol, t = 1, w.icmp
	case w.udp:
		protocol = 17
		t = binary.BigEndian.AppendUint16(t, uint16(8+len(w.payload)))
		t = append(t, 0, 0)
	default:
		t = binary.BigEndian.AppendUint32(t, w.seq)
		t = binary.BigEndian.AppendUint32(t, w.ack)
		t = append(t, 0x50, w.flags, 0xff, 0xff, 0, 0, 0, 0)
	}
	t = append(t, w.payload...)
	b := append(make([]byte, 12), 8, 0, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(20+len(t)))
	b = binary.BigEndian.AppendUint16(b, w.id)
	b = append(b, 0, 0, w.ttl, protocol, 0, 0)
	src, dst := w.client.As4(), server.As4()
	if !w.away {
		src, dst = dst, src
	}
	b = append(append(b, src[:]...), dst[:]...)
	return append(b, t...)
}

const (
	fin, syn, rst, ack = 1, 2, 4, 16
)

// reliably sends until it arrives, at most so often, each time after a timeout.
func (n *network) reliably(at time.Duration, w wire, tries int) (time.Duration, bool) {
	for range tries {
		if arrived, ok := n.send(at, w); ok {
			return arrived, true
		}
		at += 200 * time.Millisecond
	}
	return at, false
}

// tcp plays a connection: handshake, a question, an answer of some segments, the end.
func (n *network) tcp(at time.Duration, port uint16, segments int) {
	a, b := n.rng.Uint32(), n.rng.Uint32()
	at, ok := n.reliably(at, wire{away: true, port: port, seq: a, flags: syn}, 4)
	if !ok {
		return
	}
	if at, ok = n.reliably(at, wire{port: port, seq: b, ack: a + 1, flags: syn | ack}, 4); !ok {
		return
	}
	a, b = a+1, b+1
	n.send(at, wire{away: true, port: port, seq: a, ack: b, flags: ack})
	question := n.random(100 + n.rng.IntN(200))
	if at, ok = n.reliably(at, wire{away: true, port: port, seq: a, ack: b, flags: ack, payload: question}, 6); !ok {
		return
	}
	a += uint32(len(question))
	for range segments {
		part := n.random(200 + n.rng.IntN(1000))
		if at, ok = n.reliably(at, wire{port: port, seq: b, ack: a, flags: ack, payload: part}, 6); !ok {
			return
		}
		b += uint32(len(part))
		at, _ = n.send(at, wire{away: true, port: port, seq: a, ack: b, flags: ack})
	}
	n.send(at, wire{away: true, port: port, seq: a, ack: b, flags: fin | ack})
}

// udp plays questions with an answer each.
func (n *network) udp(at time.Duration, port uint16, questions int) {
	for range questions {
		if arrived, ok := n.send(at, wire{away: true, udp: true, port: port, payload: n.random(40)}); ok {
			n.send(arrived, wire{udp: true, port: port, payload: n.random(90)})
		}
		at += 20 * time.Millisecond
	}
}

func (n *network) random(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(n.rng.Uint32())
	}
	return b
}

var epoch = time.Unix(1_700_000_000, 0)

// hops gives what the places captured. With told, when they ran is told as well.
func (n *network) hops(told bool) []path.Hop {
	names := []string{"client", "fw-in", "fw-out", "lb", "server"}
	var out []path.Hop
	for i, frames := range n.seen {
		slices.SortStableFunc(frames, func(a, b frame) int { return cmp.Compare(a.at, b.at) })
		var b bytes.Buffer
		w, err := pcap.NewWriter(&b, pcap.LinkEthernet, 0, pcap.Nanoseconds)
		for j, f := range frames {
			data := f.data
			if i > 0 && n.links[i-1].merge && j+1 < len(frames) {
				if both, ok := merged(data, frames[j+1].data); ok {
					frames[j+1].data = both
					continue
				}
			}
			err = errors.Join(err, w.Write(&pcap.Packet{Link: pcap.LinkEthernet, HasTime: true, Data: data, Length: uint32(len(data)),
				Time: pcap.Timestamp{Sec: epoch.Unix()}.Add(f.at)}))
		}
		if err := errors.Join(err, w.Flush()); err != nil {
			panic(err)
		}
		name := names[i]
		if i == len(n.seen)-1 {
			name = "server"
		}
		h := path.Hop{Name: name, Captures: []path.Capture{{Name: name + ".pcap", Reader: &b}}}
		if told {
			from, to := epoch.Add(n.clocks[i]-time.Second), epoch.Add(n.clocks[i]+time.Hour)
			h.Began, h.Ended = &from, &to
		}
		out = append(out, h)
	}
	return out
}

// merged puts two segments of a stream together, as receive offloading does.
func merged(a, b []byte) ([]byte, bool) {
	const payload = 54
	if a[23] != 6 || len(a) <= payload || len(b) <= payload || a[47]&7 != 0 || b[47]&7 != 0 || !bytes.Equal(a[26:38], b[26:38]) ||
		binary.BigEndian.Uint32(a[38:])+uint32(len(a)-payload) != binary.BigEndian.Uint32(b[38:]) {
		return nil, false
	}
	both := append(slices.Clone(a), b[payload:]...)
	binary.BigEndian.PutUint16(both[16:], uint16(len(both)-14))
	return both, true
}
