package jobs

import (
	"context"
	"sync"
)

// brake is how a unit that runs is asked to stop. While the unit is held, because
// it has begun what must not be left halfway, a cancel of its job waits; the end of
// fleetd does not.
type brake struct {
	mu    sync.Mutex
	holds int
	asked error // the cancel that waits, or that has taken effect
	stop  context.CancelCauseFunc
}

// cancel asks the unit to stop, now or when nothing holds it any more.
func (b *brake) cancel(cause error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.asked == nil {
		b.asked = cause
	}
	if b.holds == 0 {
		b.stop(b.asked)
	}
}

// hold keeps a cancel back. It fails with the cancel that came first.
func (b *brake) hold() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.asked != nil && b.holds == 0 {
		return b.asked
	}
	b.holds++
	return nil
}

// release lets a cancel through again.
func (b *brake) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.holds--; b.holds == 0 && b.asked != nil {
		b.stop(b.asked)
	}
}
