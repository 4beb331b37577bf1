// Package hint finds what a typing mistake most likely meant. The caller's list
// of what exists is authoritative; a hint is only ever words in an error.
package hint

import (
	"iter"
	"strconv"
	"strings"
)

// longest bounds what is compared, in bytes: the cost grows with the product of
// two lengths, and no name of ours is longer.
const longest = 253

// DidYouMean gives `; did you mean "x"?` for the candidate that is nearest to
// what was written, or nothing where none is near enough to be a likely slip.
func DidYouMean(written string, candidates iter.Seq[string]) string {
	if best, ok := Nearest(written, candidates); ok {
		return "; did you mean " + strconv.Quote(best) + "?"
	}
	return ""
}

// Nearest gives the candidate with the smallest edit distance to written, the
// alphabetically first where several are equally near. A third of the letters
// may differ, at most three: beyond that a suggestion is a guess.
func Nearest(written string, candidates iter.Seq[string]) (string, bool) {
	if len(written) == 0 || len(written) > longest {
		return "", false
	}
	want := strings.ToLower(written)
	limit := min(max(1, len(want)/3), 3)
	best, found := "", false
	for c := range candidates {
		if len(c) > longest || len(c) > len(want)+limit || len(c) < len(want)-limit {
			continue
		}
		d := distance(want, strings.ToLower(c))
		if d < limit || (d == limit && (!found || c < best)) {
			best, found, limit = c, true, d
		}
	}
	return best, found
}

// distance is the number of letters to insert, delete, replace or swap with
// their neighbour to make a into b (optimal string alignment).
func distance(a, b string) int {
	row := func() []int { return make([]int, len(b)+1) }
	before, last, next := row(), row(), row()
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(last[j]+1, next[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, last, next = last, next, before
	}
	return last[len(b)]
}
