// Package pcaptest writes captures and packets for tests: exact bytes, also of
// variants and damage that no tool would write.
package pcaptest

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"math/rand/v2"
)

// Classic writes pcap.
type Classic struct {
	Big, Nano, Patched bool
	Major, Minor       uint16 // 0.0 means 2.4
	SnapLen, Link      uint32
}

func order(big bool) binary.AppendByteOrder {
	if big {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

// Header gives the file header.
func (c Classic) Header() []byte {
	magic := uint32(0xa1b2c3d4)
	switch {
	case c.Nano:
		magic = 0xa1b23c4d
	case c.Patched:
		magic = 0xa1b2cd34
	}
	if c.Major == 0 {
		c.Major, c.Minor = 2, 4
	}
	o := order(c.Big)
	b := o.AppendUint32(nil, magic)
	b = o.AppendUint16(b, c.Major)
	b = o.AppendUint16(b, c.Minor)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	b = o.AppendUint32(b, c.SnapLen)
	return o.AppendUint32(b, c.Link)
}

// Record gives a packet with the lengths as they are named.
func (c Classic) Record(sec, part, captured, original uint32, data []byte) []byte {
	o := order(c.Big)
	var b []byte
	for _, v := range []uint32{sec, part, captured, original} {
		b = o.AppendUint32(b, v)
	}
	if c.Patched {
		b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	}
	return append(b, data...)
}

// Gzip compresses.
func Gzip(plain []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(plain) // a Buffer takes everything
	_ = w.Close()
	return b.Bytes()
}

// Spoil changes a byte in that share of the packets of a little-endian capture, among
// the first 120 of each, and leaves the records' headers alone.
func Spoil(file []byte, share float64, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 3)) //nolint:gosec // the same bytes each time are wanted
	const fileHeader, recordHeader, most = 24, 16, 120
	for at := fileHeader; at+recordHeader < len(file); {
		captured := int(binary.LittleEndian.Uint32(file[at+8:]))
		at += recordHeader
		if captured > 0 && random.Float64() < share {
			file[at+random.IntN(min(captured, most))] = byte(random.Uint32())
		}
		at += captured
	}
}
