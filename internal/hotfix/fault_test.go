package hotfix_test

import (
	"slices"
	"testing"
	"time"

	"capfleet/internal/hotfix"
	"capfleet/internal/jobs"
	"capfleet/internal/sim"
)

// Every fault that a simulated probe can be ordered to have ends in the state that
// an operator is told to expect, with a message to act on; and what truly happened
// is no more than it should be.
func TestFaults(t *testing.T) {
	t.Parallel()
	always := func(r *rig) {}
	for name, c := range map[string]struct {
		times  map[string]string
		faults []string
		spec   []func(*hotfix.Spec)
		begin  func(*rig)
		state  jobs.State
		says   []string
		// events that must have happened just so often
		install, reload, maintenance int
		// afterwards gives the state after an operator's retry without the fault
		afterwards jobs.State
	}{
		"cut upload": {
			faults: []string{"cut_upload=40kBx2"}, state: jobs.Succeeded, install: 1, reload: 1, maintenance: 1},
		"wrong checksum": {
			faults: []string{"wrong_checksum"}, state: jobs.Failed, says: []string{"upload"}, afterwards: jobs.Succeeded, install: 1, reload: 1, maintenance: 1},
		"disk full": {
			faults: []string{"disk_full"}, state: jobs.Failed, says: []string{"upload", "free"}, afterwards: jobs.Succeeded, install: 1, reload: 1, maintenance: 1},
		"somebody in configuration mode": {
			faults: []string{"takeover"}, state: jobs.Failed, says: []string{"admin (192.0.2.250)", "--takeover"},
			afterwards: jobs.Succeeded, install: 1, reload: 1, maintenance: 1},
		"pushed out": {
			faults: []string{"takeover"}, spec: []func(*hotfix.Spec){func(s *hotfix.Spec) { s.Takeover = true }},
			state: jobs.Succeeded, install: 1, reload: 1, maintenance: 1},
		"cut entering maintenance mode": {
			faults: []string{"cut_maintenance=after"}, state: jobs.Succeeded, install: 1, reload: 1, maintenance: 1},
		"cut before entering maintenance mode": {
			faults: []string{"cut_maintenance=before"}, state: jobs.Succeeded, install: 1, reload: 1, maintenance: 1},
		"cut during the installation": {
			faults: []string{"cut_install=during"}, state: jobs.Succeeded, install: 1, reload: 1, maintenance: 1},
		"cut after the installation": {
			faults: []string{"cut_install=after"}, state: jobs.Succeeded, install: 1, reload: 1, maintenance: 1},
		"install command lost": {
			times: map[string]string{"install.worst": "3s"}, faults: []string{"cut_install=before"},
			state: jobs.Attention, says: []string{"install", "may have been done", "put into maintenance mode at", "retry"},
			afterwards: jobs.Succeeded, install: 1, reload: 1, maintenance: 1},
		"cut while saving": {
			faults: []string{"cut_save=after"}, state: jobs.Succeeded, install: 1, reload: 1, maintenance: 1},
		"cut by the reload": {
			faults: []string{"cut_reload=after"}, state: jobs.Succeeded, install: 1, reload: 1, maintenance: 1},
		"reload command lost": {
			times: map[string]string{"down": "1s"}, faults: []string{"cut_reload=before"},
			state: jobs.Attention, says: []string{"reload", "did not go down", "put into maintenance mode at"},
			afterwards: jobs.Succeeded, install: 1, reload: 1, maintenance: 1},
		"install fails half-way": {
			faults: []string{"install_fails"}, state: jobs.Failed,
			says:       []string{"package install OSm6.4.x-CumulativeHotfix-v2", "cannot unpack the archive", "brought out of maintenance mode"},
			afterwards: jobs.Succeeded, install: 2, reload: 2, maintenance: 2},
		"listed but old": {
			faults: []string{"packages=versioned", "installed=OSm6.4.x-CumulativeHotfix-v1", "listed_old"}, state: jobs.Failed,
			says: []string{"installed", `"OSm6.4.x-CumulativeHotfix-v1"`, "brought out of maintenance mode"}, install: 1, reload: 1, maintenance: 1},
		"an old version, no versions listed": {
			faults: []string{"installed=OSm6.4.x-CumulativeHotfix-v1"}, state: jobs.Failed,
			says: []string{"without a version", "--accept-unobserved installed"}},
		"an old version, no versions listed, accepted": {
			faults: []string{"installed=OSm6.4.x-CumulativeHotfix-v1"}, spec: []func(*hotfix.Spec){accept("installed")},
			state: jobs.Succeeded, install: 1, reload: 1, maintenance: 1},
		"never back": {
			times: map[string]string{"return.worst": "1s"}, faults: []string{"never_returns"}, state: jobs.Attention,
			says: []string{"not back", "put into maintenance mode at"}, install: 1, reload: 1, maintenance: 1, afterwards: jobs.Succeeded},
		"back in maintenance mode": {
			times: map[string]string{"settle": "300ms"}, faults: []string{"back_in_maintenance"}, state: jobs.Attention,
			says: []string{"came back wrong", "normal_mode disproven", "(maintenance)", `type "reload" by hand`}, install: 1, reload: 1, maintenance: 1},
		"back without capture": {
			times: map[string]string{"settle": "300ms"}, faults: []string{"back_without_capture"}, state: jobs.Attention,
			says: []string{"came back wrong", "capturing disproven"}, install: 1, reload: 1, maintenance: 1},
		"back unchanged": {
			times: map[string]string{"settle": "300ms"}, faults: []string{"back_unchanged"}, state: jobs.Attention,
			says: []string{"came back wrong", "installed disproven", "a retry installs it anew"}, afterwards: jobs.Succeeded,
			install: 2, reload: 2, maintenance: 2},
		"back without its configuration": {
			faults: []string{"back_without_config"}, state: jobs.Attention,
			says: []string{"not as before", "config", "logging"}, install: 1, reload: 1, maintenance: 1},
		"capture cannot be seen": {
			faults: []string{"capture_status=none"}, state: jobs.Failed, says: []string{"capturing could not be shown", "--accept-unobserved capturing"}},
		"capture cannot be seen, accepted": {
			faults: []string{"capture_status=none"}, spec: []func(*hotfix.Spec){accept("capturing")},
			state: jobs.Succeeded, install: 1, reload: 1, maintenance: 1},
		"in maintenance mode by somebody": {
			begin: func(r *rig) { r.enterMaintenance(probe) }, state: jobs.Failed,
			says: []string{"in maintenance mode already", "somebody works on it"}, maintenance: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, c.times, on(probe, c.faults)...)
			if c.begin == nil {
				c.begin = always
			}
			c.begin(r)
			w := r.job(probe, r.spec(hotfix.Apply, c.spec...))
			res := w.run()
			want(t, res, c.state, c.says...)
			if res.Failure != nil {
				t.Log(res.Failure.Message)
			}
			if c.afterwards != "" {
				r.order(probe, "none")
				r.order(probe, "boot_time=100ms")
				want(t, w.retry(), c.afterwards)
			}
			got := r.events(probe)
			if got["install"] != c.install || got["reload"] != c.reload || got["maintenance_on"] != c.maintenance {
				t.Errorf("events %v, want %d installs, %d reloads, %d times maintenance mode", got, c.install, c.reload, c.maintenance)
			}
		})
	}
}

func on(name string, faults []string) []string {
	out := make([]string, len(faults))
	for i, f := range faults {
		out[i] = name + ":" + f
	}
	return out
}

// A probe that reboots for ever is up and as it should be now and then, and has not
// come back for all that.
func TestRebootsForEver(t *testing.T) {
	t.Parallel()
	r := newRig(t, map[string]string{"stable": "10m"})
	w := r.job(probe, r.spec(hotfix.Apply))
	looped := make(chan error, 1)
	ctx := t.Context()
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			entries, err := sim.ReadJournal(r.Sim.Dir())
			if err != nil {
				looped <- err
				return
			}
			if slices.ContainsFunc(entries, func(e sim.JournalEntry) bool { return e.Device == probe && e.Event == "boot" }) {
				looped <- r.Sim.Order(probe, "reboot_loop=3s")
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				looped <- ctx.Err()
				return
			}
		}
	}()
	res := w.run()
	if err := <-looped; err != nil {
		t.Fatal(err)
	}
	want(t, res, jobs.Attention, "it came back and rebooted again: up for", "put into maintenance mode at")
	if got := r.events(probe); got["install"] != 1 || got["maintenance_on"] != 1 {
		t.Errorf("events %v", got)
	}
}

// What one job left in maintenance mode, another one takes up: it is not installed
// again, and is brought out.
func TestAnotherJobTakesUp(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string][]string{"plain list": nil, "versioned list": {probe + ":packages=versioned"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil, append([]string{probe + ":refuse_command=configuration write"}, faults...)...)
			want(t, r.apply(probe), jobs.Attention, "save the configuration", "put into maintenance mode at", "save it by hand")
			if got := r.events(probe); got["install"] != 1 || got["reload"] != 0 {
				t.Errorf("events %v", got)
			}
			r.order(probe, "refuse_command=nothing")
			res := r.apply(probe)
			want(t, res, jobs.Succeeded)
			if got := r.events(probe); got["install"] != 1 || got["reload"] != 1 || got["maintenance_on"] != 1 || got["maintenance_off"] != 1 {
				t.Errorf("events %v", got)
			}
			want(t, r.apply(probe), jobs.Unchanged)
		})
	}
}

// A device that is begun anew is compared with what it was like before the first
// time: what it has lost since does not pass for its usual state.
func TestBegunAnewIsComparedWithTheFirstTime(t *testing.T) {
	t.Parallel()
	r := newRig(t, map[string]string{"settle": "300ms"}, on(probe, []string{"install_fails", "back_without_capture"})...)
	w := r.job(probe, r.spec(hotfix.Apply))
	want(t, w.run(), jobs.Attention, "came back wrong", "capturing disproven")
	r.order(probe, "none=install_fails")
	want(t, w.retry(), jobs.Attention, "came back wrong", "capturing disproven")
	if got := r.events(probe); got["install"] != 2 || got["reload"] != 2 {
		t.Errorf("events %v", got)
	}
}

// A cancel comes through when the device is back. What is known of it by then is kept
// for the record.
func TestCanceledDeviceIsInTheRecord(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	w := r.job(probe, r.spec(hotfix.Apply))
	w.cancel = true
	want(t, w.run(), jobs.Canceled, "before the end of post-check")
	row := r.record(probe)
	if row.Result != "returned" || row.VersionAfter == nil || row.ListedAfter == nil || *row.ListedAfter != listed || row.OutageSeconds == nil || len(row.Proofs) != 4 {
		t.Errorf("the record is %+v", row)
	}
	w.cancel = false
	want(t, w.retry(), jobs.Succeeded)
	if got := r.events(probe); got["install"] != 1 || got["reload"] != 1 {
		t.Errorf("events %v", got)
	}
}

// A device that is in use and only lacks the record of it is not taken through
// maintenance mode once more.
func TestNothingIsMissing(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, probe+":back_without_config")
	want(t, r.apply(probe), jobs.Attention, "not as before")
	r.order(probe, "none")
	want(t, r.apply(probe), jobs.Unchanged)
	by := newRig(t, nil, probe+":packages=versioned", probe+":installed=OSm6.4.x-CumulativeHotfix-v2")
	want(t, by.apply(probe), jobs.Unchanged)
	if got := by.events(probe); len(got) != 0 {
		t.Errorf("events %v", got)
	}
}

// An installation takes longer than it may, and a person has it typed once more. It
// is refused, because the first one still runs, and that one is not met by a reload.
func TestSlowInstallation(t *testing.T) {
	t.Parallel()
	r := newRig(t, map[string]string{"install.worst": "1s"}, probe+":install_time=10s")
	w := r.job(probe, r.spec(hotfix.Apply))
	want(t, w.run(), jobs.Attention, "showed nothing of it", "put into maintenance mode at")
	want(t, w.retry(), jobs.Attention, "install once more", "put into maintenance mode at")
	if got := r.events(probe); got["reload"] != 0 {
		t.Fatalf("reloaded while an installation runs: %v", got)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !slices.Contains(r.values(probe, "install", "result"), "ok") {
		<-tick.C
	}
	want(t, w.retry(), jobs.Succeeded)
	installed := 0
	for _, result := range r.values(probe, "install", "result") {
		if result != "refused" {
			installed++
		}
	}
	if got := r.events(probe); installed != 1 || got["reload"] != 1 {
		t.Errorf("%d installations, events %v", installed, got)
	}
}
