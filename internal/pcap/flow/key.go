package flow

import (
	"bytes"
	"encoding/binary"
	"net/netip"
)

// Key names a connection: both ends, the lower one first, so that it is the same
// for both directions.
type Key struct {
	low, high end
	version   uint8
}

// end is an address and port as they lie in packets, IPv4 with zeros behind.
type end struct {
	address [16]byte
	port    [2]byte
}

func (e *end) compare(f *end) int {
	if c := bytes.Compare(e.address[:], f.address[:]); c != 0 {
		return c
	}
	return bytes.Compare(e.port[:], f.port[:])
}

// Key gives the connection of a segment in key; up is set when the segment goes from
// the lower end to the higher.
func (s *Segment) Key(key *Key) (up bool) {
	ip, tcp := s.packet[s.ip:], s.packet[s.tcp:]
	key.version = s.version
	if s.version == 4 {
		key.low.address, key.high.address = [16]byte{}, [16]byte{}
		copy(key.low.address[:], ip[12:16])
		copy(key.high.address[:], ip[16:20])
	} else {
		copy(key.low.address[:], ip[8:24])
		copy(key.high.address[:], ip[24:40])
	}
	copy(key.low.port[:], tcp[0:2])
	copy(key.high.port[:], tcp[2:4])
	if key.low.compare(&key.high) <= 0 {
		return true
	}
	key.low, key.high = key.high, key.low
	return false
}

// Low gives the lower end.
func (k *Key) Low() netip.AddrPort { return k.low.addrPort(k.version) }

// High gives the higher end.
func (k *Key) High() netip.AddrPort { return k.high.addrPort(k.version) }

func (e *end) addrPort(version uint8) netip.AddrPort {
	port := binary.BigEndian.Uint16(e.port[:])
	if version == 4 {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(e.address[:])), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(e.address), port)
}

// Watch is a set of the hashes of connections that answers fast, and may have one
// that nobody put in.
type Watch struct{ counts [1 << 14]uint16 }

// Set puts a hash in or takes it out, so that it is in as often as there are
// connections with it that want it in. Is says whether this one has it in now.
func (w *Watch) Set(hash uint32, is *bool, want bool) {
	if *is == want {
		return
	}
	*is = want
	c := &w.counts[hash%uint32(len(w.counts))]
	switch {
	case *c == 1<<16-1: // a place that was ever full stays so
	case want:
		*c++
	default:
		*c--
	}
}

// Has reports whether a hash may be in.
func (w *Watch) Has(hash uint32) bool { return w.counts[hash%uint32(len(w.counts))] != 0 }
