package hotfix_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"capfleet/internal/device"
	"capfleet/internal/device/bigip"
	"capfleet/internal/hotfix"
	"capfleet/internal/jobs"
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
	r := build(t, setup{platform: bigip.Platform, driver: bigip.New, definition: "../device/bigip/platform.yaml",
		times: []map[string]string{quick, {"listed": "20s", "shows": "10s", "stable": "200ms"}, times}, devices: devices,
		faults: append([]string{"*-ltm-*:boot_time=100ms", "*-ltm-*:settle_time=100ms", "*-ltm-*:install_time=300ms", "*-ltm-*:image_time=50ms",
			"*-ltm-*:ucs_time=0s"}, faults...),
		file: fixed, content: bytes.Repeat([]byte("hotfix image "), 10000)})
	image := bytes.Repeat([]byte("base image "), 20000)
	r.add(base, image)
	return &pairRig{r, digestOf(image)}
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
