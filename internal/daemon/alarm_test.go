package daemon

import (
	"strings"
	"testing"
	"time"

	"capfleet/internal/history"
	"capfleet/internal/notify"
)

const weekLong = 7 * 24 * time.Hour

// daily makes points of consecutive days.
func daily(n int, at func(i int) history.Point) (points []history.Point) {
	for i := range n {
		p := at(i)
		p.Time = time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC).AddDate(0, 0, i)
		points = append(points, p)
	}
	return points
}

// fullRing prints a retention that begins at start days and changes by step a day.
func fullRing(n int, start, step float64) []history.Point {
	return daily(n, func(i int) history.Point {
		retention := int64((start + step*float64(i)) * 86400)
		return history.Point{Used: 1000e9, Limit: 1000e9, Retention: retention, Vision: history.None}
	})
}

func disk(n int, start, step float64) []history.Point {
	return daily(n, func(i int) history.Point {
		used := int64(1e12 / 100 * (start + step*float64(i)))
		return history.Point{Used: used, Limit: 1e12, Retention: history.None, Vision: history.None}
	})
}

// TestAlarms: a limit that is not met is told of, and one that will not be met within
// the time that a rule looks ahead; and both recover with a margin, so that nothing is
// told again and again.
func TestAlarms(t *testing.T) {
	retention := notify.CapacityRule{Retention: weekLong}
	soon := notify.CapacityRule{Retention: weekLong, Within: 30 * 24 * time.Hour}
	free := notify.CapacityRule{FreePercent: 10, Within: 30 * 24 * time.Hour}
	for name, c := range map[string]struct {
		rule   notify.CapacityRule
		kind   history.Kind
		points []history.Point
		want   []string // "" is a recovery
	}{
		"far above":                     {soon, history.Ring, fullRing(40, 40, 0), []string{"", ""}},
		"below":                         {soon, history.Ring, fullRing(40, 5, 0), []string{"reaches back 5d 0h, less than 7d"}},
		"will fall below":               {soon, history.Ring, fullRing(40, 25, -0.3), []string{"", "falls below 7d about 2026-0"}},
		"will, but nobody looks ahead":  {retention, history.Ring, fullRing(40, 25, -0.3), []string{""}},
		"will, but not soon":            {soon, history.Ring, fullRing(40, 100, -0.1), []string{"", ""}},
		"neither below nor recovered":   {retention, history.Ring, fullRing(40, 7.1, 0), nil},
		"too few readings for a trend":  {soon, history.Ring, fullRing(3, 25, -0.3), []string{""}},
		"nothing is asked of rings":     {free, history.Ring, fullRing(40, 5, 0), nil},
		"a disk with room":              {free, history.Filesystem, disk(40, 50, 0), []string{"", ""}},
		"a disk that fills":             {free, history.Filesystem, disk(40, 40, 1), []string{"", "% free on 2026-05-09, less than 10 %"}},
		"a disk without room":           {free, history.Filesystem, disk(40, 95, 0), []string{"has 5.0 % free, less than 10 %"}},
		"nothing is asked of the disks": {soon, history.Filesystem, disk(40, 95, 0), nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := alarms(c.rule, c.kind, c.points)
			if len(got) != len(c.want) {
				t.Fatalf("%d alarms: %+v", len(got), got)
			}
			for i, want := range c.want {
				if a := got[i]; a.below != (want != "") || a.below && !strings.Contains(a.text, want) {
					t.Errorf("want %q: %+v", want, a)
				}
				if i == 1 && got[i].condition != foreseen {
					t.Errorf("it is not told apart: %+v", got[i])
				}
			}
		})
	}
}
