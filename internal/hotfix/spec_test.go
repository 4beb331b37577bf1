package hotfix

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

// operationOf is the operation with the built-in definition of probes and one kept
// file.
func operationOf(tb testing.TB) operation.Operation {
	tb.Helper()
	def := definition(tb)
	return New(Options{
		Definitions: func(p string) (*device.Definition, bool) { return def, p == def.Platform },
		File: func(_ context.Context, sha string) (File, error) {
			switch sha {
			case "good":
				return File{SHA256: sha, Name: "OSm6.4.x-CumulativeHotfix-v2.end", Size: 7}, nil
			case "text":
				return File{SHA256: sha, Name: "notes.txt", Size: 7}, nil
			case "empty":
				return File{SHA256: sha, Name: "OSm6.4.x-CumulativeHotfix-v2.end"}, nil
			}
			return File{}, fault.New(fault.NotFound, "no artifact")
		},
	})
}

func probeNamed(name string) *device.Device {
	return &device.Device{Name: name, Platform: "endace_osm"}
}

// What cannot be is refused before a job exists, with the reason.
func TestPrepareRefuses(t *testing.T) {
	t.Parallel()
	op := operationOf(t)
	paired := probeNamed("a")
	paired.HAPeer = "b"
	for name, c := range map[string]struct {
		spec    string
		devices []*device.Device
		want    string
	}{
		"no action":          {`{"file":"good"}`, nil, `action is ""`},
		"unknown action":     {`{"action":"install","file":"good"}`, nil, "plan, stage, apply"},
		"unknown key":        {`{"action":"apply","file":"good","force":true}`, nil, `unknown field "force"`},
		"no file":            {`{"action":"apply"}`, nil, "file is missing"},
		"no artifact":        {`{"action":"apply","file":"lost"}`, nil, "fleetctl artifact add"},
		"no artifact, named": {`{"action":"apply","file":"lost","file_name":"OSm6.4.x-CumulativeHotfix-v2.end"}`, nil, "fleetctl artifact add"},
		"neither name":       {`{"action":"apply","file":"lost","file_name":"notes.txt"}`, nil, "no name of a hotfix file"},
		"empty":              {`{"action":"apply","file":"empty"}`, nil, "is empty"},
		"no hotfix":          {`{"action":"apply","file":"text"}`, nil, "no name of a hotfix file"},
		"name of a path":     {`{"action":"apply","file":"good","file_name":"../x.end"}`, nil, "no name of a hotfix file"},
		"unknown proof":      {`{"action":"apply","file":"good","accept_unobserved":["luck"]}`, nil, `"luck" is no proof`},
		"two words":          {`{"action":"apply","file":"good","install_name":"a b"}`, nil, "one word"},
		"substitution":       {`{"action":"apply","file":"good","install_name":"$(reboot)"}`, nil, "one word"},
		"line end":           {`{"action":"apply","file":"good","installed_as":"a\nreload"}`, nil, "one word"},
		"rollback":           {`{"action":"rollback"}`, nil, "no volumes"},
		"other platform":     {`{"action":"apply","file":"good"}`, []*device.Device{{Name: "x", Platform: "linux"}}, "platform linux does not say"},
		"two platforms":      {`{"action":"apply","file":"good"}`, []*device.Device{probeNamed("a"), {Name: "x", Platform: "linux"}}, "for one platform"},
		"half of a pair":     {`{"action":"apply","file":"good"}`, []*device.Device{paired}, "HA peer"},
		"nothing to work on": {`{"action":"apply","file":"good"}`, []*device.Device{}, "no devices"},
	} {
		if c.devices == nil {
			c.devices = []*device.Device{probeNamed("a")}
		}
		_, err := op.Prepare(t.Context(), json.RawMessage(c.spec), c.devices)
		kind := fault.Invalid
		switch {
		case strings.HasPrefix(name, "no artifact"):
			kind = fault.NotFound
		case fault.Is(err, fault.Unsupported):
			kind = fault.Unsupported
		}
		if !fault.Is(err, kind) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// A request is kept with everything that was derived, so that a later change of the
// definition or of an artifact's name changes no job.
func TestPrepare(t *testing.T) {
	t.Parallel()
	op := operationOf(t)
	devices := []*device.Device{probeNamed("a"), probeNamed("b")}
	for action, prepares := range map[Action]bool{Plan: false, Stage: true, Apply: true} {
		p, err := op.Prepare(t.Context(), json.RawMessage(`{"action":"`+string(action)+`","file":"good"}`), devices)
		if err != nil {
			t.Fatal(err)
		}
		var s Spec
		if err := json.Unmarshal(p.Spec, &s); err != nil || s.Size != 7 || s.Install != "OSm6.4.x-CumulativeHotfix-v2" || s.Installed != "OSm6.4.x-CumulativeHotfix" || s.Version != "v2" {
			t.Errorf("%s: %s, %v", action, p.Spec, err)
		}
		if p.Prepares != prepares || (p.Access == operation.Read) != (action == Plan) {
			t.Errorf("%s: prepares %v, access %s", action, p.Prepares, p.Access)
		}
		again, err := op.Prepare(t.Context(), p.Spec, devices)
		if err != nil || string(again.Spec) != string(p.Spec) {
			t.Errorf("%s: prepared again it is %s, %v", action, again.Spec, err)
		}
		if action != Apply {
			continue
		}
		m := definition(t).Hotfix
		least := m.MaintenanceMode.Install.Worst + m.MaintenanceMode.Reload.Worst + m.MaintenanceMode.Return.Worst + m.MaintenanceMode.Stable
		if p.WorstCase["a"] < least || p.WorstCase["a"] != p.WorstCase["b"] {
			t.Errorf("worst case %v, and install, reload, return and staying up alone take %v", p.WorstCase, least)
		}
	}
}

// Between the first step that takes the device out of use and its proven return
// there is no step that a cancel could end at, and what must not be done twice is
// marked.
func TestStepsHold(t *testing.T) {
	t.Parallel()
	op := operationOf(t)
	p, err := op.Prepare(t.Context(), json.RawMessage(`{"action":"apply","file":"good"}`), []*device.Device{probeNamed("a")})
	if err != nil {
		t.Fatal(err)
	}
	steps, err := op.Steps(p.Spec, operation.Unit{Name: "a", Devices: []*device.Device{probeNamed("a")}})
	if err != nil {
		t.Fatal(err)
	}
	var names, held, once []string
	for _, s := range steps {
		names = append(names, s.Name)
		if s.Hold {
			held = append(held, s.Name)
		}
		if s.Once {
			once = append(once, s.Name)
		}
		if s.Observe == nil || s.Prepare && (s.Hold || s.Once) {
			t.Errorf("step %+v", s)
		}
	}
	if want := []string{stepMaintenance, stepInstall, stepConfirm, stepSave, stepReload, stepReturn}; !slices.Equal(held, want) {
		t.Errorf("held are %v, want %v", held, want)
	}
	if i := slices.Index(names, stepMaintenance); !slices.Equal(names[i:i+len(held)], held) {
		t.Errorf("held steps are apart: %v", names)
	}
	if !slices.Equal(once, []string{stepInstall, stepReload}) {
		t.Errorf("once are %v", once)
	}
}

func FuzzPrepare(f *testing.F) {
	op := operationOf(f)
	for _, s := range []string{`{"action":"apply","file":"good"}`, `{"action":"plan","file":"good","install_name":"x"}`, `{"action":"rollback"}`, `[]`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := op.Prepare(t.Context(), raw, []*device.Device{probeNamed("a")})
		if err != nil {
			return
		}
		steps, err := op.Steps(p.Spec, operation.Unit{Name: "a", Devices: []*device.Device{probeNamed("a")}})
		if err != nil || len(steps) == 0 {
			t.Errorf("prepared as %s, and its steps are %v, %v", p.Spec, steps, err)
		}
		var s Spec
		if err := json.Unmarshal(p.Spec, &s); err != nil || strings.ContainsAny(s.Install+s.Installed+s.Names.File, " \t\r\n/;|$`") {
			t.Errorf("names %+v, %v", s.Names, err)
		}
	})
}
