package path

import "slices"

// spans is a set of parts of a stream, in which a byte can be more than once. The
// numbers of TCP wrap; all of them lie within half of their range of each other.
type spans struct {
	base uint32
	set  bool
	list []free
}

// free is a span by its distance from the base.
type free struct {
	from, to int64
}

func (l *spans) at(n uint32) int64 { return int64(int32(n - l.base)) } //nolint:gosec // distances are signed

func (l *spans) add(s span) {
	if !l.set {
		l.base, l.set = s.from, true
	}
	from := l.at(s.from)
	l.list = append(l.list, free{from, from + int64(s.to-s.from)})
}

func (l *spans) sort() {
	slices.SortFunc(l.list, func(a, b free) int { return int(a.from - b.from) })
}

// take removes the bytes of a span if all of them are there.
func (l *spans) take(s span) bool {
	from := l.at(s.from)
	to := from + int64(s.to-s.from)
	// Those that begin before the end of it, from the first that may reach into it. A
	// span is at most 64 KiB long, but for jumbo offloads; what is before is passed over.
	const longest = 1 << 20
	start, _ := slices.BinarySearchFunc(l.list, from-longest, func(f free, t int64) int {
		switch {
		case f.from < t:
			return -1
		case f.from > t:
			return 1
		}
		return 0
	})
	need := from
	var used []int
	for i := start; i < len(l.list) && l.list[i].from <= need && need < to; i++ {
		if f := l.list[i]; f.to > need && f.from < f.to {
			used = append(used, i)
			need = f.to
		}
	}
	if need < to {
		return false
	}
	var rest []free
	at := from
	for _, i := range used {
		f := &l.list[i]
		end := min(f.to, to)
		before, after := free{f.from, max(at, f.from)}, free{end, f.to}
		at = end
		*f = before // what is before stays in its place, so that the order stays
		if after.from < after.to {
			rest = append(rest, after)
		}
	}
	for _, r := range rest {
		i, _ := slices.BinarySearchFunc(l.list, r.from, func(f free, t int64) int {
			if f.from < t {
				return -1
			}
			return 1
		})
		l.list = slices.Insert(l.list, i, r)
	}
	return true
}
