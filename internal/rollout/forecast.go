package rollout

import (
	"slices"
	"time"
)

// Forecast is when a unit would be changed if each takes as long as it may, and all
// goes well.
type Forecast struct {
	Begin, End time.Time
	// Latest is the last moment at which it may begin in its window; zero is no bound.
	Latest time.Time
	// Skipped says why it would not be changed; the times are zero then.
	Skipped string
}

// forecastSteps bounds a forecast. One needs a step for each wave and window.
const forecastSteps = 100_000

// Forecast plays the rollout, asked for and approved now, with preparations done.
func (p *Plan) Forecast(now time.Time) []Forecast {
	made := make([]Forecast, len(p.Units))
	s := State{Units: make([]UnitState, len(p.Units)), Since: now, Approved: true, Paused: true}
	for range forecastSteps {
		d := p.Decide(s, now)
		for _, h := range d.Skip {
			s.Units[h.Unit].Status = Dropped
			made[h.Unit].Skipped = h.Reason
		}
		for _, b := range d.Begin {
			s.Units[b.Unit].Status = Running
			made[b.Unit] = Forecast{Begin: now, End: now.Add(p.Units[b.Unit].Worst), Latest: b.Latest}
		}
		next := d.Next
		var ending []int
		for i, u := range s.Units {
			if u.Status != Running {
				continue
			}
			switch end := made[i].End; {
			case next.IsZero() || end.Before(next):
				next, ending = end, append(ending[:0], i)
			case end.Equal(next):
				ending = append(ending, i)
			}
		}
		if next.IsZero() {
			break
		}
		now = later(now, next)
		for _, i := range ending {
			s.Units[i] = UnitState{Status: Done, Ended: now}
		}
		if !slices.ContainsFunc(s.Units, func(u UnitState) bool { return u.Status == Held || u.Status == Running }) {
			break
		}
	}
	return made
}
