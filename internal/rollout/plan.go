package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"capfleet/internal/fault"
)

// Unit is what is changed as one: a device, or the members of an HA pair, of which
// one at a time is out.
type Unit struct {
	Name    string
	Devices []string
	// Links are those that a device of the unit watches, each once.
	Links []string
	// Zone is the IANA name of the time zone of its windows; "" is UTC.
	Zone string
	// Worst is the longest that changing it may take.
	Worst time.Duration
	// Wave is given by NewPlan: 0 is the first.
	Wave int
}

// Plan is a rollout laid out over its units. It does not change.
type Plan struct {
	Policy Policy
	Units  []Unit // in the order in which they are taken, within their waves
	Waves  int
	Canary int // how many units the first wave has for being the canary; 0 is none
	Size   int // of the waves after it
	Budget int // of failures
	// Covering is how many devices watch each link.
	Covering map[string]int

	zones []*time.Location // of each unit
	named map[string]*time.Location
}

// NewPlan lays a rollout out that is asked for now: it gives each unit its wave. Those
// whose windows open first come first, so that no site misses its window for one
// that is further west; otherwise units are taken in the order given, but for those
// that would have to wait for another of their wave because they watch the same
// link. Covering has the links that devices outside of the rollout watch, too; a link
// that is missing is counted here. What cannot be is fault.Invalid.
func NewPlan(units []Unit, covering map[string]int, policy Policy, now time.Time) (*Plan, error) {
	p, err := newPlan(slices.Clone(units), covering, policy)
	if err != nil {
		return nil, err
	}
	p.byOpening(now)
	p.layOut()
	return p, nil
}

// byOpening sorts the units by when they may begin.
func (p *Plan) byOpening(now time.Time) {
	if len(p.Policy.Windows) == 0 {
		return
	}
	type opens struct {
		Unit
		opening
	}
	list := make([]opens, len(p.Units))
	for i, u := range p.Units {
		list[i] = opens{u, p.opening(i, now, now)}
	}
	slices.SortStableFunc(list, func(a, b opens) int {
		switch {
		case a.never != b.never:
			return compareBool(a.never, b.never)
		case a.open != b.open:
			return compareBool(b.open, a.open)
		case a.open:
			return a.latest.Compare(b.latest) // the one that closes first
		default:
			return a.until.Compare(b.until)
		}
	})
	for i, o := range list {
		p.Units[i] = o.Unit
	}
	p.sortZones()
}

// compareBool puts what is false first.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// Restore makes the plan of units that have their waves already.
func Restore(units []Unit, covering map[string]int, policy Policy) (*Plan, error) {
	p, err := newPlan(units, covering, policy)
	if err != nil {
		return nil, err
	}
	for _, u := range units {
		p.Waves = max(p.Waves, u.Wave+1)
	}
	return p, nil
}

func newPlan(units []Unit, covering map[string]int, policy Policy) (*Plan, error) {
	if err := policy.Validate(); err != nil {
		return nil, err
	}
	p := &Plan{Policy: policy, Units: units, Covering: maps.Clone(covering), Canary: 1, zones: make([]*time.Location, len(units))}
	if policy.Canary != nil {
		p.Canary = *policy.Canary
	}
	p.Canary = min(p.Canary, len(units))
	wave := policy.Wave
	if wave.IsZero() {
		wave = Percent(defaultWave)
	}
	p.Size = wave.Of(len(units))
	p.Budget = p.Size
	if !policy.MaxFailures.IsZero() {
		p.Budget = policy.MaxFailures.Of(len(units))
	}
	p.named = make(map[string]*time.Location)
	counted := make(map[string]int)
	for i, u := range units {
		zone, ok := p.named[u.Zone]
		if !ok {
			var err error
			if zone, err = location(u.Zone); err != nil && len(policy.Windows) > 0 {
				return nil, &fault.Error{Kind: fault.Invalid, Act: "lay out the windows of " + u.Name, Err: err,
					Next: "correct the timezone of its site in the inventory"}
			}
			p.named[u.Zone] = zone
		}
		p.zones[i] = zone
		for _, link := range u.Links {
			counted[link]++
		}
	}
	if p.Covering == nil {
		p.Covering = make(map[string]int)
	}
	for link, n := range counted {
		p.Covering[link] = max(p.Covering[link], n)
	}
	return p, nil
}

// defaultWave is the size of a wave where none is given, in percent.
const defaultWave = 10

// location gives a zone; UTC stands in for one that is not known.
func location(name string) (*time.Location, error) {
	if name == "Local" {
		return time.UTC, fmt.Errorf("%q is no time zone", name) // it would be this machine's
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return time.UTC, fmt.Errorf("%q is no time zone", name)
	}
	return zone, nil
}

// Validate refuses a policy that can be followed for no units at all.
func (p Policy) Validate() error {
	switch {
	case p.Canary != nil && *p.Canary < 0:
		return fault.New(fault.Invalid, "a canary of %d units: it has to be 0 or more (--canary)", *p.Canary)
	case !p.Wave.IsZero() && p.Wave.n <= 0:
		return fault.New(fault.Invalid, "waves of %s: they have to have at least one unit (--wave)", p.Wave)
	case !p.MaxFailures.IsZero() && p.MaxFailures.n <= 0:
		return fault.New(fault.Invalid, "a budget of %s failures lets nothing begin: it has to be at least 1 (--max-failures)", p.MaxFailures)
	case p.Wave.percent && p.Wave.n > 100 || p.MaxFailures.percent && p.MaxFailures.n > 100:
		return fault.New(fault.Invalid, "more than 100%% of the units (--wave, --max-failures)")
	case p.Soak < 0:
		return fault.New(fault.Invalid, "the soak of %v is negative (--soak)", p.Soak)
	case p.PauseAfterCanary && p.Canary != nil && *p.Canary == 0:
		return fault.New(fault.Invalid, "there is no canary to pause after (--canary 0, --pause-after canary)")
	case !p.Start.IsZero() && !p.End.IsZero() && !p.End.After(p.Start):
		return fault.New(fault.Invalid, "it would end at %s, which is not after its start at %s (--start, --end)", stamp(p.End), stamp(p.Start))
	case p.ResumeWindow && len(p.Windows) == 0:
		return fault.New(fault.Invalid, "there is no window to be resumed (--resume-window needs --window)")
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// layOut gives the units their waves.
func (p *Plan) layOut() {
	left := make([]int, len(p.Units))
	for i := range left {
		left[i] = i
	}
	size := p.Canary
	for len(left) > 0 {
		if size == 0 {
			size = p.Size
		}
		left = p.fill(left, p.Waves, size)
		p.Waves++
		size = p.Size
	}
	slices.SortStableFunc(p.Units, func(a, b Unit) int { return a.Wave - b.Wave })
	p.sortZones()
}

// sortZones puts the zones in the order of the units again.
func (p *Plan) sortZones() {
	for i, u := range p.Units {
		p.zones[i] = p.named[u.Zone]
	}
}

// fill takes up to size units into a wave and gives those that are left.
func (p *Plan) fill(from []int, wave, size int) (left []int) {
	out := make(map[string]int)
	for _, i := range from {
		u := &p.Units[i]
		blinds := slices.ContainsFunc(u.Links, func(l string) bool { return p.Covering[l] > 1 && out[l]+1 >= p.Covering[l] })
		if size == 0 || blinds {
			left = append(left, i)
			continue
		}
		size--
		u.Wave = wave
		for _, l := range u.Links {
			out[l]++
		}
	}
	return left
}

// Refusals are the reasons not to begin this rollout at a time, and the flags that
// they are about; none is a rollout that can begin.
func (p *Plan) Refusals(now time.Time) (why []string) {
	if end := p.Policy.End; !end.IsZero() && !end.After(now) {
		return []string{fmt.Sprintf("it would have to be done by %s, which is past (--end)", stamp(end))}
	}
	if p.Policy.RequireCoverage {
		for _, s := range p.single() {
			why = append(why, fmt.Sprintf("link %s has no other cover than %s (--require-coverage)", s.link, s.unit))
		}
	}
	longest := time.Duration(0)
	for _, w := range p.Policy.Windows {
		longest = max(longest, w.length)
	}
	var never, late []string
	for i, u := range p.Units {
		switch {
		case longest > 0 && u.Worst > longest:
			never = append(never, fmt.Sprintf("%s (%s)", u.Name, short(u.Worst)))
		case p.opening(i, now, now).never:
			late = append(late, u.Name)
		}
	}
	if len(never) > 0 {
		why = append(why, fmt.Sprintf("no window is as long as the worst case of %s (--window)", names(never)))
	}
	if len(late) > 0 && len(late)+len(never) == len(p.Units) {
		why = append(why, fmt.Sprintf("none of the %d units fits into what is left of its time (--window, --end); --resume-window would wait for the next window", len(p.Units)))
	}
	return why
}

// Warnings are what people should know before it begins.
func (p *Plan) Warnings() (lines []string) {
	for _, s := range p.single() {
		lines = append(lines, fmt.Sprintf("link %s has no other cover than %s: it is not watched while that is out", s.link, s.unit))
	}
	if p.Canary > 0 && p.Canary == len(p.Units) && p.Canary > 1 {
		lines = append(lines, fmt.Sprintf("all %d units are the canary", p.Canary))
	}
	if p.Budget < p.Size && p.Waves > 1 {
		lines = append(lines, fmt.Sprintf("a budget of %d lets %d of the %d units of a wave run at once", p.Budget, p.Budget, p.Size))
	}
	var unknown []string
	if len(p.Policy.Windows) > 0 || !p.Policy.End.IsZero() {
		for _, u := range p.Units {
			if u.Worst == 0 {
				unknown = append(unknown, u.Name)
			}
		}
	}
	if len(unknown) > 0 {
		lines = append(lines, fmt.Sprintf("how long it may take is not known of %s: it may not be done when its window ends", names(unknown)))
	}
	return lines
}

// singleCover is a link that one device alone watches.
type singleCover struct{ link, unit string }

func (p *Plan) single() (found []singleCover) {
	for _, u := range p.Units {
		for _, l := range u.Links {
			if p.Covering[l] == 1 {
				found = append(found, singleCover{l, u.Name})
			}
		}
	}
	return found
}

// names joins names, the first few of many.
func names(list []string) string {
	const shown = 5
	text := strings.Join(list[:min(len(list), shown)], ", ")
	if more := len(list) - shown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
