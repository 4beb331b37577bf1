// Package corpus writes large captures and knows what is in them: TLS sessions of
// all versions, HTTP requests behind proxies and other traffic, in many connections
// at once, with VLAN tags and IPv6, with hellos and headers split over segments,
// repeated, overlapping and out of order.
//
// It is there for tests and measurements, and shares no code with what it tests.
// The same Spec gives the same bytes.
package corpus

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
)

// Spec says what to write.
type Spec struct {
	Seed uint64
	// Bytes is the size of the file, about.
	Bytes int64
	// SnapLen cuts packets, where it is not 0.
	SnapLen int
	// Connections is how many are open at once; 0 means 500.
	Connections int
	// Tidy leaves out what no reader need put together: reordering, repetition,
	// overlaps.
	Tidy bool
	// NoAcknowledgements leaves out packets without payload, beside those that open
	// and close.
	NoAcknowledgements bool
}

// Session is a TLS session in the capture; versions are spelt as product
// documentation does, and empty where there is none.
type Session struct {
	// Packet is the number of the packet in which the first hello begins.
	Packet              uint64
	Client, Server      netip.AddrPort
	Offered, Negotiated string
	ServerName          string
	// Alert is the description in the alert that refused it, or 0.
	Alert byte
}

// Forwarded is a header that names Address4 or Address6.
type Forwarded struct {
	// Packet is the number of the packet in which the header begins.
	Packet         uint64
	Client, Server netip.AddrPort
	Header         string
	Address        netip.Addr
}

// Truth is what was written.
type Truth struct {
	Packets   uint64
	Bytes     int64
	Sessions  []Session
	Forwarded []Forwarded
}

// The client addresses that Truth.Forwarded lists. Others in the capture resemble
// them.
const (
	Address4 = "203.0.113.77"
	Address6 = "2001:db8:77::7"
)

// Sizes of a frame's parts.
const (
	ethernetHeader = 14
	tcpHeader      = 32 // with timestamps
	segment        = 1448
)

// writer writes packets of connections in turn.
type writer struct {
	spec   Spec
	rand   *rand.Rand
	out    *bufio.Writer
	truth  *Truth
	noise  []byte
	places []int // in noise, where a segment may begin without resembling a hello
	micros uint64
	ports  uint32
	record [16]byte
	frame  [ethernetHeader + 8 + 40 + tcpHeader]byte
	err    error
}

// Write writes a pcap file.
func Write(w io.Writer, spec Spec) (*Truth, error) {
	if spec.Connections == 0 {
		spec.Connections = 500
	}
	g := &writer{
		spec: spec, rand: rand.New(rand.NewPCG(spec.Seed, 1)), //nolint:gosec // the same bytes each time are wanted
		out: bufio.NewWriterSize(w, 1<<20), truth: &Truth{}, micros: 1_700_000_000_000_000,
	}
	g.makeNoise()
	snap := uint32(262144)
	if spec.SnapLen > 0 {
		snap = uint32(spec.SnapLen) //nolint:gosec // a length
	}
	header := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	header = binary.LittleEndian.AppendUint16(header, 2)
	header = binary.LittleEndian.AppendUint16(header, 4)
	header = append(header, 0, 0, 0, 0, 0, 0, 0, 0)
	header = binary.LittleEndian.AppendUint32(header, snap)
	header = binary.LittleEndian.AppendUint32(header, 1)
	g.put(header)
	open := make([]*connection, 0, spec.Connections)
	for g.err == nil {
		for len(open) < spec.Connections && g.truth.Bytes < spec.Bytes {
			open = append(open, g.connection())
		}
		if len(open) == 0 {
			break
		}
		i := g.rand.IntN(len(open))
		c := open[i]
		for burst := 1 + g.rand.IntN(4); burst > 0 && len(c.steps) > 0; burst-- {
			g.send(c, &c.steps[0])
			c.steps = c.steps[1:]
		}
		if len(c.steps) == 0 {
			open[i] = open[len(open)-1]
			open = open[:len(open)-1]
		}
	}
	if err := g.out.Flush(); g.err == nil {
		g.err = err
	}
	if g.err != nil {
		return nil, fmt.Errorf("write the corpus: %w", g.err)
	}
	return g.truth, nil
}

func (g *writer) put(b []byte) {
	if g.err == nil {
		_, g.err = g.out.Write(b)
		g.truth.Bytes += int64(len(b))
	}
}

// makeNoise makes the payload of everything that is not read.
func (g *writer) makeNoise() {
	g.noise = make([]byte, 1<<18)
	for i := 0; i < len(g.noise); i += 8 {
		binary.LittleEndian.PutUint64(g.noise[i:], g.rand.Uint64())
	}
	for i := range len(g.noise) - segment {
		if b := g.noise[i]; b < 0x80 && b != 0x15 && b != 0x16 && b != '\n' {
			g.places = append(g.places, i)
		}
	}
}

func (g *writer) junk(n int) []byte {
	at := g.places[g.rand.IntN(len(g.places))]
	return g.noise[at : at+n]
}

// send writes a packet.
func (g *writer) send(c *connection, s *step) {
	g.truth.Packets++
	for _, i := range s.sessions {
		g.truth.Sessions[i].Packet = g.truth.Packets
	}
	for _, i := range s.forwarded {
		g.truth.Forwarded[i].Packet = g.truth.Packets
	}
	g.micros += 1 + g.rand.Uint64N(20)
	n := c.headers(g.frame[:], s)
	wire := n + len(s.payload)
	captured := wire
	if g.spec.SnapLen > 0 {
		captured = min(wire, g.spec.SnapLen)
	}
	le := binary.LittleEndian
	le.PutUint32(g.record[:], uint32(g.micros/1_000_000))  //nolint:gosec // until 2106
	le.PutUint32(g.record[4:], uint32(g.micros%1_000_000)) //nolint:gosec // below a million
	le.PutUint32(g.record[8:], uint32(captured))           //nolint:gosec // a frame
	le.PutUint32(g.record[12:], uint32(wire))              //nolint:gosec // a frame
	g.put(g.record[:])
	g.put(g.frame[:min(n, captured)])
	if captured > n {
		g.put(s.payload[:captured-n])
	}
}
