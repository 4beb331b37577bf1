//go:build linux

package capture

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capfleet/internal/fault"
)

// count is how many packets tcpdump finds in a file.
func count(t *testing.T, file, filter string) int {
	t.Helper()
	args := []string{"-nn", "-r", file}
	if filter != "" {
		args = append(args, filter)
	}
	out, err := exec.CommandContext(t.Context(), "tcpdump", args...).Output()
	if err != nil {
		t.Fatalf("tcpdump -r %s: %v", file, err)
	}
	return strings.Count(string(out), "\n")
}

// TestRing: B5, one capture and filter an interface; B12, the asked-for time after
// the trigger; B13, everything ended; D8, a manifest with hashes in order of time.
func TestRing(t *testing.T) {
	t.Parallel()
	bed, u := bedUnit(t, "one")
	log := filepath.Join(t.TempDir(), "messages")
	if err := os.WriteFile(log, []byte("old: no space left\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	spec := ringSpec(t, fmt.Sprintf(`{"points":[{"interface":"eth0","filter":"udp port 9 or udp port 8"},{"interface":"lo"}],"files":2,"megabytes":1,
		"directory":%q,"min_free_percent":0,"until_log":"no space","log":%q,"after_seconds":2}`, dir, log), u.dev)
	u.meet = newMeeting(1)
	done := u.run(t.Context(), RingOptions{}, spec)
	u.awaitPhase(phaseRunning)
	bed.WaitRuns(t, "tcpdump", 2)
	if err := bed.Send(t.Context(), 9, 200, 100, 0); err != nil {
		t.Fatal(err)
	}
	if err := bed.Send(t.Context(), 7, 50, 100, 0); err != nil {
		t.Fatal(err)
	}
	appendLog(t, log, "now: no space left in response line\n")
	if err := ended(t, done); err != nil {
		t.Fatal(err)
	}
	bed.WaitGone(t, "tcpdump")
	if len(u.rows) != 2 {
		t.Fatalf("rows: %+v", u.rows)
	}
	row := u.rows[0]
	if row.Interface != "eth0" || row.Packets != 200 || !strings.Contains(row.StoppedBy, "no space left in response") || row.DroppedByKernel == nil || row.FirstTime == nil || row.EndedBy != "" {
		t.Errorf("%+v", row)
	}
	if n := count(t, u.kept[row.SHA256], "udp port 9"); n != 200 {
		t.Errorf("the file has %d packets", n)
	}
	if d := row.StoppedAt.Sub(row.BeganAt); d < 0 {
		t.Errorf("stopped %v after the beginning", d)
	}
	raw, err := os.ReadFile(u.kept[row.Manifest])
	if err != nil {
		t.Fatal(err)
	}
	var m Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Rings) != 2 || len(m.Rings[0].Files) != 1 || m.Rings[0].Files[0].Packets != 200 || len(m.Rings[0].Files[0].SHA256) != 64 ||
		!strings.Contains(m.Rings[0].Files[0].Verified, "sha256") || m.Rings[0].Merged != row.SHA256 {
		t.Errorf("%s", raw)
	}
	nothingIn(t, dir)
	nothingIn(t, u.spool)
	if u.phase() != phaseCollected {
		t.Errorf("phase %s", u.phase())
	}
	// After a kill behind the collection the rows are given once more.
	u.rows, u.meet = nil, newMeeting(1)
	if err := u.attempt(t.Context(), RingOptions{}, spec); err != nil || len(u.rows) != 2 {
		t.Errorf("again: %v, %d rows", err, len(u.rows))
	}
}

func nothingIn(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 0 {
		t.Errorf("left in %s: %v", dir, entries)
	}
}

func appendLog(t *testing.T, name, text string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// TestRingRotates: B6, the oldest file is overwritten, and no packet of what is
// still there is missing.
func TestRingRotates(t *testing.T) {
	t.Parallel()
	bed, u := bedUnit(t, "one")
	log := filepath.Join(t.TempDir(), "messages")
	appendLog(t, log, "begin\n")
	spec := ringSpec(t, fmt.Sprintf(`{"points":[{"interface":"eth0","filter":"udp port 9"}],"files":3,"megabytes":1,"directory":%q,"min_free_percent":0,
		"until_log":"over","log":%q,"after_seconds":2}`, t.TempDir(), log), u.dev)
	u.meet = newMeeting(1)
	done := u.run(t.Context(), RingOptions{}, spec)
	u.awaitPhase(phaseRunning)
	const n, size = 6000, 1000
	if err := bed.Send(t.Context(), 9, n, size, time.Microsecond); err != nil {
		t.Fatal(err)
	}
	appendLog(t, log, "it is over\n")
	if err := ended(t, done); err != nil {
		t.Fatal(err)
	}
	row := u.rows[0]
	if row.Packets < 900 || row.Packets >= n {
		t.Errorf("%d packets of %d are in the ring", row.Packets, n)
	}
	numbers := sequence(t, u.kept[row.SHA256])
	if uint64(len(numbers)) != row.Packets {
		t.Fatalf("%d packets in the file, %d in the row", len(numbers), row.Packets)
	}
	for i, v := range numbers {
		if want := uint64(n - len(numbers) + i); v != want && *row.DroppedByKernel == 0 {
			t.Fatalf("packet %d of the file is number %d, not %d", i, v, want)
		}
	}
}

// TestRingOfBadDevice: one bad device of three does not stop the others; with
// all-or-none it does. B9, the time is over.
func TestRingOfBadDevice(t *testing.T) {
	t.Parallel()
	bed, good := bedUnit(t, "good")
	bad := newUnit(t, bed.Device("bad"))
	dir := t.TempDir()
	for _, all := range []bool{false, true} {
		spec := ringSpec(t, fmt.Sprintf(`{"points":[{"interface":"eth0"},{"device":"bad","interface":"nosuch0"}],"directory":%q,"min_free_percent":0,
			"files":2,"megabytes":1,"duration_seconds":1,"all_or_none":%v}`, dir, all), good.dev, bad.dev)
		m := newMeeting(2)
		good.meet, bad.meet = m, m
		good.memory, bad.memory = map[string]json.RawMessage{}, map[string]json.RawMessage{}
		ok, ko := good.run(t.Context(), RingOptions{}, spec), bad.run(t.Context(), RingOptions{}, spec)
		if err := ended(t, ko); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "nosuch0") {
			t.Errorf("bad: %v", err)
		}
		err := ended(t, ok)
		if all != (err != nil) {
			t.Errorf("all or none %v: good: %v", all, err)
		}
		if !all && (len(good.rows) != 1 || !strings.Contains(good.rows[0].StoppedBy, "1s is over")) {
			t.Errorf("good: %+v", good.rows)
		}
		bed.WaitGone(t, "tcpdump")
		nothingIn(t, dir)
	}
}

// TestRingRefuses: each before a capture is begun, naming device and remedy.
func TestRingRefuses(t *testing.T) {
	t.Parallel()
	bed, u := bedUnit(t, "one")
	dir := t.TempDir()
	small := mount(t, "8m")
	for name, c := range map[string]struct {
		spec string
		kind fault.Kind
		want string
	}{
		"B1 log that cannot be read":   {`{"points":[{"interface":"eth0"}],"until_log":"x","log":"/no/such/log"}`, fault.Invalid, "--log"},
		"B2 less free than asked for":  {`{"points":[{"interface":"eth0"}],"min_free_percent":99.9}`, fault.Conflict, "--min-free"},
		"B3 unknown interface":         {`{"points":[{"interface":"eth7"}]}`, fault.Invalid, "eth0"},
		"D2 space for each interface":  {fmt.Sprintf(`{"points":[{"interface":"eth0"},{"interface":"lo"}],"files":3,"megabytes":2,"min_free_percent":0,"directory":%q}`, small), fault.Conflict, "take up to"},
		"D6 bad filter":                {`{"points":[{"interface":"eth0","filter":"tcp prot 80"}]}`, fault.Invalid, "tcp prot 80"},
		"no such directory":            {`{"points":[{"interface":"eth0"}],"directory":"/no/such/dir"}`, fault.Invalid, "--dir"},
		"filter that would be command": {`{"points":[{"interface":"eth0","filter":"port 80; touch /tmp/capfleet-evil"}]}`, fault.Invalid, ""},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(c.spec, `{"points"`, fmt.Sprintf(`{"directory":%q,"points"`, dir), 1)
			if strings.Count(text, `"directory"`) > 1 {
				text = c.spec
			}
			u.meet = newMeeting(1)
			err := u.attempt(t.Context(), RingOptions{}, ringSpec(t, text, u.dev))
			if !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "one") {
				t.Errorf("got %v (%s)", err, fault.KindOf(err))
			}
			nothingIn(t, dir)
		})
	}
	bed.WaitGone(t, "tcpdump")
}

// mount gives a file system of its own.
func mount(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.CommandContext(context.Background(), "umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// TestRingStopsBeforeFloor: B8 and D1, the device ends the rings itself before its
// disk is full, and what was captured is collected.
func TestRingStopsBeforeFloor(t *testing.T) {
	t.Parallel()
	bed, u := bedUnit(t, "one")
	disk := mount(t, "16m")
	spec := ringSpec(t, fmt.Sprintf(`{"points":[{"interface":"eth0","filter":"udp port 9"}],"files":2,"megabytes":1,"min_free_percent":50,"directory":%q}`, disk), u.dev)
	u.meet = newMeeting(1)
	done := u.run(t.Context(), RingOptions{}, spec)
	u.awaitPhase(phaseRunning)
	if err := bed.Send(t.Context(), 9, 50, 100, 0); err != nil {
		t.Fatal(err)
	}
	// Somebody else fills the disk.
	if err := os.WriteFile(filepath.Join(disk, "other"), make([]byte, 9<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ended(t, done); err != nil {
		t.Fatal(err)
	}
	if row := u.rows[0]; row.EndedBy != "floor" || row.Packets != 50 || !u.warned("nearly full") {
		t.Errorf("%+v, %v", row, u.warnings)
	}
	bed.WaitGone(t, "tcpdump")
	select {
	case <-u.meet.stop:
		t.Error("the other devices were stopped")
	default:
	}
}

// TestRingOutlivesFleetd: B4, the rings run in the background and are known by what
// was recorded of them; D3, they are found again by the next fleetd, go on, and
// lose nothing; so are those whose trigger fired before.
func TestRingOutlivesFleetd(t *testing.T) {
	t.Parallel()
	bed, u := bedUnit(t, "one")
	log := filepath.Join(t.TempDir(), "messages")
	appendLog(t, log, "begin\n")
	spec := ringSpec(t, fmt.Sprintf(`{"points":[{"interface":"eth0","filter":"udp port 9"}],"files":2,"megabytes":5,"directory":%q,"min_free_percent":0,
		"until_log":"TRIGGER","log":%q,"after_seconds":2}`, t.TempDir(), log), u.dev)
	ctx, kill := context.WithCancelCause(t.Context())
	u.meet = newMeeting(1)
	done := u.run(ctx, RingOptions{}, spec)
	u.awaitPhase(phaseRunning)
	if err := bed.Send(t.Context(), 9, 100, 100, 0); err != nil {
		t.Fatal(err)
	}
	kill(fault.Wrap(fault.Canceled, "stop", fault.ErrStopping))
	if err := ended(t, done); !fault.Is(err, fault.Canceled) {
		t.Fatalf("got %v", err)
	}
	bed.WaitRuns(t, "tcpdump", 1)
	u.cut()
	if err := bed.Send(t.Context(), 9, 100, 100, 0); err != nil {
		t.Fatal(err)
	}
	// The line is written while nobody reads the log, and the log is rotated.
	appendLog(t, log, "TRIGGER\n")
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	appendLog(t, log, "a new log\n")

	u.meet = newMeeting(1)
	if err := ended(t, u.run(t.Context(), RingOptions{}, spec)); err != nil {
		t.Fatal(err)
	}
	if row := u.rows[0]; row.Packets != 200 || !strings.Contains(row.StoppedBy, "TRIGGER") {
		t.Errorf("%+v", row)
	}
	bed.WaitGone(t, "tcpdump")
}

// TestRingCanceled: a canceled job leaves no process; its files are collected by a
// retry.
func TestRingCanceled(t *testing.T) {
	t.Parallel()
	bed, u := bedUnit(t, "one")
	spec := ringSpec(t, fmt.Sprintf(`{"points":[{"interface":"eth0","filter":"udp port 9"}],"files":2,"megabytes":5,"directory":%q,"min_free_percent":0}`, t.TempDir()), u.dev)
	ctx, cancel := context.WithCancel(t.Context())
	u.meet = newMeeting(1)
	done := u.run(ctx, RingOptions{}, spec)
	u.awaitPhase(phaseRunning)
	wrote := make(chan struct{})
	sending, stopSending := context.WithCancel(t.Context())
	defer stopSending()
	go func() {
		defer close(wrote)
		if err := bed.Send(sending, 9, 1<<20, 1000, time.Millisecond); err != nil {
			t.Error(err)
		}
	}()
	u.awaitSize(100_000)
	cancel()
	defer func() { stopSending(); <-wrote }()
	if err := ended(t, done); !fault.Is(err, fault.Canceled) {
		t.Fatalf("got %v", err)
	}
	bed.WaitGone(t, "tcpdump")
	u.meet = newMeeting(1)
	if err := ended(t, u.run(t.Context(), RingOptions{}, spec)); err != nil {
		t.Fatal(err)
	}
	if row := u.rows[0]; row.Packets < 90 || row.StoppedBy != "canceled" {
		t.Errorf("%+v", row)
	}
}

// TestOneTriggerStopsAll: the fleet's trigger, and what another job or a BMC tells.
func TestOneTriggerStopsAll(t *testing.T) {
	t.Parallel()
	bed, a := bedUnit(t, "a")
	b := newUnit(t, bed.Device("b"))
	log := filepath.Join(t.TempDir(), "messages")
	appendLog(t, log, "")
	for name, c := range map[string]struct {
		spec string
		opts RingOptions
		fire func()
		want string
	}{
		"log of one": {fmt.Sprintf(`"until_log":"fires","log":%q`, log), RingOptions{}, func() { appendLog(t, log, "it fires\n") }, "it fires"},
		"job": {`"until_job":"7"`, RingOptions{Job: func(context.Context, string) (JobNews, error) {
			return JobNews{Failed: true, Why: "lon-1 failed"}, nil
		}}, func() {}, "job 7: lon-1 failed"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := ringSpec(t, fmt.Sprintf(`{"points":[{"interface":"eth0"}],"files":2,"megabytes":1,"directory":%q,"min_free_percent":0,"after_seconds":0,%s}`, t.TempDir(), c.spec), a.dev, b.dev)
			m := newMeeting(2)
			var all []<-chan error
			for _, u := range []*unit{a, b} {
				u.meet, u.rows, u.memory = m, nil, map[string]json.RawMessage{}
				all = append(all, u.run(t.Context(), c.opts, spec))
			}
			a.awaitPhase(phaseRunning)
			c.fire()
			stopped := 0
			for _, done := range all {
				if err := ended(t, done); err != nil {
					t.Fatal(err)
				}
			}
			for _, u := range []*unit{a, b} {
				if len(u.rows) != 1 {
					t.Fatalf("%s: %+v", u.dev.Name, u.rows)
				}
				if strings.Contains(u.rows[0].StoppedBy, c.want) {
					stopped++
				}
			}
			if stopped == 0 {
				t.Errorf("%+v %+v", a.rows, b.rows)
			}
			bed.WaitGone(t, "tcpdump")
		})
	}
}
