package pcaptest

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// Variant is a capture in another form.
type Variant struct {
	Link, Format string
	File         []byte
}

// MicroLittle is the Format that all tools read.
const MicroLittle = "micro little-endian"

// Variants gives the packets of a pcap file, which are IP in Ethernet with tags or
// without, in every link layer that holds IP, and in Linux cooked 2 in every format: both
// byte orders and resolutions, gzip, and pcapng with two interfaces of different clocks
// in each of two sections of different byte order. The file is little-endian with
// microseconds.
func Variants(file []byte) []Variant {
	var out []Variant
	for _, l := range []struct {
		name string
		link uint32
		wrap func(f frame) []byte
	}{
		{"ethernet", 1, func(f frame) []byte { return slices.Concat(f.macs, f.tags, f.ip) }},
		{"qinq", 1, func(f frame) []byte {
			return slices.Concat(f.macs, []byte{0x88, 0xa8, 0, 7, 0x81, 0, 0, 9}, f.kind(), f.ip)
		}},
		{"cooked", 113, func(f frame) []byte {
			return slices.Concat([]byte{0, 0, 0, 1, 0, 6}, f.macs[6:], []byte{0, 0}, f.tags, f.ip)
		}},
		{"cooked 2", 276, func(f frame) []byte {
			return slices.Concat(f.kind(), []byte{0, 0, 0, 0, 0, 2, 0, 1, 0, 6}, f.macs[6:], []byte{0, 0}, f.ip)
		}},
		{"raw", 101, func(f frame) []byte { return f.ip }},
		{"null little-endian", 0, func(f frame) []byte { return slices.Concat([]byte{f.family(), 0, 0, 0}, f.ip) }},
		{"null big-endian", 0, func(f frame) []byte { return slices.Concat([]byte{0, 0, 0, f.family()}, f.ip) }},
		{"loop", 108, func(f frame) []byte { return slices.Concat([]byte{0, 0, 0, f.family()}, f.ip) }},
	} {
		var all []frame
		for f := range frames(file) {
			f.data = l.wrap(f)
			all = append(all, f)
		}
		for name, content := range formats(l.link, all, l.name == "cooked 2") {
			out = append(out, Variant{l.name, name, content})
		}
	}
	return out
}

// frame is a packet of a capture, and its parts.
type frame struct {
	sec, micros    uint32
	data           []byte
	macs, tags, ip []byte // tags with the EtherType behind them
}

func (f frame) kind() []byte { return f.tags[len(f.tags)-2:] }

// family is the address family of IPv4, and of IPv6 on macOS.
func (f frame) family() byte {
	if f.ip[0]>>4 == 6 {
		return 30
	}
	return 2
}

// frames reads a file.
func frames(file []byte) func(yield func(frame) bool) {
	const fileHeader, recordHeader = 24, 16
	return func(yield func(frame) bool) {
		o := binary.LittleEndian
		for b := file[fileHeader:]; len(b) >= recordHeader; {
			end := recordHeader + int(o.Uint32(b[8:]))
			f := frame{sec: o.Uint32(b), micros: o.Uint32(b[4:]), data: b[recordHeader:end]}
			at := 12
			for f.data[at] == 0x81 || f.data[at] == 0x88 && f.data[at+1] == 0xa8 {
				at += 4
			}
			f.macs, f.tags, f.ip = f.data[:12], f.data[12:at+2], f.data[at+2:]
			if !yield(f) {
				return
			}
			b = b[end:]
		}
	}
}

// formats gives frames of a link type in each format, or in MicroLittle alone.
func formats(link uint32, all []frame, each bool) map[string][]byte {
	files := map[string][]byte{}
	for name, c := range map[string]Classic{
		MicroLittle: {}, "micro big-endian": {Big: true}, "nano little-endian": {Nano: true}, "nano big-endian": {Big: true, Nano: true}, "patched": {Patched: true},
	} {
		if name != MicroLittle && !each {
			continue
		}
		c.SnapLen, c.Link = 262144, link
		b := bytes.NewBuffer(c.Header())
		for _, f := range all {
			part := f.micros
			if c.Nano {
				part *= 1000
			}
			b.Write(c.Record(f.sec, part, uint32(len(f.data)), uint32(len(f.data)), f.data)) //nolint:gosec // packets are short
		}
		files[name] = b.Bytes()
	}
	if !each {
		return files
	}
	files["gzip"] = Gzip(files[MicroLittle])
	for _, big := range []bool{false, true} {
		n := NG{Big: big}
		micro, nano := n.Interface(uint16(link), 0), n.Interface(uint16(link), 0, Option{9, []byte{9}}) //nolint:gosec // link types of IP are small
		b := bytes.NewBuffer(slices.Concat(n.Section(), micro, nano))
		for i, f := range all {
			if i == len(all)/2 {
				n.Big = !n.Big
				b.Write(slices.Concat(n.Section(), n.Interface(uint16(link), 0, Option{9, []byte{9}}), n.Interface(uint16(link), 0))) //nolint:gosec // link types of IP are small
			}
			at := uint64(f.sec)*1_000_000 + uint64(f.micros)
			if (i%2 == 1) == (i < len(all)/2) {
				at *= 1000
			}
			b.Write(n.Enhanced(uint32(i%2), at, uint32(len(f.data)), f.data)) //nolint:gosec // packets are short
		}
		files[map[bool]string{false: "pcapng little-endian first", true: "pcapng big-endian first"}[big]] = b.Bytes()
	}
	return files
}
