package transfer

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// TestPersist: attempts that achieve something go on for ever, others end after a
// while; what cannot get better ends at once.
func TestPersist(t *testing.T) {
	t.Parallel()
	cut := &fault.Error{Kind: fault.Disconnected, Err: errors.New("cut")}
	for name, c := range map[string]struct {
		attempt  func(n int) (achieved int64, err error)
		attempts int
		cuts     int
		err      error
	}{
		"at once":        {func(int) (int64, error) { return 1, nil }, 1, 0, nil},
		"many cuts":      {func(n int) (int64, error) { return int64(n), map[bool]error{true: cut}[n < 200] }, 200, 199, nil},
		"never anything": {func(int) (int64, error) { return 0, cut }, maxIdle + 1, maxIdle + 1, cut},
		"refused":        {func(int) (int64, error) { return 0, fault.New(fault.Refused, "no") }, 1, 0, fault.New(fault.Refused, "no")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, done, cuts := 0, int64(0), 0
				begin := time.Now()
				err := persist(t.Context(), func(context.Context) (device.Conn, error) { return nil, nil }, //nolint:nilnil // nobody uses it
					func(context.Context, device.Conn) (err error) {
						n++
						done, err = c.attempt(n)
						return err
					}, func() int64 { return done }, func() { cuts++ })
				if n != c.attempts || cuts != c.cuts || (err == nil) != (c.err == nil) || err != nil && !strings.Contains(err.Error(), c.err.Error()) {
					t.Errorf("%d attempts, %d cuts, %v", n, cuts, err)
				}
				if d := time.Since(begin); d > 2*time.Minute {
					t.Errorf("took %v", d)
				}
			})
		})
	}
}

func TestPersistEndsWithContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		err := persist(ctx, func(context.Context) (device.Conn, error) { return nil, fault.New(fault.Unreachable, "no route") },
			nil, func() int64 { return 0 }, func() {})
		if !fault.Is(err, fault.Unreachable) || time.Since(begin) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}
