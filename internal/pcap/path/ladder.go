package path

import (
	"fmt"
	"slices"
	"strings"

	"capfleet/internal/pcap/layers"
)

// rung is one packet of a conversation with the places that saw it.
type rung struct {
	at   int64 // at the first place that saw it, by the first place's clock
	away bool
	text string
	seen []bool // by place
}

// ladder draws a conversation: the first that lost a packet, else the first. Packets
// that were cut otherwise on the way are drawn as one place has them.
func (a *analysis) ladder() string {
	t, ok := a.subject()
	if !ok {
		return ""
	}
	rungs := a.rungs(t)
	slices.SortStableFunc(rungs, func(x, y rung) int { return int(x.at - y.at) })
	var b strings.Builder
	const left, column = 34, 16
	fmt.Fprintf(&b, "%s and %s, %s\n", endpoint(t.src, t.srcPort), endpoint(t.dst, t.dstPort), protocolName(t.protocol))
	line := func(s string) { b.WriteString(strings.TrimRight(s, " ")); b.WriteByte('\n') }
	head := strings.Repeat(" ", left)
	for _, p := range a.places {
		head += fmt.Sprintf("%-*s", column, clip(p.Name, column-1))
	}
	line(head)
	for i, r := range rungs {
		if i == a.opts.Ladder {
			fmt.Fprintf(&b, "... and %d more\n", len(rungs)-i)
			break
		}
		text := fmt.Sprintf("%10.6f %-*s", float64(r.at-rungs[0].at)/1e9, left-12, clip(r.text, left-12))
		line(fmt.Sprintf("%-*s", left, text) + r.draw(column))
	}
	return b.String()
}

// draw gives the places as posts, with what went from one to the next between them.
func (r *rung) draw(column int) string {
	var b strings.Builder
	for i := range r.seen {
		b.WriteByte('|')
		if i+1 == len(r.seen) {
			break
		}
		from, to := r.seen[i], r.seen[i+1]
		if !r.away {
			from, to = to, from
		}
		width := column - 1
		switch {
		case from && to && r.away:
			b.WriteString(strings.Repeat("-", width-1) + ">")
		case from && to:
			b.WriteString("<" + strings.Repeat("-", width-1))
		case from && r.away:
			b.WriteString(strings.Repeat("-", width/2) + "x" + strings.Repeat(" ", width-width/2-1))
		case from:
			b.WriteString(strings.Repeat(" ", width-width/2-1) + "x" + strings.Repeat("-", width/2))
		case to && r.away:
			b.WriteString(strings.Repeat(" ", width/2) + "*" + strings.Repeat("-", width-width/2-2) + ">")
		case to:
			b.WriteString("<" + strings.Repeat("-", width-width/2-2) + "*" + strings.Repeat(" ", width/2))
		default:
			b.WriteString(strings.Repeat(" ", width))
		}
	}
	return b.String()
}

// subject gives the conversation to draw.
func (a *analysis) subject() (tuple, bool) {
	for _, p := range a.pairs {
		for _, s := range p.streams {
			if s.near != nil && slices.Contains(s.toFar, unmatched) {
				return s.near.tuple, true
			}
			if s.near == nil && s.far != nil {
				return s.far.tuple, true
			}
		}
	}
	for _, p := range a.places {
		if len(p.flows) > 0 {
			return p.flows[0].tuple, true
		}
	}
	return tuple{}, false
}

// rungs follows both directions of a conversation from place to place.
func (a *analysis) rungs(t tuple) (out []rung) {
	first := func(at int64, place int) int64 { // by the first place's clock
		for _, p := range slices.Backward(a.pairs[:place]) {
			at = p.clock.toNear(at)
		}
		return at
	}
	for _, way := range []tuple{t, t.reverse()} {
		// From the place that has it, towards both ends.
		start := slices.IndexFunc(a.places, func(p *place) bool { _, ok := p.byTuple[way]; return ok })
		if start < 0 {
			continue
		}
		known := map[[2]int32]int{}                 // place and index of a packet, to its rung
		flow := int32(a.places[start].byTuple[way]) //nolint:gosec // bounded by maxPackets
		for i := start; i < len(a.places) && flow >= 0; i++ {
			pl := a.places[i]
			s := a.streamOf(i, flow)
			for n, index := range pl.flows[flow].packets {
				k := &pl.packets[index]
				at, ok := known[[2]int32{int32(i), int32(n)}] //nolint:gosec // bounded by maxPackets
				if !ok {
					at = len(out)
					out = append(out, rung{at: first(k.at, i), text: describe(k, way), seen: make([]bool, len(a.places))})
				}
				out[at].seen[i] = true
				if s == nil {
					continue
				}
				out[at].away = s.away
				if s.far != nil && s.toFar[n] >= 0 {
					known[[2]int32{int32(i + 1), s.toFar[n]}] = at //nolint:gosec // bounded by maxPackets
				} else if s.far != nil && s.toFar[n] == covered {
					out[at].seen[i+1] = true
				}
			}
			if s == nil || s.far == nil {
				break
			}
			flow = a.indexOf(i+1, s.far)
		}
		if len(a.pairs) > 0 && start == len(a.places)-1 {
			for i := range out {
				if s := a.streamTo(start, int32(a.places[start].byTuple[way])); s != nil && out[i].seen[start] { //nolint:gosec // bounded by maxPackets
					out[i].away = s.away
				}
			}
		}
	}
	return out
}

// streamOf gives the stream that begins at a place with a flow.
func (a *analysis) streamOf(place int, flow int32) *stream {
	if place >= len(a.pairs) {
		return a.streamTo(place, flow)
	}
	f := &a.places[place].flows[flow]
	for _, s := range a.pairs[place].streams {
		if s.near == f {
			return s
		}
	}
	return nil
}

// streamTo gives the stream that ends at a place with a flow. Its far side is that
// place, so there is no further one.
func (a *analysis) streamTo(place int, flow int32) *stream {
	f := &a.places[place].flows[flow]
	for _, s := range a.pairs[place-1].streams {
		if s.far == f {
			return &stream{away: s.away}
		}
	}
	return nil
}

func (a *analysis) indexOf(place int, f *flow) int32 {
	if i, ok := a.places[place].byTuple[f.tuple]; ok {
		return int32(i) //nolint:gosec // bounded by maxPackets
	}
	return unmatched
}

func describe(k *packet, t tuple) string {
	switch {
	case t.protocol != layers.ProtoTCP || t.fragment:
		return fmt.Sprintf("%s %d bytes", protocolName(t.protocol), k.size)
	case k.size == 0:
		return flagNames(k.flags)
	}
	return fmt.Sprintf("%d bytes %s", k.size, strings.Replace(flagNames(k.flags), "ACK", "", 1))
}

func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return s[:most]
}
