package jobs

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

func TestSilentDevicesHaveAShare(t *testing.T) {
	s := newSchedule(Limits{Global: 8, PerSite: 4, PerDevice: 1})
	for _, task := range append(many("dead", "lon", 100), many("gone", "nyc", 100)...) {
		s.contacts[task.Device] = silent
	}
	s.addJob(index(1, accessRead, append(many("dead", "lon", 100), many("gone", "nyc", 100)...)...))
	running, list := picks(s)
	if want := []string{"dead00000", "gone00000", "dead00001", "gone00001"}; !slices.Equal(list, want) {
		t.Fatalf("handed out %q, want %q: half of each site and of all", list, want)
	}
	s.addJob(index(2, accessRead, many("live", "lon", 5)...))
	if _, list := picks(s); !slices.Equal(list, []string{"live00000", "live00001"}) {
		t.Errorf("handed out %q beside them", list)
	}
	// One that answers again leaves the lane, its units in other jobs too.
	s.addJob(index(3, accessRead, Task{Device: "dead00050", Site: "par"}))
	if _, list := picks(s); len(list) != 0 {
		t.Fatalf("handed out %q over the share", list)
	}
	s.learn(map[string]contact{"dead00050": heard})
	if _, list := picks(s); !slices.Equal(list, []string{"dead00050"}) {
		t.Errorf("handed out %q after it answered", list)
	}
	s.ended(running[0], outcome{news: map[string]contact{running[0].name: silent}})
	if s.silent != 3 || s.sites["lon"].silent != 1 {
		t.Errorf("%d silent, %d at the site", s.silent, s.sites["lon"].silent)
	}
}

// TestSilentDevicesAreNotStarved: work on devices that answer comes without end,
// and the others get their turn.
func TestSilentDevicesAreNotStarved(t *testing.T) {
	s := newSchedule(Limits{Global: 1, PerSite: 1, PerDevice: 1})
	s.contacts["dead"] = silent
	s.addJob(index(1, accessRead, many("live", "lon", 1000)...))
	s.addJob(index(2, accessRead, Task{Device: "dead", Site: "lon"}))
	for n := range 3 * silentEvery {
		u := s.next(epoch())
		if u.name == "dead" {
			return
		}
		s.ended(u, outcome{})
		if n == 2*silentEvery {
			t.Fatal("its turn does not come")
		}
	}
}

// dials is a runner whose dead devices take a connection's timeout.
type dials struct {
	timeout time.Duration
	live    chan time.Time // when the live device was begun
}

func (d dials) Run(ctx context.Context, w Work, _ Journal) Result {
	if w.Unit == "zz-live" {
		d.live <- time.Now()
		return Result{Tasks: map[string]TaskResult{w.Unit: {State: Succeeded}}}
	}
	timer := time.NewTimer(d.timeout)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return failAll([]string{w.Unit}, fault.New(fault.Unreachable, "no answer"))
}

// TestDeadDevicesDoNotHoldUpALiveOne: 10,000 tasks on dead devices, 64 places and
// connections that take 10 s to time out. Nothing is simulated but the clock, the
// devices and the disk's speed.
func TestDeadDevicesDoNotHoldUpALiveOne(t *testing.T) {
	const devices, timeout = 10_000, 10 * time.Second
	for name, tc := range map[string]struct {
		known   bool // what is dead was tried before
		sameJob bool
		within  time.Duration
	}{
		"another job, known to be dead":     {true, false, 0},
		"the same job, known to be dead":    {true, true, 0},
		"another job, nobody tried them":    {false, false, timeout},
		"the same job, the live one known ": {false, true, timeout},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				db, err := ledger.Open(filepath.Join(dir, "ledger.db"), ledger.Options{Namespaces: Namespaces()})
				if err != nil {
					t.Fatal(err)
				}
				defer db.Close()
				runner := dials{timeout: timeout, live: make(chan time.Time, 4)}
				e, err := Open(t.Context(), Options{Ledger: db, Runner: runner})
				if err != nil {
					t.Fatal(err)
				}
				dead := Request{Operation: "fake", Access: accessRead}
				for i := range devices {
					dead.Targets = append(dead.Targets, Target{Device: fmt.Sprintf("dead%05d", i), Site: fmt.Sprint("site", i%50)})
				}
				live := Request{Operation: "fake", Access: accessRead, Targets: []Target{{Device: "zz-live", Site: "site7"}}}
				if err := db.Update(t.Context(), func(tx *ledger.Tx) error {
					now := time.Now()
					if tc.sameJob {
						return put(tx, nsDevices, []byte("zz-live"), DeviceFacts{LastSeen: &now})
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				if tc.known {
					if err := db.Update(t.Context(), func(tx *ledger.Tx) error {
						for _, target := range dead.Targets {
							if err := put(tx, nsDevices, []byte(target.Device), DeviceFacts{Silent: true}); err != nil {
								return err
							}
						}
						return nil
					}); err != nil {
						t.Fatal(err)
					}
				}
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- e.Run(ctx) }()
				asked := time.Now()
				if tc.sameJob {
					dead.Targets = append(dead.Targets, live.Targets...)
				}
				if _, err := e.Submit(ctx, dead); err != nil {
					t.Fatal(err)
				}
				if !tc.sameJob {
					time.Sleep(timeout / 2) // as far as the dead ones get: 64 are being dialled
					asked = time.Now()
					if _, err := e.Submit(ctx, live); err != nil {
						t.Fatal(err)
					}
				}
				if waited := (<-runner.live).Sub(asked); waited > tc.within {
					t.Errorf("the live device was begun after %v, want within %v", waited, tc.within)
				}
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestWorkBesideDevices: a device that is silent does not hold up what asks its
// BMC, and what the BMC answers says nothing about the device.
func TestWorkBesideDevices(t *testing.T) {
	s := newSchedule(Limits{Global: 2, PerSite: 2, PerDevice: 1})
	s.contacts["dead00000"], s.contacts["dead00001"] = silent, silent
	j := index(1, accessRead, many("dead", "lon", 2)...)
	j.beside = true
	s.addJob(j)
	if _, list := picks(s); len(list) != 2 {
		t.Errorf("handed out %q of two", list)
	}
}
