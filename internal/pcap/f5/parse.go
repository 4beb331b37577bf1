package f5

import (
	"encoding/binary"
	"net/netip"
	"strings"
)

const (
	magic      = 0xf5deb0f5
	headerSize = 8 // of a trailer, and of each part
	version1   = 1

	providerNoise = 1
	providerTLS   = 4

	typeLow    = 1
	typeMedium = 2
	typeHigh   = 3
)

// parseNew reads a trailer of TMOS 14 and later at an offset. It has to end with the
// frame.
func parseNew(data []byte, at int) (*Trailer, bool) {
	if at < 0 || at+headerSize > len(data) || binary.BigEndian.Uint32(data[at:]) != magic {
		return nil, false
	}
	b := data[at:]
	if size := int(binary.BigEndian.Uint16(b[4:])); size != len(b) || binary.BigEndian.Uint16(b[6:]) != version1 {
		return nil, false
	}
	t := &Trailer{Start: at, Size: len(b)}
	for b = b[headerSize:]; len(b) >= headerSize; {
		size := int(binary.BigEndian.Uint16(b[4:]))
		if size < headerSize || size > len(b) {
			break
		}
		t.part(part{provider: binary.BigEndian.Uint16(b), kind: binary.BigEndian.Uint16(b[2:]), version: binary.BigEndian.Uint16(b[6:]), body: b[headerSize:size]})
		b = b[size:]
	}
	return t, true
}

// part is one of the parts of a new trailer.
type part struct {
	provider, kind, version uint16
	body                    []byte
}

func (t *Trailer) part(p part) {
	ok := false
	switch {
	case p.provider == providerNoise && p.kind == typeLow:
		t.Low, ok = orKeep(t.Low)(p.low())
	case p.provider == providerNoise && p.kind == typeMedium && p.version == 4:
		t.Medium, ok = orKeep(t.Medium)(p.medium())
	case p.provider == providerNoise && p.kind == typeHigh && p.version == 1:
		t.High, ok = orKeep(t.High)(readHigh(p.body))
	case p.provider == providerTLS:
		var secrets TLS
		if secrets, ok = p.tls(); ok {
			t.TLS = append(t.TLS, secrets)
		}
	}
	if !ok {
		t.Unknown++
	}
}

// orKeep keeps what there was where a part could not be read.
func orKeep[T any](old *T) func(*T, bool) (*T, bool) {
	return func(v *T, ok bool) (*T, bool) {
		if !ok {
			return old, false
		}
		return v, true
	}
}

// low reads the part of noise level n.
func (p part) low() (*Low, bool) {
	b := p.body
	if len(b) < 4 || p.version < 2 || p.version > 4 {
		return nil, false
	}
	l := &Low{Ingress: b[0]&1 != 0, Slot: int(b[1]) + 1, TMM: int(b[2])}
	if p.version >= 3 {
		l.HardwareAction = int(b[0]>>1) & 3
	}
	names := b[4:]
	if int(b[3]) > len(names) {
		return nil, false
	}
	names = names[:b[3]]
	if p.version < 4 {
		l.VirtualServer = clean(names)
		return l, true
	}
	for len(names) >= 2 {
		kind, size := names[0], int(names[1])
		if names = names[2:]; size > len(names) {
			return nil, false
		}
		switch kind {
		case 0:
			l.VirtualServer = clean(names[:size])
		case 1:
			l.Port = clean(names[:size])
		case 2:
			l.Trunk = clean(names[:size])
		}
		names = names[size:]
	}
	return l, true
}

// medium reads the part of noise level nn.
func (p part) medium() (*Medium, bool) {
	b := p.body
	if len(b) < 32 {
		return nil, false
	}
	m := &Medium{Flow: binary.BigEndian.Uint64(b), Peer: binary.BigEndian.Uint64(b[8:]), Flags: binary.BigEndian.Uint64(b[16:]),
		FlowType: b[24], HAUnit: b[25], Priority: b[30]}
	return m, m.cause(b[31:])
}

// cause reads a reset cause with its length before it.
func (m *Medium) cause(b []byte) bool {
	if len(b) < 1 || int(b[0]) > len(b)-1 {
		return false
	}
	const fixed = 9
	b = b[1 : 1+int(b[0])]
	if len(b) < fixed || b[0]>>1 != 0 {
		return len(b) == 0 || len(b) >= fixed // of another version: there, but not understood
	}
	where := binary.BigEndian.Uint64(b[1:])
	m.CausePeer, m.CauseAt, m.CauseLine, m.Cause = b[0]&1 != 0, where>>16, uint16(where), clean(b[fixed:]) //nolint:gosec // the lower 16 bits
	return true
}

// readHigh reads the other side's flow: protocol, VLAN, addresses, ports.
func readHigh(b []byte) (*High, bool) {
	if len(b) < 39 {
		return nil, false
	}
	h := &High{Protocol: b[0], VLAN: binary.BigEndian.Uint16(b[1:])}
	remote, rd := routeDomain([16]byte(b[3:]))
	local, ld := routeDomain([16]byte(b[19:]))
	h.RemoteDomain, h.LocalDomain = rd, ld
	h.Remote = netip.AddrPortFrom(remote, binary.BigEndian.Uint16(b[35:]))
	h.Local = netip.AddrPortFrom(local, binary.BigEndian.Uint16(b[37:]))
	return h, true
}

// routeDomain takes an address apart that stands for an IPv4 address in a route
// domain.
func routeDomain(b [16]byte) (netip.Addr, uint16) {
	if [10]byte(b[:]) == [10]byte{0x26, 0x20, 0, 0, 0x0c, 0x10, 0xf5, 0x01, 0, 0} {
		return netip.AddrFrom4([4]byte(b[12:])), binary.BigEndian.Uint16(b[10:])
	}
	return netip.AddrFrom16(b).Unmap(), 0
}

// clean gives a name as text: up to a NUL, nothing that is not UTF-8.
func clean(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return strings.ToValidUTF8(s, "\uFFFD")
}
