package info

import (
	"math/bits"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/layers"
)

// oddityNames are the kinds of oddities: first those of package layers, by bit,
// then our own.
var oddityNames = [...]string{
	"frame_too_short", "group_source_address", "undefined_ethertype", "length_beyond_frame", "unknown_arp_operation",
	"malformed_arp", "wrong_ip_version", "bad_ip_header", "ip_length_beyond_frame", "bad_transport_header",
	"captured_more_than_length", "empty_packet", "damaged_options",
}

// Our own, after the bits of layers.
const (
	oddLonger = iota + 10
	oddEmpty
	oddOptions
)

// odd counts the oddities of a packet.
func (t *tally) odd(p *pcap.Packet, found layers.Oddity) {
	for set := uint32(found); set != 0; set &= set - 1 {
		t.note(p, bits.TrailingZeros32(set))
	}
	switch {
	case len(p.Data) > int(p.Length):
		t.note(p, oddLonger)
	case p.Length == 0:
		t.note(p, oddEmpty)
	}
	if p.Options.Damaged() {
		t.note(p, oddOptions)
	}
}

func (t *tally) note(p *pcap.Packet, kind int) {
	o := &t.oddities[kind]
	if o.Packets == 0 {
		o.Kind, o.First = oddityNames[kind], p.Number
	}
	o.Packets++
}
