package history

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// traffic is a generated history whose future is known: bytes a day for each of many
// days, with a level, a growth, days of the week, and noise that lasts.
type traffic []float64

type habits struct {
	level   float64 // bytes a day
	growth  float64 // a day, as a fraction
	weekend float64 // what a day of the weekend is of a working day
	noise   float64 // of a day's logarithm
	lasting float64 // how much of a day's deviation is there the day after
}

func drawHabits(r *rand.Rand) habits {
	return habits{
		level:   math.Exp(math.Log(50e9) + 2*r.NormFloat64()),
		growth:  0.002 * r.NormFloat64(),
		weekend: 0.3 + 0.7*r.Float64(),
		noise:   0.05 + 0.15*r.Float64(),
		lasting: 0.6 * r.Float64(),
	}
}

var firstDay = time.Date(2025, 1, 6, 0, 0, 0, 0, time.UTC) // a Monday

func generate(r *rand.Rand, h habits, days int) traffic {
	out := make(traffic, days)
	deviation := 0.0
	for d := range out {
		deviation = h.lasting*deviation + math.Sqrt(1-h.lasting*h.lasting)*h.noise*r.NormFloat64()
		week := 1.0
		if wd := firstDay.AddDate(0, 0, d).Weekday(); wd == time.Saturday || wd == time.Sunday {
			week = h.weekend
		}
		out[d] = h.level * math.Exp(h.growth*float64(d)+deviation) * week
	}
	return out
}

// total is what came up to a moment, in days from the first.
func (t traffic) total(day float64) float64 {
	whole := int(day)
	sum := 0.0
	for _, v := range t[:whole] {
		sum += v
	}
	if whole < len(t) {
		sum += t[whole] * (day - float64(whole))
	}
	return sum
}

// when is the moment at which a total is reached.
func (t traffic) when(amount float64) float64 {
	sum := 0.0
	for d, v := range t {
		if sum+v >= amount {
			return float64(d) + (amount-sum)/v
		}
		sum += v
	}
	return math.Inf(1)
}

// reports are what a ring of a size says each day at some hour.
func (t traffic) reports(r *rand.Rand, limit, until float64) (points []Point) {
	hour := r.Float64()
	for d := hour; d <= until; d++ {
		if r.Float64() < 0.05 {
			continue // nobody asked that day
		}
		sum := t.total(d)
		p := Point{Time: firstDay.Add(time.Duration(d * 24 * float64(time.Hour))).Truncate(time.Second), Limit: int64(limit), Vision: None, Retention: None,
			Used: int64(min(sum, limit))}
		if sum > limit {
			p.Retention = int64((d - t.when(sum-limit)) * secondsOfDay)
		}
		points = append(points, p)
	}
	return points
}

// judged is how good many forecasts were.
type judged struct {
	errors []float64
	inside int
}

func (j *judged) add(err float64, inside bool) {
	j.errors = append(j.errors, math.Abs(err))
	if inside {
		j.inside++
	}
}

func (j *judged) check(t *testing.T) {
	t.Helper()
	slices.Sort(j.errors)
	n := len(j.errors)
	middle, cover := j.errors[n/2], float64(j.inside)/float64(n)
	t.Logf("%d histories: median error %.1f %%, nine in ten below %.1f %%, the interval holds %.1f %%", n, 100*middle, 100*j.errors[n*9/10], 100*cover)
	if middle > 0.10 {
		t.Errorf("the median error is %.1f %%, more than 10 %%", 100*middle)
	}
	if cover < 0.85 || cover > 0.95 {
		t.Errorf("the interval for 90 %% holds the truth in %.1f %%", 100*cover)
	}
}

// TestForecastOfOverwriting: a ring is going to overwrite its oldest packets in seven
// days; how well is that known?
func TestForecastOfOverwriting(t *testing.T) {
	const seed = 1
	r := rand.New(rand.NewPCG(seed, 0))
	var j judged
	for range 600 {
		history := 10 + r.IntN(80)
		days := generate(r, drawHabits(r), history+30)
		truth := float64(history + 7)
		limit := days.total(truth)
		a := Assess(Ring, days.reports(r, limit, float64(history)), Question{})
		if a.State != Filling && days.total(float64(history)) < 0.9*limit {
			t.Fatalf("%s with %.0f %% of the ring used", a.State, 100*days.total(float64(history))/limit)
		}
		if a.FullAt == nil {
			if a.State == Filling && a.Points > 12 {
				t.Fatalf("no forecast of %d points: %s", a.Points, a.Reason)
			}
			continue // a ring that fills for months has a week's traffic in what it frees at once
		}
		at := firstDay.Add(time.Duration(truth * 24 * float64(time.Hour)))
		left := at.Sub(a.Latest.Time)
		j.add(float64(a.FullAt.At.Sub(at))/float64(left), !at.Before(a.FullAt.Low) && (a.FullAt.High.IsZero() || !at.After(a.FullAt.High)))
	}
	if len(j.errors) < 500 {
		t.Errorf("%d of 600 histories have a forecast", len(j.errors))
	}
	j.check(t)
}

// TestForecastOfRetention: how far back does a full ring reach in seven days?
func TestForecastOfRetention(t *testing.T) {
	const seed = 2
	r := rand.New(rand.NewPCG(seed, 0))
	var j judged
	for range 600 {
		ring := 4 + 40*r.Float64() // days that it holds at first
		until := int(ring) + 14 + r.IntN(60)
		days := generate(r, drawHabits(r), until+10)
		limit := days.total(ring)
		points := days.reports(r, limit, float64(until))
		a := Assess(Ring, points, Question{Ahead: 7 * 24 * time.Hour, Below: time.Hour})
		if a.Forecast == nil {
			if a.Points > int(ring)+14 {
				t.Fatalf("no forecast (%s): %s", a.State, a.Reason)
			}
			continue
		}
		at := a.Latest.Time.Add(7*24*time.Hour).Sub(firstDay).Hours() / 24
		truth := (at - days.when(days.total(at)-limit)) * secondsOfDay
		j.add((a.Forecast.Value-truth)/truth, truth >= a.Forecast.Low && truth <= a.Forecast.High)
	}
	if len(j.errors) < 500 {
		t.Errorf("%d of 600 histories have a forecast", len(j.errors))
	}
	j.check(t)
}
