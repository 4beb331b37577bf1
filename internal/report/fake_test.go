package report

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

// fakeEnv is one device whose commands answer what a test says.
type fakeEnv struct {
	operation.Env // what is not used here

	dev     *device.Device
	answers map[string]func(ctx context.Context) (device.Output, error) // by command line
	keepErr error

	mu       sync.Mutex
	ran      []device.Command
	rows     []any
	facts    operation.Facts
	kept     map[string]string // by name
	warnings []string
}

func newEnv(platform string) *fakeEnv {
	return &fakeEnv{
		dev:     &device.Device{Name: "dev-01", Platform: platform},
		answers: map[string]func(context.Context) (device.Output, error){},
		facts:   operation.Facts{}, kept: map[string]string{},
	}
}

// prints makes a command answer. A transcript that begins with a prompt and the
// command is taken apart as a session does it.
func (e *fakeEnv) prints(line, transcript string) *fakeEnv {
	out := device.Output{Command: line, Text: transcript}
	if first, rest, ok := strings.Cut(transcript, "\n"); ok && strings.HasSuffix(first, " "+line) {
		out.Prompt, out.Text = strings.TrimSuffix(first, " "+line), rest
	}
	e.answers[line] = func(context.Context) (device.Output, error) { return out, nil }
	return e
}

func (e *fakeEnv) fails(line string, err error) *fakeEnv {
	e.answers[line] = func(context.Context) (device.Output, error) { return device.Output{Command: line}, err }
	return e
}

func (e *fakeEnv) Unit() operation.Unit {
	return operation.Unit{Name: e.dev.Name, Devices: []*device.Device{e.dev}}
}

func (e *fakeEnv) Session(ctx context.Context, dev *device.Device) (device.Session, error) {
	if dev != e.dev {
		return nil, fault.New(fault.NotFound, "no such device")
	}
	return fakeSession{e}, ctx.Err()
}

func (e *fakeEnv) Conn(context.Context, *device.Device) (device.Conn, error) {
	return nil, fault.New(fault.Internal, "a report needs no connection of its own")
}

func (e *fakeEnv) Row(_ *device.Device, row any) { e.rows = append(e.rows, row) }

func (e *fakeEnv) Facts(_ *device.Device, facts operation.Facts) {
	for k, v := range facts {
		e.facts[k] = v
	}
}

func (e *fakeEnv) Keep(_ context.Context, _ *device.Device, name, _ string, r io.Reader) (string, error) {
	if e.keepErr != nil {
		return "", e.keepErr
	}
	data, err := io.ReadAll(r)
	e.kept[name] = string(data)
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), err
}

func (e *fakeEnv) Warn(_ *device.Device, format string, args ...any) {
	e.warnings = append(e.warnings, fmt.Sprintf(format, args...))
}

func (e *fakeEnv) Progress(*device.Device, int64, int64, string) {}

func (e *fakeEnv) Now() time.Time {
	return time.Date(2026, 3, 1, 12, 30, 15, 987654321, time.FixedZone("elsewhere", 3600))
}

func (e *fakeEnv) Logger() *slog.Logger { return slog.New(slog.DiscardHandler) }

type fakeSession struct{ env *fakeEnv }

func (s fakeSession) Device() *device.Device         { return s.env.dev }
func (s fakeSession) Definition() *device.Definition { return nil }
func (s fakeSession) Conn() device.Conn              { return nil }
func (s fakeSession) Close() error                   { return nil }

func (s fakeSession) Run(ctx context.Context, cmd device.Command) (device.Output, error) {
	s.env.mu.Lock()
	defer s.env.mu.Unlock()
	s.env.ran = append(s.env.ran, cmd)
	answer, ok := s.env.answers[cmd.Line]
	if !ok {
		return device.Output{}, &fault.Error{Kind: fault.Refused, Act: "run " + cmd.Line, Device: s.env.dev.Name, Stage: "command", Err: fmt.Errorf("unknown command")}
	}
	return answer(ctx)
}

// run takes a report through the fake device as the runner would.
func (e *fakeEnv) run(t *testing.T, op operation.Operation, report string) error {
	t.Helper()
	return e.runContext(t.Context(), t, op, report)
}

func (e *fakeEnv) runContext(ctx context.Context, t *testing.T, op operation.Operation, report string) error {
	t.Helper()
	prepared, err := op.Prepare(ctx, json.RawMessage(`{"report": "`+report+`"}`), e.Unit().Devices)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := op.Steps(prepared.Spec, e.Unit())
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		if step.Act != nil || step.Once {
			t.Errorf("step %s of a report acts", step.Name)
		}
		seen, err := step.Observe(ctx, e)
		if err != nil {
			return err
		}
		if seen.Verdict != operation.Done {
			t.Errorf("step %s ended with %q", step.Name, seen.Verdict)
		}
	}
	return nil
}

func (e *fakeEnv) rowsJSON(t *testing.T) string {
	t.Helper()
	out, err := json.MarshalIndent(e.rows, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out) + "\n"
}
