package pcaptest

import (
	"encoding/binary"
	"slices"
)

// Talk writes the packets of one TCP connection, in the order in which they are
// asked for, whatever their sequence numbers say. Numbers of both sides are given
// from the first byte of their payload on.
type Talk struct {
	// Client and Server are the last bytes of the addresses, 10.0.0.x.
	Client, Server         byte
	ClientPort, ServerPort uint16
	// Snap cuts the packets, where it is not 0.
	Snap int

	packets [][]byte
	lengths []uint32
}

// Where the payloads of both sides begin.
const (
	talkClient uint32 = 4_294_967_000 // soon past the largest number
	talkServer uint32 = 7_000
)

// Segment adds a segment; acked is what it acknowledges of the other side.
func (t *Talk) Segment(fromServer bool, flags byte, at, acked int, payload []byte) {
	seq, ack := talkClient+uint32(at), talkServer+uint32(acked) //nolint:gosec // tests give short streams
	src, dst, sport, dport := t.Client, t.Server, t.ClientPort, t.ServerPort
	if fromServer {
		seq, ack = talkServer+uint32(at), talkClient+uint32(acked) //nolint:gosec // tests give short streams
		src, dst, sport, dport = dst, src, dport, sport
	}
	tcp := TCP(seq, ack, flags, nil, payload...)
	binary.BigEndian.PutUint16(tcp, sport)
	binary.BigEndian.PutUint16(tcp[2:], dport)
	ip := IPv4(6, 0x4000, nil, tcp...)
	ip[15], ip[19] = src, dst
	frame := Ethernet(0x0800, ip...)
	t.lengths = append(t.lengths, uint32(len(frame))) //nolint:gosec // tests give short packets
	if t.Snap > 0 {
		frame = frame[:min(len(frame), t.Snap)]
	}
	t.packets = append(t.packets, frame)
}

// Open adds the three packets that open the connection.
func (t *Talk) Open() {
	t.Segment(false, 0x02, -1, 0, nil)
	t.Segment(true, 0x12, -1, 0, nil)
	t.Segment(false, 0x10, 0, 0, nil)
}

// Close adds the packets that close it behind so many bytes of both sides.
func (t *Talk) Close(client, server int) {
	t.Segment(false, 0x11, client, server, nil)
	t.Segment(true, 0x11, server, client+1, nil)
}

// Say adds payload from a place of a side's stream on.
func (t *Talk) Say(fromServer bool, at, acked int, payload []byte) {
	t.Segment(fromServer, 0x18, at, acked, payload)
}

// File gives the capture, one packet a second, with those of other connections
// behind.
func (t *Talk) File(others ...*Talk) []byte {
	c := Classic{SnapLen: 65535, Link: 1}
	b := c.Header()
	sec := uint32(1_700_000_000)
	for _, talk := range slices.Concat([]*Talk{t}, others) {
		for i, p := range talk.packets {
			b = append(b, c.Record(sec, 0, uint32(len(p)), talk.lengths[i], p)...) //nolint:gosec // tests give short packets
			sec++
		}
	}
	return b
}
