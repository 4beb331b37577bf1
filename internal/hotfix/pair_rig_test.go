package hotfix_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"capfleet/internal/artifact"
	"capfleet/internal/device"
	"capfleet/internal/device/bigip"
	"capfleet/internal/device/drivertest"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/fault"
	"capfleet/internal/hotfix"
	"capfleet/internal/jobs"
	"capfleet/internal/ledger"
	"capfleet/internal/sim"
)

const (
	ltm1  = "lon-ltm-01" // active at the start
	ltm2  = "lon-ltm-02"
	base  = "BIGIP-17.1.3-0.0.11.iso"
	fixed = "Hotfix-BIGIP-17.1.3.0.12.28-ENG.iso"
)

// pairRig is a rig of BIG-IPs.
type pairRig struct {
	*rig
	baseSHA string
}

func newPairRig(t *testing.T, times map[string]string, faults ...string) *pairRig {
	t.Helper()
	return newPairRigOf(t, 4, times, faults...)
}

func newPairRigOf(t *testing.T, devices int, times map[string]string, faults ...string) *pairRig {
	t.Helper()
	all := append([]string{"*-ltm-*:boot_time=100ms", "*-ltm-*:settle_time=100ms", "*-ltm-*:install_time=300ms", "*-ltm-*:image_time=50ms", "*-ltm-*:ucs_time=0s"}, faults...)
	r := &rig{Fleet: drivertest.Simulate(t, sim.Options{Devices: devices, Faults: all}), t: t, stores: map[string][]byte{}}
	var err error
	if r.driver, err = bigip.New(shortened(t, times)); err != nil {
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
	digest := func(content []byte) string {
		sum := sha256.Sum256(content)
		return hex.EncodeToString(sum[:])
	}
	baseContent := []byte(strings.Repeat("base image ", 20000))
	r.content = []byte(strings.Repeat("hotfix image ", 10000))
	r.sha = digest(r.content)
	r.add(fixed, r.content)
	r.add(base, baseContent)
	r.dialer = sshconn.NewDialer(sshconn.Options{})
	t.Cleanup(func() { _ = r.dialer.Close() })
	r.op = hotfix.New(hotfix.Options{
		Definitions: func(p string) (*device.Definition, bool) { return r.driver.Definition(), p == bigip.Platform },
		File: func(ctx context.Context, sha string) (hotfix.File, error) {
			found, err := r.artifacts.Find(ctx, sha, 1)
			if err != nil || len(found) == 0 {
				return hotfix.File{}, errors.Join(err, fault.New(fault.NotFound, "no artifact"))
			}
			return hotfix.File{SHA256: sha, Name: found[0].Name, Size: found[0].Size}, nil
		},
	})
	return &pairRig{r, digest(baseContent)}
}

// shortened writes the built-in definition with other times.
func shortened(t *testing.T, times map[string]string) string {
	t.Helper()
	src, err := os.ReadFile("../device/bigip/platform.yaml")
	if err != nil {
		t.Fatal(err)
	}
	set := maps.Clone(quick)
	maps.Copy(set, map[string]string{"listed": "20s", "shows": "10s", "stable": "200ms"})
	maps.Copy(set, times)
	text := regexp.MustCompile(`\b([a-z]+): \d+[smh]\b`).ReplaceAllStringFunc(string(src), func(found string) string {
		key, _, _ := strings.Cut(found, ":")
		if d, ok := set[key]; ok {
			return key + ": " + d
		}
		return found
	})
	for key, d := range times { // one span alone, as return.worst
		if section, ok := strings.CutSuffix(key, ".worst"); ok {
			text = regexp.MustCompile(`(\b`+section+`: \{typical: )\w+(, worst: )\w+`).ReplaceAllString(text, "${1}100ms${2}"+d)
		}
	}
	dir := t.TempDir()
	path := device.OverrideFile(dir, bigip.Platform)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// pair is a job on both members.
func (r *pairRig) pair(spec hotfix.Spec, names ...string) *work {
	r.t.Helper()
	w, err := r.tryPair(spec, names...)
	if err != nil {
		r.t.Fatal(err)
	}
	return w
}

func (r *pairRig) tryPair(spec hotfix.Spec, names ...string) (*work, error) {
	r.t.Helper()
	if len(names) == 0 {
		names = []string{ltm1, ltm2}
	}
	raw, err := json.Marshal(spec)
	if err != nil {
		r.t.Fatal(err)
	}
	var devices []*device.Device
	var targets []jobs.Target
	unit := strings.Join(names, "+")
	for _, name := range names {
		dev := *r.Device(r.t, name)
		if len(names) == 1 {
			dev.HAPeer = "" // taken for a device by itself
		}
		snapshot, err := json.Marshal(dev)
		if err != nil {
			r.t.Fatal(err)
		}
		devices = append(devices, &dev)
		targets = append(targets, jobs.Target{Device: name, Unit: unit, Snapshot: snapshot})
	}
	prepared, err := r.op.Prepare(r.t.Context(), raw, devices)
	if err != nil {
		return nil, err
	}
	return &work{rig: r.rig, spec: prepared.Spec, target: targets[0], more: targets[1:], memory: map[string]json.RawMessage{}}, nil
}

func withBase(r *pairRig) func(*hotfix.Spec) {
	return func(s *hotfix.Spec) { s.Base = r.baseSHA }
}

// applied is a whole change of the pair.
func (r *pairRig) applied() jobs.TaskResult {
	r.t.Helper()
	return r.pair(r.spec(hotfix.Apply, withBase(r))).run()
}

// story is what truly happened to both, in order: reloads, boots and failovers.
func (r *pairRig) story() []string {
	r.t.Helper()
	entries, err := sim.ReadJournal(r.Sim.Dir())
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		switch e.Event {
		case "reload", "boot":
			out = append(out, e.Event+" "+e.Device)
		case "failover":
			if e.Value("role") == "active" {
				out = append(out, "active "+e.Device)
			}
		}
	}
	return out
}

// happened fails the test unless the story is this one.
func (r *pairRig) happened(want ...string) {
	r.t.Helper()
	if got := r.story(); !slices.Equal(got, want) {
		r.t.Errorf("what happened:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// careful is the story of a change that went well.
func careful() []string {
	return []string{"reload " + ltm2, "boot " + ltm2, "active " + ltm2, "reload " + ltm1, "boot " + ltm1}
}

// running is what a device runs, by its own words.
func (r *pairRig) running(name string) string {
	r.t.Helper()
	text := r.tmsh(name, "show sys version")
	m := regexp.MustCompile(`Version +(\S+)\n +Build +(\S+)`).FindStringSubmatch(text)
	if m == nil {
		r.t.Fatalf("%s", text)
	}
	return m[1] + "-" + m[2]
}

// tmsh runs commands on a device as somebody else would, and gives what the last
// one prints.
func (r *pairRig) tmsh(name string, lines ...string) (text string) {
	r.t.Helper()
	conn, err := r.dialer.Dial(r.t.Context(), r.Device(r.t, name))
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	s, err := r.driver.Open(r.t.Context(), r.Device(r.t, name), conn)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for _, line := range lines {
		out, err := s.Run(r.t.Context(), device.Command{Line: line})
		if err != nil {
			r.t.Fatal(err)
		}
		text = out.Text
	}
	return text
}
