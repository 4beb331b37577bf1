package command

import (
	"strings"
	"testing"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

type recordingEnv struct{ *fakeEnv }

func (recordingEnv) Now() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 999, time.UTC) }

func TestRecord(t *testing.T) {
	t.Parallel()
	op := New(definitions(t))
	probe := dev("lon-probe-01", "endace_osm")
	def, _ := definitions(t)("endace_osm")
	env := recordingEnv{&fakeEnv{session: &fakeSession{def: def, out: device.Output{Command: "show version", Prompt: "lon-probe-01 #", Text: "Contract 4711\n"}}}}
	prepared, err := op.Prepare(t.Context(), spec(t, Spec{Command: "show version", Record: true, Blank: []string{"4711"}}), []*device.Device{probe})
	if err != nil || prepared.Access != operation.Read {
		t.Fatal(prepared.Access, err)
	}
	steps, err := op.Steps(prepared.Spec, operation.Unit{Name: "u", Devices: []*device.Device{probe}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := steps[0].Observe(t.Context(), env); err != nil {
		t.Fatal(err)
	}
	want := `{"device":"lon-probe-01","platform":"endace_osm","command":"show version","mode":"","transcript":"xxx-xxxxx-00 # show version\nContract 0000\n",` +
		`"blanked":[{"kind":"host name","count":1,"as":"xxx-xxxxx-00"},{"kind":"named word","count":1,"as":"0000"}],"collected_at":"2026-03-01T12:00:00Z"}`
	if got := strings.Join(env.rows, "\n"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for name, s := range map[string]Spec{
		"unsafe":               {Command: "reload", Record: true, Unsafe: true},
		"template":             {Command: "show version", Record: true, Template: "Value A (.)\n\nStart\n  ^${A}\n"},
		"blank without record": {Command: "show version", Blank: []string{"x"}},
	} {
		if _, err := op.Prepare(t.Context(), spec(t, s), []*device.Device{probe}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := op.Prepare(t.Context(), spec(t, Spec{Command: "reload", Record: true}), []*device.Device{probe}); !fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), "record the commands of a report") {
		t.Errorf("not read-only: %v", err)
	}
}
