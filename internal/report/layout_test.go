package report

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/parse"
	"capfleet/templates"
)

// Every built-in layout is complete: each report is there or says why not.
func TestBuiltInLayouts(t *testing.T) {
	files, err := fs.Glob(templates.FS, "*/reports.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v %v", files, err)
	}
	l := &layouts{lib: parse.NewLibrary(""), cache: map[string]cachedLayout{}}
	for _, file := range files {
		platform := strings.TrimSuffix(file, "/reports.yaml")
		layout, err := l.forPlatform(platform)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if layout.reports[name] == nil {
				t.Errorf("%s does not say how it gives the report %s", platform, name)
			}
		}
		if again, err := l.forPlatform(platform); err != nil || again != layout {
			t.Errorf("%s is read twice (%v)", platform, err)
		}
	}
}

func TestLayoutsThatAreRefused(t *testing.T) {
	const command = "    commands: [{line: uname -r, template: kernel}]\n"
	report := func(body string) string { return "version: 1\nreports:\n  filesystem:\n    shape: rows\n" + body }
	tests := map[string]struct{ src, says string }{
		"empty":                {"", "empty"},
		"not yaml":             {"version: [1\n", "reports.yaml"},
		"unknown key":          {"version: 1\nreport: {}\n", `unknown field "report"`},
		"doubled key":          {"version: 1\nversion: 1\n", "version"},
		"unknown version":      {"version: 2\n", "version 2"},
		"unknown report":       {"version: 1\nreports: {file-system: {unsupported: no}}\n", `no report is called "file-system"`},
		"empty report":         {"version: 1\nreports: {filesystem: }\n", "is empty"},
		"unsupported and more": {report("    unsupported: no\n" + command), "no commands"},
		"no shape":             {"version: 1\nreports: {filesystem: {columns: {}}}\n", "shape"},
		"no command":           {report("    columns: {}\n"), "exactly one command"},
		"wrong shape":          {"version: 1\nreports:\n  filesystem:\n    shape: merge\n" + command, "does not fit"},
		"no template":          {report("    commands: [{line: uname -r}]\n"), "template is missing"},
		"unknown template":     {report("    commands: [{line: uname -r, template: karnel}]\n"), "linux/karnel"},
		"two lines":            {report("    commands: [{line: \"a\\nb\", template: kernel}]\n"), "single line"},
		"negative timeout":     {report("    commands: [{line: a, template: kernel, timeout: -1s}]\n"), "negative"},
		"unknown column":       {report(command + "    columns: {size: {value: Release}}\n"), `no column is called "size"`},
		"unknown value":        {report(command + "    columns: {filesystem: {value: Relaese}}\n"), `no Value "relaese" (it has Release)`},
		"no value":             {report(command + "    columns: {filesystem: {map: []}}\n"), "value is missing"},
		"unit of a text":       {report(command + "    columns: {filesystem: {value: Release, unit: Release}}\n"), "only a size has a unit"},
		"columns of a text":    {report(command + "    columns: {filesystem: {value: Release, columns: {}, where: {}}, total_bytes: {value: Release, columns: {x: {value: Release}}}}\n"), "no objects"},
		"bad expression":       {report(command + "    columns: {filesystem: {value: Release, map: [{match: '(', to: x}]}}\n"), "map: "},
		"bad where":            {report(command + "    columns: {filesystem: {value: Release, where: {Nothing: x}}}\n"), "where: "},
		"bad omit":             {report(command + "    omit: [{Release: '('}]\n"), "omit: "},
		"empty omit":           {report(command + "    omit: [{}]\n"), "leave out everything"},
		"bad unit":             {report(command + "    assumed_unit: Gb\n"), "assumed_unit"},
		"bad required":         {report(command + "    required: [total_bytes]\n"), "required"},
		"negative at_least":    {report(command + "    at_least: -1\n"), "negative"},
		"other command":        {report(command + "    columns: {filesystem: {value: os.Release}}\n"), `no command is called "os"`},
		"same name": {"version: 1\nreports:\n  software:\n    shape: merge\n    commands: [{line: a, template: kernel}, {line: b, template: kernel}]\n",
			"two commands"},
		"unnamed command": {"version: 1\nreports:\n  software:\n    shape: merge\n    commands: [{line: a, template: kernel}, {line: b, template: os_release}]\n    columns: {version: {value: Release}}\n",
			"command.Value"},
		"volumes of nothing": {"version: 1\nreports:\n  software:\n    shape: merge\n    commands: [{line: a, template: kernel}]\n    columns: {volumes: {value: disks}}\n",
			"the command's name"},
		"omit in a merge": {"version: 1\nreports:\n  software:\n    shape: merge\n    commands: [{line: a, template: kernel}]\n    omit: [{Release: x}]\n",
			"no meaning"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			overrides := t.TempDir()
			path := filepath.Join(overrides, "templates", "linux", "reports.yaml")
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(test.src), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := New(parse.NewLibrary(overrides)).Prepare(t.Context(), json.RawMessage(`{"report":"filesystem"}`), []*device.Device{{Name: "host", Platform: "linux"}})
			if err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), path) {
				t.Fatalf("%v does not say %q and where", err, test.says)
			}
			if kind := fault.KindOf(err); kind != fault.Invalid {
				t.Errorf("kind %s", kind)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than a line: %q", err)
			}
		})
	}
}

// A template that an operator breaks is told before a job starts; one that is
// corrected is used without a restart.
func TestChangedTemplateIsReadAgain(t *testing.T) {
	lib := parse.NewLibrary(t.TempDir())
	op := New(lib)
	env := newEnv("linux").prints("cat /etc/os-release", "PRETTY_NAME=x\n").prints("uname -r", "6.1.0\n")
	if err := env.run(t, op, "software"); err != nil {
		t.Fatal(err)
	}
	path := lib.OverridePath("linux/kernel.textfsm")
	write := func(src string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(src), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("Value Other (x)\n\nStart\n  ^${Other}\n")
	if _, err := op.Prepare(t.Context(), json.RawMessage(`{"report":"software"}`), env.Unit().Devices); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), `no Value "release"`) {
		t.Errorf("got %v", err)
	}
	write("Value Release (\\d+)\n\nStart\n  ^${Release}\n")
	env.rows = nil
	if err := env.run(t, op, "software"); err != nil {
		t.Fatal(err)
	}
	if build := env.rows[0].(Software).Build; build == nil || *build != "6" {
		t.Errorf("row %+v", env.rows[0])
	}
}
