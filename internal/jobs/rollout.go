package jobs

import (
	"slices"
	"strings"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/rollout"
)

// roll is the rollout of an active job: the plan, the state of its units as the
// rules see it, and what they were last told. Package rollout decides; here it is
// carried out. A unit that may begin goes the way of all units from there on; one
// that found no place in time comes back.
type roll struct {
	plan  *rollout.Plan
	state rollout.State
	units []*unit   // as the plan has them
	dirty bool      // something has changed since it was decided
	next  time.Time // when it is to be decided again though nothing changes; zero is never
}

// told is what the tasks of a unit say about why they wait.
type told struct {
	reason string
	until  time.Time
}

// note is something that the ledger has to say about a unit that is not begun, or
// about its job.
type note struct {
	job     number
	devices []string
	told
	skip  bool // it will not be begun
	pause bool // the job pauses after its canary
}

// rolloutUnits gives the units of targets as the rules see them, in order of name.
func rolloutUnits(targets []Target) []rollout.Unit {
	found := make(map[string]*rollout.Unit)
	order := slices.SortedFunc(slices.Values(targets), func(a, b Target) int { return strings.Compare(a.Device, b.Device) })
	for _, t := range order {
		u := found[t.unit()]
		if u == nil {
			u = &rollout.Unit{Name: t.unit(), Zone: t.Zone, Wave: t.Wave}
			found[t.unit()] = u
		}
		u.Devices = append(u.Devices, t.Device)
		u.Worst += t.WorstCase // one after the other
		for _, l := range t.Covers {
			if !slices.Contains(u.Links, l) {
				u.Links = append(u.Links, l)
			}
		}
	}
	units := make([]rollout.Unit, 0, len(found))
	for _, u := range found {
		slices.Sort(u.Links)
		units = append(units, *u)
	}
	slices.SortFunc(units, func(a, b rollout.Unit) int { return strings.Compare(a.Name, b.Name) })
	return units
}

// plan lays a request's rollout out. What cannot be is fault.Invalid.
func (r Request) plan(now time.Time) (*rollout.Plan, error) {
	switch {
	case r.Access != accessChange:
		return nil, fault.New(fault.Invalid, "%s only reads: it goes to all devices at once and has no rollout", r.Operation)
	case r.Coordinated:
		return nil, fault.New(fault.Invalid, "the units of %s begin together: it has no rollout", r.Operation)
	}
	return rollout.NewPlan(rolloutUnits(r.Targets), r.Covering, *r.Rollout, now)
}

// Plan lays the rollout of a request out and starts nothing. What speaks against it
// now is in the plan's Refusals, for which Submit would refuse it.
func (e *Engine) Plan(req Request) (*rollout.Plan, time.Time, error) {
	if err := req.validate(); err != nil {
		return nil, time.Time{}, err
	}
	now := e.now()
	plan, err := req.plan(now)
	return plan, now, err
}

// layOut gives the targets of a request their waves, and the job its warnings.
func (r *Request) layOut(now time.Time) error {
	plan, err := r.plan(now)
	if err != nil {
		return err
	}
	if why := plan.Refusals(now); len(why) > 0 {
		return fault.New(fault.Invalid, "the rollout is refused: %s", strings.Join(why, "; "))
	}
	waves := make(map[string]int)
	for _, u := range plan.Units {
		for _, device := range u.Devices {
			waves[device] = u.Wave
		}
	}
	r.Targets = slices.Clone(r.Targets)
	for i := range r.Targets {
		r.Targets[i].Wave = waves[r.Targets[i].Device]
	}
	r.Covering = plan.Covering
	r.Warnings = append(slices.Clone(r.Warnings), plan.Warnings()...)
	return nil
}

// follow has a job's units go by its rollout. Targets are all of the job's.
func (j *activeJob) follow(job Job, p progress, targets []Target) error {
	plan, err := rollout.Restore(byWave(rolloutUnits(targets)), job.Covering, *job.Rollout)
	if err != nil {
		return err
	}
	r := &roll{plan: plan, units: make([]*unit, len(plan.Units)), dirty: true}
	r.state = rollout.State{Units: make([]rollout.UnitState, len(plan.Units)), Since: job.CreatedAt,
		Approved: p.ApprovedAt != nil, Paused: p.CanaryPaused}
	if p.RetriedAt != nil {
		r.state.Since = *p.RetriedAt
	}
	for i, pu := range plan.Units {
		u := j.units[pu.Name]
		if u == nil {
			return fault.New(fault.Storage, "job %s has no task for unit %s of its rollout", j.id, pu.Name)
		}
		u.at, u.links = i, pu.Links
		r.units[i] = u
	}
	j.roll = r
	return nil
}

func byWave(units []rollout.Unit) []rollout.Unit {
	slices.SortStableFunc(units, func(a, b rollout.Unit) int { return a.Wave - b.Wave })
	return units
}

// stateOf is how a task that is final counts in a rollout.
func stateOf(t Task) rollout.UnitState {
	u := rollout.UnitState{Status: rollout.Dropped}
	switch t.State {
	case Succeeded:
		u.Status = rollout.Done
	case Unchanged:
		u.Status = rollout.Unchanged
	case Failed:
		u.Status = rollout.Failed
	case Attention:
		u.Status = rollout.Attention
	default:
	}
	if t.FinishedAt != nil {
		u.Ended = *t.FinishedAt
	}
	if t.Failure != nil {
		switch t.Failure.Kind {
		case fault.Unreachable, fault.Timeout, fault.Disconnected:
			u.Down = u.Status == rollout.Failed
		default:
		}
	}
	return u
}

// worse gives what counts for a unit of which two devices ended differently.
func worse(a, b rollout.UnitState) rollout.UnitState {
	rank := func(s rollout.Status) int {
		return slices.Index([]rollout.Status{rollout.Dropped, rollout.Unchanged, rollout.Done, rollout.Failed, rollout.Attention}, s)
	}
	down, ended := a.Down || b.Down, a.Ended
	if b.Ended.After(ended) {
		ended = b.Ended
	}
	if rank(b.Status) > rank(a.Status) {
		a = b
	}
	a.Down, a.Ended = down, ended
	return a
}

// addRollout takes the units of a rollout in. Those that were begun go on at once,
// whatever the rules say now.
func (s *schedule) addRollout(j *activeJob) {
	r := j.roll
	for i, u := range r.units {
		switch {
		case !u.open:
			r.state.Units[i] = u.final
		case u.begun:
			r.state.Units[i].Status = rollout.Running
			s.goOut(u)
			s.ready(u)
		default:
			u.until = time.Time{}
		}
	}
	s.prepare(j)
}

// prepare hands out what is prepared before its wave, once that is allowed.
func (s *schedule) prepare(j *activeJob) {
	r := j.roll
	if r.plan.Policy.Approve && !r.state.Approved {
		return
	}
	for i, u := range r.units {
		if u.open && u.phase == PhasePrepare && r.state.Units[i].Status == rollout.Held {
			r.state.Units[i].Status = rollout.Preparing
			s.ready(u)
		}
	}
}

// decideAll asks the rules of each rollout for which something has changed.
func (s *schedule) decideAll(now time.Time) {
	for _, j := range slices.Clone(s.turn) { // those that end are taken out
		if r := j.roll; r != nil && !j.gate.shut && (r.dirty || !r.next.IsZero() && !r.next.After(now)) {
			s.decide(j, now)
		}
	}
}

// undecided reports whether a rollout has to be asked again at once.
func (s *schedule) undecided() bool {
	return slices.ContainsFunc(s.turn, func(j *activeJob) bool { return j.roll != nil && j.roll.dirty && !j.gate.shut })
}

// decide carries out what the rules say of one rollout now.
func (s *schedule) decide(j *activeJob, now time.Time) {
	r := j.roll
	r.state.Elsewhere = s.elsewhere(r)
	// Units that may begin and have no place yet are asked about again: another may
	// have failed meanwhile.
	var again []*unit
	for i, u := range r.units {
		if u.queued && !u.begun && r.state.Units[i].Status == rollout.Running {
			r.state.Units[i].Status = rollout.Held
			u.revoked = true
			again = append(again, u)
		}
	}
	made := r.plan.Decide(r.state, now)
	r.dirty, r.next = false, made.Next
	for _, b := range slices.Backward(made.Begin) { // what is ready last is first in line
		u := r.units[b.Unit]
		r.state.Units[b.Unit].Status = rollout.Running
		u.latest, u.revoked = b.Latest, false
		s.goOut(u)
		if !u.queued {
			s.ready(u)
		}
	}
	for _, u := range again {
		if u.revoked {
			s.comeBack(u)
		}
	}
	for _, h := range made.Wait {
		s.tellUnit(r, h, false)
	}
	for _, h := range made.Skip {
		r.state.Units[h.Unit].Status = rollout.Dropped
		s.tellUnit(r, h, true)
		j.open--
	}
	if made.Stopped != "" {
		s.stopPreparing(r)
	}
	if made.Pause {
		r.state.Paused = true
		j.gate.shut = true // until the ledger says so, and after
		s.notes = append(s.notes, note{job: j.id, pause: true})
	}
	if j.open == 0 {
		s.drop(j.id)
	}
}

// stopPreparing has the units that are still prepared stop: they will not be begun.
// When they have, the rules skip them like the others.
func (s *schedule) stopPreparing(r *roll) {
	for i, u := range r.units {
		switch {
		case r.state.Units[i].Status != rollout.Preparing:
		case u.queued:
			u.revoked, u.phase = true, PhaseChange
			r.state.Units[i].Status, r.dirty = rollout.Held, true
		default:
			s.cuts = append(s.cuts, u)
		}
	}
}

// tellUnit notes why a unit is not begun, if that is news.
func (s *schedule) tellUnit(r *roll, h rollout.Hold, skip bool) {
	u, now := r.units[h.Unit], told{h.Reason, h.Until}
	if !skip && u.told.reason == now.reason && u.told.until.Equal(now.until) {
		return
	}
	u.told = now
	s.notes = append(s.notes, note{job: u.job.id, devices: u.devices, told: now, skip: skip})
}

// elsewhere counts the units of other rollouts that are out, by link.
func (s *schedule) elsewhere(r *roll) map[string]int {
	if len(s.out) == 0 {
		return nil
	}
	left := make(map[string]int, len(s.out))
	for l, n := range s.out {
		left[l] = n
	}
	for _, u := range r.units {
		if u.out {
			for _, l := range u.links {
				left[l]--
			}
		}
	}
	return left
}

// goOut counts a unit as one whose devices watch nothing.
func (s *schedule) goOut(u *unit) {
	if u.out {
		return
	}
	u.out = true
	for _, l := range u.links {
		s.out[l]++
	}
}

// comeBack ends goOut. Units of other rollouts may have waited for it.
func (s *schedule) comeBack(u *unit) {
	if !u.out {
		return
	}
	u.out = false
	for _, l := range u.links {
		if s.out[l]--; s.out[l] == 0 {
			delete(s.out, l)
		}
	}
	if len(u.links) == 0 {
		return
	}
	for _, j := range s.turn {
		if j.roll != nil {
			j.roll.dirty = true
		}
	}
}

// takenBack reports whether a unit whose turn has come may not begin any more: the
// rules say so now, or it found no place before its window was over.
func (s *schedule) takenBack(u *unit, now time.Time) bool {
	if u.revoked {
		u.revoked, u.queued = false, false
		return true
	}
	if u.latest.IsZero() || !now.After(u.latest) || u.begun || u.phase == PhasePrepare {
		return false
	}
	u.queued = false
	s.comeBack(u)
	r := u.job.roll
	r.state.Units[u.at].Status = rollout.Held
	r.dirty = true
	return true
}

// endedInRollout takes up how the work on a unit ended.
func (j *activeJob) endedInRollout(u *unit, how rollout.UnitState) {
	r := j.roll
	if how.Status == rollout.Held { // it says nothing
		how.Status = rollout.Dropped
	}
	r.state.Units[u.at] = how
	r.dirty = true
}

// errStopped is the cause that a preparation sees when its rollout has stopped.
var errStopped = fault.New(fault.Canceled, "the rollout has stopped")

// approve lets a rollout begin that waits for it.
func (s *schedule) approve(id number) {
	if j := s.jobs[id]; j != nil && j.roll != nil && !j.roll.state.Approved {
		j.roll.state.Approved, j.roll.dirty = true, true
		s.prepare(j)
	}
}
