// Package ipfix reads the flow records of IPFIX messages (RFC 7011) in UDP packets of
// a capture.
//
// The exporter is authoritative about what its records mean: its templates say, and
// come in the same stream. They are learned as they come; a record that comes before
// its template waits for it, within a bound. Everything is hostile: lengths are
// checked, and what does not add up is counted and skipped with its message.
package ipfix

import (
	"encoding/binary"
	"net/netip"
	"time"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/layers"
)

// Record is one data record.
type Record struct {
	Packet    uint64     `json:"packet"`
	Time      *time.Time `json:"time"` // of the packet
	Exported  time.Time  `json:"export_time"`
	Exporter  string     `json:"exporter"` // address:port
	Collector string     `json:"collector"`
	Domain    uint32     `json:"observation_domain"`
	Sequence  uint32     `json:"sequence"` // of the message
	Template  uint16     `json:"template"`
	// Scope has the scope of an options record, else it is nil.
	Scope map[string]any `json:"scope,omitempty"`
	// Fields has the values by the names of IANA's registry, "enterprise/number" for
	// elements of enterprises and "number" for unknown ones. A name that is there more
	// than once has a list of its values.
	Fields map[string]any `json:"fields"`
}

// Summary counts what was read.
type Summary struct {
	Packets  uint64 `json:"packets"`
	Messages uint64 `json:"messages"`
	Records  uint64 `json:"records"`
	// Templates were learned, repetitions included.
	Templates uint64 `json:"templates"`
	// Untold sets came without a template that says what they mean.
	Untold uint64 `json:"sets_without_template"`
	// Malformed messages did not add up; what was before the fault in them counts.
	Malformed uint64 `json:"malformed_messages"`
	// Missing records are those that the sequence numbers say were sent and the capture
	// does not have.
	Missing uint64 `json:"missing_records"`
	// Cut messages were captured in part, or in fragments.
	Cut uint64 `json:"cut_messages"`
}

// Bounds of what is kept.
const (
	maxSessions  = 1 << 16
	maxTemplates = 1 << 16 // of all sessions
	maxWaiting   = 16 << 20
	maxDepth     = 4 // of lists in lists
)

// Decoder reads packet after packet. It is not safe for concurrent use.
type Decoder struct {
	// Port is the collector's UDP port; 0 is every port on which what looks like a
	// message is sent.
	Port uint16

	give      func(*Record) error
	summary   Summary
	sessions  map[session]*state
	templates int
	waiting   int // bytes
	frame     layers.Frame
}

// session is a stream of messages with templates of its own.
type session struct {
	exporter, collector netip.AddrPort
	domain              uint32
}

type state struct {
	templates map[uint16]*template
	waiting   []waiting
	next      uint32 // the sequence number that is expected
	begun     bool
	untold    bool // some records could not be counted
}

// waiting is a set without a template yet.
type waiting struct {
	id   uint16
	data []byte
	from origin
}

// origin says where a set was.
type origin struct {
	header
	packet uint64
	time   *time.Time
}

// New gives a decoder that calls give for each record; an error of it ends the
// decoding. The record belongs to give.
func New(give func(*Record) error) *Decoder {
	return &Decoder{give: give, sessions: map[session]*state{}}
}

// Summary counts what was read so far. Sets that still wait count as untold.
func (d *Decoder) Summary() Summary {
	s := d.summary
	for _, st := range d.sessions {
		s.Untold += uint64(len(st.waiting))
	}
	return s
}

// Packet reads the message in a packet, where there is one. Its error is that of
// give.
func (d *Decoder) Packet(p *pcap.Packet) error {
	d.summary.Packets++
	f := &d.frame
	layers.Decode(p.Link, p.Data, p.Length, f)
	if f.Version == 0 || f.Protocol != layers.ProtoUDP || f.FragmentOffset != 0 || d.Port != 0 && f.DstPort != d.Port {
		return nil
	}
	b := f.PayloadBytes()
	if !f.HasTransport || f.Fragment || len(b) < f.PayloadLength {
		if len(b) >= headerSize && binary.BigEndian.Uint16(b) == version && (d.Port != 0 || f.DstPort == 4739) {
			d.summary.Cut++
		}
		return nil
	}
	if !looksLikeMessage(b) {
		return nil
	}
	at := origin{header: readHeader(b), packet: p.Number}
	if p.HasTime {
		t := p.Time.Time()
		at.time = &t
	}
	key := session{netip.AddrPortFrom(f.Source(), f.SrcPort), netip.AddrPortFrom(f.Destination(), f.DstPort), at.domain}
	return d.message(key, at, b[headerSize:])
}

func (d *Decoder) message(key session, at origin, b []byte) error {
	st, ok := d.sessions[key]
	if !ok {
		if len(d.sessions) >= maxSessions {
			d.summary.Malformed++ // no exporter has so many domains
			return nil
		}
		st = &state{templates: map[uint16]*template{}}
		d.sessions[key] = st
	}
	d.summary.Messages++
	if missing := at.sequence - st.next; st.begun && !st.untold && missing != 0 && missing < 1<<31 {
		d.summary.Missing += uint64(missing)
	}
	st.begun, st.untold = true, false
	before := d.summary.Records
	m := message{d: d, key: key, st: st, at: at}
	err := m.sets(b)
	st.next = at.sequence + uint32(d.summary.Records-before-m.late) //nolint:gosec // a message has fewer
	if m.malformed {
		d.summary.Malformed++
		st.untold = true
	}
	return err
}

// message is one message on its way.
type message struct {
	d         *Decoder
	key       session
	st        *state
	at        origin
	malformed bool
	late      uint64 // records of earlier messages that were given with this one
}

func (m *message) sets(b []byte) error {
	for len(b) >= setHeaderSize {
		id, size := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if size < setHeaderSize || size > len(b) {
			m.malformed = true
			return nil
		}
		body := b[setHeaderSize:size]
		b = b[size:]
		switch {
		case id == setTemplates || id == setOptions:
			if err := m.learn(body, id); err != nil {
				return err
			}
		case id < firstData:
			m.malformed = true // 4 to 255 are reserved
		default:
			if err := m.data(id, body); err != nil {
				return err
			}
		}
	}
	m.malformed = m.malformed || len(b) > 0
	return nil
}

// learn keeps the templates of a set, and reads what waited for them.
func (m *message) learn(body []byte, set uint16) error {
	var learned []uint16
	err := readTemplates(body, set == setOptions, func(id uint16, t *template) {
		had := m.st.templates[id] != nil
		switch {
		case t != nil && (had || m.d.templates < maxTemplates):
			m.st.templates[id] = t
			m.d.summary.Templates++
			learned = append(learned, id)
			if !had {
				m.d.templates++
			}
		case t == nil && had:
			delete(m.st.templates, id)
			m.d.templates--
		}
	})
	m.malformed = m.malformed || err != nil
	for _, id := range learned {
		if err := m.redeem(id); err != nil {
			return err
		}
	}
	return nil
}

// redeem reads the sets that waited for a template.
func (m *message) redeem(id uint16) error {
	kept := m.st.waiting[:0]
	var ready []waiting
	for _, w := range m.st.waiting {
		if w.id == id {
			ready = append(ready, w)
			m.d.waiting -= len(w.data)
		} else {
			kept = append(kept, w)
		}
	}
	m.st.waiting = kept
	before := m.d.summary.Records
	for _, w := range ready {
		if err := m.records(m.st.templates[id], w.id, w.data, w.from); err != nil {
			return err
		}
	}
	m.late += m.d.summary.Records - before
	return nil
}

func (m *message) data(id uint16, body []byte) error {
	t := m.st.templates[id]
	if t != nil {
		return m.records(t, id, body, m.at)
	}
	m.st.untold = true // so many records are not known
	if m.d.waiting+len(body) > maxWaiting {
		m.d.summary.Untold++
		return nil
	}
	m.d.waiting += len(body)
	m.st.waiting = append(m.st.waiting, waiting{id, append([]byte(nil), body...), m.at})
	return nil
}

// records reads the records of a set. What is left over and shorter than a record is
// padding.
func (m *message) records(t *template, id uint16, b []byte, from origin) error {
	for len(b) >= t.least {
		r := &Record{Packet: from.packet, Time: from.time, Exported: from.exported, Exporter: m.key.exporter.String(), Collector: m.key.collector.String(),
			Domain: m.key.domain, Sequence: from.sequence, Template: id}
		var err error
		if r.Scope, r.Fields, b, err = m.record(t, b, 0); err != nil {
			m.malformed = true
			return nil //nolint:nilerr // the message is counted, and the next one read
		}
		m.d.summary.Records++
		if err := m.d.give(r); err != nil {
			return err
		}
	}
	return nil
}

// record reads one record.
func (m *message) record(t *template, b []byte, depth int) (scope, fields map[string]any, rest []byte, err error) {
	fields = make(map[string]any, len(t.fields))
	if t.scope > 0 {
		scope = make(map[string]any, t.scope)
	}
	for i, f := range t.fields {
		value, left, err := f.value(b)
		if err != nil {
			return nil, nil, nil, err
		}
		b = left
		name, k := f.name()
		if k == padding {
			continue
		}
		into := fields
		if i < t.scope {
			into = scope
		}
		add(into, name, m.value(k, value, depth))
	}
	return scope, fields, b, nil
}

// add puts a value under a name, or makes a list of it and those before.
func add(into map[string]any, name string, value any) {
	old, again := into[name]
	if !again {
		into[name] = value
		return
	}
	if l, ok := old.(repeated); ok {
		into[name] = append(l, value)
		return
	}
	into[name] = repeated{old, value}
}

// repeated are the values of an element that a record has more than once, as distinct
// from an element that is a list.
type repeated []any

// value reads a value, lists included.
func (m *message) value(k kind, b []byte, depth int) any {
	if depth < maxDepth {
		var list any
		ok := false
		switch k {
		case basicList:
			list, ok = m.basicList(b, depth+1)
		case subTemplateList:
			list, ok = m.subTemplateList(b, depth+1)
		case subTemplateMultiList:
			list, ok = m.subTemplateMultiList(b, depth+1)
		}
		if ok {
			return list
		}
	}
	return k.value(b)
}
