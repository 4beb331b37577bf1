package history

import (
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// traffic is a generated history whose future is known: bytes a day for each of many
// days, with a level, a growth, days of the week, and noise that lasts.
type traffic []float64

type habits struct {
	level   float64    // bytes a day
	growth  float64    // a day, as a fraction
	week    [7]float64 // what each day of the week is of the level
	noise   float64    // of a day's logarithm
	lasting float64    // how much of a day's deviation is there the day after
	step    float64    // by which traffic changes for good on one day; 1 is none
	bursts  float64    // how likely a day has up to four times the traffic
	away    int        // days in a row without a report
}

// plain traffic has a weekend, grows or shrinks, and is noisy.
func plain(r *rand.Rand) habits {
	h := habits{
		level:   math.Exp(math.Log(50e9) + 2*r.NormFloat64()),
		growth:  0.002 * r.NormFloat64(),
		noise:   0.05 + 0.15*r.Float64(),
		lasting: 0.6 * r.Float64(),
		step:    1,
	}
	weekend := 0.3 + 0.7*r.Float64()
	for day := range h.week {
		h.week[day] = 1
		if day == int(time.Saturday) || day == int(time.Sunday) {
			h.week[day] = weekend
		}
	}
	return h
}

// various traffic has besides what the models know nothing of: now and then it has hardly
// any noise, no weekend, a habit on each day of the week, a step, bursts, deviations that
// last for weeks, or nobody asks for days.
func various(r *rand.Rand) habits {
	h := plain(r)
	often := func(share float64) bool { return r.Float64() < share }
	if often(0.2) {
		h.noise = 0.01 + 0.03*r.Float64()
	}
	switch {
	case often(0.2):
		for day := range h.week {
			h.week[day] = 1
		}
	case often(0.3):
		for day := range h.week {
			h.week[day] *= math.Exp(0.25 * r.NormFloat64())
		}
	}
	if often(0.2) {
		h.step = math.Exp(0.4 * r.NormFloat64())
	}
	if often(0.15) {
		h.bursts = 0.03
	}
	if often(0.15) {
		h.lasting = 0.6 + 0.3*r.Float64()
	}
	if often(0.3) {
		h.away = 2 + r.IntN(8)
	}
	return h
}

var firstDay = time.Date(2025, 1, 6, 0, 0, 0, 0, time.UTC) // a Monday

func generate(r *rand.Rand, h habits, days int) traffic {
	out := make(traffic, days)
	deviation, level, step := 0.0, h.level, r.IntN(days)
	for d := range out {
		if d == step {
			level *= h.step
		}
		deviation = h.lasting*deviation + math.Sqrt(1-h.lasting*h.lasting)*h.noise*r.NormFloat64()
		out[d] = level * math.Exp(h.growth*float64(d)+deviation) * h.week[firstDay.AddDate(0, 0, d).Weekday()]
		if r.Float64() < h.bursts {
			out[d] *= 1 + 3*r.Float64()
		}
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

// reports are what a ring of a size says each day at some hour, but for days on which
// nobody asked.
func (t traffic) reports(r *rand.Rand, away int, limit, until float64) (points []Point) {
	hour, from := r.Float64(), until*r.Float64()
	for d := hour; d <= until; d++ {
		if r.Float64() < 0.05 || d >= from && d < from+float64(away) && d < until-2 {
			continue
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

// figures sorts the errors.
func (j *judged) figures() (median, cover float64) {
	slices.Sort(j.errors)
	return j.errors[len(j.errors)/2], float64(j.inside) / float64(len(j.errors))
}

// seeds is of how many sets of histories the forecasts are judged; FORECAST_SEEDS=50 is
// what the figures in docs/schedules.md are from.
func seeds(t *testing.T) uint64 {
	t.Helper()
	v := os.Getenv("FORECAST_SEEDS")
	if v == "" {
		return 1
	}
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil || n == 0 {
		t.Fatalf("FORECAST_SEEDS=%q", v)
	}
	return n
}

// judge forecasts sets of histories: in each set the median error is at most a tenth and
// the interval for nine cases of ten holds the truth in 85 to 95 of a hundred.
func judge(t *testing.T, forecast func(t *testing.T, r *rand.Rand, h habits, j *judged)) {
	t.Parallel()
	const histories = 500
	for name, draw := range map[string]func(*rand.Rand) habits{"plain": plain, "various": various} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := seeds(t)
			var covers, medians []float64
			for seed := range n {
				r := rand.New(rand.NewPCG(seed, 1))
				var j judged
				for range histories {
					forecast(t, r, draw(r), &j)
				}
				if len(j.errors) < histories*5/6 {
					t.Fatalf("seed %d: %d of %d histories have a forecast", seed, len(j.errors), histories)
				}
				median, cover := j.figures()
				if median > 0.10 {
					t.Errorf("seed %d: the median error is %.1f %%, more than 10 %%", seed, 100*median)
				}
				if cover < 0.85 || cover > 0.95 {
					t.Errorf("seed %d: the interval for 90 %% holds the truth in %.1f %%", seed, 100*cover)
				}
				covers, medians = append(covers, 100*cover), append(medians, 100*median)
			}
			mean := 0.0
			for _, c := range covers {
				mean += c / float64(n)
			}
			t.Logf("%d sets of %d histories: median error %.1f to %.1f %%; the interval holds %.1f to %.1f %%, %.1f %% in the mean",
				n, histories, slices.Min(medians), slices.Max(medians), slices.Min(covers), slices.Max(covers), mean)
		})
	}
}

// TestForecastOfOverwriting: a ring is going to overwrite its oldest packets in seven
// days; how well is that known?
func TestForecastOfOverwriting(t *testing.T) {
	judge(t, func(t *testing.T, r *rand.Rand, h habits, j *judged) {
		history := 10 + r.IntN(80)
		days := generate(r, h, history+60)
		truth := float64(history + 7)
		limit := days.total(truth)
		a := Assess(Ring, days.reports(r, h.away, limit, float64(history)), Question{})
		if a.State != Filling && days.total(float64(history)) < 0.9*limit && h.noise > 0.04 {
			t.Fatalf("%s with %.0f %% of the ring used", a.State, 100*days.total(float64(history))/limit)
		}
		if a.FullAt == nil {
			if a.State == Filling && a.Points > 12 {
				t.Fatalf("no forecast of %d points: %s", a.Points, a.Reason)
			}
			return // a ring that fills for months has a week's traffic in what it frees at once
		}
		at := firstDay.Add(time.Duration(truth * 24 * float64(time.Hour)))
		left := at.Sub(a.Latest.Time)
		j.add(float64(a.FullAt.At.Sub(at))/float64(left), !at.Before(a.FullAt.Low) && (a.FullAt.High.IsZero() || !at.After(a.FullAt.High)))
	})
}

// TestForecastOfRetention: how far back does a full ring reach in seven days?
func TestForecastOfRetention(t *testing.T) {
	judge(t, func(t *testing.T, r *rand.Rand, h habits, j *judged) {
		ring := 4 + 40*r.Float64() // days that it holds at first
		until := int(ring) + 14 + r.IntN(60)
		days := generate(r, h, until+10)
		limit := days.total(ring)
		points := days.reports(r, h.away, limit, float64(until))
		a := Assess(Ring, points, Question{Ahead: 7 * 24 * time.Hour, Below: time.Hour})
		if a.Forecast == nil {
			if a.Points > int(ring)+20 && h.step == 1 {
				t.Fatalf("no forecast (%s): %s", a.State, a.Reason)
			}
			return
		}
		at := a.Latest.Time.Add(7*24*time.Hour).Sub(firstDay).Hours() / 24
		truth := (at - days.when(days.total(at)-limit)) * secondsOfDay
		j.add((a.Forecast.Value-truth)/truth, truth >= a.Forecast.Low && truth <= a.Forecast.High)
	})
}
