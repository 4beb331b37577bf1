package path

import (
	"math"
	"slices"
)

// early is how much before its time a packet may seem to arrive: what the estimate of
// steady clocks may be wrong by.
const early = 500_000 // nanoseconds

const (
	// parts is into how many the time of the samples is divided to see whether the
	// clocks run alike.
	parts = 32
	// fewest of them must have packets in both directions, or nothing is concluded.
	fewest = 4
	// fastest is what no clock of a host gains: NTP slews by at most 500 ppm.
	fastest = 1e-3
	// unsteady bounds what is believed of a clock's jumps.
	unsteady = 2_000_000_000 // nanoseconds
)

// reading is the offset within a part of the time.
type reading struct {
	at, offset int64
}

// steadiness finds out how much the far clock gains on the near one, and how much it
// strays from that: clocks that nobody corrects differ by tens of ppm, which within a
// minute is more than packets take on their way, and those that are corrected jump.
func (c *clock) steadiness(samples map[*stream][]sample) {
	c.early = early
	r := readings(samples)
	if len(r) < fewest {
		return
	}
	// The middle of the slopes between all pairs of readings (Theil and Sen): a part with
	// packets that were held up does no harm.
	slopes := make([]float64, 0, len(r)*(len(r)-1)/2)
	for i := range r {
		for j := range i {
			slopes = append(slopes, float64(r[i].offset-r[j].offset)/float64(r[i].at-r[j].at))
		}
	}
	slices.Sort(slopes)
	rate, pivot := slopes[len(slopes)/2], r[len(r)/2].at
	around := func(rate float64) (off []int64) {
		for _, x := range r {
			off = append(off, x.offset-int64(rate*float64(x.at-pivot)))
		}
		center := middle(slices.Clone(off))
		for i := range off {
			off[i] = max(off[i]-center, center-off[i])
		}
		slices.Sort(off)
		return off
	}
	// It has to tell more than chance does: the readings lie closer to the line.
	straight := around(rate)
	gained := math.Abs(rate) * float64(r[len(r)-1].at-r[0].at)
	if math.Abs(rate) < fastest && gained > early/5 && gained > 4*float64(straight[len(straight)/2]) {
		c.rate, c.pivot = rate, pivot
	} else {
		straight = around(0)
	}
	c.early = early + min(2*straight[len(straight)-1], unsteady)
}

// readings gives the offset in each part of the time in which packets went both ways,
// in order.
func readings(samples map[*stream][]sample) (out []reading) {
	from, to := int64(math.MaxInt64), int64(math.MinInt64)
	for _, list := range samples {
		for _, x := range list {
			from, to = min(from, x.near), max(to, x.near)
		}
	}
	if from >= to {
		return nil
	}
	type shortest struct {
		at, d int64
		any   bool
	}
	var best [parts][2]shortest
	for s, list := range samples {
		for _, x := range list {
			d, way := x.far-x.near, 0
			if !s.away {
				d, way = -d, 1
			}
			b := &best[min(int(float64(x.near-from)/float64(to-from)*parts), parts-1)][way]
			if !b.any || d < b.d {
				*b = shortest{x.near, d, true}
			}
		}
	}
	for _, b := range best {
		if at := b[0].at/2 + b[1].at/2; b[0].any && b[1].any && (len(out) == 0 || at > out[len(out)-1].at) {
			out = append(out, reading{at, (b[0].d - b[1].d) / 2})
		}
	}
	return out
}
