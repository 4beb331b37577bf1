package report

import (
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"capfleet/internal/fault"
)

// Figures are computed in exact decimals: 1819.6 GB is 1819600000000 bytes and not
// one more or less.

// number is a plain decimal, bounded so that no input costs more than a moment.
var number = regexp.MustCompile(`^-?[0-9]{1,30}(?:\.[0-9]{1,30})?$`)

func parseNumber(s string) (*big.Rat, error) {
	if !number.MatchString(s) {
		return nil, fmt.Errorf("%q is not a number", fault.Clip(s, 80))
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return nil, fmt.Errorf("%q is not a number", fault.Clip(s, 80))
	}
	return r, nil
}

// blocks is df's way to name its unit: 1024-blocks, 512-blocks, 1K-blocks.
var blocks = regexp.MustCompile(`^([1-9][0-9]{0,8})([KMG]?)(?:-blocks)?$`)

// parseUnit gives the bytes in a unit: B, kB to EB (powers of ten), KiB to EiB
// (powers of two), or a block size of df. Letter case counts, since Gb is a gigabit.
func parseUnit(s string) (*big.Int, error) {
	if m := blocks.FindStringSubmatch(s); m != nil {
		n, _ := new(big.Int).SetString(m[1], 10)
		shift := map[string]uint{"": 0, "K": 10, "M": 20, "G": 30}[m[2]]
		return n.Lsh(n, shift), nil
	}
	prefix, ok := strings.CutSuffix(s, "B")
	switch {
	case s == "bytes" || s == "byte" || s == "Bytes":
		return big.NewInt(1), nil
	case !ok:
		return nil, fmt.Errorf("%q is not a unit of size (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB ...)", fault.Clip(s, 80))
	case prefix == "":
		return big.NewInt(1), nil
	}
	base, letter := int64(1000), prefix
	if p, binary := strings.CutSuffix(prefix, "i"); binary {
		base, letter = 1024, p
	}
	if letter == "k" {
		letter = "K"
	}
	power := slices.Index([]string{"", "K", "M", "G", "T", "P", "E"}, letter)
	if power < 1 {
		return nil, fmt.Errorf("%q is not a unit of size (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB ...)", fault.Clip(s, 80))
	}
	return new(big.Int).Exp(big.NewInt(base), big.NewInt(int64(power)), nil), nil
}

func parseBytes(figure, unit string) (int64, error) {
	n, err := parseNumber(figure)
	if err != nil {
		return 0, err
	}
	u, err := parseUnit(unit)
	if err != nil {
		return 0, err
	}
	return whole(n.Mul(n, new(big.Rat).SetInt(u)))
}

// whole rounds to the nearest integer, halves away from zero.
func whole(r *big.Rat) (int64, error) {
	twice := new(big.Int).Mul(r.Num(), big.NewInt(2))
	twice.Add(twice, new(big.Int).Mul(r.Denom(), big.NewInt(int64(r.Sign()))))
	n := twice.Quo(twice, new(big.Int).Mul(r.Denom(), big.NewInt(2)))
	if !n.IsInt64() {
		return 0, fmt.Errorf("%s is out of range", r.FloatString(0))
	}
	return n.Int64(), nil
}

// parsePercent takes 54% and 54.5.
func parsePercent(s string) (float64, error) {
	r, err := parseNumber(strings.TrimSpace(strings.TrimSuffix(s, "%")))
	if err != nil {
		return 0, fmt.Errorf("%q is not a percentage", fault.Clip(s, 80))
	}
	f, _ := r.Float64()
	return f, nil
}

// percentOf gives part of total to one decimal, or nil.
func percentOf(part, total *int64) *float64 {
	if part == nil || total == nil || *total <= 0 {
		return nil
	}
	tenths, err := whole(new(big.Rat).Mul(big.NewRat(*part, *total), big.NewRat(1000, 1)))
	if err != nil {
		return nil
	}
	f, _ := big.NewRat(tenths, 10).Float64()
	return &f
}

var (
	clock    = regexp.MustCompile(`^([0-9]{1,9}):([0-5][0-9]):([0-5][0-9])(?:\.[0-9]+)?$`)
	interval = regexp.MustCompile(`^([0-9]{1,18})(?:\.[0-9]{1,9})?\s*([A-Za-z]+)$`)
)

var secondsIn = map[string]int64{
	"w": 604800, "week": 604800, "weeks": 604800,
	"d": 86400, "day": 86400, "days": 86400,
	"h": 3600, "hr": 3600, "hrs": 3600, "hour": 3600, "hours": 3600,
	"m": 60, "min": 60, "mins": 60, "minute": 60, "minutes": 60,
	"s": 1, "sec": 1, "secs": 1, "second": 1, "seconds": 1,
}

// token is one part of a duration: a clock time, or a number with its unit.
var token = regexp.MustCompile(`^(?:[0-9]+(?::[0-9]{2}){2}(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?\s*[A-Za-z]+)`)

// parseSeconds takes "12d 04:11:00", "12d 4h 11m 3s", "04:11:00", "292 hours",
// "12 days, 04:11:00" and gives whole seconds, a fraction of the last one dropped.
// Units go from the large to the small, each once. A bare number is refused: its
// unit would be a guess.
func parseSeconds(s string) (int64, error) {
	bad := fmt.Errorf("%q is not a duration (such as 12d 04:11:00 or 292 hours)", fault.Clip(s, 80))
	rest := strings.TrimSpace(s)
	if rest == "" || len(rest) > 100 {
		return 0, bad
	}
	total, smallest := new(big.Int), int64(0)
	for rest != "" {
		part := token.FindString(rest)
		if part == "" {
			return 0, bad
		}
		seconds, unit, ok := partSeconds(part)
		if !ok || smallest != 0 && unit >= smallest {
			return 0, bad
		}
		total.Add(total, seconds)
		smallest = unit
		rest = strings.TrimLeft(rest[len(part):], " ,")
	}
	if !total.IsInt64() {
		return 0, fmt.Errorf("%q is out of range", fault.Clip(s, 80))
	}
	return total.Int64(), nil
}

// partSeconds gives a part's seconds and the size of its unit, for the order.
func partSeconds(part string) (seconds *big.Int, unit int64, ok bool) {
	if m := clock.FindStringSubmatch(part); m != nil {
		h, _ := strconv.ParseInt(m[1], 10, 64)
		min, _ := strconv.ParseInt(m[2], 10, 64)
		sec, _ := strconv.ParseInt(m[3], 10, 64)
		return big.NewInt(h*3600 + min*60 + sec), 3600, true
	}
	m := interval.FindStringSubmatch(part)
	if m == nil {
		return nil, 0, false
	}
	unit, ok = secondsIn[strings.ToLower(m[2])]
	if !ok {
		return nil, 0, false
	}
	amount, err := parseNumber(strings.TrimSpace(strings.TrimSuffix(part, m[2])))
	if err != nil {
		return nil, 0, false
	}
	amount.Mul(amount, new(big.Rat).SetInt64(unit))
	return new(big.Int).Quo(amount.Num(), amount.Denom()), unit, true
}
