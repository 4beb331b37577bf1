// Package merge makes one pcapng file of several captures, in order of time.
//
// The captures are authoritative about their packets, the caller about how far
// each clock is off. Files of one ring, whose ends overlap because the next was
// begun before the last was ended, are given as parts of one source: what two of
// them hold both is written once.
//
// Memory is one packet of each part, and what is remembered of the packets of one
// moment of a source.
package merge

import (
	"container/heap"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"capfleet/internal/pcap"
)

// Source is one place that captured: a device, or an interface of it.
type Source struct {
	// Name is what the interfaces of the result are called by.
	Name string
	// Offset is added to each time: what the other clocks were ahead of this one.
	Offset time.Duration
	// Parts are the captures of it, in any order. More than one is a ring.
	Parts []Part
	// Slack is by how much two parts may differ in the time of one packet: captures
	// that ran at once each took their own.
	Slack time.Duration
}

// Part is one file of a source.
type Part struct {
	Name string
	// Capture is read from its beginning to its end, and not closed.
	Capture io.Reader
}

// Result is what was merged.
type Result struct {
	Packets uint64       `json:"packets"` // written
	First   *time.Time   `json:"first_time"`
	Last    *time.Time   `json:"last_time"`
	Parts   []PartResult `json:"parts"` // in the order in which they were given
}

// PartResult is what became of one part.
type PartResult struct {
	Source string `json:"source"`
	File   string `json:"file"`
	// Packets were read; Repeated of them are in another part of the source and
	// were written once.
	Packets  uint64 `json:"packets"`
	Repeated uint64 `json:"repeated"`
	// Untimed packets have no time and so no place in the result.
	Untimed uint64 `json:"untimed"`
	// Disorder counts packets that are older than the one before them in the part.
	// They are in the result where they are in the part, so that it is not in order
	// of time there.
	Disorder uint64 `json:"disorder"`
	// Error is why reading ended before the end of the part.
	Error string `json:"error,omitempty"`
}

// Merge writes the packets of all sources. What cannot be read of a part is in its
// result and in the error, which then joins an error a part; everything else is
// merged all the same. An error of the writer ends it.
func Merge(ctx context.Context, sources []Source, w *pcap.NGWriter) (Result, error) {
	m := merger{out: w}
	var failed error
	for s := range sources {
		src := &source{Source: sources[s], interfaces: map[port]int{}, seen: map[identity]*copies{}}
		for _, part := range sources[s].Parts {
			m.result.Parts = append(m.result.Parts, PartResult{Source: src.Name, File: part.Name})
			h := &head{source: src, index: len(m.result.Parts) - 1, interfaces: map[int]int{}}
			var err error
			if h.reader, err = pcap.NewReader(part.Capture, pcap.ReaderOptions{}); err == nil {
				err = m.advance(h)
			}
			failed = errors.Join(failed, m.give(h, err))
		}
	}
	heap.Init(&m.heads)
	for n := 0; len(m.heads) > 0; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return m.result, context.Cause(ctx)
		}
		h := m.heads[0]
		if err := m.write(h); err != nil {
			return m.result, err
		}
		err := m.advance(h)
		if err == nil {
			heap.Fix(&m.heads, 0)
			continue
		}
		heap.Pop(&m.heads)
		failed = errors.Join(failed, m.ended(h, err))
	}
	return m.result, failed
}

// source is a Source with its interfaces in the result, and what was written of its
// present moment, or of the time within its slack.
type source struct {
	Source
	interfaces map[port]int
	seen       map[identity]*copies
	recent     []sighting // of what is in seen, the oldest first
}

// sighting is when a packet was last come by.
type sighting struct {
	identity
	at pcap.Timestamp
}

// port is what makes interfaces of two parts the same.
type port struct {
	name, filter string
	link         pcap.LinkType
	snap         uint32
}

// identity is what makes packets of one moment the same: their bytes, by digest.
type identity struct {
	link   pcap.LinkType
	length uint32
	data   [sha256.Size]byte
}

// copies counts how often a packet was written, and how often each part has had
// it, by its index in the result. A part's own repetitions are packets of their own.
type copies struct {
	at      pcap.Timestamp // of the last one
	written int
	had     map[int]int
}

// head is a part with its next packet.
type head struct {
	source     *source
	index      int // into Result.Parts
	reader     *pcap.Reader
	packet     pcap.Packet
	at         pcap.Timestamp // with the source's offset
	any        bool
	interfaces map[int]int // those of the part, in the result
}

type merger struct {
	out    *pcap.NGWriter
	heads  heads
	result Result
}

// give takes a part into the heap, or notes why there is nothing of it.
func (m *merger) give(h *head, err error) error {
	if err != nil {
		return m.ended(h, err)
	}
	m.heads = append(m.heads, h)
	return nil
}

// advance reads the part's next packet that has a time.
func (m *merger) advance(h *head) error {
	part := &m.result.Parts[h.index]
	for {
		before := h.at
		if err := h.reader.Next(&h.packet); err != nil {
			return err
		}
		part.Packets++
		if !h.packet.HasTime {
			part.Untimed++
			continue
		}
		h.at = h.packet.Time.Add(h.source.Offset)
		if h.any && h.at.Compare(before) < 0 {
			part.Disorder++
		}
		h.any = true
		return nil
	}
}

// ended notes how a part ended, and carries over what it said of drops.
func (m *merger) ended(h *head, err error) error {
	part := &m.result.Parts[h.index]
	var failed error
	if !errors.Is(err, io.EOF) {
		part.Error = err.Error()
		failed = fmt.Errorf("%s: %w", part.File, err)
	}
	if part.Untimed > 0 {
		failed = errors.Join(failed, fmt.Errorf("%s: %d packets have no time and were left out", part.File, part.Untimed))
	}
	if h.reader == nil {
		return failed
	}
	for from, i := range h.reader.Interfaces() {
		if to, ok := h.interfaces[from]; ok && (i.HasReceived || i.HasDropped) {
			failed = errors.Join(failed, m.out.Statistics(to, h.at, i))
		}
	}
	return failed
}

// write writes the head's packet, unless another part of its source had it.
func (m *merger) write(h *head) error {
	if len(h.source.Parts) > 1 && h.source.repeated(h) {
		m.result.Parts[h.index].Repeated++
		return nil
	}
	id, err := m.port(h)
	if err != nil {
		return err
	}
	p := h.packet
	p.Time, p.Interface = h.at, id
	if err := m.out.Write(&p); err != nil {
		return err
	}
	at := h.at.Time()
	if m.result.First == nil || at.Before(*m.result.First) {
		m.result.First = &at
	}
	if m.result.Last == nil || at.After(*m.result.Last) {
		m.result.Last = &at
	}
	m.result.Packets++
	return nil
}

// port gives the interface in the result of the head's packet; it is described
// there when its first packet comes.
func (m *merger) port(h *head) (int, error) {
	if id, ok := h.interfaces[h.packet.Interface]; ok {
		return id, nil
	}
	i := h.reader.Interfaces()[h.packet.Interface]
	key := port{i.Name, i.Filter, i.Link, i.SnapLen}
	id, ok := h.source.interfaces[key]
	if !ok {
		i.Name = named(h.source.Name, i.Name)
		var err error
		if id, err = m.out.AddInterface(i); err != nil {
			return 0, err
		}
		h.source.interfaces[key] = id
	}
	h.interfaces[h.packet.Interface] = id
	return id, nil
}

func named(source, name string) string {
	switch {
	case name == "" || name == source:
		return source
	case source == "":
		return name
	}
	return source + " " + name
}

// repeated reports whether another part of the source had the packet, and counts
// it. Packets come in order of time, since the heap is.
func (s *source) repeated(h *head) bool {
	for len(s.recent) > 0 && s.recent[0].at.Add(s.Slack).Compare(h.at) < 0 {
		old := s.recent[0]
		s.recent = s.recent[1:]
		if c := s.seen[old.identity]; c != nil && c.at == old.at {
			delete(s.seen, old.identity)
		}
	}
	id := identity{h.packet.Link, h.packet.Length, sha256.Sum256(h.packet.Data)}
	s.recent = append(s.recent, sighting{id, h.at})
	c, ok := s.seen[id]
	if !ok {
		s.seen[id] = &copies{at: h.at, written: 1, had: map[int]int{h.index: 1}}
		return false
	}
	c.at = h.at
	c.had[h.index]++
	if c.had[h.index] <= c.written {
		return true
	}
	c.written++
	return false
}

// heads is a heap of parts by the time of their next packet, then in the order in
// which they were given.
type heads []*head

func (h heads) Len() int { return len(h) }

func (h heads) Less(i, j int) bool {
	if c := h[i].at.Compare(h[j].at); c != 0 {
		return c < 0
	}
	return h[i].index < h[j].index
}

func (h heads) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *heads) Push(x any)   { *h = append(*h, x.(*head)) }

func (h *heads) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	(*h)[last], *h = nil, (*h)[:last]
	return x
}
