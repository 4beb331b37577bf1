package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
	"capfleet/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got outcome) {
	t.Helper()
	text := got.out
	if got.errOut != "" {
		text += "--- stderr\n" + got.errOut
	}
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func filesystemOutcome(t *testing.T) api.Results {
	t.Helper()
	return api.Results{
		Job: api.Job{State: "partial", Devices: 3, Counts: map[string]int{"succeeded": 2, "failed": 1}, CreatedBy: "op", CreatedAt: testTime, Access: "read"},
		Rows: rows(t,
			`{"device":"lon-ltm-01","filesystem":"/var","total_bytes":3145728000,"used_bytes":943718400,"usable_bytes":null,"free_bytes":2202009600,"used_percent":30,"assumed_unit":null,"collected_at":"2024-05-01T10:11:12Z"}`,
			`{"device":"lon-probe-01","filesystem":"/endace","total_bytes":43980500000000,"used_bytes":41781400000000,"usable_bytes":42101200000000,"free_bytes":2199100000000,"used_percent":95,"assumed_unit":"GB","collected_at":"2024-05-01T10:11:12Z"}`,
		),
		Failures: []api.Failure{{Device: "lon-probe-02", Stage: "dial", Kind: "unreachable", Message: "connect to 192.0.2.12:22: connection refused\x1b[2J"}},
	}
}

func TestReportInEveryFormat(t *testing.T) {
	for _, format := range output.Formats() {
		t.Run(string(format), func(t *testing.T) {
			fl := &fakeFleet{outcome: filesystemOutcome(t)}
			got := session{fleet: fl, terminal: true, env: map[string]string{"NO_COLOR": "1"}}.run(t.Context(), t, "report", "filesystem", "-o", string(format))
			if got.code != fault.ExitSomeFailed {
				t.Errorf("exit code %d", got.code)
			}
			golden(t, "filesystem."+string(format), got)
		})
	}
}

// The headings are a contract with spreadsheets that exist: exact, and first.
func TestCSVHeadings(t *testing.T) {
	for report, want := range map[string]string{
		"filesystem":    "Device,Total Space (GB),Used Space (GB),Usable Space (GB),Free Space (GB),",
		"rotation-file": "Device,Rot File Name,User Size Limit (GB),Actual Size Limit (GB),Disk Usage (GB),Vision Retention Time,Vision Size (GB),Current Size (GB),Source,",
	} {
		got := session{fleet: &fakeFleet{outcome: api.Results{Job: api.Job{State: "succeeded"}}}}.run(t.Context(), t, "report", report, "-o", "csv")
		if !strings.HasPrefix(got.out, want) {
			t.Errorf("%s begins with %q, want %q", report, got.out, want)
		}
	}
}

func TestRotationFileFitsATerminal(t *testing.T) {
	fl := &fakeFleet{outcome: api.Results{
		Job: api.Job{State: "succeeded", Devices: 1, Counts: map[string]int{"succeeded": 1}},
		Rows: rows(t,
			`{"device":"lon-probe-01","name":"Main","user_limit_bytes":2000000000000,"actual_limit_bytes":2000000000000,"disk_usage_bytes":1820400000000,"vision_retention_seconds":1051860,"vision_size_bytes":18200000000,"current_size_bytes":1819600000000,"source":"erfstream0","assumed_unit":"GB","collected_at":"2024-05-01T10:11:12Z"}`,
			`{"device":"lon-probe-01","name":"Lab capture","user_limit_bytes":null,"actual_limit_bytes":null,"disk_usage_bytes":1000000,"vision_retention_seconds":null,"vision_size_bytes":0,"current_size_bytes":1819600000000,"source":"erfstream0","assumed_unit":"GB","collected_at":"2024-05-01T10:11:12Z"}`),
	}}
	got := session{fleet: fl, terminal: true, env: map[string]string{"NO_COLOR": "1"}}.run(t.Context(), t, "report", "rotation-file")
	golden(t, "rotation-file.table", got)
	for line := range strings.Lines(got.out) {
		if len(line) > 81 {
			t.Errorf("%d columns: %q", len(line)-1, line)
		}
	}
}

func TestSoftwareVolumesAreWords(t *testing.T) {
	fl := &fakeFleet{outcome: api.Results{
		Job: api.Job{State: "succeeded", Devices: 2, Counts: map[string]int{"succeeded": 2}},
		Rows: rows(t,
			`{"device":"lon-ltm-01","platform":"f5_bigip","version":"17.1.0","build":"0.0.16","hotfixes":[],"active_volume":"HD1.1","volumes":[{"volume":"HD1.1","slot":null,"product":"BIG-IP","version":"17.1.0","build":"0.0.16","active":true,"status":"complete"},{"volume":"HD1.2","slot":2,"product":null,"version":null,"build":null,"active":false,"status":"installing 10.000 pct"}],"maintenance":null,"failover_state":"active","collected_at":"2024-05-01T10:11:12Z"}`,
			`{"device":"lon-probe-01","platform":"endace_osm","version":"6.4.3","build":"#1-20190612","hotfixes":["OSm6.4.x-CumulativeHotfix"],"active_volume":null,"volumes":null,"maintenance":false,"failover_state":null,"collected_at":"2024-05-01T10:11:12Z"}`),
	}}
	golden(t, "software.wide", session{fleet: fl}.run(t.Context(), t, "report", "software", "-o", "wide"))
	fl.jobs = nil
	golden(t, "software.table", session{fleet: fl, terminal: true, env: map[string]string{"NO_COLOR": "1"}}.run(t.Context(), t, "report", "software"))
}

func TestExitCodes(t *testing.T) {
	job := func(devices int, counts map[string]int) api.Results {
		return api.Results{Job: api.Job{State: "x", Devices: devices, Counts: counts}}
	}
	for name, c := range map[string]struct {
		fleet *fakeFleet
		args  string
		want  int
	}{
		"done":                {&fakeFleet{outcome: job(2, map[string]int{"succeeded": 1, "unchanged": 1})}, "report software", 0},
		"some failed":         {&fakeFleet{outcome: job(2, map[string]int{"succeeded": 1, "failed": 1})}, "report software", 3},
		"all failed":          {&fakeFleet{outcome: job(2, map[string]int{"failed": 2})}, "report software", 1},
		"attention":           {&fakeFleet{outcome: job(2, map[string]int{"succeeded": 1, "attention": 1})}, "report software", 3},
		"canceled":            {&fakeFleet{outcome: job(2, map[string]int{"canceled": 2})}, "report software", 1},
		"no fleetd":           {&fakeFleet{down: fault.New(fault.Unavailable, "cannot reach fleetd")}, "device list", 5},
		"fleetd failed":       {&fakeFleet{down: fault.New(fault.Storage, "disk full")}, "job list", 1},
		"denied":              {&fakeFleet{down: fault.New(fault.Denied, "needs --unsafe")}, "command run x -- reboot", 4},
		"no such job":         {nil, "job show 99", 4},
		"unknown command":     {nil, "jub list", 4},
		"unknown subcommand":  {nil, "report filesystems", 4},
		"unknown flag":        {nil, "device list --bogus", 4},
		"unknown format":      {nil, "device list -o xml", 4},
		"missing argument":    {nil, "job show", 4},
		"no selection":        {nil, "command run -- show version", 4},
		"no command":          {nil, "command run lon-probe-01", 4},
		"all and names":       {nil, "device list --all lon-probe-01", 4},
		"bad limit":           {nil, "job list --limit 0", 4},
		"unknown shell":       {nil, "completion tcsh", 4},
		"no template":         {nil, "parse", 4},
		"unknown template":    {nil, "parse --template nowhere/none", 4},
		"group alone is help": {nil, "report", 0},
		"help":                {nil, "report filesystem --help", 0},
		"help command":        {nil, "help job", 0},
		"version":             {&fakeFleet{down: fault.New(fault.Unavailable, "no")}, "version", 0},
	} {
		t.Run(name, func(t *testing.T) {
			got := session{fleet: c.fleet}.run(t.Context(), t, strings.Fields(c.args)...)
			if got.code != c.want {
				t.Errorf("exit code %d, want %d\nstdout: %s\nstderr: %s", got.code, c.want, got.out, got.errOut)
			}
			if c.want == fault.ExitUsage || c.want == fault.ExitUnavailable {
				if got.out != "" {
					t.Errorf("something on stdout: %q", got.out)
				}
				if n := strings.Count(got.errOut, "\n"); n != 1 {
					t.Errorf("the error has %d lines: %q", n, got.errOut)
				}
			}
		})
	}
}

func TestStrongestExitCode(t *testing.T) {
	for want, codes := range map[int][]int{
		130: {3, 6, 1, 5, 4, 130}, 4: {3, 6, 1, 5, 4}, 5: {3, 6, 1, 5}, 1: {3, 6, 1}, 6: {3, 6, 0}, 3: {3, 0}, 0: {0, 0},
	} {
		if got := strongest(codes...); got != want {
			t.Errorf("strongest(%v) = %d, want %d", codes, got, want)
		}
	}
}

// Every command says in its help which exit codes it has.
func TestHelpNamesExitCodes(t *testing.T) {
	for _, path := range []string{"report filesystem", "report rotation-file", "report software", "command run", "job list", "job show", "job watch",
		"job pause", "job resume", "audit list", "job cancel", "job retry", "device list", "device show", "device check", "device trust", "parse", "pcap info", "sim", "demo", "version", "completion", ""} {
		got := session{}.run(t.Context(), t, append(strings.Fields(path), "--help")...)
		if !strings.Contains(got.out, "Exit codes:\n    0  done") {
			t.Errorf("%q does not name its exit codes:\n%s", path, got.out)
		}
		for line := range strings.Lines(got.out) {
			if len(line) > 86 && !strings.Contains(line, "  -") && !strings.Contains(line, "--") {
				t.Errorf("%q: a line of its help is %d long: %q", path, len(line), line)
			}
		}
	}
}

func TestCtrlCLeavesTheJob(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	waiting := make(chan struct{})
	fl := &fakeFleet{outcome: filesystemOutcome(t), hang: true, waiting: waiting}
	go func() {
		<-waiting
		interrupt()
	}()
	got := session{fleet: fl}.run(ctx, t, "report", "filesystem")
	if got.code != 130 || got.out != "" {
		t.Errorf("exit code %d, stdout %q", got.code, got.out)
	}
	if want := "job 12 goes on; come back with: fleetctl job watch 12\n"; got.errOut != want {
		t.Errorf("stderr %q, want %q", got.errOut, want)
	}
	if len(fl.canceled) > 0 {
		t.Error("the job was canceled")
	}
}

func TestDetachPrintsTheID(t *testing.T) {
	fl := &fakeFleet{outcome: filesystemOutcome(t), hang: true}
	got := session{fleet: fl}.run(t.Context(), t, "report", "filesystem", "lon-*", "-l", "site=lon", "--detach")
	if got.code != 0 || got.out != "12\n" {
		t.Errorf("exit code %d, stdout %q", got.code, got.out)
	}
	want := []api.JobRequest{{Operation: "report", Spec: json.RawMessage(`{"report":"filesystem"}`), Selection: api.Selection{Names: []string{"lon-*"}, Selector: "site=lon"}}}
	if diff := cmp.Diff(want, fl.submitted); diff != "" {
		t.Error(diff)
	}
}

func TestReadsTakeEveryDeviceByDefault(t *testing.T) {
	fl := &fakeFleet{outcome: filesystemOutcome(t)}
	session{fleet: fl}.run(t.Context(), t, "device", "check")
	if len(fl.submitted) != 1 || !fl.submitted[0].Selection.All {
		t.Errorf("submitted %+v", fl.submitted)
	}
}

func TestWriteIsCompleteOrNotThere(t *testing.T) {
	name := filepath.Join(t.TempDir(), "out.csv")
	got := session{fleet: &fakeFleet{outcome: filesystemOutcome(t)}}.run(t.Context(), t, "report", "filesystem", "-o", "csv", "--write", name)
	if got.out != "" || got.code != 3 {
		t.Errorf("exit code %d, stdout %q", got.code, got.out)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "lon-probe-01,43980.5,41781.4,42101.2,2199.1,/endace,95,GB,2024-05-01T10:11:12Z\n") {
		t.Errorf("the file holds:\n%s", text)
	}
	missing := filepath.Join(t.TempDir(), "no", "out.csv")
	if got := (session{fleet: &fakeFleet{outcome: filesystemOutcome(t)}}).run(t.Context(), t, "report", "filesystem", "--write", missing); got.code != 1 {
		t.Errorf("exit code %d for a directory that does not exist", got.code)
	}
}

func jobsFixture() *fakeFleet {
	later := testTime.Add(95 * time.Second)
	return &fakeFleet{
		jobs: []api.Job{
			{ID: "13", Operation: "command", State: "running", Access: "read", CreatedBy: "op", CreatedAt: testTime, StartedAt: &testTime,
				Counts: map[string]int{"running": 2, "pending": 22}, Devices: 24, Spec: json.RawMessage(`{"command":"show version"}`)},
			{ID: "9", Operation: "report", State: "partial", Access: "read", CreatedBy: "op", CreatedAt: testTime, StartedAt: &testTime, FinishedAt: &later,
				Counts: map[string]int{"failed": 1, "succeeded": 23, "pending": 0}, Devices: 24, Spec: json.RawMessage(`{"report":"filesystem"}`)},
		},
		tasks: []api.Task{
			{Job: "9", Device: "lon-probe-01", Unit: "lon-probe-01", State: "succeeded", Step: "read", Attempt: 1, StartedAt: &testTime, FinishedAt: &later, Rows: 2},
			{Job: "9", Device: "lon-probe-02", Unit: "lon-probe-02", State: "failed", Step: "read", Attempt: 3, Reason: "dial: connection refused", StartedAt: &testTime, FinishedAt: &later,
				Failure: &api.Failure{Device: "lon-probe-02", Stage: "dial", Kind: "unreachable", Message: "connection refused"}},
		},
	}
}

func TestJobCommands(t *testing.T) {
	for name, args := range map[string]string{
		"job-list.table": "job list", "job-list.wide": "job list -o wide", "job-list.csv": "job list -o csv", "job-list.json": "job list -o json",
		"job-show.table": "job show 9", "job-show.json": "job show 9 -o json",
	} {
		t.Run(name, func(t *testing.T) {
			got := session{fleet: jobsFixture(), terminal: true, env: map[string]string{"TERM": "dumb"}}.run(t.Context(), t, strings.Fields(args)...)
			if got.code != 0 {
				t.Errorf("exit code %d", got.code)
			}
			golden(t, name, got)
		})
	}
}

func TestWatchPrintsWhatTheCommandWouldHave(t *testing.T) {
	fl := jobsFixture()
	res := filesystemOutcome(t)
	res.Job = fl.jobs[1]
	fl.results = map[string]api.Results{"9": res}
	got := session{fleet: fl}.run(t.Context(), t, "job", "watch", "9")
	if got.code != 3 || !strings.Contains(got.out, "/endace") {
		t.Errorf("exit code %d, stdout:\n%s", got.code, got.out)
	}
}

func devicesFixture() *fakeFleet {
	return &fakeFleet{devices: []api.Device{
		{Name: "lon-ltm-01", Platform: "f5_bigip", Address: "192.0.2.21:22", Site: "lon", HAPeer: "lon-ltm-02", Jump: []string{"lon-bastion"}, Username: "root"},
		{Name: "lon-probe-01", Platform: "endace_osm", Address: "192.0.2.11:22", Site: "lon", Groups: []string{"probes"}, Labels: map[string]string{"tier": "core", "role": "probe"},
			Username: "fleet", Facts: map[string]string{"version": "6.4.3", "clock_offset_seconds": "0.2"}, LastSeenAt: &testTime, LastError: "auth: refused"},
	}}
}

func TestDeviceCommands(t *testing.T) {
	for name, args := range map[string]string{
		"device-list.table": "device list", "device-list.wide": "device list -o wide", "device-show.table": "device show lon-probe-01 lon-ltm-01",
		"device-show.json": "device show lon-probe-01 -o json",
	} {
		t.Run(name, func(t *testing.T) {
			got := session{fleet: devicesFixture(), terminal: true, env: map[string]string{"TERM": "dumb"}}.run(t.Context(), t, strings.Fields(args)...)
			if got.code != 0 {
				t.Errorf("exit code %d", got.code)
			}
			golden(t, name, got)
		})
	}
}

func TestCompletion(t *testing.T) {
	for args, want := range map[string][]string{
		"device show ":             {"lon-ltm-01\tf5_bigip lon", "lon-probe-01\tendace_osm lon"},
		"device show lon-ltm-01 ":  {"lon-probe-01\tendace_osm lon"},
		"report filesystem -l ":    {"group=", "platform=", "role=", "site=", "tier="},
		"device list -l site=lon,": {"site=lon,group=", "site=lon,platform=", "site=lon,role=", "site=lon,site=", "site=lon,tier="},
		"device list -l tier!=":    {"tier!=core"},
		"device list -o ":          {"table", "wide", "json", "jsonl", "csv", "yaml"},
		"job show ":                {"13\tcommand show version running", "9\treport filesystem partial"},
		"completion ":              {"bash", "zsh", "fish", "powershell"},
	} {
		fl := devicesFixture()
		fl.jobs = jobsFixture().jobs
		got := session{fleet: fl}.run(t.Context(), t, append([]string{"__complete"}, strings.Split(args, " ")...)...)
		lines := strings.Split(strings.TrimSpace(got.out), "\n")
		if diff := cmp.Diff(want, lines[:len(lines)-1]); diff != "" {
			t.Errorf("%q:\n%s", args, diff)
		}
	}
}

func TestCompletionWithoutFleetdIsSilent(t *testing.T) {
	got := session{fleet: &fakeFleet{down: fault.New(fault.Unavailable, "no")}}.run(t.Context(), t, "__complete", "device", "show", "")
	if !strings.HasPrefix(got.out, ":") {
		t.Errorf("got %q", got.out)
	}
}

// TestHelpFits: prose and flags stay within helpWidth. What people copy may be
// longer: examples, and the line that cobra ends with.
func TestHelpFits(t *testing.T) {
	t.Parallel()
	var walk func(args []string)
	walk = func(args []string) {
		var out, errOut bytes.Buffer
		streams := Streams{In: strings.NewReader(""), Out: &out, Err: &errOut}
		if code := Run(t.Context(), append(args, "--help"), streams, Build{}); code != 0 {
			t.Fatalf("%q --help: %d, %s", args, code, errOut.String())
		}
		commands, examples := false, false
		for line := range strings.Lines(out.String()) {
			line = strings.TrimRight(line, "\n")
			switch {
			case strings.HasSuffix(line, "Commands:"):
				commands, examples = true, false
			case strings.HasSuffix(line, ":") && !strings.HasPrefix(line, " "):
				commands, examples = false, line == "Examples:"
			case commands && strings.HasPrefix(line, "  ") && strings.Fields(line)[0] != "help":
				walk(append(slices.Clone(args), strings.Fields(line)[0]))
			}
			if n := len([]rune(line)); n > helpWidth && !examples && !strings.HasPrefix(line, `Use "`) {
				t.Errorf("fleetctl %s --help has %d columns: %s", strings.Join(args, " "), n, line)
			}
		}
	}
	walk(nil)
}
