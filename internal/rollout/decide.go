package rollout

import (
	"fmt"
	"slices"
	"time"
)

// Status is how far a unit is, as far as the rollout is concerned.
type Status uint8

// Statuses. What is not begun is Held or Preparing.
const (
	Held      Status = iota // prepared, and to be begun when the rules let it
	Preparing               // its preparation is not over; what failed in it is made good in its wave
	Running                 // begun, or told to begin; also while it waits to be tried again
	Done                    // something was changed
	Unchanged               // nothing was needed
	Failed
	Attention // a person must look; counts as a failure
	Dropped   // canceled or skipped; counts as nothing
)

// UnitState is the present state of one unit.
type UnitState struct {
	Status Status
	Ended  time.Time // when it was Done
	// Down says that a unit that failed is not known to be in use: it covers no link.
	Down bool
}

// State is the present state of a rollout.
type State struct {
	Units []UnitState // as the plan has them
	// Since is when it was asked for, approved or retried, the last of them.
	Since    time.Time
	Approved bool
	// Paused says that the pause after the canary has been made.
	Paused bool
	// Elsewhere is how many units of other rollouts are out now, by link.
	Elsewhere map[string]int
}

// Decision is what is to be done now. Each unit that is Held is in one of its lists.
type Decision struct {
	Begin []Start
	Wait  []Hold
	Skip  []Hold
	// Pause asks for the pause after the canary.
	Pause bool
	// Stopped says why nothing is begun any more, "" for a rollout that goes on. What is
	// still being prepared is not needed then.
	Stopped string
	// Next is when to ask again at the latest; zero is when something changes.
	Next time.Time
}

// Start is a unit that may begin now.
type Start struct {
	Unit   int
	Latest time.Time // it must have begun by then; zero is no bound
}

// Hold is a unit that may not, and why.
type Hold struct {
	Unit   int
	Reason string
	Until  time.Time // where it is known
}

// Decide applies the rules to the present state.
func (p *Plan) Decide(s State, now time.Time) Decision {
	var skipped []Hold
	for {
		d := decider{Plan: p, state: s, now: now}
		made := d.decide()
		if len(made.Skip) == 0 || len(made.Begin)+len(made.Wait) == 0 {
			made.Skip = append(skipped, made.Skip...)
			return made
		}
		// What is skipped may have been all that others waited for.
		skipped = append(skipped, made.Skip...)
		s.Units = slices.Clone(s.Units)
		for _, h := range made.Skip {
			s.Units[h.Unit].Status = Dropped
		}
	}
}

// decider is one decision in the making.
type decider struct {
	*Plan
	state State
	now   time.Time

	failed, running int
	wave            int            // that is at work
	soak            time.Time      // until when it is not begun
	out, down       map[string]int // units, by link
	openings        map[openKey]opening
	made            Decision
}

// openKey is what an opening depends on.
type openKey struct {
	zone  *time.Location
	worst time.Duration
}

func (d *decider) decide() Decision {
	d.count()
	stop := d.stop()
	d.made.Stopped = stop
	for i, u := range d.state.Units {
		if u.Status != Held {
			continue
		}
		o := d.open(i)
		switch {
		case stop != "":
			d.skip(i, stop)
		case o.never:
			d.skip(i, d.missed(i, o))
		default:
			d.consider(i, o)
		}
	}
	return d.made
}

// count takes stock.
func (d *decider) count() {
	d.out, d.down, d.openings = make(map[string]int), make(map[string]int), make(map[openKey]opening)
	reached, left := 0, d.Waves
	for i, u := range d.state.Units {
		wave := d.Units[i].Wave
		switch u.Status {
		case Running:
			d.running++
			add(d.out, d.Units[i].Links)
		case Failed, Attention:
			d.failed++
			if u.Down || u.Status == Attention {
				add(d.down, d.Units[i].Links)
			}
		default:
		}
		// A unit whose preparation takes long holds up nobody, but for the canary: the
		// waves go on without it, and it joins the one at work when it is prepared.
		if u.Status == Held || u.Status == Running || u.Status == Preparing && d.isCanary(i) {
			left = min(left, wave)
		}
		if u.begun() {
			reached = max(reached, wave)
		}
	}
	d.wave = max(reached, left)
	d.soak = d.soaking()
}

// begun reports whether a unit is out or was: it makes its wave the one at work.
func (u UnitState) begun() bool {
	switch u.Status {
	case Running, Done, Unchanged, Failed, Attention:
		return true
	default:
		return false
	}
}

func add(count map[string]int, links []string) {
	for _, l := range links {
		count[l]++
	}
}

func (d *decider) isCanary(i int) bool { return d.Canary > 0 && d.Units[i].Wave == 0 }

// stop says why nothing is begun any more; "" for a rollout that goes on.
func (d *decider) stop() string {
	var attention string
	for i, u := range d.state.Units {
		switch {
		case u.Status != Failed && u.Status != Attention:
		case d.isCanary(i):
			return fmt.Sprintf("the canary failed: %s", d.Units[i].Name)
		case u.Status == Attention && attention == "":
			attention = fmt.Sprintf("%s needs attention", d.Units[i].Name)
		}
	}
	if attention == "" && d.failed >= d.Budget {
		return fmt.Sprintf("the budget of %s is spent", plural(d.Budget, "failure"))
	}
	return attention
}

// consider begins a unit, or says what it waits for.
func (d *decider) consider(i int, o opening) {
	switch u := d.Units[i]; {
	case d.Policy.Approve && !d.state.Approved:
		d.wait(i, "waits for approval by another user", time.Time{})
	case u.Wave > d.wave:
		d.wait(i, "after the waves before it", time.Time{})
	case d.Policy.PauseAfterCanary && d.Canary > 0 && d.wave > 0 && !d.state.Paused:
		d.made.Pause = true
		d.wait(i, "the job pauses after the canary", time.Time{})
	case u.Wave == d.wave && d.soak.After(d.now):
		d.wait(i, "soak of the wave before it", d.soak)
	case !o.open:
		d.wait(i, "window"+orNone(" ", o.window), o.until)
	case d.uncovered(i, d.down) != "":
		d.skip(i, fmt.Sprintf("link %s has no other cover left", d.uncovered(i, d.down)))
	case d.uncovered(i, d.down, d.out, d.state.Elsewhere) != "":
		d.wait(i, fmt.Sprintf("link %s: its other cover is out",
			d.uncovered(i, d.down, d.out, d.state.Elsewhere)), time.Time{})
	case d.running >= d.atOnce():
		d.wait(i, fmt.Sprintf("%s of the wave at once", plural(d.atOnce(), "unit")), time.Time{})
	case d.running+d.failed >= d.Budget:
		d.wait(i, fmt.Sprintf("budget of %s: %d failed, %d out", plural(d.Budget, "failure"), d.failed, d.running), time.Time{})
	default:
		d.running++
		add(d.out, u.Links)
		d.made.Begin = append(d.made.Begin, Start{i, o.latest})
		return
	}
	if o.open {
		d.askAt(o.latest.Add(time.Nanosecond), o.latest.IsZero())
	} else {
		d.askAt(o.until, false)
	}
}

// atOnce is how many units may be out.
func (d *decider) atOnce() int {
	if d.Canary > 0 && d.wave == 0 {
		return d.Canary
	}
	return d.Size
}

// soaking is until when the wave at work is not begun.
func (d *decider) soaking() (until time.Time) {
	if d.Policy.Soak == 0 {
		return until
	}
	for i, u := range d.state.Units {
		switch wave := d.Units[i].Wave; {
		case wave == d.wave && u.begun():
			return time.Time{}
		case wave < d.wave && u.Status == Done:
			until = later(until, u.Ended.Add(d.Policy.Soak))
		}
	}
	return until
}

// uncovered gives a link that nobody would watch with a unit out beside those that
// are counted already; "" when there is none. A link with one cover cannot be helped.
func (d *decider) uncovered(i int, counts ...map[string]int) string {
	for _, l := range d.Units[i].Links {
		out := 1
		for _, c := range counts {
			out += c[l]
		}
		if d.Covering[l] > 1 && out >= d.Covering[l] {
			return l
		}
	}
	return ""
}

// open is the unit's opening; many units share one.
func (d *decider) open(i int) opening {
	key := openKey{d.zones[i], d.Units[i].Worst}
	o, ok := d.openings[key]
	if !ok {
		o = d.opening(i, d.state.Since, d.now)
		d.openings[key] = o
	}
	return o
}

func (d *decider) wait(i int, reason string, until time.Time) {
	d.made.Wait = append(d.made.Wait, Hold{i, reason, until})
	d.askAt(until, until.IsZero())
}

func (d *decider) skip(i int, reason string) {
	d.made.Skip = append(d.made.Skip, Hold{Unit: i, Reason: reason})
}

// askAt remembers the first moment at which the decision is another.
func (d *decider) askAt(t time.Time, never bool) {
	if !never && (d.made.Next.IsZero() || t.Before(d.made.Next)) {
		d.made.Next = t
	}
}

// missed says of a unit that its time is over.
func (d *decider) missed(i int, o opening) string {
	text := "it did not fit into its time"
	if len(d.Policy.Windows) > 0 {
		text = "it did not fit into its window" + inBrackets(o.window)
	}
	if w := d.Units[i].Worst; w > 0 {
		text += "; it may take " + short(w)
	}
	return text
}

func orNone(before, s string) string {
	if s == "" {
		return ""
	}
	return before + s
}

func inBrackets(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
