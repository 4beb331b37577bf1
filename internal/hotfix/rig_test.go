package hotfix_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"capfleet/internal/artifact"
	"capfleet/internal/device"
	"capfleet/internal/device/drivertest"
	"capfleet/internal/device/endace"
	"capfleet/internal/device/inventory"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/fault"
	"capfleet/internal/hotfix"
	"capfleet/internal/jobs"
	"capfleet/internal/leaktest"
	"capfleet/internal/ledger"
	"capfleet/internal/operation"
	"capfleet/internal/runner"
	"capfleet/internal/sim"
)

func TestMain(m *testing.M) {
	// Nearly all of a change is waiting for a device: far more of them run side by side
	// than there are processors.
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	leaktest.Main(m)
}

const (
	probe  = "lon-probe-01"
	file   = "OSm6.4.x-CumulativeHotfix-v2.end"
	listed = "OSm6.4.x-CumulativeHotfix"
)

// quick are the times of the built-in definition made short. They are still long
// for a simulator on a busy machine, but for those that a test waits out.
var quick = map[string]string{
	"typical": "1s", "worst": "30s", "reconnect": "30s", "poll": "30ms", "down": "20s", "settle": "20s", "stable": "300ms", "apart": "100ms",
}

// rig is the operation with the real runner, the real driver and simulated probes,
// and a journal that can be cut off.
type rig struct {
	*drivertest.Fleet
	t         *testing.T
	op        operation.Operation
	driver    device.Driver
	artifacts *artifact.Store
	dialer    *sshconn.Dialer
	content   []byte
	sha       string

	mu     sync.Mutex
	stores map[string][]byte
}

// setup is what a rig is made of.
type setup struct {
	platform   string
	driver     func(overrides string) (device.Driver, error)
	definition string // of the platform, as built in
	times      []map[string]string
	devices    int
	faults     []string
	file       string
	content    []byte
}

func newRig(t *testing.T, times map[string]string, faults ...string) *rig {
	t.Helper()
	return build(t, setup{platform: endace.Platform, driver: endace.New, definition: "../device/endace/platform.yaml",
		times: []map[string]string{quick, times}, devices: 8,
		faults: append([]string{"*-probe-*:boot_time=100ms", "*-probe-*:install_time=100ms"}, faults...),
		file:   file, content: bytes.Repeat([]byte("hotfix "), 20000)})
}

func build(t *testing.T, s setup) *rig {
	t.Helper()
	r := &rig{Fleet: drivertest.Simulate(t, sim.Options{Devices: s.devices, Faults: s.faults}), t: t, content: s.content,
		sha: digestOf(s.content), stores: map[string][]byte{}}
	times := map[string]string{}
	for _, m := range s.times { // the last one wins
		maps.Copy(times, m)
	}
	var err error
	if r.driver, err = s.driver(drivertest.Hurry(t, s.definition, times)); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	db, err := ledger.Open(filepath.Join(dir, "ledger.db"), ledger.Options{Namespaces: artifact.Namespaces()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if r.artifacts, err = artifact.Open(filepath.Join(dir, "artifacts"), db, artifact.Options{}); err != nil {
		t.Fatal(err)
	}
	r.add(s.file, s.content)
	r.dialer = sshconn.NewDialer(sshconn.Options{})
	t.Cleanup(func() { _ = r.dialer.Close() })
	r.op = hotfix.New(hotfix.Options{
		Definitions: func(p string) (*device.Definition, bool) { return r.driver.Definition(), p == s.platform },
		File: func(ctx context.Context, sha string) (hotfix.File, error) {
			found, err := r.artifacts.Find(ctx, sha, 1)
			if err != nil || len(found) == 0 {
				return hotfix.File{}, errors.Join(err, fault.New(fault.NotFound, "no artifact"))
			}
			return hotfix.File{SHA256: sha, Name: found[0].Name, Size: found[0].Size}, nil
		},
	})
	return r
}

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func (r *rig) add(name string, content []byte) {
	r.t.Helper()
	if _, err := r.artifacts.Put(r.t.Context(), artifact.Meta{Name: name}, bytes.NewReader(content)); err != nil {
		r.t.Fatal(err)
	}
}

// probes are the names of the fleet's probes.
func (r *rig) probes() []string {
	r.t.Helper()
	inv, err := inventory.Load(r.Sim.Inventory(), inventory.Options{Platforms: []string{endace.Platform, "f5_bigip", "linux"}})
	if err != nil {
		r.t.Fatal(err)
	}
	var names []string
	for _, d := range inv.Devices() {
		if d.Platform == endace.Platform {
			names = append(names, d.Name)
		}
	}
	return names
}

func (r *rig) order(name, what string) {
	r.t.Helper()
	if err := r.Sim.Order(name, what); err != nil {
		r.t.Fatal(err)
	}
}

// events counts what truly happened to a device.
func (r *rig) events(name string) map[string]int {
	r.t.Helper()
	entries, err := sim.ReadJournal(r.Sim.Dir())
	if err != nil {
		r.t.Fatal(err)
	}
	out := map[string]int{}
	for _, e := range entries {
		if e.Device == name && e.Event != "login" {
			out[e.Event]++
		}
	}
	return out
}

// values gives what one key of a device's events of one kind had.
func (r *rig) values(name, event, key string) (out []string) {
	r.t.Helper()
	entries, err := sim.ReadJournal(r.Sim.Dir())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Device == name && e.Event == event {
			out = append(out, e.Value(key))
		}
	}
	return out
}

// record is what was kept last of a device that has no row.
type record struct {
	Result        string         `json:"result"`
	VersionBefore *string        `json:"version_before"`
	VersionAfter  *string        `json:"version_after"`
	ListedAfter   *string        `json:"listed_after"`
	OutageSeconds *float64       `json:"outage_seconds"`
	Proofs        []hotfix.Proof `json:"proofs"`
}

func (r *rig) record(name string) (last record) {
	r.t.Helper()
	kept, err := r.artifacts.List(r.t.Context(), "1")
	if err != nil {
		r.t.Fatal(err)
	}
	found := false
	for _, a := range kept {
		if a.Name != name+"_hotfix.json" {
			continue
		}
		in, _, err := r.artifacts.Open(r.t.Context(), a.SHA256)
		if err != nil {
			r.t.Fatal(err)
		}
		last, found = record{}, true
		if err := errors.Join(json.NewDecoder(in).Decode(&last), in.Close()); err != nil {
			r.t.Fatal(err)
		}
	}
	if !found {
		r.t.Fatalf("of %s nothing was kept", name)
	}
	return last
}

// spec is a request for the rig's file.
func (r *rig) spec(action hotfix.Action, change ...func(*hotfix.Spec)) hotfix.Spec {
	s := hotfix.Spec{Action: action, File: r.sha}
	for _, f := range change {
		f(&s)
	}
	return s
}

func accept(proofs ...string) func(*hotfix.Spec) {
	return func(s *hotfix.Spec) { s.AcceptUnobserved = proofs }
}

// work is one job on one device, with all that outlives an attempt.
type work struct {
	rig     *rig
	spec    json.RawMessage
	target  jobs.Target
	more    []jobs.Target // the other members of the unit
	memory  map[string]json.RawMessage
	history []jobs.Entry
	attempt int
	retries int
	held    bool
	writes  int   // of the journal, over all attempts
	sent    []int // those behind which a line is typed that must not be typed twice
	// killAt is the write before which, or with after behind which, fleetd dies.
	killAt int
	after  bool
	// cancel is an operator's, that is held back and comes through at the release.
	cancel bool
}

func (r *rig) job(name string, spec hotfix.Spec) *work {
	r.t.Helper()
	raw, err := json.Marshal(spec)
	if err != nil {
		r.t.Fatal(err)
	}
	dev := r.Device(r.t, name)
	prepared, err := r.op.Prepare(r.t.Context(), raw, []*device.Device{dev})
	if err != nil {
		r.t.Fatal(err)
	}
	snapshot, err := json.Marshal(dev)
	if err != nil {
		r.t.Fatal(err)
	}
	return &work{rig: r, spec: prepared.Spec, target: jobs.Target{Device: name, Unit: name, Snapshot: snapshot}, memory: map[string]json.RawMessage{}}
}

// attemptOnce runs the work once. killed is true when fleetd died in it, and then
// the result is lost.
func (w *work) attemptOnce(ctx context.Context) (res jobs.TaskResult, killed bool) {
	w.attempt++
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	j := &journal{work: w, die: func() { cancel(jobs.ErrStopping) }, stop: func() { cancel(fault.New(fault.Canceled, "canceled")) }}
	run := runner.New(runner.Options{Operations: []operation.Operation{w.rig.op}, Drivers: []device.Driver{w.rig.driver}, Dialer: w.rig.dialer,
		Artifacts: w.rig.artifacts, Logger: slog.New(slog.DiscardHandler)})
	out := run.Run(ctx, jobs.Work{Job: "1", Operation: hotfix.Name, Spec: w.spec, Unit: w.target.Unit, Targets: append([]jobs.Target{w.target}, w.more...),
		Attempt: w.attempt, Retries: w.retries, History: w.history, Memory: maps.Clone(w.memory), Held: w.held}, j)
	res = out.Tasks[w.target.Device]
	for _, other := range w.more {
		for key, value := range out.Tasks[other.Device].Stores {
			if res.Stores == nil {
				res.Stores = map[string][]byte{}
			}
			res.Stores[key] = value
		}
	}
	return res, j.dead
}

// run runs the work to its end as the engine would: again after a kill and after
// what may pass.
func (w *work) run() jobs.TaskResult {
	w.rig.t.Helper()
	for tries := 0; ; {
		res, killed := w.attemptOnce(w.rig.t.Context())
		switch {
		case killed:
			continue
		case res.State == jobs.Failed && res.Failure.Kind.Retryable() && tries < 3:
			tries++
			continue
		case res.State == jobs.Failed && w.held:
			res.State = jobs.Attention
		}
		w.rig.mu.Lock()
		for k, v := range res.Stores {
			w.rig.stores[k] = v
		}
		w.rig.mu.Unlock()
		return res
	}
}

// retry is an operator's.
func (w *work) retry() jobs.TaskResult {
	w.rig.t.Helper()
	w.retries++
	return w.run()
}

func (r *rig) apply(name string, change ...func(*hotfix.Spec)) jobs.TaskResult {
	r.t.Helper()
	return r.job(name, r.spec(hotfix.Apply, change...)).run()
}

// journal keeps in the work what a ledger would, until fleetd dies.
type journal struct {
	*work
	die  func()
	stop func()

	writing sync.Mutex // a pair's members write side by side
	dead    bool
}

var errDead = errors.New("fleetd is dead")

// write is one durable write.
func (j *journal) write(do func()) error {
	j.writing.Lock()
	defer j.writing.Unlock()
	if j.dead {
		return errDead
	}
	j.writes++
	if j.writes == j.killAt && !j.after {
		j.dead = true
		j.die()
		return errDead
	}
	do()
	if j.writes == j.killAt {
		j.dead = true
		j.die()
		return errDead
	}
	return nil
}

func (j *journal) entry(kind jobs.EntryKind, step, detail string) error {
	return j.write(func() {
		j.history = append(j.history, jobs.Entry{Time: time.Now(), Kind: kind, Unit: j.target.Unit, Step: step, Attempt: j.attempt, Detail: detail})
	})
}

func (j *journal) Step(_ context.Context, step string) error {
	return j.entry(jobs.EntryStep, step, "")
}
func (j *journal) Intent(_ context.Context, step, detail string) error {
	return j.entry(jobs.EntryIntent, step, detail)
}
func (j *journal) Outcome(_ context.Context, step, detail string, _ error) error {
	return j.entry(jobs.EntryOutcome, step, detail)
}
func (j *journal) Note(_ context.Context, step, detail string) error {
	return j.entry(jobs.EntryNote, step, detail)
}
func (j *journal) Remember(_ context.Context, key string, value json.RawMessage) error {
	return j.write(func() {
		j.memory[key] = bytes.Clone(value)
		if strings.HasPrefix(key, "act/") && !bytes.Contains(value, []byte(`"answered"`)) {
			j.sent = append(j.sent, j.writes)
		}
	})
}
func (j *journal) Load(_ context.Context, key string) ([]byte, error) {
	j.rig.mu.Lock()
	defer j.rig.mu.Unlock()
	return j.rig.stores[key], nil
}
func (j *journal) Hold(context.Context, string) error { return j.write(func() { j.held = true }) }
func (j *journal) Release(context.Context, string) error {
	if j.cancel {
		defer j.stop()
	}
	return j.write(func() { j.held = false })
}
func (j *journal) Ready(ctx context.Context) error       { return ctx.Err() }
func (j *journal) Stop(context.Context, string) error    { return nil }
func (j *journal) Stopped() <-chan struct{}              { return nil }
func (j *journal) Progress(string, int64, int64, string) {}

// want checks a result's state and message.
func want(t *testing.T, res jobs.TaskResult, state jobs.State, parts ...string) {
	t.Helper()
	message := ""
	if res.Failure != nil {
		message = fmt.Sprintf("%s: %s: %s", res.Failure.Stage, res.Failure.Kind, res.Failure.Message)
	}
	if res.State != state {
		t.Errorf("state %s, want %s: %s\nwarnings %q", res.State, state, message, res.Warnings)
		return
	}
	for _, p := range parts {
		if !strings.Contains(message, p) {
			t.Errorf("message %q lacks %q", message, p)
		}
	}
}

// enterMaintenance is somebody else's doing.
func (r *rig) enterMaintenance(name string) {
	r.t.Helper()
	s := r.Open(r.t, r.driver, name)
	if _, err := s.Run(r.t.Context(), device.Command{Line: "maintenance-mode noconfirm", Mode: "config", NewMode: "config"}); err != nil {
		r.t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		r.t.Fatal(err)
	}
}
