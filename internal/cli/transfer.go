package cli

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/mattn/go-runewidth"

	"capfleet/internal/cli/output"
)

// transfer shows how far a file is, on a terminal, once it takes longer than a
// moment. Close may be called twice and leaves nothing behind.
type transfer struct {
	what  string
	total int64 // bytes; negative where that is not known
	done  atomic.Int64
	line  *liveLine // nil where nothing is shown
}

func (a *app) newTransfer(what string, total int64) *transfer {
	t := &transfer{what: what, total: total}
	if a.live() {
		t.line = startLiveLine(a.streams.Err, a.width, a.streams.Now, t.draw)
	}
	return t
}

// Reader counts what is read.
func (t *transfer) Reader(r io.Reader) io.Reader { return counting{r, &t.done} }

func (t *transfer) Close() {
	if t.line != nil {
		t.line.Close()
	}
}

func (t *transfer) draw(elapsed time.Duration, width int) string {
	const mb = 1_000_000
	done := t.done.Load()
	line := fmt.Sprintf("%s: %.1f MB", t.what, float64(done)/mb)
	if t.total > 0 {
		line = fmt.Sprintf("%s: %d%% of %.1f MB", t.what, 100*min(done, t.total)/t.total, float64(t.total)/mb)
	}
	if s := elapsed.Seconds(); s > 0 {
		line += fmt.Sprintf(", %.1f MB/s, %s", float64(done)/mb/s, output.Short(elapsed))
	}
	return runewidth.Truncate(output.Clean(line), max(width, 1), "…")
}

type counting struct {
	r io.Reader
	n *atomic.Int64
}

func (c counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}
