package rollout

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestRulesAreSeenToFail: without any one of the rules, the account notices.
func TestRulesAreSeenToFail(t *testing.T) {
	const most = 20_000 // rollouts until it must have been noticed
	for name, broken := range brokenDeciders() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(most) {
				if why := newPlay(fromSeed{rand.New(rand.NewPCG(seed, 0))}, broken).run(); why != "" {
					t.Logf("rollout %d: %s", seed, why)
					return
				}
			}
			t.Errorf("%d rollouts and nobody noticed", most)
		})
	}
}

// brokenDeciders leave out one rule each.
func brokenDeciders() map[string]decideFunc {
	planned := func(change func(*Plan)) decideFunc {
		return func(p *Plan, s State, now time.Time) Decision {
			q := *p
			q.Units = slices.Clone(p.Units)
			change(&q)
			return q.Decide(s, now)
		}
	}
	stated := func(change func(*Plan, *State)) decideFunc {
		return func(p *Plan, s State, now time.Time) Decision {
			s.Units = slices.Clone(s.Units)
			change(p, &s)
			return p.Decide(s, now)
		}
	}
	each := func(change func(p *Plan, i int, u *UnitState)) decideFunc {
		return stated(func(p *Plan, s *State) {
			for i := range s.Units {
				change(p, i, &s.Units[i])
			}
		})
	}
	made := func(change func(*Decision)) decideFunc {
		return func(p *Plan, s State, now time.Time) Decision {
			d := p.Decide(s, now)
			change(&d)
			return d
		}
	}
	return map[string]decideFunc{
		"budget":           planned(func(p *Plan) { p.Budget = 1000 }),
		"budget, one more": planned(func(p *Plan) { p.Budget++ }),
		"wave size":        planned(func(p *Plan) { p.Size, p.Canary = 1000, p.Canary*1000 }),
		"order of waves":   planned(func(p *Plan) { oneWave(p.Units) }),
		"soak":             planned(func(p *Plan) { p.Policy.Soak = 0 }),
		"coverage":         planned(func(p *Plan) { p.Covering = nil }),
		"coverage by one":  planned(func(p *Plan) { p.Covering = oneMore(p.Covering) }),
		"windows":          planned(func(p *Plan) { p.Policy.Windows = nil }),
		"time zone":        planned(func(p *Plan) { p.zones = slices.Repeat([]*time.Location{time.UTC}, len(p.Units)) }),
		"daylight saving":  planned(func(p *Plan) { p.zones = withoutSaving(p.zones) }),
		"worst case":       planned(func(p *Plan) { noWorst(p.Units) }),
		"start":            planned(func(p *Plan) { p.Policy.Start = time.Time{} }),
		"end":              planned(func(p *Plan) { p.Policy.End = time.Time{} }),
		"resumes unasked":  planned(func(p *Plan) { p.Policy.ResumeWindow = len(p.Policy.Windows) > 0 }),
		"resumes never":    planned(func(p *Plan) { p.Policy.ResumeWindow = false }),
		"approval":         stated(func(_ *Plan, s *State) { s.Approved = true }),
		"pause":            stated(func(_ *Plan, s *State) { s.Paused = true }),
		"covers elsewhere": stated(func(_ *Plan, s *State) { s.Elsewhere = nil }),
		"canary":           planned(func(p *Plan) { p.Canary = 0 }),
		"canary prepares": each(func(p *Plan, i int, u *UnitState) {
			if p.Canary > 0 && p.Units[i].Wave == 0 {
				u.Status = replace(u.Status, Preparing, Dropped)
			}
		}),
		"failure of canary": each(func(p *Plan, i int, u *UnitState) { forget(u, p.Units[i].Wave == 0 && p.Canary > 0) }),
		"attention":         each(func(_ *Plan, _ int, u *UnitState) { u.Status = replace(u.Status, Attention, Failed) }),
		"failures":          each(func(_ *Plan, _ int, u *UnitState) { u.Status = replace(u.Status, Failed, Unchanged) }),
		"down":              each(func(_ *Plan, _ int, u *UnitState) { u.Down = false }),
		"preparation":       each(func(_ *Plan, _ int, u *UnitState) { u.Status = replace(u.Status, Preparing, Held) }),
		"begins twice":      each(func(_ *Plan, _ int, u *UnitState) { u.Status = replace(u.Status, Running, Held) }),
		"forgets to ask":    made(func(d *Decision) { d.Next = time.Time{} }),
		"forgets to skip":   made(func(d *Decision) { d.Skip = nil }),
		"skips what waits":  made(func(d *Decision) { d.Skip, d.Wait = append(d.Skip, d.Wait...), nil }),
		"begins too late": made(func(d *Decision) {
			for i := range d.Begin {
				d.Begin[i].Latest = time.Time{}
			}
		}),
		"begins no more": made(func(d *Decision) { d.Begin = d.Begin[:min(0, len(d.Begin))] }),
	}
}

func oneWave(units []Unit) {
	for i := range units {
		units[i].Wave = 0
	}
}

func noWorst(units []Unit) {
	for i := range units {
		units[i].Worst = 0
	}
}

// withoutSaving gives each zone the time of its January all the year.
func withoutSaving(zones []*time.Location) []*time.Location {
	out := make([]*time.Location, len(zones))
	for i, z := range zones {
		name, offset := time.Date(2026, time.January, 1, 0, 0, 0, 0, z).Zone()
		out[i] = time.FixedZone(name, offset)
	}
	return out
}

func oneMore(covering map[string]int) map[string]int {
	more := make(map[string]int)
	for l, n := range covering {
		more[l] = n + 1
	}
	return more
}

func forget(u *UnitState, canary bool) {
	if canary && (u.Status == Failed || u.Status == Attention) {
		u.Status = Unchanged
	}
}

func replace(have, old, by Status) Status {
	if have == old {
		return by
	}
	return have
}
