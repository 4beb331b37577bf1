package hotfix_test

import (
	"fmt"
	"strings"
	"testing"

	"capfleet/internal/hotfix"
	"capfleet/internal/jobs"
)

// fleetd dies at every other durable write of an apply, before or behind it in turn. However often and
// wherever that is, the device is installed once and reloaded once, and a device
// that is left in maintenance mode is named with what to do.
func TestKilledAnywhere(t *testing.T) {
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
	for i := 1; i <= writes; i += 2 {
		next <- i
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
				killed(t, r, probes[used], i, i%4 == 1)
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

// A command was lost, and fleetd dies at each write from there on until it has said
// that a person has to look. It is not typed again before that person says so.
func TestKilledWhileAPersonIsAsked(t *testing.T) {
	t.Parallel()
	for fault, event := range map[string]string{"cut_install=before": "install", "cut_reload=before": "reload"} {
		t.Run(event, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, map[string]string{"typical": "100ms", "install.worst": "3s", "down": "2s"}, "*-probe-*:"+fault)
			probes := r.probes()
			w := r.job(probes[0], r.spec(hotfix.Apply))
			want(t, w.run(), jobs.Attention)
			// The last writes are the note that it is left to a person, and before it what
			// the step saw.
			for i, name := range probes[1:3] {
				again := r.job(name, r.spec(hotfix.Apply))
				again.killAt, again.after = w.writes-i, true
				want(t, again.run(), jobs.Attention, "put into maintenance mode at")
				if n := r.events(name)[event]; n != 0 {
					t.Errorf("killed at write %d: %d times", again.killAt, n)
				}
				r.order(name, "none") // it may have been killed before the command was lost
				r.order(name, "boot_time=100ms")
				want(t, again.retry(), jobs.Succeeded)
				if n := r.events(name)[event]; n != 1 {
					t.Errorf("retried: %d times", n)
				}
			}
		})
	}
}
