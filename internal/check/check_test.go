package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the machine may have no time zones of its own

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/device"
	"capfleet/internal/device/bigip"
	"capfleet/internal/device/linux"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

func noon() time.Time { return time.Date(2026, 7, 14, 12, 0, 0, 0, time.UTC) }

func stage(kind fault.Kind, name, text string) error {
	return &fault.Error{Kind: kind, Act: "x", Stage: name, Err: errors.New(text)}
}

// box is a device with faults to order. Each command takes two seconds.
type box struct {
	def      *device.Definition
	dial     error
	open     error
	files    error
	realPath error
	answers  map[string]string
	refuses  map[string]error

	now      time.Time
	rows     []Row
	facts    operation.Facts
	warnings []string
	closed   int
}

// env, conn, session and sftp are the box as each seam sees it; what they do not
// have is not to be called.
type (
	env struct {
		operation.Env
		*box
	}
	conn struct {
		device.Conn
		*box
	}
	session struct {
		device.Session
		*box
	}
	sftp struct {
		device.Files
		*box
	}
)

func (e env) Conn(context.Context, *device.Device) (device.Conn, error) {
	return conn{box: e.box}, e.dial
}

func (e env) Session(context.Context, *device.Device) (device.Session, error) {
	e.now = e.now.Add(time.Second)
	return session{box: e.box}, e.open
}

func (e env) Row(_ *device.Device, row any) { e.rows = append(e.rows, row.(Row)) }

func (e env) Facts(_ *device.Device, f operation.Facts) { maps.Copy(e.facts, f) }

func (e env) Warn(_ *device.Device, format string, args ...any) {
	e.warnings = append(e.warnings, fmt.Sprintf(format, args...))
}

func (e env) Progress(*device.Device, int64, int64, string) {}

func (e env) Now() time.Time { return e.now }

func (c conn) Facts() device.ConnFacts {
	return device.ConnFacts{
		ServerVersion: "SSH-2.0-OpenSSH_7.4", HostKeyType: "ssh-ed25519", HostKeySHA256: "SHA256:abc",
		DialTime: 12345 * time.Microsecond, LoginTime: 200 * time.Millisecond,
	}
}

func (c conn) Files(context.Context) (device.Files, error) { return sftp{box: c.box}, c.files }

func (s session) Definition() *device.Definition { return s.def }

func (s session) Run(_ context.Context, c device.Command) (device.Output, error) {
	s.now = s.now.Add(2 * time.Second)
	return device.Output{Text: s.answers[c.Line]}, s.refuses[c.Line]
}

func (s sftp) RealPath(string) (string, error) { return "/", s.realPath }

func (s sftp) Close() error {
	s.closed++
	return nil
}

// definition is the one that ships.
func definition(t *testing.T, open func(string) (device.Driver, error)) *device.Definition {
	t.Helper()
	d, err := open("")
	if err != nil {
		t.Fatal(err)
	}
	return d.Definition()
}

// shellDefinition is a platform with a command line whose clock has no zone.
func shellDefinition() *device.Definition {
	return &device.Definition{Platform: "endace_osm", Transport: device.TransportShell, Checks: device.Checks{
		Version: "show version", VersionMatch: `Product release: +(\S+)`,
		Clock: "show clock", ClockMatch: `Time: (.*\nDate: .*)`, ClockLayout: "15:04:05\nDate: 2006/01/02",
	}}
}

// probe is an Endace probe whose clock is 30 s ahead, in the site's zone.
func probe() (*box, *device.Device) {
	return &box{
			def: shellDefinition(), now: noon(), facts: operation.Facts{}, refuses: map[string]error{},
			answers: map[string]string{
				"show version": "Product name:      OSm\nProduct release:   6.4.3\n",
				// The first command begins at 12:00:01 and takes 2 s, the second as well.
				"show clock": "Time: 13:00:34\nDate: 2026/07/14\n",
			},
		}, &device.Device{
			Name: "lon-probe-01", Platform: "endace_osm", Timezone: "Europe/London",
		}
}

func do(t *testing.T, b *box, dev *device.Device) error {
	t.Helper()
	steps, err := New().Steps(nil, operation.Unit{Name: dev.Name, Devices: []*device.Device{dev}})
	if err != nil || len(steps) != 1 || steps[0].Act != nil {
		t.Fatalf("steps %+v, %v", steps, err)
	}
	_, err = steps[0].Observe(t.Context(), env{box: b})
	return err
}

func ptr[T any](v T) *T { return &v }

func TestAllPass(t *testing.T) {
	t.Parallel()
	b, dev := probe()
	if err := do(t, b, dev); err != nil {
		t.Fatal(err)
	}
	want := []Row{{
		Device: "lon-probe-01", Platform: "endace_osm",
		Reach: OK, HostKey: OK, Login: OK, Prompt: OK, SFTP: OK, Exec: NA, Clock: OK,
		ConnectSeconds: ptr(0.012), LoginSeconds: ptr(0.2), PromptSeconds: ptr(1.0),
		ServerVersion: ptr("SSH-2.0-OpenSSH_7.4"), HostKeyType: ptr("ssh-ed25519"), HostKeySHA256: ptr("SHA256:abc"),
		Version:            ptr("6.4.3"),
		ClockOffsetSeconds: ptr(30.5), // 12:00:34.5 as seen at 12:00:04
		CollectedAt:        noon().Add(5 * time.Second),
	}}
	if diff := cmp.Diff(want, b.rows); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(operation.Facts{"version": "6.4.3", "clock_offset_seconds": "30.5"}, b.facts); diff != "" {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
	if len(b.warnings) != 1 || !strings.Contains(b.warnings[0], "30.5 s ahead of fleetd's") {
		t.Errorf("warnings %q", b.warnings)
	}
	if b.closed != 1 {
		t.Errorf("SFTP was closed %d times", b.closed)
	}
}

func TestExecPlatform(t *testing.T) {
	t.Parallel()
	b, dev := probe()
	b.def, dev.Platform, dev.Timezone = definition(t, linux.New), "linux", ""
	b.answers = map[string]string{b.def.Checks.Version: "NAME=\"Debian\"\nVERSION_ID=\"12\"\n", b.def.Checks.Clock: "2026-07-14T12:00:04Z\n"}
	if err := do(t, b, dev); err != nil {
		t.Fatal(err)
	}
	r := b.rows[0]
	if r.Prompt != NA || r.PromptSeconds != nil || r.Exec != OK || *r.Version != "12" || *r.ClockOffsetSeconds != 0.5 {
		t.Errorf("row %+v", r)
	}
	if len(b.warnings) > 0 {
		t.Errorf("warnings %q", b.warnings)
	}
}

// The stage that failed is named, the later ones are tried where they can be,
// and there is no row.
func TestFailingStages(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		order   func(*box)
		kind    fault.Kind
		stage   string
		summary string
		want    []string
	}{
		"down": {
			func(b *box) { b.dial = stage(fault.Unreachable, "dial", "connection refused") },
			fault.Unreachable, "reach", "", []string{"connection refused"},
		},
		"name": {
			func(b *box) { b.dial = stage(fault.Unreachable, "resolve", "no such host") },
			fault.Unreachable, "reach", "", nil,
		},
		"host key": {
			func(b *box) { b.dial = stage(fault.HostKey, "host_key", "changed") },
			fault.HostKey, "host_key", "", nil,
		},
		"password": {
			func(b *box) { b.dial = stage(fault.Auth, "auth", "refused") },
			fault.Auth, "login", "", nil,
		},
		"mute during login": {
			func(b *box) { b.dial = stage(fault.Timeout, "auth", "no answer") },
			fault.Timeout, "login", "", nil,
		},
		"secret missing": {
			func(b *box) { b.dial = stage(fault.Invalid, "credentials", "FLEET_PASSWORD is not set") },
			fault.Invalid, "login", "", nil,
		},
		"jump host's login": {
			func(b *box) {
				b.dial = &fault.Error{Kind: fault.Auth, Stage: "jump", Err: stage(fault.Auth, "auth", "refused")}
			},
			fault.Auth, "reach", "", nil,
		},
		"no prompt": {
			func(b *box) { b.open = stage(fault.Timeout, "prompt", "no prompt") },
			fault.Timeout, "prompt", "[sftp ok, exec skipped, clock skipped]", nil,
		},
		"cut while waiting for the prompt": {
			func(b *box) { b.open = stage(fault.Disconnected, "prompt", "cut") },
			fault.Disconnected, "prompt", "", nil,
		},
		"no SFTP": {
			func(b *box) { b.files = stage(fault.Refused, "sftp", "subsystem request failed") },
			fault.Refused, "sftp", "[exec n/a, clock ok]", []string{"subsystem request failed"},
		},
		"SFTP does not answer": {
			func(b *box) { b.realPath = stage(fault.Timeout, "sftp", "no answer") },
			fault.Timeout, "sftp", "[exec n/a, clock ok]", nil,
		},
		"version refused": {
			func(b *box) { b.refuses["show version"] = stage(fault.Refused, "command", "% Unrecognized") },
			fault.Refused, "prompt", "[sftp ok, exec n/a, clock ok]", []string{"show version: "},
		},
		"clock refused": {
			func(b *box) { b.refuses["show clock"] = stage(fault.Refused, "command", "% Unrecognized") },
			fault.Refused, "clock", "", []string{"show clock: "},
		},
		"clock not understood": {
			func(b *box) { b.answers["show clock"] = "half past two\x1b[31m" },
			fault.Unparsed, "clock", "", []string{`"half past two\x1b[31m"`},
		},
		"two of them": {
			func(b *box) {
				b.files = stage(fault.Refused, "sftp", "no subsystem")
				b.refuses["show clock"] = stage(fault.Timeout, "command", "no answer")
			},
			fault.Refused, "sftp", "[exec n/a, clock failed]", []string{"sftp: ", "no subsystem", "clock: ", "no answer"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, dev := probe()
			c.order(b)
			err := do(t, b, dev)
			if !fault.Is(err, c.kind) || fault.StageOf(err) != c.stage {
				t.Errorf("kind %s, stage %s: %v", fault.KindOf(err), fault.StageOf(err), err)
			}
			for _, w := range append(c.want, c.summary, "lon-probe-01") {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in: %v", w, err)
				}
			}
			if c.summary == "" && strings.Contains(err.Error(), "[") && !strings.Contains(err.Error(), "[31m") {
				t.Errorf("it says more than there is to say: %v", err)
			}
			if strings.Count(err.Error(), "lon-probe-01") != 1 {
				t.Errorf("the device is not named once: %v", err)
			}
			if strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("not one plain line: %q", err)
			}
			if len(b.rows) > 0 {
				t.Errorf("rows %+v", b.rows)
			}
		})
	}
}

func TestUnknownVersionIsAWarning(t *testing.T) {
	t.Parallel()
	b, dev := probe()
	b.answers["show version"] = "something else\n"
	if err := do(t, b, dev); err != nil {
		t.Fatal(err)
	}
	if b.rows[0].Version != nil || !strings.Contains(strings.Join(b.warnings, "\n"), "no version is found") {
		t.Errorf("row %+v, warnings %q", b.rows[0], b.warnings)
	}
}

func TestReadClock(t *testing.T) {
	t.Parallel()
	osm, f5, lin := shellDefinition().Checks, definition(t, bigip.New).Checks, definition(t, linux.New).Checks
	fraction := device.Checks{ClockMatch: `(\S+)`, ClockLayout: "2006-01-02T15:04:05.000Z07:00"}
	half := time.Second / 2
	for name, c := range map[string]struct {
		checks device.Checks
		output string
		zone   string
		want   time.Time
		err    string
	}{
		"linux":                           {lin, "2026-07-14T12:00:00Z\n", "Europe/London", noon().Add(half), ""},
		"endace in the site's zone":       {osm, "Time: 13:00:00\nDate: 2026/07/14\n", "Europe/London", noon().Add(half), ""},
		"endace without a zone":           {osm, "Time: 12:00:00\nDate: 2026/07/14\n", "", noon().Add(half), ""},
		"abbreviation of the site":        {f5, "Tue Jul 14 05:00:00 PDT 2026", "America/Los_Angeles", noon().Add(half), ""},
		"winter":                          {f5, "Wed Jan 14 04:00:00 PST 2026", "America/Los_Angeles", noon().AddDate(0, -6, 0).Add(half), ""},
		"UTC on a device in New York":     {f5, "Tue Jul 14 12:00:00 UTC 2026", "America/New_York", noon().Add(half), ""},
		"abbreviation of elsewhere":       {f5, "Tue Jul 14 08:00:00 XYZ 2026", "America/New_York", noon().Add(half), ""},
		"abbreviation without a site":     {f5, "Tue Jul 14 05:00:00 PDT 2026", "", time.Time{}, `time zone "PDT" is not known`},
		"fractions are taken as they are": {fraction, "2026-07-14T12:00:00.250Z", "", noon().Add(250 * time.Millisecond), ""},
		"nothing":                         {lin, "", "", time.Time{}, "no time is found"},
		"no such day":                     {lin, "2026-13-14T12:00:00Z", "", time.Time{}, "no time of the form"},
		"bad zone":                        {lin, "2026-07-14T12:00:00Z", "Europe/Lundon", time.Time{}, "time zone of the site"},
		"no date in the layout":           {device.Checks{ClockMatch: `(\S+)`, ClockLayout: "15:04:05"}, "12:00:00", "", time.Time{}, "has no date"},
		"endless":                         {lin, strings.Repeat("x", 1000), "", time.Time{}, "..."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := readClock(c.output, c.checks, c.zone)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || len(err.Error()) > 200 {
					t.Errorf("got %v, %v; want %q", got, err, c.err)
				}
				return
			}
			if err != nil || !got.Equal(c.want) {
				t.Errorf("got %v, %v; want %v", got, err, c.want)
			}
		})
	}
}

func TestPrepare(t *testing.T) {
	t.Parallel()
	got, err := New().Prepare(t.Context(), nil, nil)
	if err != nil || string(got.Spec) != "{}" || got.Access != operation.Read || New().Name() != "check" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := New().Prepare(t.Context(), json.RawMessage(`{"deep":true}`), nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v", err)
	}
}

func TestRowKeys(t *testing.T) {
	t.Parallel()
	raw, err := json.Marshal(Row{})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"device":"","platform":"","reach":"","host_key":"","login":"","prompt":"","sftp":"","exec":"","clock":"",` +
		`"connect_seconds":null,"login_seconds":null,"prompt_seconds":null,"server_version":null,"host_key_type":null,"host_key_sha256":null,` +
		`"version":null,"clock_offset_seconds":null,"collected_at":"0001-01-01T00:00:00Z"}`
	if string(raw) != want {
		t.Errorf("got %s", raw)
	}
}
