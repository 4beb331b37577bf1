package runner

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"capfleet/internal/artifact"
	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/leaktest"
	"capfleet/internal/operation"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// network is devices, a dialer and a driver for them. It counts what is opened
// and closed, and cuts connections when told to.
type network struct {
	mu       sync.Mutex
	dials    int
	sessions int
	open     int // connections and sessions that are open now
	dialErr  error
	answer   func(conn int, line string) (string, error)
	openErr  func(conn int) error
	acts     map[string]int
	kept     []artifact.Meta
}

func newNetwork() *network {
	return &network{acts: map[string]int{}, answer: func(int, string) (string, error) { return "ok", nil }}
}

func (n *network) count(p *int, d int) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	*p += d
	return *p
}

func (n *network) Dial(ctx context.Context, dev *device.Device) (device.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, fault.Wrap(fault.Canceled, "dial", err)
	}
	if n.dialErr != nil {
		return nil, n.dialErr
	}
	n.count(&n.open, 1)
	return &conn{net: n, id: n.count(&n.dials, 1), name: dev.Name}, nil
}

func (n *network) Platform() string               { return "fake" }
func (n *network) Definition() *device.Definition { return &device.Definition{Platform: "fake"} }

func (n *network) Open(_ context.Context, dev *device.Device, c device.Conn) (device.Session, error) {
	id := c.(*watchedConn).Conn.(*conn).id
	if n.openErr != nil {
		if err := n.openErr(id); err != nil {
			return nil, err
		}
	}
	n.count(&n.open, 1)
	n.count(&n.sessions, 1)
	return &session{net: n, dev: dev, conn: c, id: id}, nil
}

func (n *network) Put(_ context.Context, meta artifact.Meta, r io.Reader) (artifact.Artifact, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return artifact.Artifact{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.kept = append(n.kept, meta)
	return artifact.Artifact{SHA256: "sha-of-" + string(b)}, nil
}

func (n *network) OpenAt(_ context.Context, sha256 string) (*artifact.File, error) {
	return nil, fault.New(fault.NotFound, "there is no artifact %s", sha256)
}

type conn struct {
	device.Conn // what is not used here
	net         *network
	id          int
	name        string
	once        sync.Once
}

func (c *conn) Facts() device.ConnFacts { return device.ConnFacts{HostKeySHA256: "SHA256:" + c.name} }

func (c *conn) Exec(context.Context, device.ExecRequest) (device.ExecResult, error) {
	out, err := c.net.answer(c.id, "exec")
	return device.ExecResult{Stdout: []byte(out)}, err
}

func (c *conn) Close() error {
	c.once.Do(func() { c.net.count(&c.net.open, -1) })
	return nil
}

type session struct {
	net  *network
	dev  *device.Device
	conn device.Conn
	id   int
	once sync.Once
}

func (s *session) Device() *device.Device         { return s.dev }
func (s *session) Definition() *device.Definition { return s.net.Definition() }
func (s *session) Conn() device.Conn              { return s.conn }

func (s *session) Run(_ context.Context, cmd device.Command) (device.Output, error) {
	out, err := s.net.answer(s.id, cmd.Line)
	return device.Output{Text: out}, err
}

func (s *session) Close() error {
	s.once.Do(func() { s.net.count(&s.net.open, -1) })
	return nil
}

// op is an operation made of the steps that a test gives.
type op struct {
	name  string
	steps func(spec json.RawMessage, unit operation.Unit) ([]operation.Step, error)
}

func (o op) Name() string { return o.name }

func (o op) Prepare(context.Context, json.RawMessage, []*device.Device) (operation.Prepared, error) {
	return operation.Prepared{}, errors.New("the runner does not prepare")
}

func (o op) Steps(spec json.RawMessage, unit operation.Unit) ([]operation.Step, error) {
	return o.steps(spec, unit)
}

// runner makes a Runner whose one operation "test" has these steps.
func (n *network) runner(steps ...operation.Step) *Runner {
	return New(Options{
		Operations: []operation.Operation{op{"test", func(json.RawMessage, operation.Unit) ([]operation.Step, error) { return steps, nil }}},
		Drivers:    []device.Driver{n},
		Dialer:     n,
		Artifacts:  n,
		Now:        func() time.Time { return time.Unix(1, 0) },
	})
}

func unit(name string, devices ...string) jobs.Work {
	w := jobs.Work{Job: "1", Operation: "test", Spec: json.RawMessage(`{}`), Unit: name, Attempt: 1, Fence: 1}
	for _, d := range devices {
		snapshot, err := json.Marshal(device.Device{Name: d, Platform: "fake", Host: "192.0.2.1", Port: 22})
		if err != nil {
			panic(err)
		}
		w.Targets = append(w.Targets, jobs.Target{Device: d, Unit: name, Snapshot: snapshot})
	}
	return w
}

func observe(f func(ctx context.Context, env operation.Env) error) operation.Step {
	return operation.Step{Name: "look", Observe: func(ctx context.Context, env operation.Env) (operation.Observation, error) {
		return operation.Observation{Verdict: operation.Done}, f(ctx, env)
	}}
}
