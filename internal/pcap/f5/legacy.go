package f5

import "encoding/binary"

// Sizes between which a part of a legacy trailer is believed.
const (
	legacyHeader = 3
	legacyLeast  = 7
	legacyMost   = 140
)

// parseLegacy reads a trailer of TMOS before 14: a row of parts, the first of them of
// the low noise level, up to the end of the frame or its check sequence.
func parseLegacy(data []byte, at int) (*Trailer, bool) {
	t := &Trailer{Start: at, Legacy: true}
	b := data[at:]
	for len(b) >= legacyLeast {
		size := int(b[1]) + 2
		if size < legacyLeast || size > legacyMost || size > len(b) || b[0] < typeLow || b[0] > typeHigh {
			break
		}
		if !t.legacyPart(b[0], b[2], b[:size]) {
			break
		}
		b = b[size:]
	}
	if t.Low == nil || len(b) != 0 && len(b) != fcsSize {
		return nil, false
	}
	t.Size = len(data) - at
	return t, true
}

// legacyPart reads one part, whose size tells its layout together with its version.
// False means that it is no part.
func (t *Trailer) legacyPart(kind, version byte, b []byte) bool {
	switch kind {
	case typeLow:
		l, ok := legacyLow(version, b)
		if t.Low == nil {
			t.Low = l
		}
		return ok
	case typeMedium:
		m, ok := legacyMedium(version, b)
		t.Medium = m
		return ok
	default:
		if version != 0 || len(b) != 42 {
			return false
		}
		h, ok := readHigh(b[legacyHeader:])
		t.High = h
		return ok
	}
}

func legacyLow(version byte, b []byte) (*Low, bool) {
	l := &Low{Ingress: b[3] != 0, Slot: int(b[4]), TMM: int(b[5])}
	switch {
	case version == 0 && len(b) == 35: // TMOS 9.4, where the slot counts from 1
		l.VirtualServer = clean(b[19:])
	case version == 0 && len(b) == 22:
		l.Slot++
		l.VirtualServer = clean(b[6:])
	case version == 1 && len(b) == 7+int(b[6]):
		l.Slot++
		l.VirtualServer = clean(b[7:])
	default:
		return nil, false
	}
	return l, true
}

func legacyMedium(version byte, b []byte) (*Medium, bool) {
	u32, u64 := binary.BigEndian.Uint32, binary.BigEndian.Uint64
	switch {
	case version == 0 && len(b) == 8:
		return &Medium{HAUnit: b[3]}, true
	case version == 0 && len(b) == 21:
		return &Medium{Flow: uint64(u32(b[3:])), Peer: uint64(u32(b[7:])), Flags: uint64(u32(b[11:])), FlowType: b[15], HAUnit: b[16]}, true
	case len(b) < 29:
		return nil, false
	}
	m := &Medium{Flow: u64(b[3:]), Peer: u64(b[11:])}
	if version == 3 {
		if len(b) < 35 || len(b) != 35+int(b[34]) {
			return nil, false
		}
		m.Flags, m.FlowType, m.HAUnit, m.Priority = u64(b[19:]), b[27], b[28], b[33]
		return m, m.cause(b[34:])
	}
	m.Flags, m.FlowType, m.HAUnit = uint64(u32(b[19:])), b[23], b[24]
	switch {
	case version == 0 && len(b) == 29:
		return m, true
	case version == 1 && len(b) >= 30 && len(b) == 30+int(b[29]):
		return m, m.cause(b[29:])
	case version == 2 && len(b) >= 31 && len(b) == 31+int(b[30]):
		m.Priority = b[29]
		return m, m.cause(b[30:])
	}
	return nil, false
}
