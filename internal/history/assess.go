package history

import (
	"fmt"
	"math"
	"time"
)

// Question says what is wanted of an assessment.
type Question struct {
	// Ahead is how far ahead retention, or use, is forecast; 0 is not.
	Ahead time.Duration
	// Below is the retention whose falling short of is looked for; 0 is none. Of a
	// file system it is its being full.
	Below time.Duration
}

// State says what a series is in.
type State string

// The states.
const (
	Filling State = "filling" // there is room, and packets reach back to where it began
	Full    State = "full"    // the oldest packets make way for new ones
	Unknown State = "unknown" // the device does not print enough to tell
)

// Estimate is a figure with the interval that holds the truth in nine cases of ten.
type Estimate struct{ Value, Low, High float64 }

// Moment is a time with such an interval. Low or High is zero where it is further
// away than anybody can say.
type Moment struct{ At, Low, High time.Time }

// Basis says what a retention was worked out from.
type Basis string

// The bases.
const (
	FromGrowth Basis = "growth" // of a ring that fills: since when it has been filling
	FromDevice Basis = "vision" // the device's own figure, of its Vision metadata
)

// Assessment is what a series says. What it does not say is nil, and Reason tells
// why.
type Assessment struct {
	State  State
	Latest Point
	Points int
	First  time.Time
	// Growth is in bytes a day, over the last week or as much of it as there is.
	Growth *float64
	// FullAt is when a ring that fills begins to overwrite, or a file system is full.
	FullAt *Moment
	// Retention is how far back it reaches now, in seconds.
	Retention      *float64
	RetentionBasis Basis
	// WhenFull is how far back a ring that fills will reach once it is full, in seconds.
	WhenFull *Estimate
	// Trend is what retention gains in a day, in seconds.
	Trend *Estimate
	// Forecast is the retention at the end of Question.Ahead, in seconds; of a file
	// system the bytes used.
	Forecast *Estimate
	// Crossed is when retention falls below Question.Below.
	Crossed *Moment
	// Packets is an estimate of how far back the packets of a ring reach, in seconds,
	// also of a full one, from the growth that it had before it was full.
	Packets *float64
	// Outlives says that Vision metadata reaches further back than the packets: what it
	// finds cannot be fetched any more.
	Outlives *bool
	Reason   string
}

// What an assessment takes.
const (
	leastSamples = 5
	leastDays    = 6.0
	// window is how far back a trend is taken from.
	window = 84
	// furthest is how far ahead a date is given.
	furthest = 2 * 365
	// ringBlock is what a ring gives up at once when it is full (4 GB on Endace probes),
	// so that much may seem free in a full one.
	ringBlock = 4 << 30
)

const secondsOfDay = 86400.0

// What is taken for likely of the changes of a retention's logarithm in a day, and of
// the share of a file system that is used.
var (
	ofChanges = prior{slope: 0.00006, weekend: 0.3, weekday: 0.2, lasting: 0.6}
	ofShares  = prior{slope: 0.01, weekend: 0.05, weekday: 0.05, lasting: 1}
)

// Assess says what the points of a series, oldest first, lead to.
func Assess(kind Kind, points []Point, q Question) Assessment {
	a := Assessment{State: Unknown, Points: len(points)}
	if len(points) == 0 {
		a.Reason = "no report has spoken of it"
		return a
	}
	a.First, a.Latest = points[0].Time, points[len(points)-1]
	if a.Latest.Used == None || a.Latest.Limit == None || a.Latest.Limit <= 0 {
		a.Reason = "the device does not print its size and its use"
		return a
	}
	if kind == Filesystem {
		a.filesystem(points, q)
		return a
	}
	a.ring(points, q)
	return a
}

func (a *Assessment) ring(points []Point, q Question) {
	growth, began := filling(points)
	if full(points) {
		a.State = Full
		a.full(points, growth, q)
	} else {
		a.State = Filling
		a.filling(growth, began, q)
	}
	if a.Latest.Retention != None && a.Packets != nil {
		// The two are not known to the minute; a twentieth more is no finding.
		outlives := float64(a.Latest.Retention) > *a.Packets*1.05
		a.Outlives = &outlives
	}
}

// full reports whether the ring of the last point overwrites itself: there is no more
// room than it frees at a time, or it has not grown for days while nearly full.
func full(points []Point) bool {
	p := points[len(points)-1]
	if fullAt(p) {
		return true
	}
	same := 0
	for i := len(points) - 1; i >= 0 && same < 3 && points[i].Limit == p.Limit && abs(points[i].Used-p.Used) <= p.Limit/1000; i-- {
		same++
	}
	return same >= 3 && p.Used >= p.Limit/100*85
}

func fullAt(p Point) bool {
	if p.Used == None || p.Limit == None {
		return false
	}
	room := p.Limit / 100
	if p.Limit >= 20*ringBlock {
		room = max(room, ringBlock)
	}
	return p.Limit-p.Used <= room
}

func abs(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}

// filling gives the growth, in bytes a day, of the days on which the ring was filling,
// since it was last emptied; and the moment at which it was empty, as far as can be
// told.
func filling(points []Point) (growth []sample, began time.Time) {
	start := 0
	for i := 1; i < len(points); i++ {
		if was, is := points[i-1], points[i]; was.Used != None && is.Used != None && was.Used-is.Used > max(was.Used/50, ringBlock) {
			start = i
		}
	}
	var total, days float64
	for i := start + 1; i < len(points); i++ {
		was, is := points[i-1], points[i]
		if was.Used == None || is.Used == None || fullAt(was) || full(points[start:i]) || fullAt(is) {
			continue
		}
		d := is.Time.Sub(was.Time).Seconds() / secondsOfDay
		if d < 0.25 {
			continue // twice in a short time says nothing about a day
		}
		bytes := float64(is.Used - was.Used)
		total, days = total+bytes, days+d
		growth = append(growth, sample{from: dayFloat(was.Time), to: dayFloat(is.Time), y: bytes / d})
	}
	first := points[start]
	if total > 0 && first.Used != None {
		began = first.Time.Add(-secondsToDuration(float64(first.Used) / (total / days) * secondsOfDay))
	}
	return growth, began
}

func dayFloat(t time.Time) float64 { return float64(t.Unix()) / secondsOfDay }

func timeOf(day float64) time.Time { return time.Unix(int64(day*secondsOfDay), 0).UTC() }

// secondsToDuration is bounded by what a Duration can hold.
func secondsToDuration(s float64) time.Duration {
	return time.Duration(min(s, 250*365*secondsOfDay) * float64(time.Second))
}

// recent keeps the samples of the window before a day.
func recent(samples []sample, until float64) []sample {
	for len(samples) > 0 && samples[0].from < until-window {
		samples = samples[1:]
	}
	return samples
}

// enough says what is missing for a trend, or "".
func enough(samples []sample) string {
	if len(samples) == 0 {
		return "too little data for a trend"
	}
	if days := samples[len(samples)-1].to - samples[0].from; len(samples) < leastSamples || days < leastDays {
		readings := len(samples)
		if samples[0].to > samples[0].from {
			readings++ // each tells of the time between two
		}
		if readings == 1 {
			return "too little data: one reading; a trend takes a week of them"
		}
		return fmt.Sprintf("too little data: %d readings over %.0f days; a trend takes a week of them", readings, math.Max(days, 0))
	}
	return ""
}

// meanGrowth is the growth over the last week of the samples, in bytes a day.
func meanGrowth(growth []sample) float64 {
	var total, days float64
	for i := len(growth) - 1; i >= 0 && days < 6.5; i-- {
		total += growth[i].y * growth[i].days()
		days += growth[i].days()
	}
	if days == 0 {
		return 0
	}
	return total / days
}

// logs turns growth into logarithms. A day on which nothing came counts as a
// hundredth of a usual one.
func logs(growth []sample) ([]sample, bool) {
	values := make([]float64, len(growth))
	for i, g := range growth {
		values[i] = g.y
	}
	least := median(values) / 100
	if least <= 0 {
		return nil, false
	}
	out := make([]sample, len(growth))
	for i, g := range growth {
		out[i] = sample{g.from, g.to, math.Log(max(g.y, least))}
	}
	return out, true
}

func (a *Assessment) filling(growth []sample, began time.Time, q Question) {
	now := dayFloat(a.Latest.Time)
	growth = recent(growth, now)
	if len(growth) > 0 {
		rate := meanGrowth(growth)
		a.Growth = &rate
	}
	if !began.IsZero() {
		seconds := a.Latest.Time.Sub(began).Seconds()
		a.Retention, a.RetentionBasis, a.Packets = &seconds, FromGrowth, &seconds
	}
	if a.Reason = enough(growth); a.Reason != "" {
		return
	}
	logged, grows := logs(growth)
	if !grows {
		a.Reason = "the ring has room and does not grow"
		return
	}
	t, ok := fit(logged, ofLogarithms)
	if !ok {
		a.Reason = "its growth follows no trend"
		return
	}
	need := float64(a.Latest.Limit - a.Latest.Used)
	a.FullAt = t.reaches(now, need)
	if a.FullAt == nil {
		a.Reason = "at its growth it is not full within two years"
		return
	}
	// Once it is full it reaches back as far as it takes to fill it at the rate of then.
	when := dayFloat(a.FullAt.At)
	span := t.reaches(when, float64(a.Latest.Limit))
	if span != nil {
		a.WhenFull = &Estimate{Value: span.At.Sub(a.FullAt.At).Seconds(), Low: 0, High: math.Inf(1)}
		if !span.Low.IsZero() {
			a.WhenFull.Low = span.Low.Sub(a.FullAt.At).Seconds()
		}
		if !span.High.IsZero() {
			a.WhenFull.High = span.High.Sub(a.FullAt.At).Seconds()
		}
	}
	if q.Ahead <= 0 || a.Retention == nil {
		return
	}
	// Until it is full packets reach back to where it began; from then on to what it
	// takes to fill it.
	seconds := *a.Retention + q.Ahead.Seconds()
	forecast := Estimate{seconds, seconds, seconds}
	if a.WhenFull != nil {
		forecast.Value = min(seconds, max(a.WhenFull.Value, *a.Retention))
		forecast.Low = min(seconds, max(a.WhenFull.Low, *a.Retention))
		forecast.High = min(seconds, max(a.WhenFull.High, *a.Retention))
	}
	a.Forecast = &forecast
}

// reaches gives when what is added from a day on comes to an amount; nil when it does
// not within two years.
func (t *trend) reaches(from, amount float64) *Moment {
	if amount <= 0 {
		return &Moment{timeOf(from), timeOf(from), timeOf(from)}
	}
	var m Moment
	s := t.from(from)
	was := [3]float64{}
	targets := [3]*time.Time{&m.Low, &m.At, &m.High}
	for s.day < from+furthest && m.High.IsZero() {
		begin := s.day
		step := math.Floor(begin+1e-9) + 1 - begin
		center, variance := s.add(step)
		width := t.quantile * math.Sqrt(variance)
		now := [3]float64{math.Exp(center + width), math.Exp(center), math.Exp(center - width)}
		for i, target := range targets {
			if target.IsZero() && now[i] >= amount {
				part := 1.0
				if now[i] > was[i] {
					part = (amount - was[i]) / (now[i] - was[i])
				}
				*target = timeOf(begin + step*math.Min(math.Max(part, 0), 1))
			}
		}
		was = now
	}
	if m.At.IsZero() {
		return nil
	}
	return &m
}

func (a *Assessment) full(points []Point, growth []sample, q Question) {
	now := dayFloat(a.Latest.Time)
	if rate := meanGrowth(growth); rate > 0 {
		// The days just before it was full are the best that is known about its traffic.
		seconds := float64(a.Latest.Limit) / rate * secondsOfDay
		a.Packets = &seconds
	}
	if a.Latest.Retention == None || a.Latest.Retention == 0 {
		a.Reason = "the ring is full: its size never moves again, and the device prints no retention"
		return
	}
	seconds := float64(a.Latest.Retention)
	a.Retention, a.RetentionBasis = &seconds, FromDevice
	var readings []sample
	for i := len(points) - 1; i >= 0; i-- {
		p := points[i]
		if !full(points[:i+1]) || p.Limit != a.Latest.Limit {
			break // another ring, so to speak
		}
		if p.Retention > 0 {
			at := dayFloat(p.Time)
			readings = append(readings, sample{at, at, math.Log(float64(p.Retention))})
		}
	}
	reverse(readings)
	readings = recent(readings, now)
	if a.Reason = enough(readings); a.Reason != "" {
		return
	}
	changes := make([]sample, 0, len(readings))
	for i := 1; i < len(readings); i++ {
		was, is := readings[i-1], readings[i]
		changes = append(changes, sample{was.from, is.from, (is.y - was.y) / (is.from - was.from)})
	}
	t, ok := fit(changes, ofChanges)
	if !ok {
		a.Reason = "its retention follows no trend"
		return
	}
	end := math.Log(seconds)
	ahead := func(day float64) (mean, width float64) { return t.drift(now, day, end) }
	week, width := ahead(now + 7)
	a.Trend = &Estimate{seconds * (week - end) / 7, seconds * (week - width - end) / 7, seconds * (week + width - end) / 7}
	if q.Ahead > 0 {
		mean, width := ahead(now + q.Ahead.Seconds()/secondsOfDay)
		a.Forecast = &Estimate{math.Exp(mean), math.Exp(mean - width), math.Exp(mean + width)}
	}
	if q.Below > 0 {
		path := t.from(now)
		path.linear = true
		a.Crossed = falls(now, math.Log(q.Below.Seconds()), func(day float64) (mean, width float64) {
			if day <= now {
				return end, 0
			}
			change, variance := path.add(1)
			return end + change, t.quantile * math.Sqrt(variance)
		})
		if a.Crossed == nil {
			a.Reason = "its trend does not lead below the limit within two years"
		}
	}
}

// drift gives where changes lead from a value by a day, and the width of the interval.
func (t *trend) drift(from, to, value float64) (mean, width float64) {
	s := t.from(from)
	s.linear = true
	var change, variance float64
	for s.day < to-1e-9 {
		change, variance = s.add(min(1, to-s.day))
	}
	return value + change, t.quantile * math.Sqrt(variance)
}

func reverse(s []sample) {
	for i, j := 0, len(s)-1; i < j; i, j = i+1, j-1 {
		s[i], s[j] = s[j], s[i]
	}
}

// falls gives when a reading falls below a limit; nil when it does not within two
// years. Days are asked for in turn; those of the week differ, so it is the first such
// day.
func falls(now, limit float64, ahead func(day float64) (mean, width float64)) *Moment {
	var m Moment
	for day := now; day <= now+furthest && m.High.IsZero(); day++ {
		mean, width := ahead(day)
		for _, c := range []struct {
			at    *time.Time
			value float64
		}{{&m.Low, mean - width}, {&m.At, mean}, {&m.High, mean + width}} {
			if c.at.IsZero() && c.value < limit {
				*c.at = timeOf(day)
			}
		}
	}
	if m.At.IsZero() {
		return nil
	}
	return &m
}

// filesystem follows what is used, which may shrink as well as grow.
func (a *Assessment) filesystem(points []Point, q Question) {
	a.State = Filling
	now := dayFloat(a.Latest.Time)
	limit := float64(a.Latest.Limit)
	var readings []sample
	for _, p := range points {
		if p.Used != None && p.Limit == a.Latest.Limit {
			at := dayFloat(p.Time)
			readings = append(readings, sample{at, at, float64(p.Used) / limit})
		}
	}
	readings = recent(readings, now)
	if a.Latest.Used >= a.Latest.Limit {
		a.State = Full
	}
	if a.Reason = enough(readings); a.Reason != "" {
		return
	}
	t, ok := fit(readings, ofShares)
	if !ok {
		a.Reason = "its use follows no trend"
		return
	}
	rate := t.slope() * limit
	a.Growth = &rate
	ahead := func(day float64) (mean, width float64) {
		mean, variance := t.at(day)
		return mean, t.quantile * math.Sqrt(variance)
	}
	if q.Ahead > 0 {
		mean, width := ahead(now + q.Ahead.Seconds()/secondsOfDay)
		bytes := func(v float64) float64 { return math.Min(math.Max(v, 0), 1) * limit }
		a.Forecast = &Estimate{bytes(mean), bytes(mean - width), bytes(mean + width)}
	}
	// What rises to the whole falls, turned round, below nought.
	a.FullAt = falls(now, 1e-9, func(day float64) (mean, width float64) {
		mean, width = ahead(day)
		return 1 - mean, width
	})
	if a.FullAt == nil {
		a.Reason = "at its growth it is not full within two years"
	}
}
