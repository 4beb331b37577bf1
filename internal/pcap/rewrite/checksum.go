package rewrite

import "encoding/binary"

// cover is what a checksum of the Internet kind is over: the bytes from up to to,
// and before them, where pseudo is set, a pseudo header with the two addresses.
type cover struct {
	field     int // of the checksum, within from and to
	from, to  int
	pseudo    bool
	addresses [2]int // where they begin and end; they lie one after the other
	protocol  uint8
}

// sum adds 16-bit words in network byte order, an odd last byte as if a zero
// followed (RFC 1071).
func sum(acc uint64, b []byte) uint64 {
	for ; len(b) >= 2; b = b[2:] {
		acc += uint64(b[0])<<8 | uint64(b[1])
	}
	if len(b) == 1 {
		acc += uint64(b[0]) << 8
	}
	return acc
}

func fold(acc uint64) uint16 {
	for acc > 0xffff {
		acc = acc&0xffff + acc>>16
	}
	return uint16(acc)
}

// total is the folded sum of all that is covered; 0xffff where the checksum in it
// is right.
func (c cover) total(data []byte) uint16 {
	acc := uint64(0)
	if c.pseudo {
		acc = sum(uint64(c.protocol)+uint64(c.to-c.from), data[c.addresses[0]:c.addresses[1]]) //nolint:gosec // to is not before from
	}
	return fold(sum(acc, data[c.from:c.to]))
}

// renew makes the checksum anew and reports whether the one in old was right.
func (c cover) renew(old, data []byte) (wasRight bool) {
	binary.BigEndian.PutUint16(data[c.field:], 0)
	binary.BigEndian.PutUint16(data[c.field:], ^c.total(data))
	return c.total(old) == 0xffff
}

// move changes the checksum by what changed since old, so that it stays as right as
// it was: RFC 1624, equation 3. Everything that changes lies on even places.
func (c cover) move(old, data []byte) {
	acc := uint64(^binary.BigEndian.Uint16(old[c.field:]))
	differ := func(from, to int) {
		for i := from; i+1 < to; i += 2 {
			if i != c.field {
				acc += uint64(^binary.BigEndian.Uint16(old[i:])) + uint64(binary.BigEndian.Uint16(data[i:]))
			}
		}
	}
	if c.pseudo {
		differ(c.addresses[0], c.addresses[1])
	}
	differ(c.from, min(c.to, len(data)))
	binary.BigEndian.PutUint16(data[c.field:], ^fold(acc))
}
