package jobs

import (
	"slices"
)

// The units of a coordinated job are one to the schedule, a gang: they are handed
// out together, take all their places before any begins, and give them back when
// all have ended. So two of them can never wait for each other's places.
//
// A gang needs many places at once, and a schedule that fills each place as it
// becomes free would never have them all. The gang that is first in line
// therefore holds them: what others may have is less by what it needs, and it
// begins when what is in its way has ended. Only one gang holds places at a time,
// and after each of them work of the other kind has a turn, so neither starves.

// gangOf makes one unit of all units of a job.
func gangOf(j *activeJob, members []*unit) *unit {
	g := &unit{job: j, name: "all", members: members, open: true}
	for _, u := range members {
		g.devices = append(g.devices, u.devices...)
		g.places = append(g.places, u.places...) // a site as often as it is needed
		if u.until.After(g.until) {
			g.until = u.until
		}
	}
	return g
}

// size is how many places the unit takes of all that there are.
func (u *unit) size() int { return max(1, len(u.members)) }

// nextGang gives the gang that can begin now. The first in line holds its places
// from now on.
func (s *schedule) nextGang() *unit {
	if s.held == nil {
		i := slices.IndexFunc(s.gangs, func(u *unit) bool { return !u.job.gate.shut })
		if i < 0 || s.gangLast && s.waits() {
			return nil
		}
		g := s.gangs[i]
		s.gangs = slices.Delete(s.gangs, i, i+1)
		s.hold(g)
	}
	if !s.fits(s.held) {
		return nil
	}
	g := s.held
	s.release()
	s.gangLast = true
	return g
}

// waits reports whether ordinary work waits for a place.
func (s *schedule) waits() bool {
	return slices.ContainsFunc(s.turn, func(j *activeJob) bool { return !j.gate.shut && j.ready > 0 })
}

// fits reports whether there is room for all of a gang.
func (s *schedule) fits(g *unit) bool {
	if s.running+g.size() > s.limits.Global {
		return false
	}
	need := make(map[string]int)
	for _, name := range g.places {
		need[name]++
	}
	for name, n := range need {
		if p := s.sites[name]; p != nil && p.used+n > s.limits.PerSite {
			return false
		}
	}
	for _, name := range g.devices {
		p := s.devices[name]
		if p != nil && (p.used >= s.limits.PerDevice || p.change && g.changes()) {
			return false
		}
	}
	return true
}

// hold keeps a gang's places from others.
func (s *schedule) hold(g *unit) {
	s.held = g
	for _, name := range g.places {
		placeOf(s.sites, name).held++
	}
	for _, name := range g.devices {
		p := placeOf(s.devices, name)
		p.held++
		p.heldChange = g.changes()
	}
}

// release ends hold. Those who were in want of the places ask anew.
func (s *schedule) release() {
	g := s.held
	s.held = nil
	for _, name := range g.places {
		p := s.sites[name]
		p.held--
		s.vacated(s.sites, name, p)
	}
	for _, name := range g.devices {
		p := s.devices[name]
		p.held--
		p.heldChange = false
		s.vacated(s.devices, name, p)
	}
}

// vacated returns those who were parked at a place, and forgets it when it is
// empty.
func (s *schedule) vacated(places map[string]*place, name string, p *place) {
	s.unpark(p)
	if p.used+p.held == 0 {
		delete(places, name)
	}
}

// standBack has a gang whose job is paused or gone give up what it holds. A
// paused one stays the first in line.
func (s *schedule) standBack(j *activeJob, gone bool) {
	if s.held != nil && s.held.job == j {
		g := s.held
		s.release()
		s.gangs = slices.Insert(s.gangs, 0, g)
	}
	if gone {
		s.gangs = slices.DeleteFunc(s.gangs, func(u *unit) bool { return u.job == j })
	}
}

// heldPlaces is how many places of all are held.
func (s *schedule) heldPlaces() int {
	if s.held == nil {
		return 0
	}
	return s.held.size()
}

// tooLarge says which limit a coordinated request can never keep, "" for none.
func (l Limits) tooLarge(targets []Target) (limit string, need, have int) {
	units, sites := make(map[string]struct{}), make(map[string]map[string]struct{})
	for _, t := range targets {
		units[t.unit()] = struct{}{}
		if sites[t.Site] == nil {
			sites[t.Site] = make(map[string]struct{})
		}
		sites[t.Site][t.unit()] = struct{}{}
	}
	if len(units) > l.Global {
		return "in all", len(units), l.Global
	}
	names := make([]string, 0, len(sites))
	for name := range sites {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if n := len(sites[name]); n > l.PerSite {
			return "at site " + name, n, l.PerSite
		}
	}
	return "", 0, 0
}
