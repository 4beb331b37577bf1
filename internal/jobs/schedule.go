package jobs

import (
	"container/heap"
	"maps"
	"slices"
	"time"

	"capfleet/internal/rollout"
)

const (
	accessRead   = "read"
	accessChange = "change"
)

// schedule is the active set: the unfinished units and the places that running
// ones take. It decides and remembers, and does nothing else: no clock, no
// storage, no goroutine. The goroutine of Run owns it.
//
// A unit takes a place globally, one at each site that it has a device at, and
// one on each device; a change is also the only change on its devices, but not while
// it is only prepared. A unit that was begun before goes first. Otherwise jobs take
// turns, and within a job its sites do, so that neither a large job nor a site
// without room holds up the others; devices that do not answer have a share of
// their own (fair.go). Units that a device has no room for are
// parked at the device, which returns them when it has; picking a unit thus does
// not grow with the number that waits.
type schedule struct {
	limits  Limits
	running int
	silent  int // of them in the silent lane
	sites   map[string]*place
	devices map[string]*place

	gangs    []*unit // of coordinated jobs, first in line first
	held     *unit   // the gang that holds places; not in gangs
	gangLast bool    // the last hand-out was a gang

	contacts    map[string]contact // by device
	sinceSilent int                // hand-outs of the main lane

	jobs   map[number]*activeJob
	turn   []*activeJob // in the order in which they are asked next
	due    dueHeap      // units that wait for a time
	urgent []*unit      // that were begun before, first come first
	preps  place        // units that are only prepared, and those that wait for others of them

	out   map[string]int // units of rollouts that are out, by link
	notes []note         // for the ledger
	cuts  []*unit        // whose preparation is to be stopped
}

// activeJob is a job with unfinished units.
type activeJob struct {
	id        number
	operation string
	access    string
	spec      []byte
	round     int // of retries; a later one replaces what is left of an earlier
	open      int // units not done
	ready     int // ordinary units that wait for a place
	gate      gate
	canceled  error // why only units that are held go on
	// together says that all units are handed out as one.
	together bool
	beside   bool // not the devices are asked

	wave    int             // whose units may run
	left    int             // units of it not done
	later   map[int][]*unit // those of the waves after it
	roll    *roll           // what goes by a rollout has no waves here
	sites   []*siteQueue    // what may run now; in the order in which they are asked next
	running map[*unit]struct{}
	held    map[*unit]struct{} // those that must be brought to their end
	units   map[string]*unit   // while tasks are gathered
}

// siteQueue holds the units of one site in a job that may run now.
type siteQueue struct {
	site  string
	lanes [lanes]queue
}

func (q *siteQueue) len() int { return q.lanes[mainLane].len() + q.lanes[silentLane].len() }

// unit is an unfinished unit.
type unit struct {
	job     *activeJob
	name    string
	devices []string // all of the unit, those whose tasks are final too
	places  []string // sites
	wave    int
	members []*unit   // of a gang
	lane    lane      // that it was put into
	open    bool      // a task of it is not final
	until   time.Time // not before; zero is now
	begun   bool      // it goes on before others, whatever its rollout says now
	held    bool      // it has begun what must be brought to its end
	brake   *brake    // while it runs
	phase   Phase     // it is prepared next, or changed

	// Of a unit in a rollout:
	at      int               // its place in the plan
	links   []string          // that it watches
	out     bool              // and does not now
	queued  bool              // it waits for its turn, for a place or for its time
	revoked bool              // it may not begin any more, and leaves the queue when its turn comes
	latest  time.Time         // it must have begun by then; zero is no bound
	final   rollout.UnitState // of those that are not open
	told    told
}

// changes reports whether the unit needs its devices for a change.
func (u *unit) changes() bool { return u.job.access == accessChange && u.phase != PhasePrepare }

func newActiveJob(id number, job Job, round int) *activeJob {
	return &activeJob{id: id, operation: job.Operation, access: job.Access, spec: job.Spec, round: round, together: job.Coordinated, beside: job.Beside,
		later: make(map[int][]*unit), running: make(map[*unit]struct{}), held: make(map[*unit]struct{}), units: make(map[string]*unit)}
}

// add takes a task into the index.
func (j *activeJob) add(t Task, prepares bool) {
	u := j.units[t.Unit]
	if u == nil {
		u = &unit{job: j, name: t.Unit, wave: t.Wave, told: told{reason: t.Reason}}
		if t.Until != nil {
			u.told.until = *t.Until
		}
		j.units[t.Unit] = u
	}
	u.devices = append(u.devices, t.Device)
	if !slices.Contains(u.places, t.Site) {
		u.places = append(u.places, t.Site)
	}
	if !t.State.Final() {
		u.open = true
		u.held = u.held || t.Held
		u.begun = u.begun || t.Begun
		if prepares && !t.Prepared && !j.together {
			u.phase = PhasePrepare
		}
		if t.Until != nil && t.Until.After(u.until) {
			u.until = *t.Until
		}
	} else {
		u.final = worse(u.final, stateOf(t))
	}
}

func newSchedule(limits Limits) *schedule {
	return &schedule{limits: limits, sites: make(map[string]*place), devices: make(map[string]*place),
		contacts: make(map[string]contact), jobs: make(map[number]*activeJob), out: make(map[string]int)}
}

// addJob takes a job in. What may be left of an earlier round of it are units
// whose end is on its way here.
func (s *schedule) addJob(j *activeJob) {
	if have := s.jobs[j.id]; have != nil && have.round >= j.round {
		return
	}
	first := -1
	for _, name := range sortedUnits(j.units) {
		u := j.units[name]
		if !u.open {
			continue
		}
		j.open++
		if u.held {
			j.held[u] = struct{}{}
		}
		if u.begun && u.phase == PhasePrepare {
			u.phase = PhaseChange // it went on without
		}
		if j.roll != nil {
			continue
		}
		j.later[u.wave] = append(j.later[u.wave], u)
		if first < 0 || u.wave < first {
			first = u.wave
		}
	}
	j.units = nil // only needed to gather tasks
	if j.open == 0 {
		return
	}
	s.drop(j.id)
	s.jobs[j.id] = j
	s.turn = append(s.turn, j)
	if j.roll != nil {
		s.addRollout(j)
		return
	}
	s.beginWave(j, first)
}

func sortedUnits(units map[string]*unit) []string {
	names := make([]string, 0, len(units))
	for name := range units {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// beginWave lets the units of a wave run.
func (s *schedule) beginWave(j *activeJob, wave int) {
	units := j.later[wave]
	delete(j.later, wave)
	if j.together {
		units = []*unit{gangOf(j, units)}
		j.open = 1
	}
	j.wave, j.left = wave, len(units)
	s.answeredFirst(units)
	for _, u := range units {
		s.ready(u)
	}
}

// ready puts a unit where it belongs: in its site's queue, or aside until its time.
func (s *schedule) ready(u *unit) {
	u.queued = true
	if !u.until.IsZero() {
		heap.Push(&s.due, u)
		return
	}
	switch {
	case u.members != nil:
		s.gangs = append(s.gangs, u)
		return
	case u.begun:
		s.urgent = append(s.urgent, u)
		return
	}
	u.lane = s.laneOf(u)
	u.job.ready++
	q := &u.queue().lanes[u.lane]
	if u.job.roll != nil && u.phase != PhasePrepare {
		q.returned = append(q.returned, u) // before those that are only prepared
		return
	}
	q.push(u)
}

// queue is where a unit waits for its turn.
func (u *unit) queue() *siteQueue {
	site := u.places[0]
	for _, q := range u.job.sites {
		if q.site == site {
			return q
		}
	}
	q := &siteQueue{site: site}
	u.job.sites = append(u.job.sites, q)
	return q
}

// next picks the unit to be handed out now and takes its places, or gives nil.
func (s *schedule) next(now time.Time) *unit {
	for {
		s.decideAll(now)
		if u := s.pick(now); u != nil || !s.undecided() {
			return u
		}
	}
}

// pick is next, as far as rollouts have decided.
func (s *schedule) pick(now time.Time) *unit {
	for len(s.due) > 0 && !s.due[0].until.After(now) {
		u := heap.Pop(&s.due).(*unit)
		u.until = time.Time{}
		if u.revoked {
			u.revoked, u.queued = false, false
			continue
		}
		s.ready(u)
	}
	if g := s.nextGang(); g != nil {
		s.take(g)
		return g
	}
	if s.running+s.heldPlaces() >= s.limits.Global {
		return nil
	}
	for i, u := range s.urgent {
		if s.full(u) == nil {
			s.urgent = slices.Delete(s.urgent, i, i+1)
			s.take(u)
			return u
		}
	}
	for _, l := range s.order() {
		if l == silentLane && s.silent >= share(s.limits.Global) {
			continue
		}
		for i, j := range s.turn {
			if j.gate.shut {
				continue
			}
			if u := s.nextOf(j, l, now); u != nil {
				toBack(s.turn, i) // its turn is over
				j.ready--
				s.gangLast = false
				s.take(u)
				return u
			}
		}
	}
	return nil
}

// toBack moves an element behind all others.
func toBack[T any](list []T, i int) {
	x := list[i]
	copy(list[i:], list[i+1:])
	list[len(list)-1] = x
}

// nextOf picks a unit of one job from a lane.
func (s *schedule) nextOf(j *activeJob, l lane, now time.Time) *unit {
	for i := 0; i < len(j.sites); i++ {
		q := j.sites[i]
		for q.lanes[l].len() > 0 && !s.siteFull(q.site, l) {
			u := q.lanes[l].pop()
			if s.takenBack(u, now) {
				j.ready--
				continue
			}
			if u.lane = s.laneOf(u); u.lane != l {
				q.lanes[u.lane].push(u)
				continue
			}
			if full := s.full(u); full != nil {
				full.parked = append(full.parked, u)
				continue
			}
			toBack(j.sites, i)
			return u
		}
		if q.len() == 0 {
			j.sites = slices.Delete(j.sites, i, i+1)
			i--
		}
	}
	return nil
}

// outcome is how the work on a unit ended for the schedule.
type outcome struct {
	again bool      // the unit is not done
	until time.Time // when it may be handed out again; zero is at once
	held  bool      // it has begun what must be brought to its end
	begun bool      // it has begun what is not to be done twice

	prepared bool               // the prepare phase is over, and the unit is not done
	state    rollout.UnitState  // of a unit that is done
	gate     gate               // the job's, where the ledger said that it is shut
	news     map[string]contact // by device
}

// ended takes a unit back from its worker.
func (s *schedule) ended(u *unit, o outcome) {
	s.free(u)
	s.learn(o.news)
	j := u.job
	s.turnGate(j.id, o.gate)
	switch {
	case s.jobs[j.id] != j:
		s.comeBack(u)
		if o.again && o.held && j.canceled != nil {
			u.until = o.until
			s.finishSafely(j, u)
		}
		return // canceled, or of an earlier round
	case o.prepared:
		u.phase, u.until = PhaseChange, time.Time{}
		if j.roll != nil {
			j.roll.state.Units[u.at].Status, j.roll.dirty = rollout.Held, true
			return
		}
		s.ready(u)
		return
	case o.again:
		u.until, u.begun = o.until, u.begun || o.begun
		if u.held = o.held; u.held {
			j.held[u] = struct{}{}
		}
		s.ready(u)
		if j.roll != nil {
			j.roll.dirty = true // it may not be tried again any more
		}
		return
	}
	delete(j.held, u)
	s.comeBack(u)
	if j.roll != nil {
		j.endedInRollout(u, o.state)
		if j.open--; j.open == 0 {
			s.drop(j.id)
		}
		return
	}
	j.open--
	j.left--
	switch {
	case j.open == 0:
		s.drop(j.id)
	case j.left == 0:
		s.beginWave(j, slices.Min(slices.Collect(maps.Keys(j.later))))
	}
}

// cancel forgets a job but for its units that are held, and gives those that run. A
// job that has been retried meanwhile is of a later round, which nobody canceled.
func (s *schedule) cancel(id number, round int, cause error) (running []*unit) {
	j := s.jobs[id]
	if j == nil || j.round > round {
		return nil
	}
	running = slices.Collect(maps.Keys(j.running))
	if j.canceled != nil {
		return running
	}
	s.drop(id)
	j.canceled = cause
	for u := range j.held { // those that run come back when they end
		if _, runs := j.running[u]; !runs {
			s.finishSafely(j, u)
		}
	}
	return running
}

// finishSafely takes a unit of a canceled job up again that is held.
func (s *schedule) finishSafely(j *activeJob, u *unit) {
	rest := s.jobs[j.id]
	if rest == nil {
		rest = &activeJob{id: j.id, operation: j.operation, access: j.access, spec: j.spec, round: j.round, canceled: j.canceled,
			running: make(map[*unit]struct{}), held: make(map[*unit]struct{})}
		s.jobs[j.id] = rest
		s.turn = append(s.turn, rest)
	}
	again := *u // the other may still be parked somewhere
	again.job, again.held, again.begun, again.brake = rest, true, true, nil
	again.out = false
	s.goOut(&again)
	rest.held[&again] = struct{}{}
	rest.open++
	rest.left++
	s.ready(&again)
}

// drop forgets a job; units of it that run keep their places until they end.
func (s *schedule) drop(id number) {
	j := s.jobs[id]
	if j == nil {
		return
	}
	delete(s.jobs, id)
	s.standBack(j, true)
	if j.roll != nil {
		for _, u := range j.roll.units {
			if _, runs := j.running[u]; !runs {
				s.comeBack(u)
			}
		}
	}
	s.urgent = slices.DeleteFunc(s.urgent, func(u *unit) bool { return u.job == j })
	s.preps.parked = slices.DeleteFunc(s.preps.parked, func(u *unit) bool { return u.job == j })
	s.unpark(&s.preps) // those that were brought back may have been of this job
	s.turn = slices.DeleteFunc(s.turn, func(other *activeJob) bool { return other == j })
	s.due = slices.DeleteFunc(s.due, func(u *unit) bool { return u.job == j })
	heap.Init(&s.due)
}

// wake is when next may give more than now though nothing has ended.
func (s *schedule) wake() (at time.Time, ok bool) {
	if len(s.due) > 0 {
		at, ok = s.due[0].until, true
	}
	for _, j := range s.turn {
		if r := j.roll; r != nil && !j.gate.shut && !r.next.IsZero() && (!ok || r.next.Before(at)) {
			at, ok = r.next, true
		}
	}
	return at, ok
}

// dueHeap orders units by the time that they wait for.
type dueHeap []*unit

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, k int) bool { return h[i].until.Before(h[k].until) }
func (h dueHeap) Swap(i, k int)      { h[i], h[k] = h[k], h[i] }

// Push is container/heap's.
func (h *dueHeap) Push(x any) { *h = append(*h, x.(*unit)) }

// Pop is container/heap's; it removes the last.
func (h *dueHeap) Pop() any {
	old := *h
	u := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return u
}
