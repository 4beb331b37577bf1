package sim

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// traffic is what passes by a simulated interface: a name that is resolved, an HTTPS
// connection that is set up, used and torn down, ARP and pings, again and again.
type traffic struct {
	pause          time.Duration
	client, server netip.Addr
	sessions       []tlsSession
	n              uint16 // of packets; their IP id
	connections    int
	coming         []packet
}

// packet is a frame and what it is.
type packet struct {
	frame   []byte
	about   packetFacts
	secrets *tlsSecrets // of the TLS that it carries
}

// packetFacts are what filters look at.
type packetFacts struct {
	arp, tcp, udp, icmp bool
	src, dst            netip.Addr
	sport, dport        uint16
}

func newTraffic(d *device) (*traffic, error) {
	sessions, err := d.fleet.sessions()
	r := d.random("traffic")
	return &traffic{pause: 10 * time.Millisecond, sessions: sessions,
		client: netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + r.IntN(250))}),
		server: netip.AddrFrom4([4]byte{198, 51, 100, byte(1 + r.IntN(250))})}, err
}

// TCP flags.
const (
	flagFIN = 1
	flagSYN = 2
	flagPSH = 8
	flagACK = 16
)

// segmentSize is the most that a segment carries.
const segmentSize = 1400

// next gives the next packet.
func (t *traffic) next() packet {
	if len(t.coming) == 0 {
		t.connect()
	}
	p := t.coming[0]
	t.coming = t.coming[1:]
	return p
}

// connect lays down a connection and what goes before and after it.
func (t *traffic) connect() {
	port := uint16(32768 + t.connections%20000) //nolint:gosec // stays below 65536
	session := &t.sessions[t.connections%len(t.sessions)]
	t.connections++
	send := func(frame []byte, about packetFacts, secrets *tlsSecrets) {
		t.coming = append(t.coming, packet{frame, about, secrets})
	}
	send(t.arp(), packetFacts{arp: true, src: t.client, dst: t.server}, nil)
	asks := packetFacts{udp: true, src: t.client, dst: t.server, sport: port, dport: 53}
	send(t.ip(asks, query()), asks, nil)

	ends := [2]packetFacts{
		{tcp: true, src: t.client, dst: t.server, sport: port, dport: 443},
		{tcp: true, src: t.server, dst: t.client, sport: 443, dport: port},
	}
	sent := [2]uint32{uint32(t.connections) << 16, uint32(t.connections) << 20} //nolint:gosec // any number will do
	segment := func(from int, flags byte, payload []byte) {
		secrets := &session.secrets
		if len(payload) == 0 {
			secrets = nil
		}
		acked := sent[1-from]
		if flags&flagACK == 0 {
			acked = 0
		}
		send(t.segment(ends[from], flags, sent[from], acked, payload), ends[from], secrets)
		sent[from] += uint32(len(payload)) //nolint:gosec // below the size of a segment
		if flags&(flagSYN|flagFIN) != 0 {
			sent[from]++
		}
	}
	segment(0, flagSYN, nil)
	segment(1, flagSYN|flagACK, nil)
	segment(0, flagACK, nil)
	for turn, flight := range session.flights {
		for part := range slices.Chunk(flight, segmentSize) {
			segment(turn%2, flagPSH|flagACK, part)
		}
	}
	segment(0, flagFIN|flagACK, nil)
	segment(1, flagFIN|flagACK, nil)
	segment(0, flagACK, nil)

	pings := packetFacts{icmp: true, src: t.client, dst: t.server}
	body := append([]byte{8, 0, 0, 0, 0, 1, byte(t.connections >> 8), byte(t.connections)}, "simulated ping"...)
	binary.BigEndian.PutUint16(body[2:], checksum(body))
	send(t.ip(pings, body), pings, nil)
}

// query asks for the address of the server.
func query() []byte {
	b := []byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for label := range strings.SplitSeq(serverName, ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0, 0, 1, 0, 1)
}

func ethernet(kind uint16) []byte {
	b := []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1}
	return binary.BigEndian.AppendUint16(b, kind)
}

func (t *traffic) arp() []byte {
	b := append(ethernet(0x0806), 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1)
	b = append(b, t.client.AsSlice()...)
	b = append(b, 0, 0, 0, 0, 0, 0)
	b = append(b, t.server.AsSlice()...)
	return append(b, make([]byte, 60-len(b))...)
}

func (t *traffic) segment(f packetFacts, flags byte, seq, ack uint32, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, f.sport)
	b = binary.BigEndian.AppendUint16(b, f.dport)
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, ack)
	b = append(b, 5<<4, flags, 0xff, 0xff, 0, 0, 0, 0)
	return t.ip(f, append(b, payload...))
}

// ip puts a transport header and payload into a frame, checksums and all.
func (t *traffic) ip(f packetFacts, body []byte) []byte {
	protocol := byte(6)
	switch {
	case f.udp:
		protocol = 17
		head := binary.BigEndian.AppendUint16(nil, f.sport)
		head = binary.BigEndian.AppendUint16(head, f.dport)
		head = binary.BigEndian.AppendUint16(head, uint16(8+len(body))) //nolint:gosec // far below 65536
		body = append(append(head, 0, 0), body...)
	case f.icmp:
		protocol = 1
	}
	if !f.icmp {
		at := 16
		if f.udp {
			at = 6
		}
		pseudo := append(f.src.AsSlice(), f.dst.AsSlice()...)
		pseudo = append(pseudo, 0, protocol, byte(len(body)>>8), byte(len(body)))
		binary.BigEndian.PutUint16(body[at:], checksum(append(pseudo, body...)))
	}
	t.n++
	head := []byte{0x45, 0, 0, 0, byte(t.n >> 8), byte(t.n), 0x40, 0, 64, protocol, 0, 0}
	head = append(head, f.src.AsSlice()...)
	head = append(head, f.dst.AsSlice()...)
	binary.BigEndian.PutUint16(head[2:], uint16(len(head)+len(body))) //nolint:gosec // far below 65536
	binary.BigEndian.PutUint16(head[10:], checksum(head))
	frame := append(append(ethernet(0x0800), head...), body...)
	if short := 60 - len(frame); short > 0 {
		frame = append(frame, make([]byte, short)...)
	}
	return frame
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum) //nolint:gosec // folded to 16 bits
}

// fileInfo is the pseudo frame that begins a BIG-IP's capture: what was asked, of
// which release, on which host.
func fileInfo(d *device, args []string) []byte {
	b := append(make([]byte, 12), 0x05, 0xff)
	b = append(b, "F5-Pseudo-pkt\x00"...)
	v := releaseOf(d)
	for _, text := range []string{
		"CMD: " + strings.Join(args[1:], " "), fmt.Sprintf("VER: %s (build %s)", v.version, v.build), "HOST: " + d.hostname(), "PLAT: Z100", "PROD: BIG-IP",
	} {
		b = append(append(b, text...), 0)
	}
	return append(b, 0)
}

// virtualServer is the one that all of a BIG-IP's traffic goes through.
const virtualServer = "/Common/web01_vs1"

// trailer is the low level of detail, as releases from 11.2 to 13 write it: ingress,
// slot, TMM and the virtual server.
func trailer() []byte {
	b := []byte{1, byte(5 + len(virtualServer)), 1, 0, 0, 1, byte(len(virtualServer))}
	return append(b, virtualServer...)
}
