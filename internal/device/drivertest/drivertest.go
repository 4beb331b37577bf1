// Package drivertest is the contract suite of device.Driver: what every driver
// does, on a device that behaves and on one that does not. A new platform brings
// a Target and passes Run. The contract itself is in package device; where this
// suite and its words differ, the words are right and the suite is to be mended.
package drivertest

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// Target is a driver with a device to try it on. The suite leaves the device as
// it found it.
type Target struct {
	Driver device.Driver
	Device *device.Device
	// Dial makes a new connection. The suite closes it.
	Dial func(ctx context.Context) (device.Conn, error)
	// Good is a report command whose output Want matches as a whole and which is the
	// same each time; Other is a second one with another output.
	Good, Other device.Command
	Want        *regexp.Regexp
	// Refused is a command that the device answers with an error.
	Refused device.Command
	// ByMode has, for every mode of the platform, a command of it and a pattern of
	// its output.
	ByMode map[string]ModeCommand
	// Order brings a fault about that report commands suffer from, by its name in
	// package sim; "none" ends all of them.
	Order func(t *testing.T, fault string)
}

// ModeCommand is a command for one mode.
type ModeCommand struct {
	Line string
	Want *regexp.Regexp
}

// Run runs the suite. It takes its target anew for each part, so that a broken
// connection stays in its part.
func Run(t *testing.T, target Target) {
	t.Helper()
	for name, part := range map[string]func(*testing.T, Target){
		"Names":             names,
		"Usable":            usable,
		"EveryMode":         everyMode,
		"Refused":           refused,
		"Invalid":           invalid,
		"TwoCallers":        twoCallers,
		"TwoSessions":       twoSessions,
		"Close":             closing,
		"CancelledOpen":     cancelledOpen,
		"Checks":            checks,
		"Cancel":            cancelled,
		"Timeout":           timedOut,
		"Flood":             flood,
		"LargeOutput":       largeOutput,
		"PromptLikeLines":   promptLikeLines,
		"SplitEscapes":      splitEscapes,
		"Drip":              drip,
		"Drop":              drop,
		"RefusedByOrder":    refusedByOrder,
		"GoesOnAfterOthers": goesOn,
	} {
		t.Run(name, func(t *testing.T) { part(t, target) })
	}
}

// patience bounds whatever a device should do at once.
const patience = 20 * time.Second

func (target Target) dial(t *testing.T) device.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := target.Dial(ctx)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (target Target) open(t *testing.T, conn device.Conn) device.Session {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := target.Driver.Open(ctx, target.Device, conn)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// Open opens a session on a connection of its own, for the test's time.
func (target Target) Open(t *testing.T) device.Session {
	t.Helper()
	return target.open(t, target.dial(t))
}

// order brings a fault about for the rest of a part.
func (target Target) order(t *testing.T, name string) {
	t.Helper()
	target.Order(t, name)
	t.Cleanup(func() { target.Order(t, "none") })
}

// good runs the good command and checks its output.
func (target Target) good(t *testing.T, s device.Session) device.Output {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := s.Run(ctx, target.Good)
	if err != nil {
		t.Fatalf("run %q: %v\n%s", target.Good.Line, err, out.Text)
	}
	if !target.Want.MatchString(out.Text) {
		t.Fatalf("run %q: the output does not match %s:\n%s", target.Good.Line, target.Want, out.Text)
	}
	return out
}

func wantKind(t *testing.T, err error, kinds ...fault.Kind) {
	t.Helper()
	for _, k := range kinds {
		if fault.Is(err, k) {
			return
		}
	}
	t.Fatalf("error %v is %q, want %q", err, fault.KindOf(err), kinds)
}

func names(t *testing.T, target Target) {
	def := target.Driver.Definition()
	if def == nil || def.Platform != target.Driver.Platform() || def.Platform != target.Device.Platform {
		t.Fatalf("definition %v, driver %q, device %q", def, target.Driver.Platform(), target.Device.Platform)
	}
	if def.Source == "" || def.Description == "" {
		t.Error("a definition says where it is from and what it is of")
	}
}

func usable(t *testing.T, target Target) {
	conn := target.dial(t)
	s := target.open(t, conn)
	if s.Device() != target.Device || s.Definition() != target.Driver.Definition() || s.Conn() != conn {
		t.Error("the session does not know its device, definition or connection")
	}
	first := target.good(t, s)
	if first.Command != target.Good.Line || first.Elapsed <= 0 || first.Truncated || len(first.Questions) != 0 {
		t.Errorf("output is of %q, took %v, truncated %v, questions %q", first.Command, first.Elapsed, first.Truncated, first.Questions)
	}
	if strings.ContainsAny(first.Text, "\r\x1b") {
		t.Errorf("there is a CR or an escape in the output: %q", first.Text)
	}
	if !strings.HasSuffix(first.Transcript(), first.Text) {
		t.Errorf("transcript %q", first.Transcript())
	}
	for range 3 {
		if diff := cmp.Diff(first.Text, target.good(t, s).Text); diff != "" {
			t.Errorf("the same command gave another output (-first +later):\n%s", diff)
		}
	}
}

func everyMode(t *testing.T, target Target) {
	s := target.Open(t)
	for _, mode := range target.Driver.Definition().ModeNames() {
		if _, ok := target.ByMode[mode]; !ok {
			t.Errorf("the target has no command for mode %s", mode)
		}
	}
	for range 2 { // every way from one to the other, and back
		for mode, c := range target.ByMode {
			out, err := s.Run(t.Context(), device.Command{Line: c.Line, Mode: mode})
			if err != nil || !c.Want.MatchString(out.Text) {
				t.Errorf("mode %s: %q gave %v\n%s", mode, c.Line, err, out.Text)
			}
			if out.Command != c.Line {
				t.Errorf("mode %s: the output is said to be of %q", mode, out.Command)
			}
		}
	}
	target.good(t, s)
}

func refused(t *testing.T, target Target) {
	s := target.Open(t)
	for range 2 {
		out, err := s.Run(t.Context(), target.Refused)
		wantKind(t, err, fault.Refused)
		if strings.TrimSpace(out.Text) == "" {
			t.Error("the device's words are not in the output")
		}
		if !strings.HasSuffix(out.Text, out.Stderr) {
			t.Errorf("standard error %q is not the end of %q", out.Stderr, out.Text)
		}
		if !strings.Contains(err.Error(), target.Device.Name) || !strings.Contains(err.Error(), target.Refused.Line) || strings.Contains(err.Error(), "\n") {
			t.Errorf("the error does not say what happened in one line: %v", err)
		}
		target.good(t, s)
	}
}

func invalid(t *testing.T, target Target) {
	s := target.Open(t)
	for name, cmd := range map[string]device.Command{
		"mode":      {Line: target.Good.Line, Mode: "no-such-mode"},
		"new mode":  {Line: target.Good.Line, NewMode: "no-such-mode"},
		"empty":     {},
		"two lines": {Line: target.Good.Line + "\n" + target.Good.Line},
		"interrupt": {Line: "\x03"},
		"question":  {Line: target.Good.Line, Answers: map[string]string{"no-such-question": "yes"}},
	} {
		if _, err := s.Run(t.Context(), cmd); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	target.good(t, s)
}

func twoCallers(t *testing.T, target Target) {
	s := target.Open(t)
	want := map[string]string{}
	for _, cmd := range []device.Command{target.Good, target.Other} {
		out, err := s.Run(t.Context(), cmd)
		if err != nil {
			t.Fatal(err)
		}
		want[cmd.Line] = out.Text
	}
	if want[target.Good.Line] == want[target.Other.Line] {
		t.Fatal("the target's two commands have the same output")
	}
	var callers sync.WaitGroup
	for _, cmd := range []device.Command{target.Good, target.Other, target.Good, target.Other} {
		callers.Go(func() {
			for range 5 {
				out, err := s.Run(t.Context(), cmd)
				if err != nil || out.Text != want[cmd.Line] {
					t.Errorf("%s gave %v\n%s", cmd.Line, err, cmp.Diff(want[cmd.Line], out.Text))
					return
				}
			}
		})
	}
	callers.Wait()
}

func twoSessions(t *testing.T, target Target) {
	conn := target.dial(t)
	a, b := target.open(t, conn), target.open(t, conn)
	want := target.good(t, a).Text
	if diff := cmp.Diff(want, target.good(t, b).Text); diff != "" {
		t.Errorf("two sessions differ:\n%s", diff)
	}
	if err := a.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	target.good(t, b)
}

func closing(t *testing.T, target Target) {
	conn := target.dial(t)
	s := target.open(t, conn)
	for range 2 {
		started := time.Now()
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if d := time.Since(started); d > 5*time.Second {
			t.Errorf("closing took %v", d)
		}
	}
	_, err := s.Run(t.Context(), target.Good)
	wantKind(t, err, fault.Disconnected)
	target.good(t, target.open(t, conn)) // the connection is the caller's
}

func cancelledOpen(t *testing.T, target Target) {
	conn := target.dial(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, err := target.Driver.Open(ctx, target.Device, conn)
	if s != nil {
		t.Error("there is a session beside the error")
	}
	wantKind(t, err, fault.Canceled)
	target.good(t, target.open(t, conn))
}

// checks runs the commands of `device check` and reads their results.
func checks(t *testing.T, target Target) {
	s := target.Open(t)
	k := target.Driver.Definition().Checks
	for _, c := range []struct{ line, match string }{{k.Clock, k.ClockMatch}, {k.Version, k.VersionMatch}} {
		out, err := s.Run(t.Context(), device.Command{Line: c.line})
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(c.match).FindStringSubmatch(out.Text)
		if m == nil {
			t.Fatalf("%s: %s is not in the output:\n%s", c.line, c.match, out.Text)
		}
		if c.line != k.Clock {
			continue
		}
		at, err := time.Parse(k.ClockLayout, m[1])
		if err != nil {
			t.Fatalf("%q is no time of the layout %q: %v", m[1], k.ClockLayout, err)
		}
		if off := time.Since(at); off < -24*time.Hour || off > 24*time.Hour {
			t.Errorf("the clock says %v", at)
		}
	}
}

// cancelled: a call ends within 100 ms of its context, and the connection is
// good for another session.
func cancelled(t *testing.T, target Target) {
	conn := target.dial(t)
	s := target.open(t, conn)
	target.good(t, s)
	target.order(t, "hang_command")
	ctx, cancel := context.WithCancel(t.Context())
	var ended time.Time
	timer := time.AfterFunc(300*time.Millisecond, func() {
		ended = time.Now()
		cancel()
	})
	defer timer.Stop()
	out, err := s.Run(ctx, target.Good)
	if d := time.Since(ended); d > 5*time.Second {
		t.Errorf("it went on for %v", d)
	}
	wantKind(t, err, fault.Canceled)
	if out.Text != "" {
		t.Errorf("output %q", out.Text)
	}
	target.Order(t, "none")
	afterwards(t, target, s)
	target.good(t, target.open(t, conn))
}

func timedOut(t *testing.T, target Target) {
	conn := target.dial(t)
	s := target.open(t, conn)
	target.order(t, "slow=600ms")
	cmd := target.Good
	cmd.Timeout = 200 * time.Millisecond
	_, err := s.Run(t.Context(), cmd)
	wantKind(t, err, fault.Timeout)
	target.Order(t, "none")
	afterwards(t, target, s)
	target.good(t, target.open(t, conn))
}

// afterwards: a session whose command was broken off either says that it is
// finished or answers rightly. The late answer is nobody's.
func afterwards(t *testing.T, target Target, s device.Session) {
	t.Helper()
	out, err := s.Run(t.Context(), target.Other)
	if err != nil {
		wantKind(t, err, fault.Disconnected)
		if out.Text != "" {
			t.Errorf("there is output beside the error: %q", out.Text)
		}
		return
	}
	if target.Want.MatchString(out.Text) {
		t.Errorf("the late answer was taken for the next one's:\n%s", out.Text)
	}
}

func flood(t *testing.T, target Target) {
	conn := target.dial(t)
	s := target.open(t, conn)
	target.order(t, "flood")
	cmd := target.Good
	cmd.MaxBytes = 1 << 20
	out, err := s.Run(t.Context(), cmd)
	wantKind(t, err, fault.TooLarge)
	if !out.Truncated || len(out.Text) == 0 || len(out.Text) > cmd.MaxBytes {
		t.Errorf("truncated %v, %d bytes", out.Truncated, len(out.Text))
	}
	target.Order(t, "none")
	target.good(t, target.open(t, conn))
}

func largeOutput(t *testing.T, target Target) {
	s := target.Open(t)
	target.order(t, "flood=10MB")
	out, err := s.Run(t.Context(), target.Good)
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Text) != 10e6 {
		t.Errorf("%d bytes of 10 MB came", len(out.Text))
	}
	target.Order(t, "none")
	target.good(t, s)
}

// promptLikeLines: the device stops behind each line that looks like its prompt.
func promptLikeLines(t *testing.T, target Target) {
	s := target.Open(t)
	plain := target.good(t, s).Text
	for _, pause := range []string{"", "=30ms", "=400ms"} {
		target.order(t, "prompt_in_output"+pause)
		out, err := s.Run(t.Context(), target.Good)
		if err != nil {
			t.Fatalf("%q: %v", pause, err)
		}
		rest := plain
		for line := range strings.Lines(out.Text) {
			rest = strings.TrimPrefix(rest, line)
		}
		if rest != "" {
			t.Errorf("%q: the output ends early, without\n%s\nit is\n%s", pause, rest, out.Text)
		}
		if out.Text == plain {
			t.Errorf("%q: the order did nothing", pause)
		}
		target.Order(t, "none")
		if diff := cmp.Diff(plain, target.good(t, s).Text); diff != "" {
			t.Errorf("%q: the next output differs:\n%s", pause, diff)
		}
	}
}

func splitEscapes(t *testing.T, target Target) {
	s := target.Open(t)
	plain := target.good(t, s).Text
	target.order(t, "split_escapes")
	out, err := s.Run(t.Context(), target.Good)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(plain, out.Text); diff != "" {
		t.Errorf("output (-plain +coloured):\n%s", diff)
	}
}

func drip(t *testing.T, target Target) {
	s := target.Open(t)
	plain := target.good(t, s).Text
	target.order(t, "drip=1ms")
	out, err := s.Run(t.Context(), target.Good)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(plain, out.Text); diff != "" {
		t.Errorf("output (-plain +dripping):\n%s", diff)
	}
}

func drop(t *testing.T, target Target) {
	s := target.Open(t)
	target.order(t, "drop=1")
	_, err := s.Run(t.Context(), target.Good)
	wantKind(t, err, fault.Disconnected)
	_, err = s.Run(t.Context(), target.Good)
	wantKind(t, err, fault.Disconnected)
	target.good(t, target.Open(t))
}

func refusedByOrder(t *testing.T, target Target) {
	s := target.Open(t)
	target.order(t, "refuse_command")
	out, err := s.Run(t.Context(), target.Good)
	wantKind(t, err, fault.Refused)
	if out.Text == "" {
		t.Error("the device's words are not in the output")
	}
	target.Order(t, "none")
	target.good(t, s)
}

// goesOn: a command that is broken off does not disturb another session on the
// same connection.
func goesOn(t *testing.T, target Target) {
	conn := target.dial(t)
	a, b := target.open(t, conn), target.open(t, conn)
	ctx, cancel := context.WithCancelCause(t.Context())
	var both sync.WaitGroup
	target.order(t, "slow=300ms")
	both.Go(func() {
		if _, err := a.Run(ctx, target.Good); !fault.Is(err, fault.Canceled) {
			t.Errorf("error %v", err)
		}
	})
	both.Go(func() {
		if out, err := b.Run(t.Context(), target.Good); err != nil || !target.Want.MatchString(out.Text) {
			t.Errorf("the other session gave %v\n%s", err, out.Text)
		}
	})
	timer := time.AfterFunc(100*time.Millisecond, func() { cancel(errors.New("enough")) })
	defer timer.Stop()
	both.Wait()
	cancel(nil)
}
