package report

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/parse"
	"capfleet/templates"
)

var update = flag.Bool("update", false, "write the rows that the tests get into testdata")

func sample(t *testing.T, path string) string {
	t.Helper()
	parts := strings.SplitN(path, "/", 2)
	text, err := fs.ReadFile(templates.FS, parts[0]+"/samples/"+parts[1]+"/raw.txt")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The rows of each report from the samples of the templates, as they are printed.
func TestRows(t *testing.T) {
	tests := map[string]struct {
		platform, report string
		commands         map[string]string // line: sample
		warnings         []string
		facts            map[string]string
	}{
		"endace_filesystem":       {platform: "endace_osm", report: "filesystem", commands: map[string]string{"show files system": "endace_osm/filesystem/blocks"}},
		"endace_filesystem_units": {platform: "endace_osm", report: "filesystem", commands: map[string]string{"show files system": "endace_osm/filesystem/units_maintenance"}},
		"endace_rotation_file":    {platform: "endace_osm", report: "rotation-file", commands: map[string]string{"show erfstream rotation-file": "endace_osm/rotation_file/two_files"}},
		"endace_rotation_units":   {platform: "endace_osm", report: "rotation-file", commands: map[string]string{"show erfstream rotation-file": "endace_osm/rotation_file/units"}},
		"endace_no_rotation_file": {platform: "endace_osm", report: "rotation-file", commands: map[string]string{"show erfstream rotation-file": "endace_osm/rotation_file/without_files"},
			warnings: []string{"show erfstream rotation-file lists nothing"}},
		"endace_software": {platform: "endace_osm", report: "software",
			commands: map[string]string{"show version": "endace_osm/version/family", "show packages": "endace_osm/packages/without_version"},
			facts:    map[string]string{"version": "6.4.3", "build": "#1-20190612", "report_software_at": "2026-03-01T11:30:15Z"}},
		"endace_software_maintenance": {platform: "endace_osm", report: "software",
			commands: map[string]string{"show version": "endace_osm/version/maintenance", "show packages": "endace_osm/packages/none"}},
		"endace_software_no_packages": {platform: "endace_osm", report: "software", commands: map[string]string{"show version": "endace_osm/version/family"},
			warnings: []string{"show packages was refused: what it tells is not known"}},
		"f5_filesystem":         {platform: "f5_bigip", report: "filesystem", commands: map[string]string{"df -P": "f5_bigip/filesystem/posix"}},
		"f5_filesystem_wrapped": {platform: "f5_bigip", report: "filesystem", commands: map[string]string{"df -P": "f5_bigip/filesystem/wrapped"}},
		"f5_software": {platform: "f5_bigip", report: "software", commands: map[string]string{"show sys version": "f5_bigip/version/point_release",
			"show sys software status": "f5_bigip/software_status/installing_17_5", "show sys failover": "f5_bigip/failover/active"}},
		"f5_software_hotfix": {platform: "f5_bigip", report: "software", commands: map[string]string{"show sys version": "f5_bigip/version/hotfix",
			"show sys software status": "f5_bigip/software_status/states", "show sys failover": "f5_bigip/failover/standby"}},
		"f5_software_blades": {platform: "f5_bigip", report: "software", commands: map[string]string{"show sys version": "f5_bigip/version/point_release",
			"show sys software status": "f5_bigip/software_status/slot_allowed", "show sys failover": "f5_bigip/failover/offline"}},
		"linux_filesystem":         {platform: "linux", report: "filesystem", commands: map[string]string{"df -P": "linux/filesystem/posix"}},
		"linux_filesystem_reserve": {platform: "linux", report: "filesystem", commands: map[string]string{"df -P": "linux/filesystem/wrapped_at_prompt"}},
		"linux_software": {platform: "linux", report: "software", commands: map[string]string{"cat /etc/os-release": "linux/os_release/debian", "uname -r": "linux/kernel/debian"},
			facts: map[string]string{"version": "Debian GNU/Linux 12 (bookworm)", "build": "6.1.0-18-amd64", "report_software_at": "2026-03-01T11:30:15Z"}},
	}
	op := New(parse.NewLibrary(""))
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			env := newEnv(test.platform)
			for line, path := range test.commands {
				env.prints(line, sample(t, path))
			}
			if err := env.run(t, op, test.report); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".json")
			got := env.rowsJSON(t)
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if diff := cmp.Diff(test.warnings, env.warnings); diff != "" {
				t.Errorf("warnings -want +got\n%s", diff)
			}
			if test.facts != nil {
				if diff := cmp.Diff(test.facts, map[string]string(env.facts)); diff != "" {
					t.Errorf("facts -want +got\n%s", diff)
				}
			}
			if len(env.kept) > 0 {
				t.Errorf("a good report kept %v", env.kept)
			}
		})
	}
}

func TestCommandsRunInTheirModes(t *testing.T) {
	env := newEnv("f5_bigip").prints("df -P", sample(t, "f5_bigip/filesystem/posix"))
	if err := env.run(t, New(parse.NewLibrary("")), "filesystem"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]device.Command{{Line: "df -P", Mode: "bash"}}, env.ran); diff != "" {
		t.Error(diff)
	}
}

// What a template does not know fails the device with the line, keeps the text and
// says what to do next. No row comes out.
func TestOutputThatDoesNotMatch(t *testing.T) {
	const text = "lon-probe-01 # show files system\nStatistics for /config filesystem:\n  Bytes Total 0.5\n  Something New 1\x1b[2J\n"
	tests := map[string]struct{ platform, report, line, text, says string }{
		"an unknown line":    {"endace_osm", "filesystem", "show files system", text, "line 4 does not match: "},
		"an unknown unit":    {"endace_osm", "filesystem", "show files system", strings.Replace(text, "Something New 1\x1b[2J", "Bytes Used 3 GBit", 1), `record 1: used_bytes: "GBit" is not a unit`},
		"a heading alone":    {"linux", "filesystem", "df -P", "Filesystem 1024-blocks Used Available Capacity Mounted on\n", "0 rows where at least 1"},
		"nothing":            {"linux", "filesystem", "df -P", "", "0 rows where at least 1"},
		"no total":           {"endace_osm", "filesystem", "show files system", "Statistics for /config filesystem:\n", "record 1: total_bytes: it is missing"},
		"a bare retention":   {"endace_osm", "rotation-file", "show erfstream rotation-file", "Rotation file: Main\n  Vision Retention Time 12\n", `vision_retention_seconds: "12" is not a duration`},
		"too large a figure": {"endace_osm", "filesystem", "show files system", "  Bytes Total 99999999999999 EB\n", "out of range"},
		"no version":         {"endace_osm", "software", "show version", "Product name:      OSm\n", "version: it is missing"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			env := newEnv(test.platform).prints(test.line, test.text)
			if test.report == "software" {
				env.prints("show packages", "")
			}
			overrides := t.TempDir()
			err := env.run(t, New(parse.NewLibrary(overrides)), test.report)
			var fe *fault.Error
			if !fault.Is(err, fault.Unparsed) || !errors.As(err, &fe) {
				t.Fatalf("got %v", err)
			}
			if fe.Device != "dev-01" || fault.StageOf(err) != "parse" || !strings.Contains(fe.Act, test.line) {
				t.Errorf("device %q, stage %q, act %q", fe.Device, fault.StageOf(err), fe.Act)
			}
			for _, s := range []string{test.says, "fleetctl parse", overrides, "artifact "} {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
			if strings.ContainsAny(err.Error(), "\x1b\n") {
				t.Errorf("the device's escapes are in %q", err)
			}
			if len(env.rows) > 0 || len(env.facts) > 0 {
				t.Errorf("rows %v, facts %v", env.rows, env.facts)
			}
			if len(env.kept) != 1 {
				t.Fatalf("kept %v", env.kept)
			}
			for name, text := range env.kept {
				if text != test.text || strings.ContainsAny(name, "/ ") || !strings.HasPrefix(name, "dev-01_"+test.report) {
					t.Errorf("kept %q as %s", text, name)
				}
			}
		})
	}
	t.Run("the store is full", func(t *testing.T) {
		env := newEnv("endace_osm").prints("show files system", text)
		env.keepErr = fault.New(fault.Storage, "no space left")
		err := env.run(t, New(parse.NewLibrary("")), "filesystem")
		if !fault.Is(err, fault.Unparsed) || !strings.Contains(err.Error(), "line 4") || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("got %v", err)
		}
	})
}

func TestFailuresOfTheDevice(t *testing.T) {
	op := New(parse.NewLibrary(""))
	refused := newEnv("endace_osm")
	err := refused.run(t, op, "filesystem")
	if !fault.Is(err, fault.Refused) || fault.StageOf(err) != "command" || len(refused.kept)+len(refused.rows) > 0 {
		t.Errorf("refused: %v", err)
	}
	timeout := newEnv("endace_osm").fails("show files system", fault.New(fault.Timeout, "no prompt within 60s"))
	err = timeout.run(t, op, "filesystem")
	if !fault.Is(err, fault.Timeout) || !strings.Contains(err.Error(), "run show files system on dev-01") {
		t.Errorf("timeout: %v", err)
	}
	// An optional command may be refused, but nothing else about it may fail.
	cut := newEnv("endace_osm").prints("show version", sample(t, "endace_osm/version/family")).fails("show packages", fault.New(fault.Disconnected, "cut"))
	if err := cut.run(t, op, "software"); !fault.Is(err, fault.Disconnected) || len(cut.rows) > 0 {
		t.Errorf("cut: %v, rows %v", err, cut.rows)
	}
}

// df ends with 1 over a mount that it cannot look at, and tells of all others. What it
// told is given with a warning; any other failure stays one.
func TestPartialReport(t *testing.T) {
	op := New(parse.NewLibrary(""))
	const rows = "Filesystem     1024-blocks    Used Available Capacity Mounted on\n/dev/sda1        102400   51200     51200      50% /\n"
	for name, tc := range map[string]struct {
		said     string
		err      error
		warnings []string
		fails    string
	}{
		"stale":        {said: "df: /mnt/nas: Stale file handle\n", warnings: []string{"df -P could not read everything: df: /mnt/nas: Stale file handle"}},
		"quoted":       {said: "df: \u2018/mnt/old: one\u2019: Stale NFS file handle\n", warnings: []string{"df -P could not read everything: df: \u2018/mnt/old: one\u2019: Stale NFS file handle"}},
		"two":          {said: "df: /a: Permission denied\ndf: /b: Input/output error", warnings: []string{"df -P could not read everything: df: /a: Permission denied", "df -P could not read everything: df: /b: Input/output error"}},
		"no table":     {said: "df: cannot read table of mounted file systems: No such file or directory\n", fails: "exit status 1"},
		"another line": {said: "df: /a: Permission denied\nSegmentation fault\n", fails: "exit status 1"},
		"silent":       {fails: "exit status 1"},
		"cut":          {said: "df: /a: Permission denied\n", err: fault.New(fault.Disconnected, "cut"), fails: "cut"},
	} {
		for _, platform := range []string{"linux", "f5_bigip"} {
			env := newEnv(platform)
			err := tc.err
			if err == nil {
				err = device.Refused(env.dev, device.Command{Line: "df -P"}, "exit status 1", rows+tc.said)
			}
			env.answers["df -P"] = func(context.Context) (device.Output, error) {
				return device.Output{Command: "df -P", Text: rows + tc.said, Stderr: tc.said}, err
			}
			got := env.run(t, op, "filesystem")
			if tc.fails != "" {
				if got == nil || !strings.Contains(got.Error(), tc.fails) || len(env.rows) > 0 || len(env.warnings) > 0 {
					t.Errorf("%s, %s: %v, rows %v, warnings %q", platform, name, got, env.rows, env.warnings)
				}
				continue
			}
			if diff := cmp.Diff(tc.warnings, env.warnings); got != nil || len(env.rows) != 1 || diff != "" {
				t.Errorf("%s, %s: %v, rows %v, warnings\n%s", platform, name, got, env.rows, diff)
			}
		}
	}
	// A device on which nothing could be read has no rows, and that is a failure.
	env := newEnv("linux")
	env.answers["df -P"] = func(context.Context) (device.Output, error) {
		const said = "df: /: Permission denied\n"
		return device.Output{Command: "df -P", Text: said, Stderr: said}, device.Refused(env.dev, device.Command{Line: "df -P"}, "exit status 1", said)
	}
	if err := env.run(t, op, "filesystem"); !fault.Is(err, fault.Unparsed) || len(env.rows) > 0 {
		t.Errorf("nothing: %v, rows %v", err, env.rows)
	}
}

func TestCanceledReport(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	env := newEnv("linux")
	env.answers["df -P"] = func(ctx context.Context) (device.Output, error) {
		cancel()
		<-ctx.Done()
		return device.Output{}, ctx.Err()
	}
	if err := env.runContext(ctx, t, New(parse.NewLibrary("")), "filesystem"); !fault.Is(err, fault.Canceled) || len(env.rows) > 0 {
		t.Errorf("in the command: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	env.answers["df -P"] = func(context.Context) (device.Output, error) {
		cancel()
		return device.Output{Text: strings.Repeat("x\n", 1000)}, nil
	}
	if err := env.runContext(ctx, t, New(parse.NewLibrary("")), "filesystem"); !fault.Is(err, fault.Canceled) || len(env.kept) > 0 {
		t.Errorf("in the parse: %v", err)
	}
}

func TestPrepare(t *testing.T) {
	op := New(parse.NewLibrary(""))
	probe := &device.Device{Name: "probe", Platform: "endace_osm"}
	ltm := &device.Device{Name: "ltm", Platform: "f5_bigip"}
	host := &device.Device{Name: "host", Platform: "linux"}
	alien := &device.Device{Name: "alien", Platform: "other"}

	got, err := op.Prepare(t.Context(), json.RawMessage(` {"report":"rotation-file"} `), []*device.Device{probe, ltm, host, alien})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"ltm": "a BIG-IP has no rotation files", "host": "a Linux host has no rotation files", "alien": "there are no reports for platform other"}
	if diff := cmp.Diff(want, got.Omit); diff != "" {
		t.Error(diff)
	}
	if string(got.Spec) != `{"report":"rotation-file"}` || got.Access != "read" {
		t.Errorf("spec %s, access %s", got.Spec, got.Access)
	}
	_, err = op.Prepare(t.Context(), json.RawMessage(`{"report":"rotation-file"}`), []*device.Device{ltm, host})
	if !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), "no rotation files") {
		t.Errorf("none left: %v", err)
	}
	if got, err := op.Prepare(t.Context(), json.RawMessage(`{"report":"filesystem"}`), []*device.Device{probe, ltm, host}); err != nil || len(got.Omit) > 0 {
		t.Errorf("filesystem: %v %v", got, err)
	}
	for _, spec := range []string{``, `{}`, `null`, `[]`, `{"report":"file-system"}`, `{"report":"software","format":"csv"}`, `{"report":"software"} {}`, `{"report":7}`} {
		_, err := op.Prepare(t.Context(), json.RawMessage(spec), []*device.Device{probe})
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), `"rotation-file"`) {
			t.Errorf("spec %s: %v", spec, err)
		}
	}
}

// The template of five Values that an operator brings along, unmodified, with a
// layout for its names. Without Required, TextFSM ends with a record of the
// filled-down Device alone, which is no row of a report.
func TestOperatorsOwnTemplate(t *testing.T) {
	for name, option := range map[string]string{"required": "Required ", "plain": ""} {
		t.Run(name, func(t *testing.T) { operatorsOwnTemplate(t, option) })
	}
}

func operatorsOwnTemplate(t *testing.T, option string) {
	own := `Value Filldown Device (\S+)
Value ` + option + `TotalCapacity (\d+.?\d*)
Value UsedCapacity (\d+.?\d*)
Value UsableCapacity (\d+.?\d*)
Value FreeCapacity (\d+.?\d*)

Start
  ^${Device} #
  ^\s+Bytes Total\s+${TotalCapacity}
  ^\s+Bytes Used\s+${UsedCapacity}
  ^\s+Bytes Usable\s+${UsableCapacity}
  ^\s+Bytes Free\s+${FreeCapacity} -> Record
`
	const layout = `version: 1
reports:
  filesystem:
    shape: rows
    commands:
      - {line: show files system, mode: enable, template: filesystem}
    assumed_unit: GB
    columns:
      total_bytes: {value: TotalCapacity}
      used_bytes: {value: UsedCapacity}
      usable_bytes: {value: UsableCapacity}
      free_bytes: {value: FreeCapacity}
`
	overrides := t.TempDir()
	lib := parse.NewLibrary(overrides)
	op := New(lib)
	env := newEnv("endace_osm").prints("show files system", "nyc-probe-03 # show files system\nsome heading nobody knows\n"+
		"  Bytes Total   43980.5\n  Bytes Used    41781.4\n  Bytes Usable  42101.2\n  Bytes Free    2199.1\n")
	if err := env.run(t, op, "filesystem"); !fault.Is(err, fault.Unparsed) {
		t.Fatalf("the built-in template took an unknown heading: %v", err)
	}
	for path, text := range map[string]string{"endace_osm/filesystem.textfsm": own, "endace_osm/reports.yaml": layout} {
		if err := os.MkdirAll(filepath.Dir(lib.OverridePath(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(lib.OverridePath(path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := env.run(t, op, "filesystem"); err != nil {
		t.Fatal(err)
	}
	want := `[{"device":"dev-01","filesystem":null,"total_bytes":43980500000000,"used_bytes":41781400000000,"usable_bytes":42101200000000,` +
		`"free_bytes":2199100000000,"used_percent":95,"assumed_unit":"GB","collected_at":"2026-03-01T11:30:15Z"}]`
	if got, _ := json.Marshal(env.rows); !bytes.Equal(got, []byte(want)) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// The other reports of the platform went with the layout that was replaced.
	if _, err := op.Prepare(t.Context(), json.RawMessage(`{"report":"software"}`), env.Unit().Devices); !fault.Is(err, fault.Unsupported) {
		t.Errorf("got %v", err)
	}
}
