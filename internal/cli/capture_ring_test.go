package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mattn/go-runewidth"

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

// The list of captures fits a terminal of 80 columns, also with rows of other days
// and of devices that gave nothing; -o wide has all of it.
func TestCaptureListFitsATerminal(t *testing.T) {
	f := ringFixture()
	sum := strings.Repeat("ab", 32)
	for _, job := range []string{"7", "1234"} {
		if job != "7" {
			f.jobs = append(f.jobs, api.Job{ID: job, Operation: "capture", Spec: f.jobs[0].Spec})
		}
	}
	f.tasks = []api.Task{{Device: "lon-cap-01", State: "succeeded"}, {Device: "lon-ltm-01", State: "attention"}}
	row := `{"device":"lon-cap-01","interface":"0.0:nnnp","packets":1234567,"bytes":123456789,"dropped_by_kernel":12345,"first_time":"` +
		testTime.AddDate(0, 0, -1).Format(time.RFC3339Nano) + `","last_time":"` + testTime.Format(time.RFC3339Nano) + `","sha256":"` + sum + `","stopped_by":"the time of 1s is over"}`
	f.results = map[string]api.Results{"7": {Rows: []json.RawMessage{json.RawMessage(row)}}}
	plain := session{fleet: f, terminal: true, env: map[string]string{"NO_COLOR": "1"}}
	got := plain.run(t.Context(), t, "capture", "list")
	if got.code != 0 || !strings.Contains(got.out, "1234567") || strings.Contains(got.out, "…") {
		t.Fatalf("%+v", got)
	}
	for line := range strings.Lines(got.out) {
		if n := runewidth.StringWidth(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	if got := plain.run(t.Context(), t, "capture", "list", "-o", "wide"); !strings.Contains(got.out, sum) || !strings.Contains(got.out, "is over") {
		t.Errorf("%+v", got)
	}
}

// A capture that does not begin says what it waits for.
func TestLiveSaysWhatItWaitsFor(t *testing.T) {
	for reason, want := range map[string][]string{"another change of a is at work": {"it waits: another change of a is at work"}, "": nil} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			f := &fakeFleet{hang: true, tasks: []api.Task{{Device: "a", State: "pending", Reason: reason}}}
			var said []string
			_ = (&app{}).followLive(ctx, f, api.Job{ID: "7"}, func(text string) { said = append(said, text) })
			if !slices.Equal(said, want) {
				t.Errorf("%q, want %q", said, want)
			}
		})
	}
}

// What an analysis found decides with --fail-on, and the clients are summed up as
// those of files.
func TestAnalyzeFindings(t *testing.T) {
	row := func(client, negotiated, weak, alert string) string {
		return `{"device":"a","interface":"eth0","client_ip":"` + client + `","client_port":1,"server_ip":"192.0.2.9","server_port":443,"offered":"tls1.2","negotiated":` +
			negotiated + `,"weak":` + weak + `,"alert":` + alert + `,"file":"a:eth0","packet":3}`
	}
	found := rows(t, row("10.0.0.1", `"tls1.2"`, "false", "null"), row("10.0.0.2", `"tls1.0"`, "true", "null"), row("10.0.0.2", "null", "null", `"protocol_version"`))
	analyze := func(weak string, rows []json.RawMessage, args ...string) outcome {
		f := &fakeFleet{outcome: api.Results{Rows: rows, Job: api.Job{Devices: 1, Counts: map[string]int{"succeeded": 1}, Operation: "capture",
			Spec: json.RawMessage(`{"analyze":{"analysis":"tls-audit","weak":"` + weak + `"}}`)}}}
		return session{fleet: f}.run(t.Context(), t, append([]string{"capture", "start", "a", "--on", "eth0", "--analyze", "tls-audit", "--weak", weak}, args...)...)
	}
	for name, c := range map[string]struct {
		got  outcome
		code int
		out  string
	}{
		"weak":      {analyze("tls1.1", found, "--fail-on", "weak"), fault.ExitFound, "10.0.0.2         2     1        1        1  tls1.0"},
		"not asked": {analyze("tls1.1", found), fault.ExitDone, "10.0.0.1         1     0"},
		"strong":    {analyze("ssl3", found, "--fail-on", "weak"), fault.ExitDone, "10.0.0.2"},
		"JSON":      {analyze("tls1.1", found, "-o", "json"), fault.ExitDone, `"weak_sessions": 1`},
		"nothing":   {analyze("tls1.1", nil, "--fail-on", "weak"), fault.ExitDone, ""},
	} {
		if c.got.code != c.code || !strings.Contains(c.got.out, c.out) {
			t.Errorf("%s: %+v", name, c.got)
		}
	}
}

// A live capture that failed is begun again: a retry would have no reader.
func TestLiveCaptureIsNotRetried(t *testing.T) {
	failed := []api.Failure{{Device: "a", Stage: "check", Kind: "invalid", Message: "no such interface"}}
	for spec, retry := range map[string]bool{`{"live":{"interface":"eth0"}}`: false, `{"ring":{"points":[]}}`: true} {
		steps := strings.Join(nextSteps(api.Results{Job: api.Job{ID: "7", Operation: "capture", Spec: json.RawMessage(spec)}, Failures: failed}), "\n")
		if strings.Contains(steps, "job retry") != retry || strings.Contains(steps, "start it again") == retry {
			t.Errorf("%s: %s", spec, steps)
		}
	}
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
