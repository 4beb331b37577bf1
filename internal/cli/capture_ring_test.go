package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

func TestCaptureStartSpec(t *testing.T) {
	f := &fakeFleet{}
	got := session{fleet: f}.run(t.Context(), t, "capture", "start", "lon-*", "--on", "eth0=tcp[13] & 4 != 0", "--on", "lon-1:eth1", "--ring", "10x2GB",
		"--min-free", "7.5%", "--until-log", "no space", "--after", "2s", "--all-or-none", "--detach")
	if got.code != 0 || len(f.submitted) != 1 {
		t.Fatalf("%+v", got)
	}
	want := `{"ring":{"points":[{"interface":"eth0","filter":"tcp[13] \u0026 4 != 0"},{"interface":"lon-1:eth1","filter":""}],"files":10,"megabytes":2000,"snap_len":0,` +
		`"directory":"/var/tmp","min_free_percent":7.5,"until_log":"no space","limit_seconds":86400,"after_seconds":2,"all_or_none":true}}`
	if req := f.submitted[0]; req.Operation != "capture" || string(req.Spec) != want {
		t.Errorf("%s %s", req.Operation, req.Spec)
	}
	for _, args := range [][]string{{"--ring", "4"}, {"--ring", "0x15MB x"}, {"--ring", "4x-1MB"}, {"--min-free", "much"}} {
		f.submitted = nil
		got := session{fleet: f}.run(t.Context(), t, append([]string{"capture", "start", "a", "--on", "eth0"}, args...)...)
		if got.code != fault.ExitUsage || len(f.submitted) != 0 {
			t.Errorf("%v: %+v", args, got)
		}
	}
	if got := (session{fleet: f}).run(t.Context(), t, "capture", "start", "--on", "eth0"); got.code != fault.ExitUsage {
		t.Errorf("no devices: %+v", got)
	}
}

func ringFixture() *fakeFleet {
	f := &fakeFleet{jobs: []api.Job{{ID: "7", Operation: "capture", Spec: json.RawMessage(`{"ring":{"points":[]}}`)}, {ID: "8", Operation: "report"}}}
	f.kept = []keptFile{kept("a_eth0.pcapng", "application/x-pcapng", "not read here", "7"), kept("../../b_manifest.json", "application/json", "{}", "7")}
	return f
}

func TestCaptureStop(t *testing.T) {
	f := ringFixture()
	if got := (session{fleet: f}).run(t.Context(), t, "capture", "stop", "8", "--detach"); got.code != fault.ExitUsage || len(f.stopped) != 0 {
		t.Errorf("a report: %+v", got)
	}
	if got := (session{fleet: f}).run(t.Context(), t, "capture", "stop", "7", "--detach"); got.code != 0 || len(f.stopped) != 1 {
		t.Errorf("%+v, stopped %v", got, f.stopped)
	}
}

func TestCaptureGet(t *testing.T) {
	f := ringFixture()
	dir := filepath.Join(t.TempDir(), "ticket")
	if got := (session{fleet: f}).run(t.Context(), t, "capture", "get", "7", "-d", dir); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	for _, name := range []string{"a_eth0.pcapng", "b_manifest.json"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if got := (session{fleet: f}).run(t.Context(), t, "capture", "get", "7", "other", "-d", dir); got.code != fault.ExitUsage || !strings.Contains(got.errOut, "has no files") {
		t.Errorf("%+v", got)
	}
}
