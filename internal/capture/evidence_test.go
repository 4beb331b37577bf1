//go:build linux

package capture

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestClock(t *testing.T) {
	for _, test := range []struct {
		said   string
		told   time.Time
		within time.Duration
		ok     bool
	}{
		{"1792519200.123456789\n", time.Unix(1792519200, 123456789), 0, true},
		{"1792519200.000000001", time.Unix(1792519200, 1), 0, true},
		{"1792519200.%N\n", time.Unix(1792519200, 5e8), 500 * time.Millisecond, true}, // BusyBox
		{"1792519200.N", time.Unix(1792519200, 5e8), 500 * time.Millisecond, true},    // older systems
		{"1792519200", time.Unix(1792519200, 5e8), 500 * time.Millisecond, true},
		{"1792519200.12", time.Unix(1792519200, 5e8), 500 * time.Millisecond, true},
		{"-3.000000000", time.Time{}, 0, false},
		{"date: invalid option", time.Time{}, 0, false},
		{"", time.Time{}, 0, false},
	} {
		told, within, ok := clock(test.said)
		if ok != test.ok || !told.Equal(test.told) || within != test.within {
			t.Errorf("%q: %v %v %v", test.said, told, within, ok)
		}
	}
}

func TestCountersSince(t *testing.T) {
	before := Counters{ReceiveDropped: 10, ReceiveErrors: 5, SendDropped: math.MaxUint64, SendErrors: 1}
	now := Counters{ReceiveDropped: 17, ReceiveErrors: 5, SendDropped: 3, SendErrors: 2}
	// What is less than before began anew.
	if got, want := since(now, before), (Counters{ReceiveDropped: 7, SendDropped: 3, SendErrors: 1}); got != want {
		t.Errorf("%+v", got)
	}
}

// What the interface dropped meanwhile is counted, what it dropped before is not; and
// the clock is ours.
func TestEvidenceOfADevice(t *testing.T) {
	t.Parallel()
	bed, u := bedUnit(t, "cap")
	// Larger packets than the interface takes are dropped by it.
	inside := func(args ...string) {
		t.Helper()
		if out, err := bed.Command(t.Context(), args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	inside("ip", "link", "set", "eth0", "mtu", "600")
	send := func(n int) {
		t.Helper()
		if err := bed.Send(t.Context(), 9, n, 1000, 0); err != nil {
			t.Fatal(err)
		}
	}
	send(5) // before

	u.meet = newMeeting(1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	spec := ringSpec(t, `{"points":[{"interface":"eth0","filter":"udp"}],"directory":"`+t.TempDir()+`","min_free_percent":0,"after_seconds":0,"evidence":true}`, u.dev)
	done := u.run(ctx, RingOptions{}, spec)
	u.awaitPhase(phaseRunning)
	send(7)
	u.meet.end()
	if err := ended(t, done); err != nil {
		t.Fatal(err)
	}
	row := u.rows[0]
	// Others may send there, too; but with those from before it would be 12.
	if c := row.Interfaces; c == nil || c.ReceiveDropped < 7 || c.ReceiveDropped >= 12 || c.SendDropped+c.SendErrors > 0 {
		t.Errorf("counters: %+v", row.Interfaces)
	}
	const rounding = 1e-5
	if row.ClockOffset == nil || row.ClockWithin == nil || *row.ClockWithin <= 0 || math.Abs(*row.ClockOffset) > *row.ClockWithin+rounding {
		t.Errorf("the clock of this host is %v ahead of itself, within %v", row.ClockOffset, row.ClockWithin)
	}
	raw, err := os.ReadFile(u.kept[row.Evidence])
	if err != nil {
		t.Fatal(err)
	}
	if name := filepath.Base(u.kept[row.Evidence]); name != "cap_evidence.txt" {
		t.Error(name)
	}
	// Its neighbour, its route, and what it has not got.
	for _, want := range []string{bed.Outer.String() + " dev eth0", "$ ip route show\n", "/30 dev eth0", "$ ss -lntu\n", "mtu 600"} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("no %q in\n%s", want, raw)
		}
	}
}
