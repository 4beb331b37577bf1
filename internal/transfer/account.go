package transfer

// account says how much may be under way, so that what cuts cost stays below two
// per cent of the file; see the package comment. The zero value is that of an
// empty file. It is used by one goroutine.
type account struct {
	size    int64
	arrived int64 // confirmed, in all attempts
	lost    int64 // sent and found missing after a cut
	cuts    int
}

const (
	lossOfSize    = 250 // may be lost: a 250th of the file
	lossOfArrived = 100 // and a 100th of what has arrived
	// calmUnderWay may be under way before anything was cut: a small file need not
	// crawl over a long line.
	calmUnderWay = 512 << 10
)

// allowed is how many bytes may be under way now.
func (a *account) allowed() int64 {
	left := a.size/lossOfSize + a.arrived/lossOfArrived - a.lost
	if a.cuts == 0 {
		left = max(left, calmUnderWay)
	}
	return min(max(left, leastChunk), maxUnderWay)
}

// cut books that sent bytes were lost.
func (a *account) cut(lost int64) {
	a.cuts++
	a.lost += lost
}
