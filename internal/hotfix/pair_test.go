package hotfix_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"capfleet/internal/hotfix"
	"capfleet/internal/jobs"
)

const target = "17.1.3-0.12.28"

// A pair is changed one member at a time, the active one last; the second time
// nothing is done; a rollback goes the same way back.
func TestPair(t *testing.T) {
	t.Parallel()
	r := newPairRig(t, nil)
	before := r.running(ltm1)
	res := r.applied()
	want(t, res, jobs.Succeeded)
	t.Logf("%s\n%q", res.Rows, res.Warnings)
	for _, name := range []string{ltm1, ltm2} {
		if got := r.running(name); got != target {
			t.Errorf("%s runs %s", name, got)
		}
		if got := r.events(name); got["install"] != 1 || got["reload"] != 1 || got["upload"] != 2 || got["save"] != 1 {
			t.Errorf("%s: events %v", name, got)
		}
	}
	r.happened(careful()...)

	want(t, r.applied(), jobs.Unchanged)
	r.happened(careful()...)

	want(t, r.pair(hotfix.Spec{Action: hotfix.Rollback}).run(), jobs.Succeeded)
	for _, name := range []string{ltm1, ltm2} {
		if got := r.running(name); got != before {
			t.Errorf("%s runs %s, and ran %s before", name, got, before)
		}
	}
	// The standby is ltm1 now.
	r.happened(append(careful(), "reload "+ltm1, "boot "+ltm1, "active "+ltm1, "reload "+ltm2, "boot "+ltm2)...)
	want(t, r.pair(hotfix.Spec{Action: hotfix.Rollback}).run(), jobs.Unchanged)
}

// Wherever fleetd dies, the pair ends where it should: nothing is installed or
// rebooted twice, there is one failover, and never are both away.
func TestPairKilledAnywhere(t *testing.T) {
	t.Parallel()
	probe := newPairRig(t, nil)
	whole := probe.pair(probe.spec(hotfix.Apply, withBase(probe)))
	want(t, whole.run(), jobs.Succeeded)
	const stride = 7 // every write is too many for each run of the tests
	for at := 1; at <= whole.writes; at++ {
		if at%stride != rand.IntN(stride) {
			continue
		}
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d of %d, after %v", at, whole.writes, after), func(t *testing.T) {
				t.Parallel()
				r := newPairRig(t, nil)
				w := r.pair(r.spec(hotfix.Apply, withBase(r)))
				w.killAt, w.after = at, after
				want(t, w.run(), jobs.Succeeded)
				r.happened(careful()...)
				for _, name := range []string{ltm1, ltm2} {
					if got := r.events(name); got["install"] != 1 || got["reload"] != 1 {
						t.Errorf("%s: events %v", name, got)
					}
				}
			})
		}
	}
}
