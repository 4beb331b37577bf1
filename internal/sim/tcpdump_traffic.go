package sim

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// traffic is what passes by a simulated interface: HTTPS handshakes that are set
// up and torn down, name resolution, ARP and pings, in a fixed order.
type traffic struct {
	pause          time.Duration
	n              int
	client, server netip.Addr
	port           uint16
	seq            uint32
}

// packetFacts are what filters look at.
type packetFacts struct {
	arp, tcp, udp, icmp bool
	src, dst            netip.Addr
	sport, dport        uint16
}

func newTraffic(d *device) *traffic {
	r := d.random("traffic")
	return &traffic{pause: 10 * time.Millisecond,
		client: netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + r.IntN(250))}),
		server: netip.AddrFrom4([4]byte{198, 51, 100, byte(1 + r.IntN(250))})}
}

// TCP flags.
const (
	flagFIN = 1
	flagSYN = 2
	flagPSH = 8
	flagACK = 16
)

// next gives the next frame and what it is.
func (t *traffic) next() ([]byte, packetFacts) {
	step := t.n % 10
	if step == 0 {
		t.port = uint16(32768 + t.n/10%20000) //nolint:gosec // stays below 65536
	}
	t.n++
	t.seq += 100
	out := packetFacts{tcp: true, src: t.client, dst: t.server, sport: t.port, dport: 443}
	back := packetFacts{tcp: true, src: t.server, dst: t.client, sport: 443, dport: t.port}
	switch step {
	case 0:
		return t.arp(), packetFacts{arp: true, src: t.client, dst: t.server}
	case 1:
		f := packetFacts{udp: true, src: t.client, dst: t.server, sport: t.port, dport: 53}
		return t.ip(f, query()), f
	case 2:
		return t.segment(out, flagSYN, nil), out
	case 3:
		return t.segment(back, flagSYN|flagACK, nil), back
	case 4:
		return t.segment(out, flagACK, nil), out
	case 5:
		return t.segment(out, flagPSH|flagACK, []byte(strings.Repeat("request ", 20))), out
	case 6:
		return t.segment(back, flagPSH|flagACK, []byte(strings.Repeat("answer ", 150))), back
	case 7:
		return t.segment(out, flagFIN|flagACK, nil), out
	case 8:
		return t.segment(back, flagFIN|flagACK, nil), back
	default:
		f := packetFacts{icmp: true, src: t.client, dst: t.server}
		body := append([]byte{8, 0, 0, 0, 0, 1, byte(t.n >> 8), byte(t.n)}, "simulated ping"...)
		binary.BigEndian.PutUint16(body[2:], checksum(body))
		return t.ip(f, body), f
	}
}

// query asks for the address of www.example.net.
func query() []byte {
	b := []byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for _, label := range []string{"www", "example", "net"} {
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

func (t *traffic) segment(f packetFacts, flags byte, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, f.sport)
	b = binary.BigEndian.AppendUint16(b, f.dport)
	b = binary.BigEndian.AppendUint32(b, t.seq)
	b = binary.BigEndian.AppendUint32(b, t.seq)
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

// trailer is the low level of detail, as releases from 11.2 to 13 write it: ingress,
// slot, TMM and the virtual server.
func trailer() []byte {
	const name = "/Common/web01_vs1"
	b := []byte{1, byte(5 + len(name)), 1, 0, 0, 1, byte(len(name))}
	return append(b, name...)
}
