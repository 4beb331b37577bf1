package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/device"
	"capfleet/internal/device/bigip"
	"capfleet/internal/device/endace"
	"capfleet/internal/device/linux"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

// definitions are those that ship, so that a change to a list shows here.
func definitions(tb testing.TB) func(string) (*device.Definition, bool) {
	tb.Helper()
	all := map[string]*device.Definition{}
	for _, open := range []func(string) (device.Driver, error){endace.New, bigip.New, linux.New} {
		d, err := open("")
		if err != nil {
			tb.Fatal(err)
		}
		all[d.Platform()] = d.Definition()
	}
	return func(p string) (*device.Definition, bool) { d, ok := all[p]; return d, ok }
}

func dev(name, platform string) *device.Device { return &device.Device{Name: name, Platform: platform} }

func spec(tb testing.TB, s Spec) json.RawMessage {
	tb.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

type fakeSession struct {
	device.Session
	def *device.Definition
	out device.Output
	err error
	ran []device.Command
}

func (s *fakeSession) Definition() *device.Definition { return s.def }

func (s *fakeSession) Run(_ context.Context, c device.Command) (device.Output, error) {
	s.ran = append(s.ran, c)
	return s.out, s.err
}

type fakeEnv struct {
	operation.Env
	session  *fakeSession
	open     error
	keepErr  error
	rows     []string
	kept     map[string]string
	warnings []string
}

func (e *fakeEnv) Session(context.Context, *device.Device) (device.Session, error) {
	if e.open != nil {
		return nil, e.open
	}
	return e.session, nil
}

func (e *fakeEnv) Row(_ *device.Device, row any) {
	raw, err := json.Marshal(row)
	if err != nil {
		panic(err)
	}
	e.rows = append(e.rows, string(raw))
}

func (e *fakeEnv) Keep(_ context.Context, _ *device.Device, name, _ string, r io.Reader) (string, error) {
	b, err := io.ReadAll(r)
	if err != nil || e.keepErr != nil {
		return "", errors.Join(err, e.keepErr)
	}
	if e.kept == nil {
		e.kept = map[string]string{}
	}
	e.kept[name] = string(b)
	return strings.Repeat("ab", 32), nil
}

func (e *fakeEnv) Warn(_ *device.Device, format string, args ...any) {
	e.warnings = append(e.warnings, fmt.Sprintf(format, args...))
}

// do prepares a command for one device and runs its steps as the runner does.
func do(t *testing.T, platform string, s Spec, session *fakeSession) (*fakeEnv, error) {
	t.Helper()
	defs := definitions(t)
	op, d := New(defs), dev("dev-1", platform)
	prepared, err := op.Prepare(t.Context(), spec(t, s), []*device.Device{d})
	if err != nil {
		t.Fatal(err)
	}
	steps, err := op.Steps(prepared.Spec, operation.Unit{Name: d.Name, Devices: []*device.Device{d}})
	if err != nil {
		t.Fatal(err)
	}
	session.def, _ = defs(platform)
	env := &fakeEnv{session: session}
	for _, step := range steps {
		if step.Observe != nil {
			_, err = step.Observe(t.Context(), env)
		} else {
			err = step.Act(t.Context(), env)
		}
		if err != nil {
			return env, err
		}
	}
	return env, nil
}

func TestPrepareRefuses(t *testing.T) {
	t.Parallel()
	probe, ltm, host := dev("lon-probe-01", "endace_osm"), dev("lon-ltm-01", "f5_bigip"), dev("lon-cap-01", "linux")
	for name, c := range map[string]struct {
		spec    string
		devices []*device.Device
		kind    fault.Kind
		want    []string
	}{
		"empty":               {`{}`, []*device.Device{probe}, fault.Invalid, []string{"the command is empty"}},
		"blank":               {`{"command":"  \t "}`, []*device.Device{probe}, fault.Invalid, []string{"the command is empty"}},
		"unknown key":         {`{"comand":"show version"}`, []*device.Device{probe}, fault.Invalid, []string{`"comand"`}},
		"two lines":           {`{"command":"show version\nreload","unsafe":true}`, []*device.Device{probe}, fault.Invalid, []string{"control character"}},
		"escape":              {`{"command":"show \u001b[A","unsafe":true}`, []*device.Device{probe}, fault.Invalid, []string{"control character"}},
		"C1 control":          {`{"command":"show \u009b31m","unsafe":true}`, []*device.Device{probe}, fault.Invalid, []string{"control character"}},
		"tab when unsafe":     {`{"command":"sh\tver","unsafe":true}`, []*device.Device{probe}, fault.Invalid, []string{"control character"}},
		"too long":            {`{"command":"show ` + strings.Repeat("x", 2000) + `"}`, []*device.Device{probe}, fault.Invalid, []string{"at most 2000"}},
		"negative timeout":    {`{"command":"show version","timeout_seconds":-1}`, []*device.Device{probe}, fault.Invalid, []string{"timeout_seconds"}},
		"endless timeout":     {`{"command":"show version","timeout_seconds":1e300}`, []*device.Device{probe}, fault.Invalid, []string{"timeout_seconds"}},
		"bad template":        {`{"command":"show version","template":"Value A( (x)\n","template_name":"t"}`, []*device.Device{probe}, fault.Invalid, []string{"template t"}},
		"name without source": {`{"command":"show version","template_name":"t"}`, []*device.Device{probe}, fault.Invalid, []string{"without a template"}},
		"help key":            {`{"command":"show version ?"}`, []*device.Device{probe}, fault.Invalid, []string{"help key"}},
		"help key, unsafe":    {`{"command":"reload ?","unsafe":true}`, []*device.Device{probe}, fault.Invalid, []string{"help key"}},
		"unknown mode":        {`{"command":"show version","mode":"root"}`, []*device.Device{probe}, fault.Invalid, []string{`no mode "root"`, "standard, enable, config"}},
		"mode on linux":       {`{"command":"id","mode":"enable","unsafe":true}`, []*device.Device{host}, fault.Invalid, []string{"no modes"}},
		"unknown platform":    {`{"command":"show version"}`, []*device.Device{dev("x", "ios")}, fault.Unsupported, []string{"no driver for platform ios (x)"}},

		"a change":          {`{"command":"reload"}`, []*device.Device{probe}, fault.Denied, []string{`run "reload" on endace_osm (lon-probe-01)`, "show *", "--unsafe"}},
		"prefix of a word":  {`{"command":"shower"}`, []*device.Device{probe}, fault.Denied, []string{"--unsafe"}},
		"config mode":       {`{"command":"show version","mode":"config"}`, []*device.Device{probe}, fault.Denied, []string{"mode config is above enable"}},
		"chained":           {`{"command":"show sys version; reboot"}`, []*device.Device{ltm}, fault.Denied, []string{"bring another one along"}},
		"piped":             {`{"command":"show version | x"}`, []*device.Device{probe}, fault.Denied, nil},
		"and":               {`{"command":"show sys version && reboot"}`, []*device.Device{ltm}, fault.Denied, nil},
		"substituted":       {`{"command":"show sys $(reboot)"}`, []*device.Device{ltm}, fault.Denied, nil},
		"backquoted":        {"{\"command\":\"show sys `reboot`\"}", []*device.Device{ltm}, fault.Denied, nil},
		"redirected":        {`{"command":"show sys version > /config/x"}`, []*device.Device{ltm}, fault.Denied, nil},
		"one platform of 2": {`{"command":"list sys version"}`, []*device.Device{ltm, probe}, fault.Denied, []string{"endace_osm"}},
		"linux":             {`{"command":"uptime"}`, []*device.Device{host}, fault.Denied, []string{"no command is known to be safe", "--unsafe"}},
		"linux among them":  {`{"command":"show version"}`, []*device.Device{probe, host}, fault.Denied, []string{"on linux (lon-cap-01)"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := New(definitions(t)).Prepare(t.Context(), json.RawMessage(c.spec), c.devices)
			if !fault.Is(err, c.kind) {
				t.Fatalf("got %+v, %v (%s), want %s", got, err, fault.KindOf(err), c.kind)
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in: %v", w, err)
				}
			}
		})
	}
}

func TestPrepareAccepts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spec     Spec
		platform string
		want     Spec
		access   operation.Access
	}{
		"read-only":              {Spec{Command: "show version"}, "endace_osm", Spec{Command: "show version"}, operation.Read},
		"white space":            {Spec{Command: "  show \t files   system "}, "endace_osm", Spec{Command: "show files system"}, operation.Read},
		"with a path":            {Spec{Command: "show files /var/log/x"}, "endace_osm", Spec{Command: "show files /var/log/x"}, operation.Read},
		"lower mode":             {Spec{Command: "show version", Mode: "standard"}, "endace_osm", Spec{Command: "show version", Mode: "standard"}, operation.Read},
		"tmsh":                   {Spec{Command: "list ltm virtual", TimeoutSeconds: 1.5}, "f5_bigip", Spec{Command: "list ltm virtual", TimeoutSeconds: 1.5}, operation.Read},
		"unsafe":                 {Spec{Command: "reload", Unsafe: true}, "endace_osm", Spec{Command: "reload", Unsafe: true}, operation.Change},
		"unsafe keeps its words": {Spec{Command: `echo "a  b"`, Unsafe: true}, "linux", Spec{Command: `echo "a  b"`, Unsafe: true}, operation.Change},
		"unsafe in config":       {Spec{Command: "configuration write", Mode: "config", Unsafe: true}, "endace_osm", Spec{Command: "configuration write", Mode: "config", Unsafe: true}, operation.Change},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := New(definitions(t)).Prepare(t.Context(), spec(t, c.spec), []*device.Device{dev("d", c.platform)})
			if err != nil {
				t.Fatal(err)
			}
			var back Spec
			if err := json.Unmarshal(got.Spec, &back); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, back); diff != "" || got.Access != c.access {
				t.Errorf("access %s, spec (-want +got):\n%s", got.Access, diff)
			}
		})
	}
}

func TestRaw(t *testing.T) {
	t.Parallel()
	session := &fakeSession{out: device.Output{Text: "Product release: 6.4.3\n", Elapsed: 1234567 * time.Microsecond}}
	env, err := do(t, "endace_osm", Spec{Command: "show version", Mode: "standard", TimeoutSeconds: 2.5}, session)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`{"device":"dev-1","command":"show version","output":"Product release: 6.4.3\n","elapsed_seconds":1.235}`}
	if diff := cmp.Diff(want, env.rows); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	ran := []device.Command{{Line: "show version", Mode: "standard", Timeout: 2500 * time.Millisecond}}
	if diff := cmp.Diff(ran, session.ran); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}

const versions = `Value Device (\S+)
Value Required Release (\S+)
Value List Note (\S+)

Start
  ^${Device} # show version
  ^Product release: +${Release}
  ^Note: ${Note}
  ^. -> Error
`

func TestParsed(t *testing.T) {
	t.Parallel()
	session := &fakeSession{out: device.Output{Command: "show version", Prompt: "lon-probe-01 #", Text: "Product release: 6.4.3\nNote: a\nNote: b\n"}}
	env, err := do(t, "endace_osm", Spec{Command: "show version", Template: versions}, session)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`{"device":"dev-1","device_value":"lon-probe-01","release":"6.4.3","note":["a","b"]}`}
	if diff := cmp.Diff(want, env.rows); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func TestTemplateWithoutRowsIsTold(t *testing.T) {
	t.Parallel()
	env, err := do(t, "endace_osm", Spec{Command: "show version", Template: versions, TemplateName: "ver"}, &fakeSession{})
	if err != nil || len(env.rows) != 0 || len(env.warnings) != 1 || !strings.Contains(env.warnings[0], "template ver gives no rows") {
		t.Errorf("rows %v, warnings %v, %v", env.rows, env.warnings, err)
	}
}

// What a device did say is never lost with the error.
func TestFailuresKeepTheOutput(t *testing.T) {
	t.Parallel()
	out := device.Output{Command: "show version", Prompt: "p #", Text: "% Unrecognized command\n"}
	for name, c := range map[string]struct {
		spec  Spec
		err   error
		kind  fault.Kind
		stage string
	}{
		"refused":     {Spec{Command: "show version"}, fault.New(fault.Refused, "%% Unrecognized command"), fault.Refused, "command"},
		"too large":   {Spec{Command: "show version"}, fault.New(fault.TooLarge, "cut"), fault.TooLarge, "command"},
		"its stage":   {Spec{Command: "show version"}, &fault.Error{Kind: fault.Timeout, Stage: "prompt"}, fault.Timeout, "prompt"},
		"not matched": {Spec{Command: "show version", Template: versions}, nil, fault.Unparsed, "parse"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, err := do(t, "endace_osm", c.spec, &fakeSession{out: out, err: c.err})
			if !fault.Is(err, c.kind) || fault.StageOf(err) != c.stage || !strings.Contains(err.Error(), "dev-1") {
				t.Errorf("%v (%s, stage %s)", err, fault.KindOf(err), fault.StageOf(err))
			}
			if !strings.Contains(err.Error(), "artifact abababababab") {
				t.Errorf("the artifact is not named: %v", err)
			}
			if diff := cmp.Diff(map[string]string{"dev-1_command.txt": "p # show version\n% Unrecognized command\n"}, env.kept); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
			if len(env.rows) > 0 {
				t.Errorf("rows %v", env.rows)
			}
		})
	}
}

func TestUnmatchedNamesTheLine(t *testing.T) {
	t.Parallel()
	_, err := do(t, "endace_osm", Spec{Command: "show version", Template: versions}, &fakeSession{out: device.Output{Text: "Product release: 1\nSurprise!\n"}})
	if !fault.Is(err, fault.Unparsed) || !strings.Contains(err.Error(), "line 2") || !strings.Contains(err.Error(), "Surprise!") {
		t.Errorf("got %v", err)
	}
}

func TestOutputThatCannotBeKept(t *testing.T) {
	t.Parallel()
	full := &fault.Error{Kind: fault.Storage, Err: errors.New("disk full")}
	env := &fakeEnv{session: &fakeSession{}, keepErr: full}
	err := failed(t.Context(), env, dev("dev-1", "linux"), Spec{Command: "id"}, device.Output{Text: "x"}, "command", fault.New(fault.Refused, "no"))
	if !fault.Is(err, fault.Refused) || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("got %v", err)
	}
}

// An unsafe command is one once-only act after the connection stands, and shows
// no way to look whether it was done.
func TestUnsafeIsRunOnce(t *testing.T) {
	t.Parallel()
	d := dev("dev-1", "linux")
	op := New(definitions(t))
	steps, err := op.Steps(spec(t, Spec{Command: "touch /x", Unsafe: true}), operation.Unit{Devices: []*device.Device{d}})
	if err != nil || len(steps) != 2 {
		t.Fatalf("steps %+v, %v", steps, err)
	}
	if steps[0].Act != nil || steps[0].Once || steps[1].Observe != nil || !steps[1].Once || steps[1].Act == nil {
		t.Errorf("steps %+v", steps)
	}
	down := fault.New(fault.Unreachable, "no route")
	env := &fakeEnv{open: down}
	if _, err := steps[0].Observe(t.Context(), env); !errors.Is(err, down) {
		t.Errorf("connect: %v", err)
	}
	safe, err := op.Steps(spec(t, Spec{Command: "show version"}), operation.Unit{Devices: []*device.Device{d}})
	if err != nil || len(safe) != 1 || safe[0].Act != nil {
		t.Errorf("steps of a read %+v, %v", safe, err)
	}
}

// An override may have become stricter between the request and its run.
func TestListIsCheckedAgainWhenItRuns(t *testing.T) {
	t.Parallel()
	defs := definitions(t)
	d := dev("dev-1", "endace_osm")
	steps, err := New(defs).Steps(spec(t, Spec{Command: "show version"}), operation.Unit{Devices: []*device.Device{d}})
	if err != nil {
		t.Fatal(err)
	}
	def, _ := defs("endace_osm")
	stricter := *def
	stricter.ReadOnly = []string{"show files *"}
	session := &fakeSession{def: &stricter}
	if _, err := steps[0].Observe(t.Context(), &fakeEnv{session: session}); !fault.Is(err, fault.Denied) || len(session.ran) > 0 {
		t.Errorf("ran %v, %v", session.ran, err)
	}
}

// Whatever is asked, a line that passes without --unsafe is one plain line.
func FuzzPermit(f *testing.F) {
	for _, s := range []string{"show version", "show x; reboot", "list\x00", "show $(x)", "tmsh show sys\tversion", "show a\u2028b"} {
		f.Add(s, "", "f5_bigip")
		f.Add(s, "config", "endace_osm")
	}
	op := New(definitions(f))
	f.Fuzz(func(t *testing.T, line, mode, platform string) {
		got, err := op.Prepare(context.Background(), spec(t, Spec{Command: line, Mode: mode}), []*device.Device{dev("d", platform)})
		if err != nil {
			if k := fault.KindOf(err); k != fault.Invalid && k != fault.Denied && k != fault.Unsupported {
				t.Fatalf("kind %s: %v", k, err)
			}
			return
		}
		var s Spec
		if err := json.Unmarshal(got.Spec, &s); err != nil {
			t.Fatal(err)
		}
		if platform == "linux" || got.Access != operation.Read || strings.ContainsAny(s.Command, "\n\r;|&`$<>\x00") {
			t.Fatalf("%q passed on %s", s.Command, platform)
		}
	})
}
