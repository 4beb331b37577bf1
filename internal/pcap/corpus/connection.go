package corpus

import (
	"encoding/binary"
	"net/netip"
)

// TCP flags.
const (
	fin = 1
	syn = 2
	psh = 8
	ack = 16
)

// step is a packet to be sent.
type step struct {
	fromServer bool
	flags      byte
	seq, ack   uint32
	payload    []byte
	// What begins in it, by index into the truth.
	sessions, forwarded []int
}

// connection is a TCP connection with what is still to be sent.
type connection struct {
	client, server netip.AddrPort
	tags           []uint16
	next           [2]uint32 // of client and server
	steps          []step
}

func (g *writer) connection() *connection {
	g.ports++
	v6 := g.rand.IntN(5) == 0
	host := g.rand.Uint32N(2000)
	c := &connection{next: [2]uint32{g.rand.Uint32(), g.rand.Uint32()}}
	// A pair of addresses and ports does not come back.
	port := uint16(1024 + g.ports%60000)                                                  //nolint:gosec // within ports
	serverPort := []uint16{443, 443, 8443, 4433, 10443}[(g.ports/60000+g.ports)%5]        // any port
	server := [4]byte{192, 168, byte(g.ports / 60000 % 256), byte(g.rand.IntN(20))}       //nolint:gosec // cut to a byte
	client := [4]byte{10, byte(g.ports / 60000 >> 8), byte(host / 250), byte(host % 250)} //nolint:gosec // cut to a byte
	c.client, c.server = netip.AddrPortFrom(netip.AddrFrom4(client), port), netip.AddrPortFrom(netip.AddrFrom4(server), serverPort)
	if v6 {
		six := func(low [4]byte) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, low[0], low[1], low[2], low[3]})
		}
		c.client, c.server = netip.AddrPortFrom(six(client), port), netip.AddrPortFrom(six(server), serverPort)
	}
	switch g.rand.IntN(6) {
	case 0:
		c.tags = []uint16{100}
	case 1:
		c.tags = []uint16{200, 300}
	}
	c.add(step{flags: syn})
	c.add(step{fromServer: true, flags: syn | ack})
	c.add(step{flags: ack})
	switch kind := g.rand.IntN(10); {
	case kind < 6:
		g.tls(c)
	case kind < 9:
		c.server = netip.AddrPortFrom(c.server.Addr(), 80)
		g.http(c)
	default:
		c.server = netip.AddrPortFrom(c.server.Addr(), 9000)
		g.bulk(c, false, 1+g.rand.IntN(20))
		g.bulk(c, true, 1+g.rand.IntN(20))
	}
	c.add(step{flags: fin | ack})
	c.add(step{fromServer: true, flags: fin | ack})
	return c
}

func side(fromServer bool) int {
	if fromServer {
		return 1
	}
	return 0
}

// add appends a packet and moves the sequence numbers on.
func (c *connection) add(s step) {
	me, peer := side(s.fromServer), side(!s.fromServer)
	s.seq = c.next[me]
	if s.flags&ack != 0 {
		s.ack = c.next[peer]
	}
	c.next[me] += uint32(len(s.payload)) //nolint:gosec // a segment
	if s.flags&(syn|fin) != 0 {
		c.next[me]++
	}
	c.steps = append(c.steps, s)
}

// bulk sends full segments that mean nothing.
func (g *writer) bulk(c *connection, fromServer bool, n int) {
	for range n {
		c.add(step{fromServer: fromServer, flags: ack, payload: g.junk(segment)})
		if !g.spec.NoAcknowledgements && g.rand.IntN(100) < 70 {
			c.add(step{fromServer: !fromServer, flags: ack})
		}
	}
}

// say sends bytes that matter: in one segment or several, and those at times out
// of order, twice, or overlapping. Cuts are places where to split, beside others.
// It gives the steps, in the order of the stream.
func (g *writer) say(c *connection, fromServer bool, b []byte, cuts ...int) []int {
	first := len(c.steps)
	switch g.rand.IntN(4) {
	case 0:
		cuts = append(cuts, 1+g.rand.IntN(len(b)))
	case 1:
		cuts = append(cuts, 1+g.rand.IntN(min(8, len(b))), 1+g.rand.IntN(len(b)))
	}
	for at := 0; at < len(b); {
		end := min(len(b), at+segment)
		for _, cut := range cuts {
			if cut > at {
				end = min(end, cut)
			}
		}
		c.add(step{fromServer: fromServer, flags: ack | psh, payload: b[at:end:end]})
		at = end
	}
	parts := c.steps[first:]
	order := make([]int, len(parts))
	for i := range order {
		order[i] = first + i
	}
	if g.spec.Tidy {
		return order
	}
	switch last := len(parts) - 1; {
	case last > 0 && g.rand.IntN(3) == 0:
		i := g.rand.IntN(last)
		parts[i], parts[i+1] = parts[i+1], parts[i]
		order[i], order[i+1] = order[i+1], order[i]
	case g.rand.IntN(4) == 0:
		again := parts[g.rand.IntN(last+1)]
		c.steps = append(c.steps, again)
	case last > 0 && g.rand.IntN(4) == 0:
		// The last is sent once more together with the end of the one before.
		back := parts[last-1].payload
		over := 1 + g.rand.IntN(len(back))
		s := parts[last]
		s.payload = append(append([]byte{}, back[len(back)-over:]...), s.payload...)
		if len(s.payload) <= segment {
			s.seq -= uint32(over) //nolint:gosec // within a segment
			c.steps = append(c.steps[:first+last], s, c.steps[first+last])
			order[last] = first + last
		}
	}
	return order
}

// headers writes everything before the payload.
func (c *connection) headers(b []byte, s *step) int {
	be := binary.BigEndian
	src, dst := c.client, c.server
	copy(b, "\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01")
	if s.fromServer {
		src, dst = dst, src
		copy(b, "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02")
	}
	n := 12
	for i, tag := range c.tags {
		kind := uint16(0x8100)
		if i == 0 && len(c.tags) > 1 {
			kind = 0x88a8
		}
		be.PutUint16(b[n:], kind)
		be.PutUint16(b[n+2:], tag)
		n += 4
	}
	size := tcpHeader + len(s.payload)
	if src.Addr().Is6() {
		be.PutUint16(b[n:], 0x86dd)
		n += 2
		ip := b[n : n+40]
		clear(ip)
		ip[0], ip[6], ip[7] = 0x60, 6, 64
		be.PutUint16(ip[4:], uint16(size)) //nolint:gosec // a segment
		from, to := src.Addr().As16(), dst.Addr().As16()
		copy(ip[8:], from[:])
		copy(ip[24:], to[:])
		n += 40
	} else {
		be.PutUint16(b[n:], 0x0800)
		n += 2
		ip := b[n : n+20]
		clear(ip)
		ip[0], ip[6], ip[8], ip[9] = 0x45, 0x40, 64, 6
		be.PutUint16(ip[2:], uint16(20+size)) //nolint:gosec // a segment
		from, to := src.Addr().As4(), dst.Addr().As4()
		copy(ip[12:], from[:])
		copy(ip[16:], to[:])
		var sum uint32
		for i := 0; i < 20; i += 2 {
			sum += uint32(be.Uint16(ip[i:]))
		}
		sum = sum>>16 + sum&0xffff
		be.PutUint16(ip[10:], ^uint16(sum+sum>>16)) //nolint:gosec // folded
		n += 20
	}
	tcp := b[n : n+tcpHeader]
	clear(tcp)
	be.PutUint16(tcp, src.Port())
	be.PutUint16(tcp[2:], dst.Port())
	be.PutUint32(tcp[4:], s.seq)
	be.PutUint32(tcp[8:], s.ack)
	tcp[12], tcp[13] = tcpHeader/4<<4, s.flags
	be.PutUint16(tcp[14:], 0xffff)
	copy(tcp[20:], "\x01\x01\x08\x0a")
	return n + tcpHeader
}
