package rollout

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// decideFunc is Plan.Decide, or something that is broken on purpose.
type decideFunc func(p *Plan, s State, now time.Time) Decision

// chance is where a random rollout comes from: rapid, which makes a small one of a
// rollout that breaks a rule, or plain numbers.
type chance interface{ upTo(n int) int }

type fromRapid struct{ *rapid.T }

func (r fromRapid) upTo(n int) int { return rapid.IntRange(0, n).Draw(r.T, "n") }

type fromSeed struct{ *rand.Rand }

func (r fromSeed) upTo(n int) int { return r.IntN(n + 1) }

// TestRandomRollouts plays random rollouts in a simulated clock against a plain
// account of the rules.
func TestRandomRollouts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if why := newPlay(fromRapid{t}, (*Plan).Decide).run(); why != "" {
			t.Fatal(why)
		}
	})
}

// TestManyRandomRollouts is the same over as many as the figure in the docs says.
func TestManyRandomRollouts(t *testing.T) {
	const rollouts = 10_000
	for seed := range uint64(rollouts) {
		p := newPlay(fromSeed{rand.New(rand.NewPCG(seed, 0))}, (*Plan).Decide)
		if why := p.run(); why != "" {
			t.Fatalf("rollout %d: %s\n%s", seed, why, p.story())
		}
	}
}

// play is one random rollout with its account. A minute is the smallest time.
type play struct {
	chance
	decide decideFunc
	plan   *Plan
	state  State
	now    time.Time
	asked  time.Time

	jobs     []playUnit
	approve  time.Time // when somebody approves
	resume   time.Time // when the pause ends; zero while there is none
	paused   bool
	again    bool // something changed after the decision
	changing []foreign
	log      []string
}

// playUnit is a unit as it truly is.
type playUnit struct {
	prepared time.Time // when its preparation ends
	parked   time.Time // told to begin, and has no place until then
	latest   time.Time
	ends     time.Time
	as       UnitState
	began    bool
}

// foreign is a unit of another rollout that is out for a while.
type foreign struct {
	link     string
	from, to time.Time
}

var playZones = []string{"UTC", "Europe/London", "America/New_York"}

func newPlay(c chance, decide decideFunc) *play {
	p := &play{chance: c, decide: decide}
	// Around the changes of clocks of 2026, and anywhere.
	starts := []time.Time{time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC), time.Date(2026, 10, 24, 12, 0, 0, 0, time.UTC),
		time.Date(2026, 3, 7, 12, 0, 0, 0, time.UTC), time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)}
	p.now = starts[c.upTo(3)].Add(time.Duration(c.upTo(48*60)) * time.Minute)
	p.asked = p.now
	links := []string{"core-a", "core-b", "edge"}
	var units []Unit
	for i := range 1 + c.upTo(9) {
		u := Unit{Name: fmt.Sprint("u", i), Zone: playZones[c.upTo(2)], Worst: time.Duration(10*c.upTo(9)) * time.Minute}
		for _, l := range links {
			if c.upTo(3) == 0 {
				u.Links = append(u.Links, l)
			}
		}
		units = append(units, u)
	}
	covering := make(map[string]int)
	for _, l := range links {
		for _, u := range units {
			if slices.Contains(u.Links, l) {
				covering[l]++
			}
		}
		covering[l] += max(0, c.upTo(3)-2)
	}
	plan, err := NewPlan(units, covering, p.policy(len(units)), p.now)
	if err != nil {
		panic(err)
	}
	p.plan = plan
	p.state = State{Units: make([]UnitState, len(units)), Since: p.now, Elsewhere: make(map[string]int)}
	p.jobs = make([]playUnit, len(units))
	for i := range p.jobs {
		if c.upTo(2) == 0 {
			p.state.Units[i].Status = Preparing
			p.jobs[i].prepared = p.later(600)
		}
	}
	if plan.Policy.Approve {
		p.approve = p.later(600)
	}
	for range c.upTo(2) {
		from := p.later(2000)
		p.changing = append(p.changing, foreign{links[c.upTo(2)], from, from.Add(time.Duration(1+c.upTo(600)) * time.Minute)})
	}
	return p
}

func (p *play) later(minutes int) time.Time {
	return p.now.Add(time.Duration(1+p.upTo(minutes)) * time.Minute)
}

func (p *play) policy(units int) (policy Policy) {
	maybe := func() bool { return p.upTo(2) == 0 }
	if canary := p.upTo(3); canary < 3 {
		policy.Canary = &canary
	}
	policy.Wave = []Amount{{}, Units(1), Units(2), Units(4), Percent(30), Percent(100)}[p.upTo(5)]
	policy.MaxFailures = []Amount{{}, Units(1), Units(2), Units(3), Percent(50)}[p.upTo(4)]
	if maybe() {
		policy.Soak = time.Duration(1+p.upTo(60)) * time.Minute
	}
	policy.PauseAfterCanary = maybe() && (policy.Canary == nil || *policy.Canary > 0)
	policy.Approve = maybe()
	for range max(0, p.upTo(4)-2) {
		w := Window{day: p.upTo(7) - 1, hour: p.upTo(23), minute: 30 * p.upTo(1), length: time.Duration(1+p.upTo(5)) * time.Hour}
		if w.hour < 3 {
			w.hour = 3 // the hours that clocks leave out or show twice have a test of their own
		}
		policy.Windows = append(policy.Windows, w)
		policy.ResumeWindow = p.upTo(1) == 0
	}
	if maybe() {
		policy.Start = p.later(2000)
	}
	if maybe() {
		policy.End = later(policy.Start, p.now).Add(time.Duration(60+p.upTo(20_000)) * time.Minute)
	}
	return policy
}

func (p *play) run() (broken string) {
	const steps = 5000
	for range steps {
		p.pass()
		d := p.decide(p.plan, p.snapshot(), p.now)
		if why := p.apply(d); why != "" {
			return why
		}
		if p.over() {
			return p.end()
		}
		next, ok := p.next(d)
		if !ok {
			return "something is left, and nothing will ever happen"
		}
		p.now = next
	}
	return "it does not end"
}

// pass makes happen what is due.
func (p *play) pass() {
	if !p.approve.IsZero() && !p.now.Before(p.approve) {
		p.state.Approved = true
	}
	if p.paused && !p.now.Before(p.resume) {
		p.paused = false
	}
	clear(p.state.Elsewhere)
	for _, f := range p.changing {
		if !p.now.Before(f.from) && p.now.Before(f.to) {
			p.state.Elsewhere[f.link]++
		}
	}
	for i := range p.jobs {
		u, job := &p.state.Units[i], &p.jobs[i]
		switch {
		case u.Status == Preparing && !p.now.Before(job.prepared):
			u.Status = Held
		case u.Status == Running && job.began && !p.now.Before(job.ends):
			*u = job.as
			u.Ended = p.now
		}
	}
}

// snapshot is what the decider is told.
func (p *play) snapshot() State {
	s := p.state
	s.Units = slices.Clone(s.Units)
	return s
}

// apply does what was decided, and says which rule it breaks.
func (p *play) apply(d Decision) (broken string) {
	if p.paused {
		return p.beginParked()
	}
	if d.Pause {
		p.state.Paused, p.paused, p.resume = true, true, p.later(600)
		if !p.plan.Policy.PauseAfterCanary {
			return "it pauses unasked"
		}
	}
	told := make(map[int]bool)
	for _, h := range slices.Concat(d.Wait, d.Skip) {
		if told[h.Unit] || h.Reason == "" || p.state.Units[h.Unit].Status != Held {
			return fmt.Sprintf("%s is told of twice, without reason, or is not held", p.name(h.Unit))
		}
		told[h.Unit] = true
	}
	for _, h := range d.Skip {
		if why := p.maySkip(h.Unit); why != "" {
			return why
		}
		p.state.Units[h.Unit].Status = Dropped
		p.logf("%s skipped: %s", p.name(h.Unit), h.Reason)
	}
	for _, b := range d.Begin {
		if told[b.Unit] {
			return p.name(b.Unit) + " begins and waits"
		}
		told[b.Unit] = true
		if u := p.state.Units[b.Unit]; u.Status != Held {
			return fmt.Sprintf("%s begins and is in status %d", p.name(b.Unit), u.Status)
		}
		if why := p.mayBegin(b.Unit); why != "" {
			return why
		}
		p.state.Units[b.Unit].Status = Running
		p.jobs[b.Unit] = playUnit{parked: p.now, latest: b.Latest}
		if p.upTo(3) == 0 {
			p.jobs[b.Unit].parked = p.later(60) // a limit has no room
		}
	}
	return p.beginParked()
}

// beginParked begins the units whose place has become free, if it is not too late.
func (p *play) beginParked() string {
	for i := range p.jobs {
		job := &p.jobs[i]
		if p.state.Units[i].Status != Running || job.began || p.now.Before(job.parked) {
			continue
		}
		if !job.latest.IsZero() && p.now.After(job.latest) {
			p.state.Units[i].Status = Held
			p.again = true
			continue
		}
		if why := p.inTime(i); why != "" {
			return why
		}
		job.began = true
		took := p.plan.Units[i].Worst
		if took > 0 {
			took = time.Duration(p.upTo(int(took/time.Minute))) * time.Minute
		}
		job.ends = p.now.Add(max(took, time.Minute))
		job.as = UnitState{Status: []Status{Done, Done, Done, Done, Unchanged, Failed, Failed, Attention}[p.upTo(7)]}
		job.as.Down = job.as.Status == Failed && p.upTo(1) == 0
		p.logf("%s begins until %v, then %d", p.name(i), job.ends, job.as.Status)
	}
	return ""
}

// mayBegin says which rule would be broken by a unit that begins now.
func (p *play) mayBegin(i int) string {
	plan, unit := p.plan, p.plan.Units[i]
	name := p.name(i)
	running, failed, waveBegun := 0, 0, false
	out := make(map[string]int)
	for k, u := range p.state.Units {
		other := plan.Units[k]
		switch u.Status {
		case Running:
			running++
			add(out, other.Links)
		case Failed, Attention:
			failed++
			if other.Wave == 0 && plan.Canary > 0 {
				return name + " begins after a failure of the canary"
			}
			if u.Status == Attention {
				return name + " begins after a unit that needs attention"
			}
			if u.Down {
				add(out, other.Links)
			}
		default:
		}
		waveBegun = waveBegun || other.Wave >= unit.Wave && u.begun()
	}
	if failed+running+1 > plan.Budget {
		return fmt.Sprintf("%s begins with %d failed and %d out of a budget of %d", name, failed, running, plan.Budget)
	}
	most := plan.Size
	if plan.Canary > 0 && unit.Wave == 0 {
		most = max(most, plan.Canary)
		if !p.pastCanary() {
			most = plan.Canary
		}
	}
	if running+1 > most {
		return fmt.Sprintf("%s begins as the %dth of %d", name, running+1, most)
	}
	for _, l := range unit.Links {
		if n := out[l] + p.state.Elsewhere[l] + 1; plan.Covering[l] > 1 && n >= plan.Covering[l] {
			return fmt.Sprintf("%s begins and leaves link %s to %d of %d", name, l, plan.Covering[l]-n, plan.Covering[l])
		}
	}
	for k, u := range p.state.Units {
		switch other := plan.Units[k]; {
		case other.Wave >= unit.Wave || waveBegun:
		case u.Status == Held || u.Status == Running:
			return fmt.Sprintf("%s of wave %d begins before %s of wave %d", name, unit.Wave, other.Name, other.Wave)
		case u.Status == Preparing && other.Wave == 0 && plan.Canary > 0:
			return name + " begins before the canary is prepared"
		case u.Status == Done && p.now.Before(u.Ended.Add(plan.Policy.Soak)):
			return fmt.Sprintf("%s begins %v after %s", name, p.now.Sub(u.Ended), other.Name)
		}
	}
	if plan.Policy.PauseAfterCanary && unit.Wave > 0 && !p.state.Paused {
		return name + " begins without the pause after the canary"
	}
	if plan.Policy.Approve && !p.state.Approved {
		return name + " begins before it was approved"
	}
	return p.inTime(i)
}

// pastCanary reports whether a unit behind the canary was begun.
func (p *play) pastCanary() bool {
	for k, u := range p.state.Units {
		if p.plan.Units[k].Wave > 0 && u.begun() {
			return true
		}
	}
	return false
}

// inTime says whether a unit that begins now would be outside of its time. It counts
// windows in a way of its own.
func (p *play) inTime(i int) string {
	policy, unit := p.plan.Policy, p.plan.Units[i]
	done := p.now.Add(unit.Worst)
	if p.now.Before(policy.Start) || !policy.End.IsZero() && done.After(policy.End) {
		return fmt.Sprintf("%s begins at %v, not between %v and %v", unit.Name, p.now, policy.Start, policy.End)
	}
	if len(policy.Windows) == 0 {
		return ""
	}
	zone, err := time.LoadLocation(unit.Zone)
	if err != nil {
		panic(err)
	}
	for _, w := range policy.Windows {
		// Every day that may matter, the latest last.
		from := later(p.state.Since, policy.Start)
		nth := 0
		for day := -9; day < 400; day++ {
			base := from.In(zone)
			start := time.Date(base.Year(), base.Month(), base.Day()+day, w.hour, w.minute, 0, 0, zone)
			if start.After(p.now) {
				break
			}
			end := start.Add(w.length)
			if w.day != daily && int(start.Weekday()) != w.day || !end.After(from) {
				continue
			}
			nth++
			if !p.now.Before(start) && !done.After(end) && (policy.ResumeWindow || nth == 1) {
				return ""
			}
		}
	}
	return fmt.Sprintf("%s begins at %v and takes up to %v, outside of %v in %s", unit.Name, p.now, unit.Worst, policy.Windows, unit.Zone)
}

// maySkip says whether a unit is skipped without need.
func (p *play) maySkip(i int) string {
	failed := 0
	for _, u := range p.state.Units {
		if u.Status == Failed || u.Status == Attention {
			failed++
		}
	}
	policy := p.plan.Policy
	switch {
	case failed > 0:
		return "" // for one of several reasons
	case len(policy.Windows) == 0 && policy.End.IsZero():
		return p.name(i) + " is skipped, and nothing has failed or is too late"
	case policy.ResumeWindow && policy.End.IsZero() && p.plan.Units[i].Worst <= policy.Windows[0].length:
		return p.name(i) + " is skipped and there is a next window"
	}
	return ""
}

// next is when something happens.
func (p *play) next(d Decision) (time.Time, bool) {
	var first time.Time
	at := func(t time.Time) {
		if t.After(p.now) && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	if !d.Next.IsZero() && !p.paused {
		at(later(d.Next, p.now.Add(1)))
	}
	at(p.approve)
	if p.paused {
		at(p.resume)
	}
	for _, f := range p.changing {
		at(f.from)
		at(f.to)
	}
	for i, u := range p.state.Units {
		switch u.Status {
		case Preparing:
			at(p.jobs[i].prepared)
		case Running:
			at(p.jobs[i].parked)
			at(p.jobs[i].ends)
		default:
		}
	}
	if d.Pause || p.again { // what was decided besides is decided again
		at(p.now.Add(1))
		p.again = false
	}
	return first, !first.IsZero()
}

func (p *play) over() bool {
	return !slices.ContainsFunc(p.state.Units, func(u UnitState) bool { return u.Status <= Running })
}

// end checks the whole.
func (p *play) end() string {
	failed := 0
	for _, u := range p.state.Units {
		if u.Status == Failed || u.Status == Attention {
			failed++
		}
	}
	if failed > p.plan.Budget {
		return fmt.Sprintf("%d failed of a budget of %d", failed, p.plan.Budget)
	}
	return ""
}

func (p *play) name(i int) string { return p.plan.Units[i].Name }

func (p *play) logf(format string, args ...any) {
	p.log = append(p.log, p.now.Format(time.RFC3339)+" "+fmt.Sprintf(format, args...))
}

func (p *play) story() string {
	text := fmt.Sprintf("%+v\n%+v\n", p.plan.Policy, p.plan.Units)
	for _, l := range p.log {
		text += l + "\n"
	}
	return text
}
