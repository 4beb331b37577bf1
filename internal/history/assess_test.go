package history

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

const gb = int64(1e9)

// ring makes points a day apart of a ring of a size.
func ring(limit int64, used ...int64) (points []Point) {
	for i, u := range used {
		points = append(points, Point{Time: firstDay.AddDate(0, 0, i), Used: u, Limit: limit, Retention: None, Vision: None})
	}
	return points
}

func steady(n int, from, step int64) (used []int64) {
	for i := range int64(n) {
		used = append(used, from+i*step)
	}
	return used
}

func TestWhatASeriesSays(t *testing.T) {
	day := 24 * time.Hour
	withRetention := func(points []Point, seconds ...int64) []Point {
		for i := range points {
			points[i].Retention = seconds[min(i, len(seconds)-1)]
		}
		return points
	}
	constant := func(n int, v int64) []int64 { return steady(n, v, 0) }
	for name, c := range map[string]struct {
		kind   Kind
		points []Point
		state  State
		reason string // a part of it
		check  func(a Assessment) bool
	}{
		"nothing": {Ring, nil, Unknown, "no report", nil},
		"no size": {Ring, ring(None, 5*gb), Unknown, "does not print", nil},
		"one day": {Ring, ring(1000*gb, 5*gb), Filling, "too little data for a trend", func(a Assessment) bool { return a.FullAt == nil && a.Retention == nil }},
		"three days": {Ring, ring(1000*gb, steady(3, 0, 10*gb)...), Filling, "too little data: 3 readings over 2 days",
			func(a Assessment) bool { return a.Growth != nil && *a.Growth == 10e9 && a.FullAt == nil }},
		"it fills": {Ring, ring(1000*gb, steady(20, 10*gb, 10*gb)...), Filling, "", func(a Assessment) bool {
			at := firstDay.AddDate(0, 0, 99) // 10 GB on the first day, 10 each day
			return a.FullAt.At.Sub(at).Abs() < 2*day && *a.Retention == 20*day.Seconds() && a.RetentionBasis == FromGrowth &&
				a.WhenFull.Value > 95*day.Seconds() && a.WhenFull.Value < 105*day.Seconds()
		}},
		"it was emptied": {Ring, ring(1000*gb, append(steady(30, 10*gb, 30*gb), steady(20, 10*gb, 10*gb)...)...), Filling, "", func(a Assessment) bool {
			return *a.Growth == 10e9 && a.FullAt.At.Sub(firstDay.AddDate(0, 0, 129)).Abs() < 2*day
		}},
		"it does not grow":                 {Ring, ring(1000*gb, constant(20, 5*gb)...), Filling, "does not grow", func(a Assessment) bool { return a.FullAt == nil }},
		"full":                             {Ring, ring(1000*gb, constant(20, 999*gb)...), Full, "prints no retention", func(a Assessment) bool { return a.Retention == nil && a.Outlives == nil }},
		"full, less what it frees at once": {Ring, ring(1000*gb, constant(20, 996*gb)...), Full, "prints no retention", nil},
		"full, it seems":                   {Ring, ring(1000*gb, constant(20, 900*gb)...), Full, "prints no retention", nil},
		"full, with a retention": {Ring, withRetention(ring(1000*gb, constant(20, 999*gb)...), 864000), Full, "", func(a Assessment) bool {
			return *a.Retention == 864000 && a.RetentionBasis == FromDevice && a.Forecast.Low > 850000 && a.Forecast.High < 880000
		}},
		"retention shrinks": {Ring, withRetention(ring(1000*gb, constant(40, 999*gb)...), steady(40, 40*86400, -43200)...), Full, "", func(a Assessment) bool {
			return a.Crossed != nil && a.Trend.High < 0 && a.Crossed.At.After(a.Latest.Time)
		}},
		"the limit was raised": {Ring, append(ring(100*gb, constant(10, 100*gb)...), shift(ring(1000*gb, steady(20, 100*gb, 10*gb)...), 10)...), Filling, "",
			func(a Assessment) bool {
				return *a.Growth == 10e9 && a.FullAt.At.Sub(firstDay.AddDate(0, 0, 100)).Abs() < 2*day
			}},
		"metadata outlives packets": {Ring, withRetention(ring(1000*gb, append(steady(20, 0, 50*gb), constant(10, 1000*gb)...)...), 40*86400), Full, "",
			func(a Assessment) bool { return a.Outlives != nil && *a.Outlives && *a.Packets == 20*day.Seconds() }},
		"packets outlive metadata": {Ring, withRetention(ring(1000*gb, append(steady(20, 0, 50*gb), constant(10, 1000*gb)...)...), 10*86400), Full, "",
			func(a Assessment) bool { return a.Outlives != nil && !*a.Outlives }},
		"a file system grows": {Filesystem, ring(100*gb, steady(30, 10*gb, gb)...), Filling, "", func(a Assessment) bool {
			return a.FullAt != nil && a.FullAt.At.Sub(firstDay.AddDate(0, 0, 90)).Abs() < 4*day && a.Retention == nil
		}},
		"a file system that stays": {Filesystem, ring(100*gb, constant(30, 50*gb)...), Filling, "not full within", nil},
	} {
		t.Run(name, func(t *testing.T) {
			a := Assess(c.kind, c.points, Question{Ahead: 7 * day, Below: 7 * day})
			if a.State != c.state || !strings.Contains(a.Reason, c.reason) {
				t.Errorf("%s: %q", a.State, a.Reason)
			}
			if c.check != nil && !c.check(a) {
				t.Errorf("%+v\nfull %+v, retention %v, when full %+v, forecast %+v, crossed %+v, outlives %v", a, a.FullAt, deref(a.Retention), a.WhenFull, a.Forecast, a.Crossed, a.Outlives)
			}
		})
	}
}

func deref(f *float64) float64 {
	if f == nil {
		return -1
	}
	return *f
}

func shift(points []Point, days int) []Point {
	for i := range points {
		points[i].Time = points[i].Time.AddDate(0, 0, days)
	}
	return points
}

// FuzzAssess: no history, however odd, makes it panic or give an interval that does
// not hold the value.
func FuzzAssess(f *testing.F) {
	f.Add(uint64(1), 30)
	f.Fuzz(func(t *testing.T, seed uint64, n int) {
		r := rand.New(rand.NewPCG(seed, 0))
		var points []Point
		at := firstDay
		odd := func() int64 {
			return []int64{None, 0, 1, r.Int64N(1000 * gb), 1000 * gb, 1<<62 + r.Int64N(1<<61), r.Int64N(1e6)}[r.IntN(7)]
		}
		limit := odd()
		for range min(max(n, 0), 200) {
			at = at.Add(time.Duration(r.Int64N(int64(60 * time.Hour))))
			if r.IntN(10) == 0 {
				limit = odd()
			}
			points = append(points, Point{Time: at, Used: odd(), Limit: limit, Retention: odd(), Vision: odd()})
		}
		for _, kind := range []Kind{Ring, Filesystem} {
			a := Assess(kind, points, Question{Ahead: 7 * 24 * time.Hour, Below: time.Hour})
			for _, e := range []*Estimate{a.Forecast, a.Trend, a.WhenFull} {
				if e != nil && !(e.Low <= e.Value && e.Value <= e.High) {
					t.Errorf("%+v", *e)
				}
			}
			for _, m := range []*Moment{a.FullAt, a.Crossed} {
				if m != nil && (m.At.IsZero() || m.Low.After(m.At) || !m.High.IsZero() && m.High.Before(m.At)) {
					t.Errorf("%+v", *m)
				}
			}
		}
	})
}

func BenchmarkAssess(b *testing.B) {
	r := rand.New(rand.NewPCG(3, 0))
	days := generate(r, habits{level: 50e9, week: [7]float64{0.5, 1, 1, 1, 1, 1, 0.5}, noise: 0.1, lasting: 0.3, step: 1}, 400)
	filling, full := days.reports(r, 0, days.total(390), 365), days.reports(r, 0, days.total(30), 365)
	for b.Loop() {
		Assess(Ring, filling, Question{Ahead: 7 * 24 * time.Hour})
		Assess(Ring, full, Question{Ahead: 7 * 24 * time.Hour})
	}
}
