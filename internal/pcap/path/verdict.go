package path

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"capfleet/internal/pcap/layers"
)

// verdict says in a sentence what the captures show.
func (a *analysis) verdict() Verdict {
	v := Verdict{Notes: []string{}}
	packets := 0
	for _, p := range a.places {
		packets += len(p.packets)
		switch {
		case p.failed != nil:
			v.note("the capture at %s could not be read to its end", p.Name)
		case !p.dropsKnown:
			v.note("nothing is known of packets that the capture at %s lost itself", p.Name)
		case p.drops > 0:
			v.note("the capture at %s lost %d packets itself", p.Name, p.drops)
		}
		if p.cut > 0 {
			v.note("of %s at %s not even the headers were captured, so that nobody can tell which they are", count(p.cut, "packet"), p.Name)
		}
	}
	if packets == 0 {
		v.Status, v.Sentence = Nothing, "No capture has a packet of a conversation."
		return v
	}
	loss, doubtful := a.firstLoss()
	switch {
	case loss != nil:
		v.lost(loss)
	case a.missed(a.places[len(a.places)-1].Name) == 0 && a.unanswered(&v):
	case doubtful != nil:
		v.Status, v.Direction, v.Last, v.Missing, v.Packets = Inconclusive, doubtful.Direction, doubtful.From, doubtful.To, doubtful.Lost+doubtful.Outside
		v.Sentence = fmt.Sprintf("Inconclusive: %s seen at %s %s not at %s, but %s.", count(v.Packets, "packet"), doubtful.From, isAre(v.Packets), doubtful.To, a.excuse(doubtful))
	case a.unanswered(&v):
		// The answer may be among what the capture lost.
		v.Status, v.Sentence = Inconclusive, "Inconclusive: "+v.Sentence
	default:
		v.Status, v.Sentence = Complete, "Every packet that was seen at one place was seen at the next, in both directions."
	}
	a.more(&v, loss)
	return v
}

func (v *Verdict) note(format string, args ...any) {
	v.Notes = append(v.Notes, fmt.Sprintf(format, args...))
}

func (v *Verdict) lost(l *Link) {
	v.Status, v.Direction, v.Last, v.Missing, v.Packets = Lost, l.Direction, l.From, l.To, l.Lost
	to := "to the server"
	if l.Direction == Reverse {
		to = "back to the client"
	}
	v.Sentence = fmt.Sprintf("Lost between %s and %s, on the way %s: %d of %s seen at %s did not come to %s.", l.From, l.To, to, l.Lost, count(l.Sent, "packet"), l.From, l.To)
}

// firstLoss gives the first link, in the order in which packets travel, that lost more
// than its captures can explain; and the first that lost anything at all.
func (a *analysis) firstLoss() (sure, doubtful *Link) {
	for _, l := range a.travel() {
		if l.Lost == 0 && (l.Outside == 0 || a.beside(l)) {
			continue
		}
		if l.Lost > a.missed(l.To) && sure == nil {
			sure = l
		} else if doubtful == nil {
			doubtful = l
		}
	}
	return sure, doubtful
}

// beside reports whether what fell outside the time of a capture is no more than what
// traffic that goes on has before and after it: it is told when it ran, and all that
// was to come then came. Where the time is taken from the packets themselves, it may
// have ended with the loss.
func (a *analysis) beside(l *Link) bool {
	for _, p := range a.places {
		if p.Name == l.To {
			return p.Began != nil && p.Ended != nil && l.Seen > 0
		}
	}
	return false
}

// travel gives the links in the order in which a question and its answer pass them.
func (a *analysis) travel() []*Link {
	var away, back []*Link
	for i := range a.links {
		if l := &a.links[i]; l.Direction == Forward {
			away = append(away, l)
		} else {
			back = append(back, l)
		}
	}
	slices.Reverse(back)
	return append(away, back...)
}

func (a *analysis) drops(hop string) uint64 {
	for _, p := range a.places {
		if p.Name == hop && p.dropsKnown {
			return p.drops
		}
	}
	return 0
}

// missed is how many packets may have come to a hop without being recognised there.
func (a *analysis) missed(hop string) uint64 {
	n := a.drops(hop)
	for _, p := range a.places {
		if p.Name == hop {
			n += p.cut
		}
	}
	return n
}

// excuse says why a loss proves nothing.
func (a *analysis) excuse(l *Link) string {
	var why []string
	if n := a.drops(l.To); l.Lost > 0 && n > 0 {
		why = append(why, fmt.Sprintf("the capture there lost %s itself", count(n, "packet")))
	}
	if n := a.missed(l.To) - a.drops(l.To); l.Lost > 0 && n > 0 {
		why = append(why, fmt.Sprintf("of %s there too little was captured to tell which they are", count(n, "packet")))
	}
	if l.Outside > 0 {
		why = append(why, fmt.Sprintf("it is not known to have run when %s must have come", count(l.Outside, "packet")))
	}
	return strings.Join(why, ", and ")
}

// unanswered looks for questions that came to the last place and got no answer from
// behind it, or a refusal.
func (a *analysis) unanswered(v *Verdict) bool {
	last := a.places[len(a.places)-1]
	pair := a.pairs[len(a.pairs)-1]
	silent, refused, asked := uint64(0), uint64(0), uint64(0)
	for _, s := range pair.streams {
		if s.far == nil || !s.away {
			continue
		}
		if last.endedBefore(last.packets[s.far.packets[0]].at) {
			continue // the answer may still have been to come
		}
		asked++
		back, ok := last.byTuple[s.far.tuple.reverse()]
		if !ok || len(last.flows[back].packets) == 0 {
			silent++
			continue
		}
		first := &last.packets[last.flows[back].packets[0]]
		if s.tcp() && first.flags&layers.RST != 0 {
			refused++
		}
	}
	switch {
	case silent > 0:
		v.Status, v.Direction, v.Last, v.Packets = Unanswered, Forward, last.Name, 0
		v.Sentence = fmt.Sprintf("%d of %s came to %s and got no answer: look behind it (is the service listening, is there a host firewall, a route back?).", silent, count(asked, "conversation"), last.Name)
		return true
	case refused > 0:
		v.Status, v.Direction, v.Last = Refused, Reverse, last.Name
		v.Sentence = fmt.Sprintf("%d of %s were refused from behind %s with a reset: nothing listens there, or it rejects.", refused, count(asked, "connection"), last.Name)
		return true
	}
	return false
}

// endedBefore reports whether a place is told to have ended before an answer to
// something at a time can be missed.
func (p *place) endedBefore(at int64) bool {
	const patience = int64(time.Second)
	return p.Ended != nil && at > p.Ended.UnixNano()-patience
}

// more adds what else one should know.
func (a *analysis) more(v *Verdict, said *Link) {
	for _, l := range a.travel() {
		if l != said && said != nil && l.Lost > 0 {
			v.note("%s also did not come from %s to %s", count(l.Lost, "packet"), l.From, l.To)
		}
		if l.Outside > 0 && v.Status != Inconclusive {
			v.note("%s from %s to %s fell outside the time that the capture at %s is known to have run", count(l.Outside, "packet"), l.From, l.To, l.To)
		}
		if l.Duplicated > 0 {
			v.note("%s came from %s to %s more than once", count(l.Duplicated, "packet"), l.From, l.To)
		}
	}
	for _, p := range a.pairs {
		if n := p.made(); n > 0 {
			v.note("%s begin between %s and %s: something there resets connections", count(n, "reset"), p.near.Name, p.far.Name)
		}
		switch c := &p.clock; {
		case c.oneWay:
			v.note("packets were seen in one direction only between %s and %s, so that their clocks cannot be told from the time of the way", p.near.Name, p.far.Name)
		case !c.known:
			v.note("no packet is at both %s and %s, so that nothing is known of their clocks", p.near.Name, p.far.Name)
		}
	}
	for _, p := range a.places {
		for _, q := range p.asked() {
			if q.Asked > 0 && q.Answered == 0 {
				v.note("at %s nobody answered who has %s (asked %s)", p.Name, q.Address, times(q.Asked))
			}
			if len(q.MACs) > 1 {
				v.note("at %s more than one host says that it has %s: %s", p.Name, q.Address, strings.Join(q.MACs, ", "))
			}
		}
	}
}

// made counts resets that one place of a pair has and the one before it, in their
// direction, has not.
func (p *pair) made() (n uint64) {
	for _, s := range p.streams {
		if !s.tcp() || s.near == nil || s.far == nil {
			continue
		}
		to, flow, pl := s.toFar, s.near, p.near // towards the client
		if s.away {
			to, flow, pl = s.toNear, s.far, p.far
		}
		for i, m := range to {
			if m == unmatched && pl.packets[flow.packets[i]].flags&layers.RST != 0 {
				n++
			}
		}
	}
	return n
}

func count(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func times(n uint64) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func isAre(n uint64) string {
	if n == 1 {
		return "is"
	}
	return "are"
}
