package flow

// Watch is a set of the hashes of connections that answers fast, and may have one
// that nobody put in. NewWatch makes one.
type Watch struct{ counts [watched + 2]uint16 }

// watched is how many slots hashes share.
const watched = 1 << 14

// The slots that belong to no hash: Never is not in any Watch, and Always in each.
const (
	Never  uint16 = watched
	Always uint16 = watched + 1
)

// NewWatch gives an empty Watch.
func NewWatch() *Watch {
	w := &Watch{}
	w.counts[Always] = 1
	return w
}

// Slot gives where in a Watch a hash is looked for.
func Slot(hash uint32) uint16 { return uint16(hash % watched) } //nolint:gosec // below it

// Set puts a hash in or takes it out, so that it is in as often as there are
// connections with it that want it in. Is says whether this one has it in now.
func (w *Watch) Set(hash uint32, is *bool, want bool) {
	if *is == want {
		return
	}
	*is = want
	c := &w.counts[Slot(hash)]
	switch {
	case *c == 1<<16-1: // a place that was ever full stays so
	case want:
		*c++
	default:
		*c--
	}
}

// Has reports whether a hash may be in.
func (w *Watch) Has(hash uint32) bool { return w.counts[Slot(hash)] != 0 }

// Next gives the first place from a place on whose slot is in; the length of slots
// when there is none.
func (w *Watch) Next(slots []uint16, from int) int {
	for i := from; i < len(slots); i++ {
		if w.counts[slots[i]] != 0 {
			return i
		}
	}
	return len(slots)
}
