package flow

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
)

// Key names a connection: both ends, the lower one first, so that it is the same
// for both directions.
type Key struct {
	// The ends as they lie in packets, address before port, the lower one first; of
	// IPv4 with zeros behind the address. Then the version of IP.
	bytes [2*sizeEnd + 1]byte
}

const (
	sizeAddress = 16
	sizeEnd     = sizeAddress + 2
)

// Key gives the connection of a segment in key; up is set when the segment goes from
// the lower end to the higher.
func (s *Segment) Key(key *Key) (up bool) {
	be := binary.BigEndian
	ip, tcp := s.packet[s.ip:], s.packet[s.tcp:][:4]
	source, destination := be.Uint16(tcp), be.Uint16(tcp[2:])
	low, high := key.bytes[:sizeEnd], key.bytes[sizeEnd:2*sizeEnd]
	if s.version == 4 {
		ip = ip[:minIPv4]
		from, to := be.Uint32(ip[12:]), be.Uint32(ip[16:])
		up = from < to || from == to && source <= destination
		if !up {
			from, to = to, from
		}
		key.bytes = [len(key.bytes)]byte{}
		be.PutUint32(low, from)
		be.PutUint32(high, to)
	} else {
		ip = ip[:sizeIPv6]
		from0, from1, to0, to1 := be.Uint64(ip[8:]), be.Uint64(ip[16:]), be.Uint64(ip[24:]), be.Uint64(ip[32:])
		switch {
		case from0 != to0:
			up = from0 < to0
		case from1 != to1:
			up = from1 < to1
		default:
			up = source <= destination
		}
		if !up {
			from0, from1, to0, to1 = to0, to1, from0, from1
		}
		be.PutUint64(low, from0)
		be.PutUint64(low[8:], from1)
		be.PutUint64(high, to0)
		be.PutUint64(high[8:], to1)
	}
	if !up {
		source, destination = destination, source
	}
	be.PutUint16(low[sizeAddress:], source)
	be.PutUint16(high[sizeAddress:], destination)
	key.bytes[2*sizeEnd] = s.version
	return up
}

// Sum gives a hash that those who make packets cannot foresee.
func (k *Key) Sum(seed maphash.Seed) uint64 { return maphash.Bytes(seed, k.bytes[:]) }

// Low gives the lower end.
func (k *Key) Low() netip.AddrPort { return k.end(k.bytes[:sizeEnd]) }

// High gives the higher end.
func (k *Key) High() netip.AddrPort { return k.end(k.bytes[sizeEnd : 2*sizeEnd]) }

func (k *Key) end(b []byte) netip.AddrPort {
	port := binary.BigEndian.Uint16(b[sizeAddress:])
	if k.bytes[2*sizeEnd] == 4 {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16([sizeAddress]byte(b)), port)
}
