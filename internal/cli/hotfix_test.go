package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mattn/go-runewidth"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

const hotfixFile = "OSm6.4.x-CumulativeHotfix-v2.end"

func hotfixOnDisk(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), hotfixFile)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func planRow(device, installed, forbids string) string {
	return fmt.Sprintf(`{"device":%q,"action":"plan","file_name":"%s","install_name":"OSm6.4.x-CumulativeHotfix-v2","installed_as":"OSm6.4.x-CumulativeHotfix",
"version":"v2","sha256":"aa","size_bytes":7,"software":"6.4.3","installed":[],"missing":true,"why":"OSm6.4.x-CumulativeHotfix is not listed","staged":false,
"steps":[{"step":"install","command":"package install OSm6.4.x-CumulativeHotfix-v2","proof":%q},{"step":"reload","command":"reload","proof":"show version"}],
"proofs":[],"outage_seconds":575,"outage_worst_seconds":3120,"worst_case_seconds":3720,"forbids":[%s]}`, device, hotfixFile, installed, forbids)
}

// The plan fits a terminal of 80 columns, says once what is the same on several
// devices, and ends with 6 where something forbids it.
func TestHotfixPlan(t *testing.T) {
	begin := testTime.Add(time.Hour)
	fl := &fakeFleet{
		outcome: api.Results{Job: api.Job{State: "succeeded", Devices: 3, Counts: map[string]int{"succeeded": 3}}, Rows: rows(t,
			planRow("lon-probe-01", "show packages", ""), planRow("lon-probe-02", "show packages", ""),
			planRow("lon-probe-03", "not observable: lists x without a version", `"installed could not be shown: \u001b[31mred"`))},
		plan: api.Plan{Canary: 1, WaveSize: 2, Waves: 2, MaxFailures: 2, EndsAt: &begin, Rows: []api.PlannedUnit{
			{Unit: "lon-probe-01", Devices: []string{"lon-probe-01"}, Wave: 0, BeginAt: &begin, EndAt: &begin},
			{Unit: "lon-probe-02", Devices: []string{"lon-probe-02"}, Wave: 1},
			{Unit: "lon-probe-03", Devices: []string{"lon-probe-03"}, Wave: 1, Skipped: "it does not fit into the window"}},
			Warnings: []string{"link a has no other cover"}},
	}
	got := session{fleet: fl, terminal: true, env: map[string]string{"NO_COLOR": "1"}}.run(t.Context(), t, "hotfix", "plan", hotfixOnDisk(t, "hotfix"), "lon-*")
	if got.code != fault.ExitFound {
		t.Errorf("exit code %d: %s", got.code, got.errOut)
	}
	for _, want := range []string{"lon-probe-01, lon-probe-02\n", "the same, but for:", "package install OSm6.4.x-CumulativeHotfix-v2", "2 waves: canary 1, then 2 at a time; stops at 2 failures",
		"lon-probe-03 would be skipped: it does not fit into the window", "lon-probe-03: installed could not be shown: \\x1b[31mred", "9m 35s", "1h 2m"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("the plan lacks %q:\n%s", want, got.out)
		}
	}
	if strings.Contains(got.out+got.errOut, "\x1b[") {
		t.Errorf("an escape of the device came through: %q", got.out)
	}
	for line := range strings.Lines(got.out) {
		if n := runewidth.StringWidth(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	if !strings.Contains(got.errOut, "link a has no other cover") {
		t.Errorf("the warning is lost: %s", got.errOut)
	}
	if n := len(fl.submitted); n != 1 || fl.submitted[0].Rollout != nil || !strings.Contains(string(fl.submitted[0].Spec), `"action":"plan"`) {
		t.Errorf("submitted %+v", fl.submitted)
	}
	var doc struct {
		Rows []struct {
			Wave    *int
			Skipped *string
		}
		Rollout api.Plan
	}
	got = session{fleet: fl}.run(t.Context(), t, "hotfix", "plan", hotfixOnDisk(t, "hotfix"), "lon-*", "-o", "json")
	if err := json.Unmarshal([]byte(got.out), &doc); err != nil || len(doc.Rows) != 3 || *doc.Rows[2].Wave != 1 || doc.Rows[2].Skipped == nil || doc.Rows[0].Skipped != nil || doc.Rollout.Waves != 2 {
		t.Errorf("%v: %s", err, got.out)
	}
}

// A file is sent once, with what it is asked for; an answer is asked for first.
func TestHotfixApply(t *testing.T) {
	fl := &fakeFleet{devices: []api.Device{{Name: "lon-probe-01"}, {Name: "lon-probe-02"}},
		outcome: api.Results{Job: api.Job{State: "succeeded", Devices: 2, Counts: map[string]int{"succeeded": 2}}}}
	file := hotfixOnDisk(t, "hotfix")
	args := []string{"hotfix", "apply", file, "lon-probe-01", "lon-probe-02", "--takeover", "--accept-unobserved", "installed,capturing", "--wave", "5", "--soak", "15m"}
	if got := (session{fleet: fl}).run(t.Context(), t, args...); got.code != fault.ExitUsage || len(fl.submitted)+len(fl.kept) > 0 {
		t.Errorf("without --yes: %d, %s; %d submitted, %d kept", got.code, got.errOut, len(fl.submitted), len(fl.kept))
	}
	if got := (session{fleet: fl, terminal: true, stdin: "n\n"}).run(t.Context(), t, args...); got.code == 0 || len(fl.submitted)+len(fl.kept) > 0 {
		t.Errorf("answered no: %d, %s", got.code, got.errOut)
	}
	got := session{fleet: fl, terminal: true, stdin: "y\n"}.run(t.Context(), t, args...)
	if got.code != 0 || len(fl.submitted) != 1 || len(fl.kept) != 1 {
		t.Fatalf("%d, %s: %d submitted, %d kept", got.code, got.errOut, len(fl.submitted), len(fl.kept))
	}
	if !strings.Contains(got.errOut, "on 2 devices (lon-probe-01, lon-probe-02)?") || !strings.Contains(got.errOut, "hotfix report 12") {
		t.Errorf("said %q", got.errOut)
	}
	var spec hotfixSpec
	if err := json.Unmarshal(fl.submitted[0].Spec, &spec); err != nil || spec.Action != "apply" || spec.File != fl.kept[0].SHA256 || spec.FileName != hotfixFile ||
		!spec.Takeover || strings.Join(spec.AcceptUnobserved, " ") != "installed capturing" {
		t.Errorf("spec %s, %v", fl.submitted[0].Spec, err)
	}
	if r := fl.submitted[0].Rollout; r == nil || r.Wave != "5" || r.SoakSeconds != 900 {
		t.Errorf("rollout %+v", r)
	}
	// The second time fleetd knows it.
	if got := (session{fleet: fl}).run(t.Context(), t, append(args, "--yes")...); got.code != 0 || len(fl.kept) != 1 || !strings.Contains(got.errOut, "known to fleetd") {
		t.Errorf("again: %d, %s", got.code, got.errOut)
	}
}

// growing is a file that somebody writes to.
type growing struct {
	*fakeFleet
	path string
}

func (g growing) AddArtifact(ctx context.Context, name, mediaType string, r io.Reader, size int64) (api.Artifact, error) {
	f, err := os.OpenFile(g.path, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString("more")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return api.Artifact{}, err
	}
	return g.fakeFleet.AddArtifact(ctx, name, mediaType, r, size)
}

// A file that changes between being hashed and being sent is refused, and nothing is
// asked of any device.
func TestHotfixFileChanges(t *testing.T) {
	fl := growing{&fakeFleet{devices: []api.Device{{Name: "lon-probe-01"}}}, hotfixOnDisk(t, "hotfix")}
	var errOut strings.Builder
	streams := Streams{In: strings.NewReader(""), Out: io.Discard, Err: &errOut, Width: func() int { return 80 }, Getenv: func(string) string { return "" }, Now: time.Now}
	code := run(t.Context(), []string{"hotfix", "apply", fl.path, "lon-probe-01", "--yes"}, streams, Build{}, func(string) (fleet, error) { return fl, nil })
	if code != fault.ExitUsage || !strings.Contains(errOut.String(), "it changed while it was read") || len(fl.submitted) > 0 {
		t.Errorf("%d, %s, %d submitted", code, errOut.String(), len(fl.submitted))
	}
}

// A change record holds text of devices, and is Markdown: nothing in it may act.
func TestHotfixReport(t *testing.T) {
	diff := "--- a before\n+++ a after\n@@ packages: show packages @@\n-  (none)\n+  Fix ```\x1b[2J\n"
	fl := &fakeFleet{
		jobs: []api.Job{{ID: "12", Operation: "hotfix"}},
		results: map[string]api.Results{"12": {
			Job: api.Job{ID: "12", Operation: "hotfix", State: "attention", Devices: 2, CreatedBy: "ops|<b>", CreatedAt: testTime, Counts: map[string]int{"succeeded": 1, "attention": 1},
				Spec: json.RawMessage(`{"action":"apply","file":"aa","file_name":"` + hotfixFile + `","size_bytes":7,"install_name":"i","installed_as":"l","version":"v2"}`)},
			Rows: rows(t, `{"device":"a","version_before":"6.4.3","version_after":"6.4.3","listed_before":null,"listed_after":"Fix | x","outage_from":"2024-05-01T10:11:12Z",
"outage_to":"2024-05-01T10:20:42Z","outage_seconds":570,"proofs":[{"name":"capturing","answer":"not_observable","how":"show x","detail":"<script>","accepted":true}]}`)}},
		tasks: []api.Task{{Device: "a", Unit: "a", State: "succeeded", StartedAt: &testTime},
			{Device: "b", Unit: "b", Wave: 1, State: "attention", Reason: "it came back wrong: # not *as* it should\n\n# Heading"}},
		journal: []api.JournalEntry{{Time: testTime, Kind: "step", Step: "install"}, {Time: testTime, Kind: "intent", Step: "install", Detail: "x"},
			{Time: testTime, Kind: "outcome", Step: "install", Detail: "done", Error: "cut"}},
	}
	fl.kept = []keptFile{kept("a_hotfix.diff", "text/x-diff", diff, "12"), kept("b_hotfix.json", "application/json",
		`{"device":"somebody else","version_before":"6.4.2","outage_from":"2024-05-01T11:00:00Z","outage_to":null,"proofs":[]}`, "12")}
	fl.kept[0].Device, fl.kept[1].Device = "a", "b"
	got := session{fleet: fl}.run(t.Context(), t, "hotfix", "report", "12")
	if got.code != 0 {
		t.Fatalf("%d: %s", got.code, got.errOut)
	}
	for _, want := range []string{
		"# Change record: " + hotfixFile + "\n", "| Requested | by ops\\|\\<b\\> at 2024-05-01T10:11:12Z |",
		"| a | 0 | succeeded | 6.4.3 | 6.4.3 | - | Fix \\| x | 2024-05-01T10:11:12Z, 9m 30s |",
		"| b | 1 | attention | 6.4.2 | - | - | - | since 2024-05-01T11:00:00Z |",
		"- **b** (attention): it came back wrong: \\# not \\*as\\* it should",
		"| capturing | not observable, accepted beforehand | `show x` | \\<script\\> |",
		"| 2024-05-01T10:11:12Z | install | about to act, once |", "| install | acted: done: cut |", "````diff\n--- a before",
	} {
		if !strings.Contains(got.out, want) {
			t.Errorf("the record lacks %q", want)
		}
	}
	if strings.Contains(got.out, "\x1b") || strings.Contains(got.out, "\n# Heading") || strings.Contains(got.out, "| install | looked |") {
		t.Errorf("text of the device acts:\n%s", got.out)
	}
	if t.Failed() {
		t.Log(got.out)
	}
	var doc struct {
		Job  api.Job
		Rows []struct {
			Device string
			Diff   *string
		}
	}
	got = session{fleet: fl}.run(t.Context(), t, "hotfix", "report", "12", "-o", "json")
	if err := json.Unmarshal([]byte(got.out), &doc); err != nil || len(doc.Rows) != 2 || doc.Rows[1].Device != "b" || doc.Rows[0].Diff == nil || *doc.Rows[0].Diff != diff || doc.Rows[1].Diff != nil {
		t.Errorf("%v: %s", err, got.out)
	}
	fl.results["13"] = api.Results{Job: api.Job{ID: "13", Operation: "report"}}
	if got := (session{fleet: fl}).run(t.Context(), t, "hotfix", "report", "13"); got.code != fault.ExitUsage {
		t.Errorf("a report that is no hotfix: %d %s", got.code, got.errOut)
	}
}
