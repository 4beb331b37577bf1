package history

import (
	"math"
	"slices"
	"time"
)

// sample is an observation of a logarithm: on one day, or the mean over several.
type sample struct {
	from, to float64 // days since 1970; equal for a reading at one moment
	y        float64
}

func (s sample) mid() float64  { return (s.from + s.to) / 2 }
func (s sample) days() float64 { return max(s.to-s.from, 1e-6) }

// The columns of the regression: level, trend, and the seven days of the week, whose
// sum the prior keeps near nought.
const (
	level   = 0
	slope   = 1
	weekday = 2
	columns = 9
)

type vector [columns]float64

// trend is a fitted regression of y = level + slope t + weekday, with errors whose
// correlation over d days is rho to the power of d.
type trend struct {
	origin   float64 // of t, in days
	beta     vector
	cov      [columns]vector // of beta
	rho      float64
	sigma2   float64 // variance of an error
	last     float64 // error of the last sample
	lastAt   float64
	lastRow  vector
	quantile float64 // of Student's t, for the interval
}

// row gives the regressors over a span of time.
func row(from, to, origin float64) (x vector) {
	x[level] = 1
	x[slope] = (from+to)/2 - origin
	if to-from < 1e-6 {
		x[weekday+dayOfWeek(from)] = 1
		return x
	}
	for at := from; at < to-1e-9; {
		end := min(math.Floor(at+1e-9)+1, to)
		x[weekday+dayOfWeek(at+1e-9)] += (end - at) / (to - from)
		at = end
	}
	return x
}

func dayOfWeek(day float64) int {
	return int(time.Unix(int64(day*86400), 0).UTC().Weekday())
}

// rhos are the autocorrelations over a day that are tried.
var rhos = [...]float64{0, 0.2, 0.4, 0.6, 0.75, 0.85, 0.92, 0.96, 0.985, 0.995}

// prior is what is taken for likely before any data: the standard deviation of the
// trend and of what a day of the week differs by. Data speaks louder from two weeks on.
type prior struct{ slope, weekday float64 }

// ofLogarithms: traffic changes by less than a third of a percent a day for good, and
// no day of the week is half or twice another.
var ofLogarithms = prior{slope: 0.003, weekday: 0.35}

// fit chooses the autocorrelation under which the samples are likeliest.
func fit(samples []sample, before prior) (best trend, ok bool) {
	origin := samples[len(samples)-1].to
	rows := make([]vector, len(samples))
	for i, s := range samples {
		rows[i] = row(s.from, s.to, origin)
	}
	likeliest := math.Inf(-1)
	for _, rho := range rhos {
		t := trend{origin: origin, rho: rho}
		if likelihood, solved := t.fit(samples, rows, before); solved && likelihood > likeliest {
			best, likeliest, ok = t, likelihood, true
		}
	}
	return best, ok
}

// fit is the regression for one autocorrelation. What is new from one sample to the
// next is independent, so equations are made of differences; the mean of several days
// differs less than a day.
func (t *trend) fit(samples []sample, rows []vector, before prior) (likelihood float64, ok bool) {
	n := len(samples)
	var (
		a        [columns]vector
		b        vector
		squares  float64
		jacobian float64
	)
	for i, s := range samples {
		x, y, scale := rows[i], s.y, 1.0
		if i > 0 {
			was := &rows[i-1]
			r := math.Pow(t.rho, s.mid()-samples[i-1].mid())
			scale = math.Sqrt(1 - r*r)
			for j := range x {
				x[j] -= r * was[j]
			}
			y -= r * samples[i-1].y
		}
		scale /= math.Sqrt(max(s.days(), 1))
		jacobian += math.Log(max(scale, 1e-9))
		for j := range x {
			x[j] /= scale
		}
		y /= scale
		squares += y * y
		for j := range columns {
			b[j] += x[j] * y
			for k := range columns {
				a[j][k] += x[j] * x[k]
			}
		}
	}
	t.sigma2 = 0.01
	var freedom float64
	for range 4 { // the weight of the prior hangs on the variance
		weighted := a
		weighted[slope][slope] += t.sigma2 / (before.slope * before.slope)
		for j := weekday; j < columns; j++ {
			weighted[j][j] += t.sigma2 / (before.weekday * before.weekday)
		}
		inverse, solved := invert(weighted)
		if !solved {
			return 0, false
		}
		t.beta = vector{}
		freedom = float64(n)
		for j := range columns {
			for k := range columns {
				t.beta[j] += inverse[j][k] * b[k]
				freedom -= inverse[j][k] * a[k][j]
			}
		}
		freedom = max(freedom-1, 1) // one for the autocorrelation
		left := squares
		for j := range columns {
			left -= 2 * t.beta[j] * b[j]
			for k := range columns {
				left += t.beta[j] * a[j][k] * t.beta[k]
			}
		}
		t.sigma2 = max(left/freedom, 1e-12)
		for j := range columns {
			for k := range columns {
				t.cov[j][k] = inverse[j][k] * t.sigma2
			}
		}
	}
	end := samples[n-1]
	t.lastAt, t.lastRow = end.mid(), rows[n-1]
	t.last = end.y
	for j := range columns {
		t.last -= t.lastRow[j] * t.beta[j]
	}
	t.quantile = studentT95(freedom)
	return -float64(n)/2*math.Log(t.sigma2) - jacobian - freedom/2, true
}

// at gives what is expected at a moment: mean and variance of the logarithm.
func (t *trend) at(day float64) (mean, variance float64) {
	x := row(day, day, t.origin)
	r := math.Pow(t.rho, max(day-t.lastAt, 0))
	mean = r * t.last
	for j := range columns {
		mean += x[j] * t.beta[j]
		x[j] -= r * t.lastRow[j]
	}
	return mean, t.sigma2*(1-r*r) + t.spread(x)
}

// spread is the variance that comes from not knowing beta.
func (t *trend) spread(x vector) (v float64) {
	for j := range columns {
		for k := range columns {
			v += x[j] * t.cov[j][k] * x[k]
		}
	}
	return v
}

// sum follows what is added up day by day. Of logarithms the variance is that of the
// total's logarithm.
type sum struct {
	t       *trend
	day     float64
	linear  bool    // of the values themselves, not of what they are the logarithm of
	total   float64 // expected
	weights vector  // total-weighted regressors
	own     float64 // variance of the total by the errors alone
	cross   float64 // covariance of the total with the last day's error
}

func (t *trend) from(day float64) *sum { return &sum{t: t, day: day} }

// add goes on by a part of a day, and gives expectation and variance.
func (s *sum) add(days float64) (total, variance float64) {
	end := s.day + days
	x := row(s.day, end, s.t.origin)
	ahead := max((s.day+end)/2-s.t.lastAt, 0)
	r := math.Pow(s.t.rho, ahead)
	mean := r * s.t.last
	for j := range columns {
		mean += x[j] * s.t.beta[j]
		x[j] -= r * s.t.lastRow[j]
	}
	amount, expected := days, mean*days
	if !s.linear {
		amount = math.Exp(mean+s.t.sigma2/2*(1-r*r)) * days
		expected = amount
	}
	// Errors of neighbouring days go together; a part of a day counts as its part.
	step := math.Pow(s.t.rho, days)
	own := s.t.sigma2 * (1 - r*r)
	s.cross = s.cross*step + amount*own
	s.own += 2*s.cross*amount - amount*amount*own
	for j := range columns {
		s.weights[j] += amount * x[j]
	}
	s.total += expected
	s.day = end
	weights, own := s.weights, s.own
	if !s.linear {
		own /= s.total * s.total
		for j := range weights {
			weights[j] /= s.total
		}
	}
	return s.total, own + s.t.spread(weights)
}

// invert inverts a positive definite matrix by Gauss and Jordan.
func invert(a [columns]vector) (inverse [columns]vector, ok bool) {
	for j := range columns {
		inverse[j][j] = 1
	}
	for j := range columns {
		pivot := j
		for k := j + 1; k < columns; k++ {
			if math.Abs(a[k][j]) > math.Abs(a[pivot][j]) {
				pivot = k
			}
		}
		if math.Abs(a[pivot][j]) < 1e-12 {
			return inverse, false
		}
		a[j], a[pivot] = a[pivot], a[j]
		inverse[j], inverse[pivot] = inverse[pivot], inverse[j]
		scale := 1 / a[j][j]
		for k := range columns {
			a[j][k] *= scale
			inverse[j][k] *= scale
		}
		for k := range columns {
			if k == j {
				continue
			}
			by := a[k][j]
			for m := range columns {
				a[k][m] -= by * a[j][m]
				inverse[k][m] -= by * inverse[j][m]
			}
		}
	}
	return inverse, true
}

// studentT95 is the 95th percentile of Student's t, by the expansion of Abramowitz
// and Stegun 26.7.5.
func studentT95(freedom float64) float64 {
	const z = 1.6448536269514722
	z2 := z * z
	v := max(freedom, 2)
	return z + z*(z2+1)/(4*v) + z*(5*z2*z2+16*z2+3)/(96*v*v) + z*(3*z2*z2*z2+19*z2*z2+17*z2-15)/(384*v*v*v)
}

// median of values; they are sorted by it.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[len(values)/2]
}
