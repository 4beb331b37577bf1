package shell_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"capfleet/internal/cli/output"
	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
	"capfleet/internal/parse"
	"capfleet/internal/report"
)

// FuzzDevice takes what a device writes through all that looks at it: the shell
// that decides where it ends, the cleaner, the templates, the rows and what
// fleetctl prints of them. It ends within its time; what comes out whole is what
// was written; nothing that a terminal would obey is left; and the next command
// gets its own answer.
func FuzzDevice(f *testing.F) {
	samples, err := filepath.Glob("../../../../templates/endace_osm/samples/*/*/raw.txt")
	if err != nil || len(samples) == 0 {
		f.Fatalf("%v %v", samples, err)
	}
	for i, file := range samples {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if first, rest, ok := bytes.Cut(text, []byte("\n")); ok && bytes.Contains(first, []byte(" # show ")) {
			text = rest // the prompt and the echo are the box's own
		}
		f.Add(bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")), uint16(1+37*i))
	}
	for _, text := range []string{
		"", "\x1b[2J\x1b]0;title\x07\x9b31m\xc2\x9b1mx", "\x1bP" + strings.Repeat("x", 300), "lon-probe-01 # ", "lon-probe-01 # \r\nlon-probe-01 # ",
		"lon-probe-01 # show files system\r\n", "Password: ", "--More--", "lines 1-2 ", "Save changes? [yes]: ", "to enter configuration mode anyway",
		"\x00\xff\xfe\b\b\b\r\r\r\n", "% Unrecognized command", "Size: 1\r\n  Used: =cmd|1\r\n", "\u202e\u2028\u200b",
	} {
		f.Add([]byte(text), uint16(3))
	}
	op := report.New(parse.NewLibrary(""))
	f.Fuzz(func(t *testing.T, raw []byte, cut uint16) {
		if len(raw) > 8<<10 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			sent := string(raw) + "\r\n"
			sh, _ := open(t, &cli{commands: map[string]func(*cli, *box){
				// In parts of two lengths, so that a sequence is cut anywhere.
				"show files system": func(_ *cli, b *box) {
					for rest, n := sent, int(cut); rest != ""; n = len(rest) {
						n = max(1, min(n, len(rest)))
						b.write(rest[:n])
						rest = rest[n:]
					}
				},
				"show next": prints("next\n"),
			}})
			env := &shellEnv{dev: &device.Device{Name: "lon-probe-01", Platform: "endace_osm"}, def: osm(t), sh: sh}
			err := runReport(t, op, env)
			checkOutput(t, sent, env, err)
			if err == nil {
				checkPrinted(t, env.rows)
			}
			if env.ranErr != nil && !fault.Is(env.ranErr, fault.Refused) {
				return // the shell is discarded
			}
			if out, err := sh.Run(t.Context(), device.Command{Line: "show next"}); err != nil || out.Text != "next\n" {
				t.Fatalf("behind %q: next gave %q, %v", sent, out.Text, err)
			}
		})
	})
}

func runReport(t *testing.T, op operation.Operation, env *shellEnv) error {
	t.Helper()
	prepared, err := op.Prepare(t.Context(), json.RawMessage(`{"report":"filesystem"}`), []*device.Device{env.dev})
	if err != nil {
		t.Fatal(err)
	}
	steps, err := op.Steps(prepared.Spec, env.Unit())
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		if _, err := step.Observe(t.Context(), env); err != nil {
			return err
		}
	}
	return nil
}

// checkOutput compares what the shell returned with what the device wrote.
func checkOutput(t *testing.T, sent string, env *shellEnv, err error) {
	t.Helper()
	var have *fault.Error
	if err != nil && (!errors.As(err, &have) || have.Device == "" || fault.Is(err, fault.Internal)) {
		t.Fatalf("%q: %s error %v", sent, fault.KindOf(err), err)
	}
	if err != nil && strings.ContainsFunc(err.Error(), unicode.IsControl) {
		t.Fatalf("%q: error %q", sent, err)
	}
	text := env.ran.Text
	if i := strings.IndexFunc(text, func(r rune) bool {
		return r != utf8.RuneError && unicode.IsControl(r) && !strings.ContainsRune("\n\t\r\b", r)
	}); i >= 0 {
		t.Fatalf("%q: left %q", sent, text[i:])
	}
	// A question or a pager's prompt makes the shell type, and the box echoes that.
	if env.ranErr == nil && len(env.ran.Questions) == 0 && !strings.Contains(text, "More--") && !strings.Contains(text, "lines ") && !strings.Contains(text, "less") {
		if want := device.CleanText([]byte(sent)); strings.ReplaceAll(text, "\b", "") != want {
			t.Fatalf("%q gave %q, want %q", sent, text, want)
		}
	}
}

// checkPrinted prints rows in every format, as fleetctl does.
func checkPrinted(t *testing.T, values []any) {
	t.Helper()
	rows, err := output.Rows(values)
	if err != nil {
		t.Fatal(err)
	}
	view := output.View{Table: []output.Column{{Key: "device", Head: "DEVICE", Fixed: true}, {Key: "filesystem", Head: "FILESYSTEM"}, {Key: "total_bytes", Head: "TOTAL GB", Kind: output.Bytes}}}
	for _, format := range output.Formats() {
		var b bytes.Buffer
		if err := output.Write(&b, format, view, rows, map[string]any{"rows": rows}, output.Screen{Terminal: true, Width: 80}); err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		if i := strings.IndexFunc(b.String(), func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsGraphic(r) }); i >= 0 || !utf8.Valid(b.Bytes()) {
			t.Fatalf("%s prints %q", format, b.String())
		}
	}
}

// shellEnv is an operation.Env with one device, whose commands go through a real
// shell.
type shellEnv struct {
	operation.Env // what is not used here

	dev    *device.Device
	def    *device.Definition
	sh     device.Shell
	ran    device.Output
	ranErr error
	rows   []any
}

func (e *shellEnv) Unit() operation.Unit {
	return operation.Unit{Name: e.dev.Name, Devices: []*device.Device{e.dev}}
}

func (e *shellEnv) Session(context.Context, *device.Device) (device.Session, error) {
	return shellSession{e}, nil
}

func (e *shellEnv) Conn(context.Context, *device.Device) (device.Conn, error) {
	return nil, fault.New(fault.Internal, "a report needs no connection of its own")
}

func (e *shellEnv) Keep(_ context.Context, _ *device.Device, _, _ string, r io.Reader) (string, error) {
	_, err := io.Copy(io.Discard, r)
	return strings.Repeat("0", 64), err
}

func (e *shellEnv) Row(_ *device.Device, row any)                 { e.rows = append(e.rows, row) }
func (e *shellEnv) Facts(*device.Device, operation.Facts)         {}
func (e *shellEnv) Warn(*device.Device, string, ...any)           {}
func (e *shellEnv) Progress(*device.Device, int64, int64, string) {}
func (e *shellEnv) Now() time.Time                                { return time.Now() }
func (e *shellEnv) Logger() *slog.Logger                          { return slog.New(slog.DiscardHandler) }

type shellSession struct{ env *shellEnv }

func (s shellSession) Device() *device.Device         { return s.env.dev }
func (s shellSession) Definition() *device.Definition { return s.env.def }
func (s shellSession) Conn() device.Conn              { return nil }
func (s shellSession) Close() error                   { return nil }

func (s shellSession) Run(ctx context.Context, cmd device.Command) (device.Output, error) {
	s.env.ran, s.env.ranErr = s.env.sh.Run(ctx, cmd)
	return s.env.ran, s.env.ranErr
}
