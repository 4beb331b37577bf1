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

// The columns of the regression: level, trend, what the two days of the weekend have in
// common, and the seven days of the week, which the prior keeps near nought.
const (
	level   = 0
	slope   = 1
	weekend = 2
	weekday = 3
	columns = 10
)

type vector [columns]float64

func (x *vector) dot(y *vector) (sum float64) {
	for j := range x {
		sum += x[j] * y[j]
	}
	return sum
}

// model is a fitted regression of y = level + slope t + weekend + weekday, with errors
// whose correlation over d days is rho to the power of d.
type model struct {
	beta    vector
	cov     [columns]vector // of beta
	rho     float64
	sigma2  float64 // variance of an error
	freedom float64 // degrees of
	last    float64 // error of the last sample
	lastAt  float64
	lastRow vector
	weight  float64 // how likely this model is, of all of a trend
}

// trend is what samples lead to: models of different autocorrelation, each as likely as
// its weight. A short series tells little about how long its errors last, and one that is
// taken for certain makes intervals too narrow.
type trend struct {
	origin   float64 // of t, in days
	models   []model
	quantile float64 // of Student's t, for the interval
}

// spell is a stretch of time within one day.
type spell struct {
	day  int // of the week
	part float64
}

// spells gives the days that a span of time consists of, and what part of it each is.
func spells(from, to float64) (days []spell) {
	if to-from < 1e-6 {
		return []spell{{dayOfWeek(from), 1}}
	}
	for at := from; at < to-1e-9; {
		end := min(math.Floor(at+1e-9)+1, to)
		days = append(days, spell{dayOfWeek(at + 1e-9), (end - at) / (to - from)})
		at = end
	}
	return days
}

// row gives the regressors over a span of time.
func row(from, to, origin float64) (x vector) {
	x[level] = 1
	x[slope] = (from+to)/2 - origin
	for _, s := range spells(from, to) {
		x.add(s.day, s.part)
	}
	return x
}

// add counts a part of a day of the week.
func (x *vector) add(day int, part float64) {
	x[weekday+day] += part
	if day == int(time.Saturday) || day == int(time.Sunday) {
		x[weekend] += part
	}
}

// ofDay is what beta says a day of the week differs by.
func (x *vector) ofDay(day int) float64 {
	var one vector
	one.add(day, 1)
	return x.dot(&one)
}

// rowOfMean gives the regressors over a span whose sample is the logarithm of a mean,
// near a beta, and what is to be added to the sample: a mean over a day and a weekend is
// nearer to the day than the mean of their logarithms is.
func rowOfMean(from, to, origin float64, beta *vector) (x vector, shift float64) {
	x[level] = 1
	x[slope] = (from+to)/2 - origin
	days := spells(from, to)
	total, linear := 0.0, 0.0
	for _, s := range days {
		total += s.part * math.Exp(beta.ofDay(s.day))
	}
	for _, s := range days {
		of := beta.ofDay(s.day)
		part := s.part * math.Exp(of) / total
		x.add(s.day, part)
		linear += part * of
	}
	return x, linear - math.Log(total)
}

func dayOfWeek(day float64) int {
	return int(time.Unix(int64(day*86400), 0).UTC().Weekday())
}

// rhos are the autocorrelations over a day that are tried.
var rhos = [...]float64{0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.85, 0.92, 0.97}

// hardly is the logarithm of how much likelier the likeliest model is than one that is
// not worth following.
const hardly = 4.0

// prior is what is taken for likely before any data: the standard deviation of the
// trend, of what the weekend and of what a day of the week differs by. Data speaks
// louder from two weeks on.
type prior struct {
	slope, weekend, weekday float64
	// lasting is the most that an error of a day has left a day later.
	lasting float64
	// means says that samples are logarithms of means.
	means bool
}

// ofLogarithms: traffic changes by less than a third of a percent a day for good, the
// weekend has between a third and three times of it, and no other day twice another.
var ofLogarithms = prior{slope: 0.003, weekend: 0.6, weekday: 0.2, lasting: 1, means: true}

// fit weighs the autocorrelations by how likely they make the samples.
func fit(samples []sample, before prior) (t trend, ok bool) {
	origin := samples[len(samples)-1].to
	t.origin = origin
	rows, ys := make([]vector, len(samples)), make([]float64, len(samples))
	for i, s := range samples {
		rows[i], ys[i] = row(s.from, s.to, origin), s.y
	}
	if before.means {
		// Twice is enough to come near what each day of the week differs by.
		for range 2 {
			near := model{rho: 0.4}
			if _, solved := near.fit(samples, rows, ys, before); !solved {
				return t, false
			}
			for i, s := range samples {
				var shift float64
				rows[i], shift = rowOfMean(s.from, s.to, origin, &near.beta)
				ys[i] = s.y + shift
			}
		}
	}
	likeliest := math.Inf(-1)
	for _, rho := range rhos {
		if rho > before.lasting {
			break
		}
		m := model{rho: rho}
		if likelihood, solved := m.fit(samples, rows, ys, before); solved && !math.IsNaN(likelihood) {
			likelihood += math.Log(1 - rho) // what dies out is likelier than what lasts
			m.weight = likelihood
			likeliest = max(likeliest, likelihood)
			t.models = append(t.models, m)
		}
	}
	total := 0.0
	t.models = slices.DeleteFunc(t.models, func(m model) bool { return m.weight < likeliest-hardly })
	for i := range t.models {
		t.models[i].weight = math.Exp(t.models[i].weight - likeliest)
		total += t.models[i].weight
	}
	freedom := 0.0
	for i := range t.models {
		t.models[i].weight /= total
		freedom += t.models[i].weight * t.models[i].freedom
	}
	t.quantile = studentT95(freedom)
	return t, len(t.models) > 0
}

// fit is the regression for one autocorrelation; it gives the logarithm of how likely
// that is. What is new from one sample to the next is independent, so equations are made
// of differences; the mean of several days differs less than a day.
func (t *model) fit(samples []sample, rows []vector, ys []float64, before prior) (likelihood float64, ok bool) {
	n := len(samples)
	var (
		a        [columns]vector
		b        vector
		squares  float64
		jacobian float64
	)
	for i, s := range samples {
		x, y, scale := rows[i], ys[i], 1.0
		if i > 0 {
			was := &rows[i-1]
			r := math.Pow(t.rho, s.mid()-samples[i-1].mid())
			scale = math.Sqrt(1 - r*r)
			for j := range x {
				x[j] -= r * was[j]
			}
			y -= r * ys[i-1]
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
	var believed vector // the precision of the prior
	believed[slope] = 1 / (before.slope * before.slope)
	believed[weekend] = 1 / (before.weekend * before.weekend)
	for j := weekday; j < columns; j++ {
		believed[j] = 1 / (before.weekday * before.weekday)
	}
	t.sigma2 = 0.01
	var left, determinant float64
	for range 4 { // the weight of the prior hangs on the variance
		weighted := a
		for j := range columns {
			weighted[j][j] += t.sigma2 * believed[j]
		}
		inverse, logdet, solved := invert(weighted)
		if !solved {
			return 0, false
		}
		determinant = logdet - columns*math.Log(t.sigma2)
		t.beta = vector{}
		t.freedom = float64(n)
		for j := range columns {
			for k := range columns {
				t.beta[j] += inverse[j][k] * b[k]
				t.freedom -= inverse[j][k] * a[k][j]
			}
		}
		t.freedom = max(t.freedom, 1)
		left = squares
		for j := range columns {
			left -= 2 * t.beta[j] * b[j]
			for k := range columns {
				left += t.beta[j] * a[j][k] * t.beta[k]
			}
		}
		t.sigma2 = max(left/t.freedom, 1e-12)
		for j := range columns {
			for k := range columns {
				t.cov[j][k] = inverse[j][k] * t.sigma2
			}
		}
	}
	end := samples[n-1]
	t.lastAt, t.lastRow = end.mid(), rows[n-1]
	t.last = ys[n-1] - t.lastRow.dot(&t.beta)
	likelihood = -float64(n)/2*math.Log(t.sigma2) - jacobian - determinant/2 - left/t.sigma2/2
	for j := range columns {
		likelihood -= t.beta[j] * t.beta[j] * believed[j] / 2
	}
	return likelihood, true
}

// ahead gives what is expected at a moment after the last sample from its regressors:
// the regressors less what is known of them from the last error, what is left of that
// error, and the mean.
func (t *model) ahead(at float64, x vector) (less vector, r, mean float64) {
	r = math.Pow(t.rho, max(at-t.lastAt, 0))
	mean = r*t.last + x.dot(&t.beta)
	for j := range columns {
		x[j] -= r * t.lastRow[j]
	}
	return x, r, mean
}

// spread is the variance that comes from not knowing beta.
func (t *model) spread(x *vector) (v float64) {
	for j := range columns {
		v += x[j] * t.cov[j].dot(x)
	}
	return v
}

// mixed is the mean and the variance of what several models expect.
type mixed struct{ mean, square float64 }

func (m *mixed) add(weight, mean, variance float64) {
	m.mean += weight * mean
	m.square += weight * (variance + mean*mean)
}

func (m *mixed) variance() float64 { return max(m.square-m.mean*m.mean, 0) }

// at gives what is expected at a moment: mean and variance of the logarithm.
func (t *trend) at(day float64) (mean, variance float64) {
	var all mixed
	row := row(day, day, t.origin)
	for i := range t.models {
		m := &t.models[i]
		x, r, mean := m.ahead(day, row)
		all.add(m.weight, mean, m.sigma2*(1-r*r)+m.spread(&x))
	}
	return all.mean, all.variance()
}

// slope is what is gained in a day.
func (t *trend) slope() (perDay float64) {
	for i := range t.models {
		perDay += t.models[i].weight * t.models[i].beta[slope]
	}
	return perDay
}

// sum follows what is added up day by day.
type sum struct {
	t      *trend
	day    float64
	linear bool // of the values themselves, not of what they are the logarithm of
	parts  []part
}

// part is what one model expects of a sum.
type part struct {
	total   float64 // expected
	weights vector  // total-weighted regressors
	own     float64 // variance of the total by the errors alone
	cross   float64 // covariance of the total with the last day's error
}

func (t *trend) from(day float64) *sum {
	return &sum{t: t, day: day, parts: make([]part, len(t.models))}
}

// add goes on by a part of a day, and gives mean and variance of the total; of
// logarithms, those of the total's logarithm.
func (s *sum) add(days float64) (mean, variance float64) {
	var all mixed
	middle := s.day + days/2
	row := row(s.day, s.day+days, s.t.origin)
	for i := range s.parts {
		m, p := &s.t.models[i], &s.parts[i]
		center, v := p.add(m, middle, row, days, s.linear)
		all.add(m.weight, center, v)
	}
	s.day += days
	return all.mean, all.variance()
}

func (p *part) add(m *model, middle float64, row vector, days float64, linear bool) (mean, variance float64) {
	x, r, expected := m.ahead(middle, row)
	amount := days
	if linear {
		p.total += expected * days
	} else {
		amount = math.Exp(expected+m.sigma2/2*(1-r*r)) * days
		p.total += amount
	}
	// Errors of neighbouring days go together; a part of a day counts as its part.
	own := m.sigma2 * (1 - r*r)
	p.cross = p.cross*math.Pow(m.rho, days) + amount*own
	p.own += 2*p.cross*amount - amount*amount*own
	for j := range columns {
		p.weights[j] += amount * x[j]
	}
	if linear {
		return p.total, p.own + m.spread(&p.weights)
	}
	weights, own := p.weights, p.own/(p.total*p.total)
	for j := range weights {
		weights[j] /= p.total
	}
	return math.Log(p.total) - own/2, own + m.spread(&weights)
}

// invert inverts a positive definite matrix by Gauss and Jordan, and gives the logarithm
// of its determinant.
func invert(a [columns]vector) (inverse [columns]vector, logdet float64, ok bool) {
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
			return inverse, 0, false
		}
		a[j], a[pivot] = a[pivot], a[j]
		inverse[j], inverse[pivot] = inverse[pivot], inverse[j]
		logdet += math.Log(math.Abs(a[j][j]))
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
	return inverse, logdet, true
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
