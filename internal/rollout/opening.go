package rollout

import "time"

// opening is when a unit may be begun.
type opening struct {
	open   bool
	latest time.Time // open: the last moment to begin it; zero is no bound
	until  time.Time // shut: when it opens
	never  bool      // shut for good
	window string    // that it is about, for people
}

// opening says whether a unit may be begun at a moment, as far as time goes. Since is
// from when windows count that come only once.
func (p *Plan) opening(i int, since, now time.Time) opening {
	worst, zone := p.Units[i].Worst, p.zones[i]
	if len(p.Policy.Windows) == 0 {
		return p.within(span{}, worst, now)
	}
	best := opening{never: true}
	for _, w := range p.Policy.Windows {
		o := p.opens(w, zone, worst, since, now)
		o.window = w.String()
		switch {
		case o.never:
			if best.never && len(p.Policy.Windows) == 1 {
				best.window = o.window
			}
		case o.open && (!best.open || o.latest.After(best.latest)),
			!o.open && !best.open && (best.never || o.until.Before(best.until)):
			best = o
		}
	}
	return best
}

// opens is opening for one window.
func (p *Plan) opens(w Window, zone *time.Location, worst time.Duration, since, now time.Time) opening {
	if !p.Policy.ResumeWindow {
		return p.within(w.occurrence(zone, later(since, p.Policy.Start)), worst, now)
	}
	if worst > w.length {
		return opening{never: true}
	}
	for after := later(now, p.Policy.Start); ; {
		s := w.occurrence(zone, after)
		if o := p.within(s, worst, now); !o.never {
			return o
		}
		if end := p.Policy.End; !end.IsZero() && !s.end.Before(end) {
			return opening{never: true}
		}
		after = s.end
	}
}

// within is opening for one span of time, of which a side that is zero has no bound.
func (p *Plan) within(s span, worst time.Duration, now time.Time) opening {
	start, end := later(s.start, p.Policy.Start), s.end
	if e := p.Policy.End; end.IsZero() || !e.IsZero() && e.Before(end) {
		end = e
	}
	latest := time.Time{}
	if !end.IsZero() {
		latest = end.Add(-worst)
		if now.After(latest) || start.After(latest) {
			return opening{never: true}
		}
	}
	if start.After(now) {
		return opening{until: start}
	}
	return opening{open: true, latest: latest}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
