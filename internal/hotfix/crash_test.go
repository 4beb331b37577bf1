package hotfix_test

import (
	"fmt"
	"strings"
	"testing"

	"capfleet/internal/hotfix"
	"capfleet/internal/jobs"
)

// fleetd dies at each durable write of an apply, before or behind it in turn. However often and
// wherever that is, the device is installed once and reloaded once, and a device
// that is left in maintenance mode is named with what to do.
func TestKilledAtEachWrite(t *testing.T) {
	t.Parallel()
	// An act that may have been sent and was not: the device is waited for that long.
	times := map[string]string{"install.worst": "3s", "down": "3s"}
	whole := newRig(t, times)
	w := whole.job(probe, whole.spec(hotfix.Apply))
	want(t, w.run(), jobs.Succeeded)
	writes := w.writes
	if writes < 30 {
		t.Fatalf("an apply has %d writes", writes)
	}
	probes := whole.probes()
	next := make(chan int, writes)
	for i := range writes {
		next <- i + 1
	}
	close(next)
	for worker := range 2 {
		t.Run(fmt.Sprint(worker), func(t *testing.T) {
			t.Parallel()
			var r *rig
			used := len(probes)
			for i := range next {
				if used == len(probes) {
					r, used = newRig(t, times), 0
				}
				killed(t, r, probes[used], i, i%2 == 1)
				used++
			}
		})
	}
}

func killed(t *testing.T, r *rig, name string, at int, after bool) {
	t.Helper()
	w := r.job(name, r.spec(hotfix.Apply))
	w.killAt, w.after = at, after
	res := w.run()
	where := fmt.Sprintf("killed at write %d, after it: %v", at, after)
	if res.State == jobs.Attention {
		// Only an act of which nothing is known but that it may have been sent.
		if !strings.Contains(res.Failure.Message, "may have been done") || !strings.Contains(res.Failure.Message, "put into maintenance mode at") {
			t.Errorf("%s: %s", where, res.Failure.Message)
		}
		res = w.retry()
	}
	if res.State != jobs.Succeeded {
		t.Errorf("%s: %s: %+v", where, res.State, res.Failure)
	}
	if got := r.events(name); got["install"] != 1 || got["reload"] != 1 || got["maintenance_on"] != 1 || got["maintenance_off"] != 1 || got["upload"] != 1 {
		t.Errorf("%s: events %v", where, got)
	}
}
