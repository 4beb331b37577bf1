package rewrite

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/layers"
)

const ethernetHeader = 14

// Result counts what was done.
type Result struct {
	Packets uint64 `json:"packets"`
	Changed uint64 `json:"changed"`
	// Repaired checksums were wrong, or not filled in yet by the sender's hardware,
	// and are right now.
	Repaired uint64 `json:"repaired_checksums"`
	// Unproven checksums cover bytes that were not captured, or other fragments: they
	// are right if they were right before.
	Unproven uint64 `json:"unproven_checksums"`
	// Cut packets end within a header, so that rules may not have reached all of it.
	Cut uint64 `json:"cut_packets"`
}

// Rewriter applies rules to packets. It is not safe for concurrent use.
type Rewriter struct {
	rules  Rules
	result Result
	buf    []byte // the packet
	old    []byte // the packet before anything within IP was changed
	frame  layers.Frame
}

// New checks the rules.
func New(rules Rules) (*Rewriter, error) {
	if err := rules.check(); err != nil {
		return nil, err
	}
	return &Rewriter{rules: rules}, nil
}

// Result gives the counts so far.
func (w *Rewriter) Result() Result { return w.result }

// Packet changes p as the rules say. Its data is then the rewriter's own and valid
// until the next call.
func (w *Rewriter) Packet(p *pcap.Packet) {
	w.result.Packets++
	w.buf = append(w.buf[:0], p.Data...)
	length := p.Length
	changed := false
	if p.Link == pcap.LinkEthernet {
		changed = w.ethernet(&length)
	}
	layers.Decode(p.Link, w.buf, length, &w.frame)
	f := &w.frame
	if f.Cut {
		w.result.Cut++
	}
	if f.ARP.Present && f.ARP.SenderAddr.IsValid() {
		changed = w.arp(f) || changed
	}
	if f.Version != 0 {
		w.old = append(w.old[:0], w.buf...)
		changed = w.ip(0, f, false) || changed
	}
	if changed {
		w.result.Changed++
	}
	w.frameCheck(p)
	p.Data, p.Length = w.buf, length
}

// frameCheck makes the frame check sequence anew that p ended with before it was changed,
// if there was one and it was right.
func (w *Rewriter) frameCheck(p *pcap.Packet) {
	const size = 4
	n := len(p.Data) - size
	if p.Link != pcap.LinkEthernet || n < ethernetHeader || uint64(len(p.Data)) < uint64(p.Length) || bytes.Equal(w.buf, p.Data) ||
		crc32.ChecksumIEEE(p.Data[:n]) != binary.LittleEndian.Uint32(p.Data[n:]) {
		return
	}
	n = len(w.buf) - size
	binary.LittleEndian.PutUint32(w.buf[n:], crc32.ChecksumIEEE(w.buf[:n]))
}

// ethernet changes MAC addresses and tags, and the length on the wire with them.
func (w *Rewriter) ethernet(length *uint32) (changed bool) {
	const macs, tag = 12, 4
	if len(w.buf) < macs+2 || layers.IsF5FileInfo(w.buf) {
		return false
	}
	for _, end := range []struct {
		at   int
		side Side
	}{{0, Destination}, {6, Source}} {
		field := (*[6]byte)(w.buf[end.at:])
		if to, ok := w.rules.mac(*field, end.side, false); ok && to != *field {
			*field, changed = to, true
		}
	}
	tagged := func() bool {
		switch binary.BigEndian.Uint16(w.buf[macs:]) {
		case layers.EtherVLAN, layers.EtherQinQ, layers.EtherOldQinQ:
			return len(w.buf) >= macs+tag+2
		}
		return false
	}
	for w.rules.StripVLAN && tagged() {
		w.buf = append(w.buf[:macs], w.buf[macs+tag:]...)
		*length -= min(*length, tag)
		changed = true
	}
	if id := w.rules.SetVLAN; id != nil {
		if !tagged() {
			w.buf = append(w.buf, 0, 0, 0, 0)
			copy(w.buf[macs+tag:], w.buf[macs:len(w.buf)-tag])
			binary.BigEndian.PutUint16(w.buf[macs:], layers.EtherVLAN)
			binary.BigEndian.PutUint16(w.buf[macs+2:], *id)
			*length += tag
			return true
		}
		field := w.buf[macs+2:]
		old := binary.BigEndian.Uint16(field)
		binary.BigEndian.PutUint16(field, old&^0x0fff|*id)
		changed = changed || old&0x0fff != *id
	}
	return changed
}

// arp changes the addresses of an ARP message for IPv4 over Ethernet. The sender is
// its source.
func (w *Rewriter) arp(f *layers.Frame) (changed bool) {
	b := w.buf[f.Network:]
	for _, end := range []struct {
		mac, ip int
		side    Side
	}{{8, 14, Source}, {18, 24, Destination}} {
		field := (*[6]byte)(b[end.mac:])
		if to, ok := w.rules.mac(*field, end.side, true); ok && to != *field {
			*field, changed = to, true
		}
		changed = w.addressAt(b[end.ip:end.ip+4], end.side) || changed
	}
	return changed
}
