package tlsaudit

import (
	"slices"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/flow"
	"capfleet/internal/pcap/layers"
)

// marks are the packets of a window that may matter.
type marks struct {
	// slots has for each packet where in Audit.watched its fate lies: Always for those
	// among segments, which follow each other as their packets do.
	slots    []uint16
	segments []segment // with indexes in place of packet numbers
	copies   []byte    // of what they carry, made where the window is warm
}

// Sift marks the packets of a window that may matter.
func (a *Audit) Sift(w *pcap.Window, former any) any {
	m, ok := former.(*marks)
	if !ok {
		m = new(marks)
	}
	m.segments, m.copies = m.segments[:0], m.copies[:0]
	if n := w.Len(); cap(m.slots) < n {
		m.slots = make([]uint16, n)
	} else {
		m.slots = m.slots[:n]
	}
	var outlines [256]flow.Outline
	index := 0
	for _, run := range w.Runs() {
		for part := range slices.Chunk(run, len(outlines)) {
			flow.Outlines(w, part, outlines[:])
			slots := m.slots[index : index+len(part)]
			for i := range slots {
				o := &outlines[i]
				switch {
				case o.Flags()&(layers.SYN|layers.FIN|layers.RST) != 0 || mayBegin(o):
					slots[i] = a.slot(w, m, o, index+i, part[i])
				case o.Wire == 0:
					slots[i] = flow.Never
				default:
					slots[i] = flow.Slot(o.Hash)
				}
			}
			index += len(part)
		}
	}
	return m
}

// mayBegin is false only where begins is, and decided fast.
func mayBegin(o *flow.Outline) bool {
	const enough = 11 // for begins to tell
	if o.Captured < enough {
		return o.Captured > 0
	}
	if kind := o.First & 0xffff; kind == 0x0316 || kind == 0x0315 {
		return true
	}
	third := o.First >> 16 & 0xff
	return (third == 1 || third == 4) && o.First&0x80 != 0
}

// slot gives the slot of a packet at which an outline is not enough.
func (a *Audit) slot(w *pcap.Window, m *marks, o *flow.Outline, index int, at uint32) uint16 {
	var f flow.Segment
	b, wire := w.Frame(at)
	if !o.Peek(w.Link(), b, wire, &f) {
		return flow.Never
	}
	matter := matter(&f)
	switch matter {
	case never:
		return flow.Never
	case watched:
		return flow.Slot(f.Hash)
	}
	if len(m.segments) == cap(m.segments) {
		m.segments = slices.Grow(m.segments, 1)
	}
	m.segments = m.segments[:len(m.segments)+1]
	s := &m.segments[len(m.segments)-1]
	a.set(s, &f, matter)
	s.packet, s.time, s.hasTime = uint64(index), w.Time(at), true //nolint:gosec // an index
	begin := len(m.copies)
	m.copies = append(m.copies, f.Payload...)
	s.payload = m.copies[begin:len(m.copies):len(m.copies)]
	return flow.Always
}

// Take takes the packets of a window that matter.
func (a *Audit) Take(w *pcap.Window, sifted any) {
	m := sifted.(*marks) //nolint:forcetypeassert // what Sift gave
	segments, index := m.segments, 0
	for _, run := range w.Runs() {
		slots := m.slots[index : index+len(run)]
		for i := a.watched.Next(slots, 0); i < len(slots); i = a.watched.Next(slots, i+1) {
			if slots[i] != flow.Always {
				w.Packet(index+i, run[i], &a.packet)
				a.Packet(&a.packet)
				continue
			}
			s := &segments[0]
			segments = segments[1:]
			if a.wants(s.matters, s.hash) {
				s.packet += w.Before() + 1
				a.segment(s)
			}
		}
		index += len(run)
	}
}
