package hostkeys

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

// fakeEnv takes rows; everything else an Env does would be a mistake here.
type fakeEnv struct {
	operation.Env
	rows []Row
}

func (e *fakeEnv) Row(_ *device.Device, row any) { e.rows = append(e.rows, row.(Row)) }

type fakeNet struct {
	keys   []device.HostKey
	pinned []device.HostKey
	err    error // of the scan
	bad    error // of known_hosts
}

func (n fakeNet) ScanHostKeys(ctx context.Context, _ *device.Device) ([]device.HostKey, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return n.keys, n.err
}

func (n fakeNet) PinnedHostKeys(*device.Device) ([]device.HostKey, error) { return n.pinned, n.bad }

func key(kind, value string) device.HostKey {
	return device.HostKey{Device: "lon-probe-01", Host: "192.0.2.11", Type: kind, SHA256: "SHA256:" + value, PublicKey: kind + " " + value}
}

func run(ctx context.Context, t *testing.T, n fakeNet) (*fakeEnv, operation.Observation, error) {
	t.Helper()
	dev := &device.Device{Name: "lon-probe-01", KnownHosts: "/inv/known_hosts"}
	steps, err := New(n, n).Steps(nil, operation.Unit{Name: dev.Name, Devices: []*device.Device{dev}})
	if err != nil || len(steps) != 1 || steps[0].Act != nil {
		t.Fatalf("steps %+v, %v", steps, err)
	}
	env := &fakeEnv{}
	seen, err := steps[0].Observe(ctx, env)
	return env, seen, err
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	ed, rsa, otherEd, otherRSA := key("ssh-ed25519", "AAA"), key("ssh-rsa", "BBB"), key("ssh-ed25519", "CCC"), key("ssh-rsa", "DDD")
	for name, c := range map[string]struct {
		presented, pinned []device.HostKey
		want              []Status
	}{
		"new host":                     {[]device.HostKey{ed, rsa}, nil, []Status{Unknown, Unknown}},
		"all pinned":                   {[]device.HostKey{ed, rsa}, []device.HostKey{rsa, ed}, []Status{Pinned, Pinned}},
		"one type pinned":              {[]device.HostKey{ed, rsa}, []device.HostKey{ed}, []Status{Pinned, Unknown}},
		"changed":                      {[]device.HostKey{otherEd}, []device.HostKey{ed}, []Status{Changed}},
		"one changed, one kept":        {[]device.HostKey{ed, otherRSA}, []device.HostKey{ed, rsa}, []Status{Pinned, Changed}},
		"another type, nothing proven": {[]device.HostKey{rsa}, []device.HostKey{ed}, []Status{Changed}},
		"all changed, one is new":      {[]device.HostKey{otherEd, rsa}, []device.HostKey{ed}, []Status{Changed, Changed}},
		"two of one type pinned":       {[]device.HostKey{ed}, []device.HostKey{otherEd, ed}, []Status{Pinned}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, seen, err := run(t.Context(), t, fakeNet{keys: c.presented, pinned: c.pinned})
			if err != nil || seen.Verdict != operation.Done {
				t.Fatalf("%+v, %v", seen, err)
			}
			want := make([]Row, len(c.presented))
			for i, k := range c.presented {
				want[i] = Row{k, c.want[i]}
			}
			if diff := cmp.Diff(want, env.rows); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRowIsFlat(t *testing.T) {
	t.Parallel()
	raw, err := json.Marshal(Row{key("ssh-ed25519", "AAA"), Pinned})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"device":"lon-probe-01","host":"192.0.2.11","type":"ssh-ed25519","sha256":"SHA256:AAA","public_key":"ssh-ed25519 AAA","status":"pinned"}`
	if string(raw) != want {
		t.Errorf("got %s", raw)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	down := &fault.Error{Kind: fault.Unreachable, Act: "dial", Device: "lon-probe-01", Stage: "dial", Err: errors.New("connection refused")}
	keys := []device.HostKey{key("ssh-rsa", "AAA")}
	for name, c := range map[string]struct {
		cancel      bool
		net         fakeNet
		kind        fault.Kind
		stage, want string
	}{
		"down":            {false, fakeNet{err: down}, fault.Unreachable, "dial", "connection refused"},
		"no keys":         {false, fakeNet{}, fault.HostKey, "host_key", "offered no host key"},
		"bad known_hosts": {false, fakeNet{keys: keys, bad: errors.New("line 3")}, fault.Internal, "host_key", "line 3"},
		"canceled":        {true, fakeNet{keys: keys}, fault.Canceled, "host_key", ""},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		if c.cancel {
			cancel()
		}
		env, _, err := run(ctx, t, c.net)
		cancel()
		if !fault.Is(err, c.kind) || fault.StageOf(err) != c.stage || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "lon-probe-01") {
			t.Errorf("%s: %v (%s, stage %s)", name, err, fault.KindOf(err), fault.StageOf(err))
		}
		if len(env.rows) > 0 {
			t.Errorf("%s: rows %v", name, env.rows)
		}
	}
}

func TestPrepare(t *testing.T) {
	t.Parallel()
	op := New(fakeNet{}, fakeNet{})
	if op.Name() != "hostkeys" {
		t.Errorf("name %s", op.Name())
	}
	for _, ok := range []string{"", "null", "{}"} {
		got, err := op.Prepare(t.Context(), json.RawMessage(ok), nil)
		if err != nil || string(got.Spec) != "{}" || got.Access != operation.Read {
			t.Errorf("%q: %+v, %v", ok, got, err)
		}
	}
	for _, bad := range []string{`{"pin":true}`, `[]`, `{`} {
		if _, err := op.Prepare(t.Context(), json.RawMessage(bad), nil); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
