//go:build linux

package capture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"capfleet/internal/capture/capturetest"
	"capfleet/internal/device"
	"capfleet/internal/device/linux"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

// meeting is what the units of a coordinated job have of the engine.
type meeting struct {
	mu      sync.Mutex
	missing int
	failed  error
	begin   chan struct{}
	stop    chan struct{}
	once    sync.Once
}

func newMeeting(n int) *meeting {
	return &meeting{missing: n, begin: make(chan struct{}), stop: make(chan struct{})}
}

func (m *meeting) arrived() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.missing--; m.missing == 0 {
		close(m.begin)
	}
}

func (m *meeting) end() { m.once.Do(func() { close(m.stop) }) }

// unit is one device's environment. What it remembers outlives an attempt.
type unit struct {
	operation.Env
	t      *testing.T
	dev    *device.Device
	dialer *sshconn.Dialer
	drv    device.Driver
	dir    string
	spool  string

	mu       sync.Mutex
	conn     device.Conn
	memory   map[string]json.RawMessage
	rows     []RingRow
	warnings []string
	kept     map[string]string // file name by digest

	meet  *meeting
	ready bool
	left  bool
}

func newUnit(t *testing.T, dev *device.Device) *unit {
	t.Helper()
	drv, err := linux.New("")
	if err != nil {
		t.Fatal(err)
	}
	u := &unit{t: t, dev: dev, dialer: sshconn.NewDialer(sshconn.Options{}), drv: drv, dir: t.TempDir(), spool: t.TempDir(),
		memory: map[string]json.RawMessage{}, kept: map[string]string{}}
	t.Cleanup(func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.conn != nil {
			_ = u.conn.Close()
		}
		_ = u.dialer.Close()
	})
	return u
}

func (u *unit) Conn(ctx context.Context, _ *device.Device) (device.Conn, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.conn != nil {
		if _, err := u.conn.Exec(ctx, device.ExecRequest{Args: []string{"true"}}); !fault.Is(err, fault.Disconnected) {
			return u.conn, err
		}
		_ = u.conn.Close()
		u.conn = nil
	}
	conn, err := u.dialer.Dial(ctx, u.dev)
	if err == nil {
		u.conn = conn
	}
	return conn, err
}

// cut breaks the connection as a dead line does.
func (u *unit) cut() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.conn != nil {
		_ = u.conn.Close()
	}
}

func (u *unit) Session(ctx context.Context, dev *device.Device) (device.Session, error) {
	conn, err := u.Conn(ctx, dev)
	if err != nil {
		return nil, err
	}
	return u.drv.Open(ctx, dev, conn)
}

func (u *unit) Remember(_ context.Context, key string, value any) error {
	raw, err := json.Marshal(value)
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(raw) > operation.MaxRemembered {
		return errors.New("too large")
	}
	u.memory[key] = raw
	return err
}

func (u *unit) Recall(key string, into any) (bool, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	raw, ok := u.memory[key]
	if !ok {
		return false, nil
	}
	return true, json.Unmarshal(raw, into)
}

func (u *unit) Keep(_ context.Context, _ *device.Device, name, _ string, r io.Reader) (string, error) {
	f, err := os.Create(filepath.Join(u.dir, name))
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	if _, err := io.Copy(f, r); err != nil {
		return "", err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	sum := fmt.Sprintf("%064d", len(u.kept))
	u.kept[sum] = f.Name()
	return sum, nil
}

func (u *unit) Row(_ *device.Device, row any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.rows = append(u.rows, *row.(*RingRow))
}

func (u *unit) Warn(_ *device.Device, format string, args ...any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.warnings = append(u.warnings, fmt.Sprintf(format, args...))
}

func (u *unit) warned(text string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.ContainsFunc(u.warnings, func(w string) bool { return strings.Contains(w, text) })
}

func (u *unit) Progress(*device.Device, int64, int64, string) {}
func (u *unit) Now() time.Time                                { return time.Now() }
func (u *unit) Logger() *slog.Logger                          { return slog.New(slog.DiscardHandler) }

func (u *unit) Ready(ctx context.Context) error {
	if !u.ready {
		u.ready = true
		u.meet.arrived()
	}
	select {
	case <-u.meet.begin:
		u.meet.mu.Lock()
		defer u.meet.mu.Unlock()
		return u.meet.failed
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (u *unit) Stop(context.Context, string) error { u.meet.end(); return nil }
func (u *unit) Stopped() <-chan struct{}           { return u.meet.stop }

func (u *unit) Leave(context.Context, string) error {
	u.left = true
	if !u.ready {
		u.ready = true
		u.meet.arrived()
	}
	return nil
}

// attempt runs the steps as the runner does.
func (u *unit) attempt(ctx context.Context, opts RingOptions, spec *RingSpec) error {
	u.ready, u.left = false, false
	opts.Spool = u.spool
	for _, s := range ringSteps(opts, spec, u.dev) {
		if _, err := s.Observe(ctx, u); err != nil {
			if !u.left && ctx.Err() == nil {
				u.meet.mu.Lock()
				u.meet.failed = err
				u.meet.mu.Unlock()
				if !u.ready {
					u.ready = true
					u.meet.arrived()
				}
				u.meet.end()
			}
			return err
		}
	}
	if !u.left {
		u.meet.end()
	}
	return nil
}

// phase is how far the device's rings are.
func (u *unit) phase() phase {
	var s ringState
	if _, err := u.Recall(keyRing, &s); err != nil {
		u.t.Error(err)
	}
	return s.Phase
}

// awaitPhase waits until the rings are as far.
func (u *unit) awaitPhase(p phase) {
	u.t.Helper()
	late := time.After(time.Minute)
	for u.phase() != p {
		select {
		case <-late:
			u.t.Fatalf("the rings are %s", u.phase())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// awaitSize waits until the first ring has written as much on the device.
func (u *unit) awaitSize(n int64) {
	u.t.Helper()
	late := time.After(time.Minute)
	for {
		size := int64(0)
		names, _ := filepath.Glob(u.state().Rings[0].Base + "[0-9]*")
		for _, name := range names {
			if info, err := os.Stat(name); err == nil {
				size += info.Size()
			}
		}
		if size >= n {
			return
		}
		select {
		case <-late:
			u.t.Fatalf("%d bytes were written", size)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// awaitTurn waits until the first ring writes its nth file, with our own rotation.
func (u *unit) awaitTurn(n int) {
	u.t.Helper()
	late := time.After(time.Minute)
	for u.state().Rings[0].Turn != n {
		select {
		case <-late:
			u.t.Fatalf("file %d is written", u.state().Rings[0].Turn)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (u *unit) state() ringState {
	u.t.Helper()
	var s ringState
	if _, err := u.Recall(keyRing, &s); err != nil {
		u.t.Fatal(err)
	}
	return s
}

// ringSpec is a checked spec.
func ringSpec(t *testing.T, text string, devices ...*device.Device) *RingSpec {
	t.Helper()
	var s RingSpec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	if s.LimitSeconds == defaultLimit.Seconds() {
		// What a killed test leaves on this machine is not to stay for a day.
		s.LimitSeconds = (15 * time.Minute).Seconds()
	}
	if err := s.prepare(devices); err != nil {
		t.Fatal(err)
	}
	return &s
}

func bedUnit(t *testing.T, name string) (*capturetest.Bed, *unit) {
	t.Helper()
	bed := capturetest.New(t)
	return bed, newUnit(t, bed.Device(name))
}

// run makes an attempt in the background.
func (u *unit) run(ctx context.Context, opts RingOptions, spec *RingSpec) <-chan error {
	done := make(chan error, 1)
	go func() {
		err := u.attempt(ctx, opts, spec)
		if err != nil {
			u.t.Logf("%s: %v", u.dev.Name, err)
		}
		done <- err
	}()
	return done
}

func ended(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(2 * time.Minute):
		t.Fatal("it does not end")
		return nil
	}
}
