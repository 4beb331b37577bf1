package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/netresearch/go-cron"

	"capfleet/internal/fault"
)

// searchYears is how far ahead an occurrence is looked for: 29 February is eight
// years away around a century that is no leap year.
const searchYears = 9

// Expression is a cron expression in a time zone. It is immutable.
type Expression struct {
	spec *cron.SpecSchedule // evaluated in UTC, whose clock stands for the zone's wall clock
	zone *time.Location
	// hourly says that the hour field is *: such a schedule goes by elapsed time when
	// clocks are set back.
	hourly bool
}

// Parse reads five cron fields, or @hourly, @daily, @weekly, @monthly or @yearly.
// Where day of month and day of week are both restricted either is enough, as
// crontab(5) has it. L (last day of the month), MON#2 (second Monday) and MON#L are
// understood too. The zone is an IANA name; "" is UTC. Errors are fault.Invalid.
//
// Only the fields are the library's business: it evaluates them on a clock without
// a zone, since what it does itself when clocks change depends on the order of its
// fields (30 2 * * * runs at 03:30 in spring, and 30 1 * * * twice in autumn).
func Parse(expression, zone string) (Expression, error) {
	bad := func(err error) (Expression, error) {
		return Expression{}, &fault.Error{Kind: fault.Invalid, Act: fmt.Sprintf("read cron expression %q", fault.Clip(expression, 64)), Err: err,
			Next: "write five fields: minute, hour, day of month, month, day of week, as in 30 6 * * MON-FRI"}
	}
	fields := strings.Fields(expression)
	switch {
	case len(fields) == 0:
		return bad(errors.New("it is empty"))
	case len(expression) > maxExpression:
		return bad(fmt.Errorf("it is longer than %d bytes", maxExpression))
	case strings.Contains(expression, "="):
		return bad(errors.New("the time zone is a setting of its own"))
	case strings.HasPrefix(fields[0], "@every"):
		return bad(errors.New("@every counts from a start that nobody knows after a restart; write */15 * * * *"))
	}
	loc, err := Zone(zone)
	if err != nil {
		return Expression{}, err
	}
	parser, err := cron.TryNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor |
		cron.DowOrDom | cron.DowNth | cron.DowLast | cron.DomL)
	if err != nil {
		return Expression{}, fault.Wrap(fault.Internal, "make a cron parser", err)
	}
	parsed, err := parser.WithMaxSearchYears(searchYears).Parse(strings.Join(fields, " "))
	if err != nil {
		return bad(err)
	}
	spec, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return bad(errors.New("it names no times of the clock"))
	}
	spec.Location = time.UTC
	e := Expression{spec: spec, zone: loc, hourly: fields[0] == "@hourly" || len(fields) > 1 && fields[1] == "*"}
	if e.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return bad(errors.New("no such time ever comes"))
	}
	return e, nil
}

const maxExpression = 200

// Zone finds a time zone by its IANA name; "" is UTC. "Local" is refused: it would
// be another zone on another host.
func Zone(name string) (*time.Location, error) {
	if name == "" {
		name = "UTC"
	}
	loc, err := time.LoadLocation(name)
	if name == "Local" || err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Act: fmt.Sprintf("find time zone %q", fault.Clip(name, 64)),
			Err: errors.New("it is not known"), Next: "use a name such as Europe/London, or UTC"}
	}
	return loc, nil
}

// Next gives the first occurrence after a moment, in UTC; the zero time when none
// comes within nine years.
func (e Expression) Next(after time.Time) time.Time {
	wall := e.wall(after)
	from := wall.Add(-time.Second)
	if e.hourly {
		// A wall-clock time before this one may come again.
		from = from.Add(-e.setBack(after))
	}
	var best time.Time
	for w := e.spec.Next(from); !w.IsZero(); w = e.spec.Next(w) {
		first, second := e.instants(w)
		if !best.IsZero() && !first.Before(best) {
			break
		}
		for _, at := range [...]time.Time{first, second} {
			if at.After(after) && (best.IsZero() || at.Before(best)) {
				best = at
			}
		}
	}
	return best
}

// wall is what the zone's clocks show at a moment, as a time in UTC.
func (e Expression) wall(at time.Time) time.Time {
	_, offset := at.In(e.zone).Zone()
	return at.UTC().Add(time.Duration(offset) * time.Second)
}

// near is as far from a change of clocks as any that shifts them can reach: the
// date line has been moved by a day.
const near = 26 * time.Hour

// setBack is by how much clocks are set back around a moment; 0 when they are not.
func (e Expression) setBack(at time.Time) time.Duration {
	_, before := at.Add(-near).In(e.zone).Zone()
	_, after := at.Add(near).In(e.zone).Zone()
	return time.Duration(max(before-after, 0)) * time.Second
}

// instants gives the moments at which the zone's clocks show a wall-clock time. One
// that is left out is at the change, or, when the schedule goes by the hour, at none.
// The second is zero unless the time comes twice and the schedule goes by the hour.
func (e Expression) instants(wall time.Time) (first, second time.Time) {
	_, before := wall.Add(-near).In(e.zone).Zone()
	_, after := wall.Add(near).In(e.zone).Zone()
	early := wall.Add(-time.Duration(before) * time.Second)
	late := wall.Add(-time.Duration(after) * time.Second)
	is := func(at time.Time) bool { return e.wall(at).Equal(wall) }
	switch {
	case before == after:
		return early, time.Time{}
	case is(early) && is(late): // set back: the offset shrinks, so late is later
		if e.hourly {
			return early, late
		}
		return early, time.Time{}
	case is(early):
		return early, time.Time{}
	case is(late):
		return late, time.Time{}
	case e.hourly:
		return time.Time{}, time.Time{}
	}
	change, _ := early.In(e.zone).ZoneBounds()
	return change.UTC(), time.Time{}
}

// countMost bounds the counting of occurrences that were missed.
const countMost = 1000

// latest gives the last occurrence up to until without going through all since an
// earlier one, by looking back further and further.
func (e Expression) latest(since, until time.Time) time.Time {
	for back := time.Hour; until.Add(-back).After(since); back *= 24 {
		var found time.Time
		for at := e.Next(until.Add(-back)); !at.IsZero() && !at.After(until); at = e.Next(at) {
			found = at
		}
		if !found.IsZero() {
			return found
		}
	}
	for at := e.Next(since); !at.IsZero() && !at.After(until); at = e.Next(at) {
		since = at
	}
	return since
}
