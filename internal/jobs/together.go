package jobs

import (
	"context"
	"errors"
	"sync"

	"capfleet/internal/fault"
)

// errNotPrepared is why no unit of a coordinated job begins: one of them ended
// before it was ready.
var errNotPrepared = errors.New("nothing was started")

// workTogether takes all units of a coordinated job from claim to results. They
// are claimed in one transaction, all or none, and worked on at once; none of
// them goes on past Ready before all have come there, and the first that stops
// stops all.
func (e *Engine) workTogether(ctx, unitCtx context.Context, gang *unit, b *brake) outcome {
	claims, err := e.claim(unitCtx, gang.job.id, gang.members)
	if err != nil {
		return e.notClaimed(unitCtx, gang, err)
	}
	m := newMeeting(len(claims))
	defer e.convene(gang.job.id, m)()
	how := make([]outcome, len(claims))
	var members sync.WaitGroup
	for i, u := range gang.members {
		members.Go(func() {
			how[i] = e.carryOut(ctx, unitCtx, u, claims[i], m, b)
		})
	}
	members.Wait()
	all := outcome{}
	for _, o := range how {
		all.again = all.again || o.again
		for device, c := range o.news {
			all.tell(device, c)
		}
	}
	return all
}

// meeting is where the units of a coordinated job wait for each other. A nil
// meeting is that of a unit on its own.
type meeting struct {
	mu      sync.Mutex
	missing int           // units that are not ready
	failed  error         // why nothing is started
	begin   chan struct{} // closed when all are ready, or one cannot be
	stop    chan struct{} // closed when all are to stop
	stopped bool
}

func newMeeting(units int) *meeting {
	return &meeting{missing: units, begin: make(chan struct{}), stop: make(chan struct{})}
}

// attendee is one unit's part in a meeting.
type attendee struct {
	*meeting
	unit    string
	ready   bool
	excused bool // it takes no part any more
}

// arrive says that the unit is ready and waits for the others.
func (a *attendee) arrive(ctx context.Context) error {
	if a.meeting == nil {
		return nil
	}
	a.mu.Lock()
	if !a.ready && a.failed == nil {
		a.ready = true
		if a.missing--; a.missing == 0 {
			close(a.begin)
		}
	}
	a.mu.Unlock()
	select {
	case <-a.begin:
	case <-ctx.Done():
		return fault.Wrap(fault.KindOf(ctx.Err()), "wait for the job's other units", context.Cause(ctx))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failed
}

// leave says that the unit's work has ended. Before the go nobody begins any
// more; after it everybody stops.
func (a *attendee) leave(result Result) {
	if a.meeting == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.excused {
		return
	}
	if a.missing > 0 && a.failed == nil {
		why := "it ended first"
		for _, r := range result.Tasks {
			if r.Failure != nil {
				why = r.Failure.Message
				break
			}
		}
		a.failed = &fault.Error{Kind: fault.Canceled, Act: "unit " + a.unit + " was not ready: " + clip(why), Err: errNotPrepared}
		close(a.begin)
	}
	a.end()
}

// excuse takes the unit out: nobody waits for it, and nobody stops when it leaves.
func (a *attendee) excuse() {
	if a.meeting == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.excused = true
	if !a.ready && a.failed == nil {
		a.ready = true
		if a.missing--; a.missing == 0 {
			close(a.begin)
		}
	}
}

// finish asks everybody to stop.
func (a *attendee) finish() {
	if a.meeting == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.end()
}

func (m *meeting) end() {
	if !m.stopped {
		m.stopped = true
		close(m.stop)
	}
}

// ended is closed when all are to stop; of a unit on its own it never is.
func (a *attendee) ended() <-chan struct{} {
	if a.meeting == nil {
		return nil
	}
	return a.stop
}
