package pcap

import (
	"encoding/binary"
	"iter"
	"strings"
)

// Option codes that mean the same in every block.
const (
	optEnd     = 0
	optComment = 1
)

// Options are the options of a pcapng block as they lie in the file.
type Options struct {
	raw []byte
	big bool
}

// All gives code and value of each option up to the end. It stops at the first
// one that does not fit; Damaged tells.
func (o Options) All() iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) { o.walk(yield) }
}

// Damaged reports whether an option goes beyond the block.
func (o Options) Damaged() bool { return !o.walk(func(uint16, []byte) bool { return true }) }

// Comments gives the comments.
func (o Options) Comments() iter.Seq[string] {
	return func(yield func(string) bool) {
		o.walk(func(code uint16, value []byte) bool { return code != optComment || yield(text(value)) })
	}
}

// walk reports whether it came to the end without finding damage.
func (o Options) walk(yield func(uint16, []byte) bool) bool {
	order := byteOrder(o.big)
	for b := o.raw; len(b) > 0; {
		if len(b) < 4 {
			return false
		}
		code, size := order.Uint16(b), int(order.Uint16(b[2:]))
		if code == optEnd {
			return true
		}
		if len(b)-4 < size {
			return false
		}
		if !yield(code, b[4:4+size]) {
			return true
		}
		b = b[min(len(b), 4+padded(size)):]
	}
	return true
}

// text gives the value of a text option. Some writers end it with a NUL.
func text(value []byte) string {
	s, _, _ := strings.Cut(string(value), "\x00")
	return strings.ToValidUTF8(s, "\uFFFD")
}

// padded rounds up to the 32-bit boundary on which everything in pcapng lies.
func padded(n int) int { return (n + 3) &^ 3 }

func byteOrder(big bool) binary.ByteOrder {
	if big {
		return binary.BigEndian
	}
	return binary.LittleEndian
}
