package hotfix_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"capfleet/internal/device"
	"capfleet/internal/fault"
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
	archives := 0
	kept, err := r.artifacts.List(t.Context(), "1")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range kept {
		if a.Secret() != strings.HasSuffix(a.Name, ".ucs") {
			t.Errorf("%s is a secret: %v", a.Name, a.Secret())
		}
		if a.Secret() && a.Size > 0 {
			archives++
		}
	}
	if archives != 2 {
		t.Errorf("%d archives of configurations were kept", archives)
	}

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

// A window has to hold everything that may be waited for on a member.
func TestPairWorstCase(t *testing.T) {
	t.Parallel()
	r := newPairRig(t, nil)
	raw, err := json.Marshal(r.spec(hotfix.Apply, withBase(r)))
	if err != nil {
		t.Fatal(err)
	}
	prepared, err := r.op.Prepare(t.Context(), raw, []*device.Device{r.Device(t, ltm1), r.Device(t, ltm2)})
	if err != nil {
		t.Fatal(err)
	}
	v := r.driver.Definition().Hotfix.Volumes
	least := v.Save.Worst + v.Install.Worst + v.Shows + v.Return.Worst + v.Stable
	if got := prepared.WorstCase; got[ltm1] < least || got[ltm1] != got[ltm2] {
		t.Errorf("worst case %v, and the parts alone take %v", got, least)
	}
}

// Wherever fleetd dies, the pair ends where it should: nothing is installed or
// rebooted twice, there is one failover, and never are both away.
func TestPairKilledAnywhere(t *testing.T) {
	t.Parallel()
	probe := newPairRig(t, nil)
	whole := probe.pair(probe.spec(hotfix.Apply, withBase(probe)))
	want(t, whole.run(), jobs.Succeeded)
	type death struct {
		at    int
		after bool
	}
	var deaths []death
	for _, at := range whole.sent {
		// The line is typed, and nothing is written down of what became of it.
		deaths = append(deaths, death{at + 1, false})
	}
	for range 2 { // of the others some: all are too many for each run of the tests
		deaths = append(deaths, death{1 + rand.IntN(whole.writes), rand.IntN(2) == 0})
	}
	for _, d := range deaths {
		t.Run(fmt.Sprintf("write %d of %d, after %v", d.at, whole.writes, d.after), func(t *testing.T) {
			t.Parallel()
			r := newPairRig(t, map[string]string{"down": "2s", "shows": "3s"})
			w := r.pair(r.spec(hotfix.Apply, withBase(r)))
			w.killAt, w.after = d.at, d.after
			res := w.run()
			if res.State == jobs.Attention && strings.Contains(res.Failure.Message, "reboot may have been done") {
				// It died in the instant before a reboot was typed, which no device can
				// tell from one that is late: a person decides.
				res = w.retry()
			}
			want(t, res, jobs.Succeeded)
			r.happened(careful()...)
			for _, name := range []string{ltm1, ltm2} {
				if got := r.events(name); got["install"] != 1 || got["reload"] != 1 {
					t.Errorf("%s: events %v", name, got)
				}
			}
		})
	}
}

// What forbids a change is found before anything is done, and said with what to do.
func TestPairGates(t *testing.T) {
	t.Parallel()
	for fault, message := range map[string]string{
		ltm2 + ":licence_old":          "its service check date is 2013-01-01, and 17.1.3 asks for 2023-03-31",
		ltm1 + ":config_invalid":       "Invalid cipher string",
		ltm1 + ":sync=Changes Pending": `its sync state is "Changes Pending", and must be In Sync`,
		ltm2 + ":both_active":          "both would carry the traffic",
		ltm1 + ":auto_failback":        "auto-failback is on",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			r := newPairRig(t, nil, fault)
			want(t, r.applied(), jobs.Failed, "nothing was done", message)
			r.happened()
			for _, name := range []string{ltm1, ltm2} {
				if got := r.events(name); len(got) > 0 {
					t.Errorf("%s: events %v", name, got)
				}
			}
		})
	}
}

// A fault while nothing is out of use ends in failed, and the job can be taken up
// again when it has passed.
func TestPairFailsAndIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	r := newPairRig(t, nil)
	w := r.pair(r.spec(hotfix.Apply, withBase(r)))
	r.order(ltm1, "wrong_checksum")
	r.order(ltm2, "disk_full")
	want(t, w.run(), jobs.Failed, "room", "the file on the device differs from the source") // of both, side by side
	r.order(ltm1, "none=wrong_checksum")
	r.order(ltm2, "none=disk_full")
	for _, c := range []struct{ device, fault, message string }{
		{ltm1, "ucs_fails", "UCS archive creation failed"},
		{ltm2, "install_fails", "failed (Disk full (volume group))"},
	} {
		r.order(c.device, c.fault)
		want(t, w.retry(), jobs.Failed, c.message)
		r.order(c.device, "none="+c.fault)
		r.happened()
	}
	want(t, w.retry(), jobs.Succeeded)
	r.happened(careful()...)
}

// Cuts, damaged uploads and firmware that reboots once more change nothing of the
// result.
func TestPairGoesOn(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string][]string{
		"answers are lost":  {ltm2 + ":cut_upload=20kBx2", ltm2 + ":cut_install", ltm1 + ":cut_save", ltm1 + ":cut_failover"},
		"commands are lost": {ltm2 + ":cut_install=before", ltm1 + ":cut_failover=before", ltm2 + ":settle_time=1s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newPairRig(t, map[string]string{"shows": "2s"}, faults...)
			want(t, r.applied(), jobs.Succeeded)
			r.happened(careful()...)
			for _, name := range []string{ltm1, ltm2} {
				if got := r.events(name); got["install"] != 1 {
					t.Errorf("%s: events %v", name, got)
				}
			}
		})
	}
	t.Run("firmware", func(t *testing.T) {
		t.Parallel()
		r := newPairRig(t, map[string]string{"stable": "2s"}, ltm2+":firmware_reboot=300ms")
		want(t, r.applied(), jobs.Succeeded)
		r.happened("reload "+ltm2, "boot "+ltm2, "reload "+ltm2, "boot "+ltm2, "active "+ltm2, "reload "+ltm1, "boot "+ltm1)
	})
}

// A member that comes back wrong, or not at all, goes to a person. Its peer carries
// the traffic and is left alone.
func TestPairComesBackWrong(t *testing.T) {
	t.Parallel()
	for fault, message := range map[string]string{
		"back_without_config": "offline",
		"boots_old_volume":    "and was to run 17.1.3 build 0.12.28 from HD1.3",
		"never_returns":       "is not back",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			times := map[string]string{"settle": "1s", "down": "1s"}
			if fault == "never_returns" {
				times = map[string]string{"return.worst": "3s"}
			}
			r := newPairRig(t, times, ltm2+":"+fault)
			w := r.pair(r.spec(hotfix.Apply, withBase(r)))
			next := "rollback"
			if fault == "boots_old_volume" {
				next = "job retry boots that once more"
			}
			want(t, w.run(), jobs.Attention, message, ltm2, next, ltm1+" was left alone")
			if got := r.events(ltm1); got["reload"] != 0 || got["failover"] != 0 {
				t.Errorf("the peer: events %v", got)
			}
			if row := r.record(ltm2); row.VersionBefore == nil || (row.VersionAfter == nil) != (fault == "never_returns") {
				t.Errorf("the record is %+v", row)
			}
			if row := r.record(ltm1); row.VersionAfter == nil || row.VersionBefore == nil || *row.VersionAfter != *row.VersionBefore {
				t.Errorf("the peer's record is %+v", row)
			}
			r.order(ltm2, "none")
			r.order(ltm2, "boot_time=100ms")
			switch fault {
			case "never_returns":
				want(t, w.retry(), jobs.Succeeded)
				r.happened(careful()...)
				return
			case "boots_old_volume":
				// It is back where it was, and so there is nothing to go back to.
				want(t, r.pair(hotfix.Spec{Action: hotfix.Rollback}).run(), jobs.Unchanged)
				want(t, w.retry(), jobs.Succeeded)
				r.happened(append([]string{"reload " + ltm2, "boot " + ltm2}, careful()...)...)
				return
			}
			want(t, r.pair(hotfix.Spec{Action: hotfix.Rollback}).run(), jobs.Succeeded)
			if got := r.events(ltm1); got["reload"] != 0 || got["failover"] != 0 {
				t.Errorf("the peer after the rollback: events %v", got)
			}
		})
	}
	t.Run("failover_stuck", func(t *testing.T) {
		t.Parallel()
		r := newPairRig(t, map[string]string{"shows": "2s"}, ltm1+":failover_stuck")
		w := r.pair(r.spec(hotfix.Apply, withBase(r)))
		want(t, w.run(), jobs.Attention, "took \"run sys failover standby\"", "the traffic is where it was")
		r.happened("reload "+ltm2, "boot "+ltm2)
		r.order(ltm1, "none=failover_stuck")
		want(t, w.retry(), jobs.Succeeded)
		r.happened(careful()...)
	})
}

// What is wrong with a request is said before any device is touched.
func TestPairRefusesRequests(t *testing.T) {
	t.Parallel()
	r := newPairRig(t, nil)
	r.add("BIGIP-16.1.4-0.0.9.iso", []byte("another base"))
	for name, c := range map[string]struct {
		spec    hotfix.Spec
		devices []string
		message string
	}{
		"no base":           {r.spec(hotfix.Apply), nil, "--base"},
		"base given twice":  {r.spec(hotfix.Apply, withBase(r), func(s *hotfix.Spec) { s.BaseOnDevice = true }), nil, "twice"},
		"hotfix as base":    {r.spec(hotfix.Apply, func(s *hotfix.Spec) { s.Base = r.sha }), nil, "no base image"},
		"base with a base":  {hotfix.Spec{Action: hotfix.Apply, File: r.baseSHA, Base: r.baseSHA}, nil, "needs no base image"},
		"bad volume":        {r.spec(hotfix.Apply, withBase(r), func(s *hotfix.Spec) { s.Volume = "HD1.2; reboot" }), nil, "no name of a volume"},
		"rollback and file": {hotfix.Spec{Action: hotfix.Rollback, File: r.sha}, nil, "takes no file"},
		"unknown base":      {r.spec(hotfix.Apply, func(s *hotfix.Spec) { s.Base = strings.Repeat("0", 64) }), nil, "keeps no artifact"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.tryPair(c.spec, c.devices...)
			if !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), c.message) {
				t.Errorf("got %v", err)
			}
		})
	}
	r.happened()
}

// A base image on the device will do, and a volume can be named that is not there.
func TestPairOptions(t *testing.T) {
	t.Parallel()
	r := newPairRig(t, nil)
	onDevice := func(s *hotfix.Spec) { s.BaseOnDevice = true }
	want(t, r.pair(r.spec(hotfix.Apply, onDevice)).run(), jobs.Failed, "it has no base image of 17.1.3")
	want(t, r.pair(hotfix.Spec{Action: hotfix.Stage, File: r.baseSHA}).run(), jobs.Succeeded)
	want(t, r.pair(r.spec(hotfix.Apply, onDevice, func(s *hotfix.Spec) { s.Volume = "HD1.4" })).run(), jobs.Succeeded)
	r.happened(careful()...)
	if got := r.running(ltm1); got != target {
		t.Errorf("it runs %s", got)
	}
}

// A device by itself is away for as long as it boots.
func TestAlone(t *testing.T) {
	t.Parallel()
	r := newPairRig(t, nil, ltm2+":down")
	res := r.pair(r.spec(hotfix.Apply, withBase(r)), ltm1).run()
	want(t, res, jobs.Succeeded)
	r.happened("reload "+ltm1, "boot "+ltm1)
	if len(res.Rows) != 1 || !strings.Contains(string(res.Rows[0]), `"outage_seconds":`) || strings.Contains(string(res.Rows[0]), `"outage_seconds":null`) {
		t.Errorf("rows %s", res.Rows)
	}
}

func TestPairPlan(t *testing.T) {
	t.Parallel()
	r := newPairRig(t, nil, ltm2+":licence_old")
	for _, name := range []string{ltm1, ltm2} {
		res := r.pair(r.spec(hotfix.Plan, withBase(r)), name).run()
		want(t, res, jobs.Succeeded)
		var row hotfix.PlanRow
		if len(res.Rows) != 1 || json.Unmarshal(res.Rows[0], &row) != nil {
			t.Fatalf("rows %s", res.Rows)
		}
		if !row.Missing || len(row.Steps) == 0 || (len(row.Forbids) > 0) != (name == ltm2) {
			t.Errorf("%s: %s", name, res.Rows[0])
		}
	}
	r.happened()
	for _, name := range []string{ltm1, ltm2} {
		if got := r.events(name); len(got) > 0 {
			t.Errorf("a plan did %v", got)
		}
	}
}

// A login that gets tmsh and not bash is worked with in the same way.
func TestPairThroughTmsh(t *testing.T) {
	t.Parallel()
	r := newPairRigOf(t, 24, nil)
	const first, second = "nyc-ltm-01", "nyc-ltm-02"
	want(t, r.pair(r.spec(hotfix.Apply, withBase(r)), first, second).run(), jobs.Failed, "which is newer than 17.1.3 build 0.12.28")
	// An image that stands alone.
	content := []byte("the next release")
	r.add("BIGIP-21.1.2-0.0.3.iso", content)
	sum := sha256.Sum256(content)
	spec := hotfix.Spec{Action: hotfix.Apply, File: hex.EncodeToString(sum[:]), AcceptUnobserved: []string{hotfix.ProofLicence}}
	want(t, r.pair(spec, first, second).run(), jobs.Succeeded)
	r.happened("reload "+second, "boot "+second, "active "+second, "reload "+first, "boot "+first)
}

// A version of which no licence check date is known needs the operator's word.
func TestPairLicenceIsNotKnown(t *testing.T) {
	t.Parallel()
	r := newPairRig(t, nil)
	content := []byte("of a release to come")
	r.add("BIGIP-29.1.0-0.0.1.iso", content)
	sum := sha256.Sum256(content)
	spec := hotfix.Spec{Action: hotfix.Plan, File: hex.EncodeToString(sum[:])}
	for _, accepted := range []bool{false, true} {
		if accepted {
			accept(hotfix.ProofLicence)(&spec)
		}
		res := r.pair(spec, ltm1).run()
		want(t, res, jobs.Succeeded)
		var row hotfix.PlanRow
		if err := json.Unmarshal(res.Rows[0], &row); err != nil {
			t.Fatal(err)
		}
		if (len(row.Forbids) == 0) != accepted || len(row.Proofs) != 1 || row.Proofs[0].Answer != hotfix.NotObservable || row.Proofs[0].Accepted != accepted {
			t.Errorf("accepted %v: %s", accepted, res.Rows[0])
		}
	}
}

// A volume boots with the configuration of when software was installed to it. One
// that is older than what is saved is installed to again, or noticed before it boots.
func TestPairConfiguration(t *testing.T) {
	t.Parallel()
	configured := []string{"modify sys db log.ltm.level value Debug", "save sys config"}
	t.Run("since an earlier job", func(t *testing.T) {
		t.Parallel()
		r := newPairRig(t, nil)
		want(t, r.applied(), jobs.Succeeded)
		want(t, r.pair(hotfix.Spec{Action: hotfix.Rollback}).run(), jobs.Succeeded)
		r.tmsh(ltm1, configured...)
		want(t, r.applied(), jobs.Succeeded)
		for name, installs := range map[string]int{ltm1: 2, ltm2: 1} {
			if got := r.events(name); got["install"] != installs {
				t.Errorf("%s: events %v", name, got)
			}
		}
		if got := r.tmsh(ltm1, "list sys db log.ltm.level"); !strings.Contains(got, "Debug") {
			t.Errorf("the configuration was left behind: %s", got)
		}
	})
	t.Run("since the installation", func(t *testing.T) {
		t.Parallel()
		r := newPairRig(t, nil)
		whole := newPairRig(t, nil)
		all := whole.pair(whole.spec(hotfix.Apply, withBase(whole)))
		want(t, all.run(), jobs.Succeeded)
		w := r.pair(r.spec(hotfix.Apply, withBase(r)))
		w.killAt = all.sent[2] // before the first reboot is typed
		if _, killed := w.attemptOnce(t.Context()); !killed {
			t.Fatal("it was not killed")
		}
		r.tmsh(ltm2, configured...)
		want(t, w.run(), jobs.Attention, "another one was saved since", "cpcfg HD1.3")
		r.happened()
		res := w.retry() // a person has seen to it
		want(t, res, jobs.Succeeded)
		r.happened(careful()...)
	})
}
