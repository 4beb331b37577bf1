package cli

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

func (f *fakeFleet) Examine(context.Context) (api.Examination, error) {
	return api.Examination{Rows: f.found, Now: testTime.Add(26*time.Hour + 12*time.Minute)}, f.down
}

// sick is a fleet with something of everything.
func sick(t *testing.T) *fakeFleet {
	t.Helper()
	return &fakeFleet{
		version: api.Version{Version: "v1.2.2", Commit: "abd", StartedAt: testTime},
		found: []api.Finding{
			{Area: "inventory", Subject: "/etc/fleetd/inventory.yaml", Severity: "ok", Message: "3 devices"},
			{Area: "host keys", Subject: "lon-probe-03", Severity: "error", Message: "no host key is pinned for 1 device: refused before a credential is sent", Next: "fleetctl device trust lon-probe-03   (compare the fingerprints first)"},
			{Area: "disk", Subject: "/var/lib/fleetd", Severity: "warning", Message: "1.1 GB free of 10.0 GB", Next: "free some space"},
		},
		outcome: api.Results{
			Job:      api.Job{State: "partial", Devices: 3, Counts: map[string]int{"succeeded": 1, "failed": 2}},
			Rows:     rows(t, `{"device":"lon-probe-01","clock_offset_seconds":-90.5}`),
			Failures: []api.Failure{{Device: "lon-probe-02", Stage: "reach", Kind: "unreachable", Message: "connection refused\x1b[2J"}, {Device: "lon-probe-03", Stage: "host_key", Kind: "host_key", Message: "unknown key"}},
		},
	}
}

func TestDoctor(t *testing.T) {
	got := session{fleet: sick(t)}.run(t.Context(), t, "doctor")
	if got.code != fault.ExitFailed {
		t.Errorf("exit code %d", got.code)
	}
	golden(t, "doctor.table", got)
	golden(t, "doctor.terminal", session{fleet: sick(t), terminal: true, env: map[string]string{"NO_COLOR": "1"}}.run(t.Context(), t, "doctor"))
	got = session{fleet: sick(t)}.run(t.Context(), t, "doctor", "-o", "json")
	var doc struct{ Rows []api.Finding }
	if err := json.Unmarshal([]byte(got.out), &doc); err != nil || len(doc.Rows) != 8 {
		t.Errorf("%d rows, %v\n%s", len(doc.Rows), err, got.out)
	}
}

func TestDoctorDeepTellsADeviceOnce(t *testing.T) {
	f := sick(t)
	got := session{fleet: f}.run(t.Context(), t, "doctor", "--deep", "-o", "jsonl")
	if n := strings.Count(got.out, `"subject":"lon-probe-02"`); n != 1 || len(f.submitted) != 4 {
		t.Errorf("told %d times, %d jobs\n%s", n, len(f.submitted), got.out)
	}
}

func TestDoctorExitCodes(t *testing.T) {
	good := func() *fakeFleet {
		return &fakeFleet{version: api.Version{Version: "v1.2.3", Commit: "abc", StartedAt: testTime}, found: []api.Finding{{Area: "disk", Severity: "ok"}},
			outcome: api.Results{Job: api.Job{Devices: 1, Counts: map[string]int{"succeeded": 1}}, Rows: rows(t, `{"device":"a","clock_offset_seconds":0.1}`)}}
	}
	warned := good()
	warned.found = append(warned.found, api.Finding{Area: "disk", Severity: "warning"})
	for name, c := range map[string]struct {
		fleet *fakeFleet
		args  string
		want  int
	}{
		"all is well":              {good(), "doctor", fault.ExitDone},
		"all is well, watched":     {good(), "doctor --fail-on warning", fault.ExitDone},
		"a warning":                {warned, "doctor", fault.ExitDone},
		"a warning, watched":       {warned, "doctor --fail-on warning", fault.ExitFound},
		"a warning is no error":    {warned, "doctor --fail-on error", fault.ExitDone},
		"errors":                   {sick(t), "doctor --no-devices", fault.ExitFailed},
		"errors, watched":          {sick(t), "doctor --no-devices --fail-on error", fault.ExitFound},
		"no fleetd":                {&fakeFleet{down: fault.New(fault.Unavailable, "cannot reach fleetd")}, "doctor", fault.ExitUnavailable},
		"no fleetd, watched":       {&fakeFleet{down: fault.New(fault.Unavailable, "cannot reach fleetd")}, "doctor --fail-on error", fault.ExitUnavailable},
		"no such severity":         {good(), "doctor --fail-on worst", fault.ExitUsage},
		"devices and none of them": {good(), "doctor --no-devices lon-1", fault.ExitUsage},
	} {
		if got := (session{fleet: c.fleet}).run(t.Context(), t, strings.Fields(c.args)...); got.code != c.want {
			t.Errorf("%s: exit code %d, want %d\n%s%s", name, got.code, c.want, got.out, got.errOut)
		}
	}
	if got := (session{fleet: &fakeFleet{down: &fault.Error{Kind: fault.Unavailable, Act: "cannot reach fleetd", Next: "start it"}}}).run(t.Context(), t, "doctor"); !strings.Contains(got.out, "connection: cannot reach fleetd") || !strings.Contains(got.out, "next: start it") {
		t.Errorf("%+v", got)
	}
}
