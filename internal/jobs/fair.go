package jobs

import (
	"slices"

	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// A unit on a device that is dead holds its places for as long as a connection
// takes to time out, and gives nothing. So that thousands of them do not hold up
// one on a device that lives, the schedule remembers how the last contact with
// each device ended:
//
//   - Units with a silent device have a lane of their own. They have at most half
//     of all places and half of a site's, so the other half is always left to
//     devices that answer or are not known yet.
//   - In the order of a job, devices that answered last time come first, then those
//     that nobody has tried.
//   - Neither lane starves: the silent have a turn in every few hand-outs, as far as
//     their share has room, and a device that answers leaves their lane at once.
//
// A device that nobody has tried is taken for alive: a new fleet is not worked on
// with half of the places. So 10,000 dead devices that nobody knew of can hold up
// another job for one connection timeout, once.

// contact is how the last contact with a device ended.
type contact byte

const (
	unknown contact = iota // nobody has tried
	heard                  // it answered, if only to refuse
	silent                 // it did not
)

// contactOf says what an ending tells about the device; ok is false when it tells
// nothing.
func contactOf(f *Failure) (c contact, ok bool) {
	switch {
	case f == nil || reached(f.Kind):
		return heard, true
	case f.Kind == fault.Unreachable || f.Kind == fault.Timeout:
		return silent, true
	default:
		return unknown, false
	}
}

// contacts reads how the last contact with each device ended.
func (e *Engine) contacts() (map[string]contact, error) {
	all := make(map[string]contact)
	err := e.ledger.View(func(tx *ledger.Tx) error {
		return each(tx, nsDevices, nil, nil, func(k []byte, d DeviceFacts) bool {
			switch {
			case d.Silent:
				all[string(k)] = silent
			case d.LastSeen != nil:
				all[string(k)] = heard
			}
			return true
		})
	})
	return all, err
}

// lane is one of the two that a unit can wait in.
type lane int

const (
	mainLane lane = iota
	silentLane
	lanes
)

// silentEvery is after how many hand-outs of the main lane the silent one is asked
// first.
const silentEvery = 7

// share is what units of the silent lane may have of a limit.
func share(limit int) int { return max(1, limit/2) }

// laneOf is where a unit belongs by what is known now.
func (s *schedule) laneOf(u *unit) lane {
	if u.job.beside {
		return mainLane
	}
	for _, d := range u.devices {
		if s.contacts[d] == silent {
			return silentLane
		}
	}
	return mainLane
}

// order is the order in which the lanes are asked for the next unit. The silent
// one is last in any case: asking the main one may move units there.
func (s *schedule) order() []lane {
	if s.sinceSilent >= silentEvery {
		return []lane{silentLane, mainLane, silentLane}
	}
	return []lane{mainLane, silentLane}
}

// answeredFirst puts units whose devices all answered last time before the
// others, and keeps the order within both.
func (s *schedule) answeredFirst(units []*unit) {
	answered := func(u *unit) bool {
		return !slices.ContainsFunc(u.devices, func(d string) bool { return s.contacts[d] != heard })
	}
	slices.SortStableFunc(units, func(a, b *unit) int {
		switch x, y := answered(a), answered(b); {
		case x == y:
			return 0
		case x:
			return -1
		default:
			return 1
		}
	})
}

// learn takes up how contacts ended. Units of a device that answers again leave
// the silent lane; those of one that fell silent are moved when their turn comes.
func (s *schedule) learn(news map[string]contact) {
	back := false
	for device, c := range news {
		back = back || c == heard && s.contacts[device] == silent
		s.contacts[device] = c
	}
	if !back {
		return
	}
	for _, p := range s.sites {
		s.unpark(p) // the site may have had no room for the silent alone
	}
	for _, j := range s.turn {
		for _, q := range j.sites {
			for _, list := range []*[]*unit{&q.lanes[silentLane].returned, &q.lanes[silentLane].units} {
				*list = slices.DeleteFunc(*list, func(u *unit) bool {
					out := s.laneOf(u) == mainLane
					if out {
						q.lanes[mainLane].push(u)
					}
					return out
				})
			}
		}
	}
}

// tell adds how the contact with a device ended.
func (o *outcome) tell(device string, c contact) {
	if o.news == nil {
		o.news = make(map[string]contact)
	}
	o.news[device] = c
}

// queue holds units that may run now. Those that a place has returned go first.
type queue struct {
	returned []*unit // last in, first out
	units    []*unit
}

func (q *queue) len() int { return len(q.returned) + len(q.units) }

func (q *queue) push(u *unit) { q.units = append(q.units, u) }

func (q *queue) pop() *unit {
	if n := len(q.returned); n > 0 {
		u := q.returned[n-1]
		q.returned = q.returned[:n-1]
		return u
	}
	u := q.units[0]
	q.units[0] = nil
	q.units = q.units[1:]
	return u
}
