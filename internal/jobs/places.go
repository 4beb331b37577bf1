package jobs

import "slices"

// place is a site or a device.
type place struct {
	used   int
	silent int  // of them in the silent lane (sites only)
	preps  int  // of them that are only prepared (sites only)
	held   int  // for a gang that is to begin
	change bool // one of them is a change (devices only)
	parked []*unit

	heldChange bool // what is held is for a change (devices only)
}

// full gives the first place that has no room for a unit.
func (s *schedule) full(u *unit) *place {
	if u.phase == PhasePrepare && s.preps.used >= forPreparing(s.limits.Global) {
		return &s.preps
	}
	for _, name := range u.places {
		p := s.sites[name]
		if s.siteFull(name, u.lane) || p != nil && u.phase == PhasePrepare && p.preps >= forPreparing(s.limits.PerSite) {
			return p
		}
	}
	for _, name := range u.devices {
		p := s.devices[name]
		if p != nil && (p.used+p.held >= s.limits.PerDevice || (p.change || p.heldChange) && u.changes()) {
			return p
		}
	}
	return nil
}

// siteFull reports whether a site has no room for a unit of a lane.
func (s *schedule) siteFull(name string, l lane) bool {
	p := s.sites[name]
	return p != nil && (p.used+p.held >= s.limits.PerSite || l == silentLane && p.silent >= share(s.limits.PerSite))
}

// placeOf gives a place that is about to be used.
func placeOf(places map[string]*place, name string) *place {
	p := places[name]
	if p == nil {
		p = &place{}
		places[name] = p
	}
	return p
}

// take gives a unit its places.
func (s *schedule) take(u *unit) {
	u.queued = false
	u.job.running[u] = struct{}{}
	s.running += u.size()
	s.sinceSilent++
	if u.lane == silentLane {
		s.silent++
		s.sinceSilent = 0
	}
	if u.phase == PhasePrepare {
		s.preps.used++
	}
	for _, name := range u.places {
		p := placeOf(s.sites, name)
		p.used++
		if u.phase == PhasePrepare {
			p.preps++
		}
		if u.lane == silentLane {
			p.silent++
		}
	}
	for _, name := range u.devices {
		p := placeOf(s.devices, name)
		p.used++
		p.change = p.change || u.changes()
	}
}

// free takes a unit's places back and returns those who were parked at them to
// their queues.
func (s *schedule) free(u *unit) {
	delete(u.job.running, u)
	s.running -= u.size()
	if u.lane == silentLane {
		s.silent--
	}
	if u.phase == PhasePrepare {
		s.preps.used--
		s.unparkSome(&s.preps, unparkedAtOnce)
	}
	for _, name := range u.places {
		p := s.sites[name]
		p.used--
		if u.phase == PhasePrepare {
			p.preps--
		}
		if u.lane == silentLane {
			p.silent--
		}
		s.vacated(s.sites, name, p)
	}
	for _, name := range u.devices {
		p := s.devices[name]
		p.used--
		if u.changes() {
			p.change = false
		}
		s.vacated(s.devices, name, p)
	}
}

// unpark returns units to the front of their queues, in the order in which they
// came.
func (s *schedule) unpark(p *place) { s.unparkSome(p, len(p.parked)) }

// unparkedAtOnce bounds the units that one place brings back of those, perhaps
// thousands, that wait for it; what these do not take is offered when they end.
const unparkedAtOnce = 64

func (s *schedule) unparkSome(p *place, most int) {
	n := min(most, len(p.parked))
	for _, u := range slices.Backward(p.parked[:n]) {
		u.lane = s.laneOf(u)
		q := &u.queue().lanes[u.lane]
		q.returned = append(q.returned, u)
	}
	if p.parked = p.parked[n:]; len(p.parked) == 0 {
		p.parked = nil
	}
}

// forPreparing is how many places of a limit units may have that are only prepared:
// an upload can take long, and what it is for must not wait for it.
func forPreparing(limit int) int { return max(1, limit-max(1, limit/4)) }
