package transfer

import (
	"context"
	"math/rand/v2"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// Connect gives a connection to the device that works, a new one where the last
// broke.
type Connect func(ctx context.Context) (device.Conn, error)

// How often in a row, and with what pauses, it is tried again although nothing
// was achieved. A first failure may only be an old connection found dead.
const (
	maxIdle    = 6
	firstPause = 500 * time.Millisecond
	maxPause   = 30 * time.Second
)

// Deliver uploads over as many connections as it takes: after a cut it goes on
// over the next one, as long as each few of them achieve something. See Send for
// the errors; that of the last connection is given.
func Deliver(ctx context.Context, connect Connect, u Upload) (Result, error) {
	s, err := newSender(u)
	if err != nil {
		return Result{}, err
	}
	err = persist(ctx, connect, s.attempt, func() int64 { return s.moved }, func() { s.result.Cuts++ })
	return s.result, s.failure(err)
}

// persist makes attempts until one ends well, one fails for good, or several in a
// row achieve nothing.
func persist(ctx context.Context, connect Connect, attempt func(context.Context, device.Conn) error, achieved func() int64, cut func()) error {
	for idle, seen := 0, achieved(); ; {
		conn, err := connect(ctx)
		if err == nil {
			err = attempt(ctx, conn)
			if fault.Is(err, fault.Disconnected) {
				cut()
			}
		}
		if err == nil || ctx.Err() != nil || !fault.KindOf(err).Retryable() {
			return err
		}
		if now := achieved(); now > seen {
			idle, seen = 0, now
			continue
		}
		if idle++; idle > maxIdle {
			return err
		}
		if idle > 1 {
			if !sleep(ctx, pause(idle-2)) {
				return err
			}
		}
	}
}

// pause grows with each attempt and differs between devices, so that many do not
// come back at once.
func pause(attempt int) time.Duration {
	d := min(firstPause<<attempt, maxPause)
	return d/2 + rand.N(d/2+1) //nolint:gosec // it spreads, it hides nothing
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
