package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/jobs/runnertest"
	"capfleet/internal/operation"
)

// A once-only act, whatever the earlier attempts left in the journal and however
// the act ends.
func TestOnceOnly(t *testing.T) {
	t.Parallel()
	intent := []jobs.Entry{{Kind: jobs.EntryIntent, Step: "install"}}
	cut := &fault.Error{Kind: fault.Disconnected, Act: "install", Err: errors.New("cut")}
	for name, tc := range map[string]struct {
		history []jobs.Entry
		see     operation.Verdict
		seeErr  error
		actErr  error
		want    jobs.State
		acts    int
		says    string // must be in the failure
	}{
		"absent":                           {see: operation.Needed, want: jobs.Succeeded, acts: 1},
		"there":                            {see: operation.Done, want: jobs.Unchanged},
		"not shown":                        {see: operation.Inconclusive, want: jobs.Attention, says: "no list"},
		"intended, absent":                 {history: intent, see: operation.Needed, want: jobs.Succeeded, acts: 1},
		"intended, there":                  {history: intent, see: operation.Done, want: jobs.Succeeded},
		"intended, not shown":              {history: intent, see: operation.Inconclusive, want: jobs.Attention, says: "install may have been done"},
		"intended, cannot be seen now":     {history: intent, seeErr: cut, want: jobs.Failed, says: "cut"},
		"intended, cannot be seen at all":  {history: intent, seeErr: fault.New(fault.Auth, "bad password"), want: jobs.Attention, says: "bad password"},
		"act cut":                          {see: operation.Needed, actErr: cut, want: jobs.Failed, acts: 1, says: "cut"},
		"act refused":                      {see: operation.Needed, actErr: fault.New(fault.Refused, "no room"), want: jobs.Failed, acts: 1, says: "no room"},
		"no verdict":                       {see: "perhaps", want: jobs.Failed, says: "perhaps"},
		"cannot be seen, never been there": {seeErr: fault.New(fault.Auth, "bad password"), want: jobs.Failed, says: "bad password"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			acts := 0
			r := newNetwork().runner(operation.Step{Name: "install", Once: true,
				Observe: func(context.Context, operation.Env) (operation.Observation, error) {
					return operation.Observation{Verdict: tc.see, Detail: "no list"}, tc.seeErr
				},
				Act: func(context.Context, operation.Env) error { acts++; return tc.actErr }})
			work := unit("a", "a")
			work.History = tc.history
			j := &runnertest.Recorder{}
			got := r.Run(t.Context(), work, j).Tasks["a"]
			if got.State != tc.want || acts != tc.acts {
				t.Errorf("%s after %d acts (%+v), want %s after %d", got.State, acts, got.Failure, tc.want, tc.acts)
			}
			if tc.says != "" && (got.Failure == nil || !strings.Contains(got.Failure.Message, tc.says) || got.Failure.Stage != "install") {
				t.Errorf("failure %+v, want one at install that says %q", got.Failure, tc.says)
			}
			if n := len(j.Entries(jobs.EntryOutcome)); n != tc.acts {
				t.Errorf("%d outcomes of %d acts", n, tc.acts)
			}
		})
	}
}

// An act that is stopped in the middle leaves a device whose state is not proven:
// a person has to look, unless fleetd will by itself when it starts again.
func TestStoppedDuringOnceOnlyAct(t *testing.T) {
	t.Parallel()
	for cause, want := range map[error]jobs.State{
		fault.New(fault.Canceled, "canceled by ann"): jobs.Attention,
		jobs.ErrStopping: jobs.Canceled,
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		r := newNetwork().runner(operation.Step{Name: "reload", Once: true,
			Observe: func(context.Context, operation.Env) (operation.Observation, error) {
				return operation.Observation{Verdict: operation.Needed}, nil
			},
			Act: func(ctx context.Context, _ operation.Env) error {
				cancel(cause)
				return ctx.Err()
			}})
		j := &runnertest.Recorder{}
		got := r.Run(ctx, unit("a", "a"), j).Tasks["a"]
		if got.State != want {
			t.Errorf("%v: %s, %+v", cause, got.State, got.Failure)
		}
		if want == jobs.Attention && !strings.Contains(got.Failure.Message, "reload, which may have been done") {
			t.Errorf("%v: %+v", cause, got.Failure)
		}
		if len(j.Entries(jobs.EntryOutcome)) != 1 {
			t.Error("the outcome was not written")
		}
	}
}

// What no device shows is done when the journal does not know of it, and else
// never again.
func TestOnceOnlyWithoutObservation(t *testing.T) {
	t.Parallel()
	for want, history := range map[jobs.State][]jobs.Entry{
		jobs.Succeeded: {{Kind: jobs.EntryStep, Step: "run"}},
		jobs.Attention: {{Kind: jobs.EntryStep, Step: "run"}, {Kind: jobs.EntryIntent, Step: "run"}},
	} {
		acts := 0
		r := newNetwork().runner(operation.Step{Name: "run", Once: true,
			Act: func(context.Context, operation.Env) error { acts++; return nil }})
		work := unit("a", "a")
		work.History = history
		got := r.Run(t.Context(), work, &runnertest.Recorder{}).Tasks["a"]
		if got.State != want || acts != map[jobs.State]int{jobs.Succeeded: 1}[want] {
			t.Errorf("%s after %d acts, %+v; want %s", got.State, acts, got.Failure, want)
		}
	}
}

func TestRepeatableActs(t *testing.T) {
	t.Parallel()
	step := func(name string, v operation.Verdict) operation.Step {
		return operation.Step{Name: name,
			Observe: func(context.Context, operation.Env) (operation.Observation, error) {
				return operation.Observation{Verdict: v}, nil
			},
			Act: func(context.Context, operation.Env) error { return nil }}
	}
	for want, steps := range map[jobs.State][]operation.Step{
		jobs.Unchanged: {step("a", operation.Done), observe(func(context.Context, operation.Env) error { return nil }), step("b", operation.Done)},
		jobs.Succeeded: {step("a", operation.Done), step("b", operation.Needed)},
	} {
		j := &runnertest.Recorder{}
		if got := newNetwork().runner(steps...).Run(t.Context(), unit("a", "a"), j).Tasks["a"].State; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if len(j.Entries(jobs.EntryIntent)) != 0 {
			t.Error("a repeatable act was announced")
		}
	}
}

func TestOneConnectionForAllSteps(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	use := func(ctx context.Context, env operation.Env) error {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for _, dev := range env.Unit().Devices {
					if _, err := env.Session(ctx, dev); err != nil {
						t.Error(err)
					}
					if _, err := env.Conn(ctx, dev); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		return nil
	}
	got := n.runner(observe(use), observe(use)).Run(t.Context(), unit("pair", "a", "b"), &runnertest.Recorder{})
	if got.Tasks["a"].State != jobs.Succeeded {
		t.Errorf("%+v", got)
	}
	if n.dials != 2 || n.sessions != 2 || n.open != 0 {
		t.Errorf("%d connections and %d sessions for 2 devices, %d left open", n.dials, n.sessions, n.open)
	}
	if got.Tasks["b"].Facts["host_key_sha256"] != "SHA256:b" {
		t.Errorf("facts %v", got.Tasks["b"].Facts)
	}
}

// What is broken is opened again when it is next asked for, and only that.
func TestOpenedAgainAfterItBroke(t *testing.T) {
	t.Parallel()
	disconnected := fault.New(fault.Disconnected, "cut")
	for name, tc := range map[string]struct {
		answer          func(conn int, line string) (string, error)
		openErr         func(conn int) error
		dials, sessions int
	}{
		"command cut": {
			answer: func(conn int, line string) (string, error) {
				if conn == 1 && line == "one" {
					return "", disconnected
				}
				return "ok", nil
			},
			// The session broke; whether the connection did shows when a new one is opened.
			openErr: func(conn int) error {
				return nil
			},
			dials: 1, sessions: 2,
		},
		"connection dead": {
			answer: func(conn int, _ string) (string, error) {
				if conn == 1 {
					return "", disconnected
				}
				return "ok", nil
			},
			dials: 2, sessions: 2,
		},
		"timeout": {
			answer: func(_ int, line string) (string, error) {
				if line == "one" {
					return "", fault.New(fault.Timeout, "mute")
				}
				return "ok", nil
			},
			dials: 1, sessions: 2,
		},
		"refused": {
			answer: func(_ int, line string) (string, error) {
				if line == "one" {
					return "", fault.New(fault.Refused, "no")
				}
				return "ok", nil
			},
			dials: 1, sessions: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork()
			n.answer = tc.answer
			opened := 0
			n.openErr = func(conn int) error {
				if tc.openErr != nil {
					return tc.openErr(conn)
				}
				if opened++; conn == 1 && opened > 1 && tc.dials > 1 {
					return disconnected
				}
				return nil
			}
			var second error
			got := n.runner(observe(func(ctx context.Context, env operation.Env) error {
				dev := env.Unit().Devices[0]
				for _, line := range []string{"one", "two"} {
					s, err := env.Session(ctx, dev)
					if err != nil {
						return err
					}
					_, second = s.Run(ctx, device.Command{Line: line})
				}
				return second
			})).Run(t.Context(), unit("a", "a"), &runnertest.Recorder{})
			if got.Tasks["a"].State != jobs.Succeeded {
				t.Errorf("%+v", got.Tasks["a"].Failure)
			}
			if n.dials != tc.dials || n.sessions != tc.sessions || n.open != 0 {
				t.Errorf("%d connections, %d sessions, %d left open; want %d, %d, 0", n.dials, n.sessions, n.open, tc.dials, tc.sessions)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	const bad = "% bad]0;x \uFFFD31m peels "
	for name, tc := range map[string]struct {
		change func(*network, *jobs.Work)
		err    error
		want   jobs.Failure
	}{
		"dial": {
			change: func(n *network, _ *jobs.Work) {
				n.dialErr = &fault.Error{Kind: fault.Unreachable, Act: "connect to a", Device: "a", Stage: "dial", Err: errors.New("no route")}
			},
			want: jobs.Failure{Device: "a", Stage: "dial", Kind: fault.Unreachable, Message: "connect to a: no route"}},
		"step": {
			err:  errors.New("something"),
			want: jobs.Failure{Device: "a", Stage: "look", Kind: fault.Internal, Message: "something"}},
		"hostile text": {
			err:  fault.New(fault.Refused, "%% bad\x1b]0;x\x07\r\n\x9b31m \u202epeels\x00 %s", strings.Repeat("y", 5000)),
			want: jobs.Failure{Device: "a", Stage: "look", Kind: fault.Refused, Message: bad + strings.Repeat("y", maxLine-len(bad)) + "..."}},
		"unknown operation": {
			change: func(_ *network, w *jobs.Work) { w.Operation = "dance" },
			want:   jobs.Failure{Device: "a", Stage: "prepare", Kind: fault.Unsupported, Message: `no operation "dance" in this fleetd`}},
		"unknown platform": {
			change: func(_ *network, w *jobs.Work) {
				w.Targets[0].Snapshot = json.RawMessage(`{"name":"a","platform":"toaster"}`)
			},
			want: jobs.Failure{Device: "a", Stage: "session", Kind: fault.Unsupported, Message: "open session on a: no driver for platform toaster"}},
		"broken snapshot": {
			change: func(_ *network, w *jobs.Work) { w.Targets[0].Snapshot = json.RawMessage(`{"name":1}`) },
			want: jobs.Failure{Device: "a", Stage: "prepare", Kind: fault.Internal,
				Message: "read the job's copy of the device: json: cannot unmarshal number into Go struct field Device.name of type string"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, work := newNetwork(), unit("a", "a")
			if tc.change != nil {
				tc.change(n, &work)
			}
			got := n.runner(observe(func(ctx context.Context, env operation.Env) error {
				if _, err := env.Session(ctx, env.Unit().Devices[0]); err != nil {
					return err
				}
				return tc.err
			})).Run(t.Context(), work, &runnertest.Recorder{}).Tasks["a"]
			if got.State != jobs.Failed {
				t.Errorf("state %s", got.State)
			}
			if diff := cmp.Diff(&tc.want, got.Failure); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatAStepLeaves(t *testing.T) {
	t.Parallel()
	for _, fails := range []bool{false, true} {
		n := newNetwork()
		got := n.runner(observe(func(ctx context.Context, env operation.Env) error {
			a, b := env.Unit().Devices[0], env.Unit().Devices[1]
			env.Row(a, map[string]int{"n": 1})
			env.Row(a, map[string]int{"n": 2})
			env.Facts(a, operation.Facts{"version": "6.4.3\x1b[0m", "build": ""})
			env.Warn(b, "careful with %s\n", "it")
			for range 2 * maxWarnings {
				env.Warn(a, "again")
			}
			for range 2 {
				if _, err := env.Keep(ctx, b, "raw.txt", "text/plain", strings.NewReader("x")); err != nil {
					return err
				}
			}
			if fails {
				return fault.New(fault.Unparsed, "line 3")
			}
			return nil
		})).Run(t.Context(), unit("pair", "a", "b"), &runnertest.Recorder{})
		a, b := got.Tasks["a"], got.Tasks["b"]
		if want := map[bool]int{false: 2, true: 0}[fails]; len(a.Rows) != want || len(b.Rows) != 0 {
			t.Errorf("fails=%v: rows %s and %s", fails, a.Rows, b.Rows)
		}
		if diff := cmp.Diff(map[string]string{"version": "6.4.3[0m", "build": ""}, a.Facts); diff != "" {
			t.Error(diff)
		}
		if len(a.Warnings) != maxWarnings+1 {
			t.Errorf("%d warnings", len(a.Warnings))
		}
		if diff := cmp.Diff([]string{"careful with it"}, b.Warnings); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"sha-of-x"}, b.Artifacts); diff != "" {
			t.Error(diff)
		}
		if len(n.kept) != 2 || n.kept[0].Job != "1" || n.kept[0].Device != "b" {
			t.Errorf("kept %+v", n.kept)
		}
	}
}

// What cannot be kept fails the step, instead of being missing from the result.
func TestWhatCannotBeKept(t *testing.T) {
	t.Parallel()
	for name, give := range map[string]func(operation.Env){
		"row":      func(env operation.Env) { env.Row(env.Unit().Devices[0], func() {}) },
		"stranger": func(env operation.Env) { env.Row(&device.Device{Name: "z"}, 1) },
	} {
		got := newNetwork().runner(observe(func(_ context.Context, env operation.Env) error {
			give(env)
			return nil
		})).Run(t.Context(), unit("a", "a"), &runnertest.Recorder{}).Tasks["a"]
		if got.State != jobs.Failed || got.Failure.Kind != fault.Internal {
			t.Errorf("%s: %s %+v", name, got.State, got.Failure)
		}
	}
}

func TestLine(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "text")
		out := line(in)
		if strings.ContainsFunc(out, func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 }) {
			t.Fatalf("control characters are left: %q", out)
		}
		if len(out) > maxLine+8 || line(out) != out && len(out) < maxLine {
			t.Fatalf("%q became %q", in, out)
		}
	})
	if got := line(fmt.Sprintf(" a \t\r\n b%c", 0x85)); got != "a b" {
		t.Errorf("got %q", got)
	}
}
