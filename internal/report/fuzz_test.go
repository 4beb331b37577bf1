package report

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/parse"
	"capfleet/templates"
)

// maxFuzzed bounds one input; what is larger finds nothing that is smaller does not.
const maxFuzzed = 16 << 10

// FuzzLayout: a reports.yaml is refused in one line or gives a layout whose parts
// are all there, and a layout that was taken reads any output without a panic.
func FuzzLayout(f *testing.F) {
	files, err := fs.Glob(templates.FS, "*/reports.yaml")
	if err != nil || len(files) == 0 {
		f.Fatalf("%v %v", files, err)
	}
	df, err := fs.ReadFile(templates.FS, "linux/samples/filesystem/posix/raw.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		src, err := fs.ReadFile(templates.FS, file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src, df)
	}
	f.Add([]byte("version: 1\nreports: {filesystem: }\n"), []byte(nil))
	f.Add([]byte("version: 1\nreports: &a {software: *a}\n"), []byte(nil))
	f.Add([]byte("version: 1\nreports:\n  software:\n    shape: merge\n    commands: [{line: uname -r, template: kernel}]\n    columns: {version: {value: Release, map: [{match: '(.)', to: '${1}${1}'}]}, volumes: {value: kernel, columns: {volume: {value: Release}}}}\n"),
		[]byte("6.1.0-18-amd64\n"))
	f.Add([]byte("version: 1\nreports: {filesystem: {shape: rows, at_least: 1, commands: [{line: a, template: ../../etc/passwd}]}}\n"), df)
	lib := parse.NewLibrary("")
	dev := &device.Device{Name: "dev-01", Platform: "linux"}
	f.Fuzz(func(t *testing.T, src, text []byte) {
		if len(src)+len(text) > maxFuzzed {
			return
		}
		l := &layouts{lib: lib, cache: map[string]cachedLayout{}}
		all, err := l.read(dev.Platform, "reports.yaml", src)
		if (all == nil) == (err == nil) {
			t.Fatalf("layout %v and error %v", all, err)
		}
		if err != nil {
			if err.Error() == "" {
				t.Fatal("refused without a reason")
			}
			return
		}
		for report, how := range all.reports {
			if how.unsupported != "" {
				continue
			}
			answers := map[string]answer{}
			for i := range how.commands {
				cmd := &how.commands[i]
				switch {
				case cmd.template == nil || cmd.name == "" || strings.TrimSpace(cmd.line) == "" || strings.ContainsAny(cmd.line, "\r\n"):
					t.Fatalf("%s: command %+v", report, cmd)
				case !fs.ValidPath(cmd.path) || !filepath.IsLocal(cmd.path):
					t.Fatalf("%s: template %q is outside the tree", report, cmd.path)
				case how.command(cmd.name) != cmd:
					t.Fatalf("%s: two commands %q", report, cmd.name)
				}
				rows, err := cmd.template.Parse(t.Context(), bytes.NewReader(text))
				if err == nil {
					answers[cmd.name] = answer{command: cmd, transcript: string(text), rows: rows}
				}
			}
			if _, ok := answers[how.commands[0].name]; !ok {
				continue // the report ends there
			}
			rows, _, err := makeRows(all, how, answers, dev, Spec{Report: report}, time.Unix(0, 0).UTC())
			if err == nil {
				checkRows(t, rows, dev.Name)
			}
		}
	})
}

// FuzzRows: whatever the commands of a report print, names of file systems and
// rotation files among it, there are rows that hold together, or an error that says
// where, with the text kept under a plain name.
func FuzzRows(f *testing.F) {
	samples, err := fs.Glob(templates.FS, "*/samples/*/*/raw.txt")
	if err != nil || len(samples) == 0 {
		f.Fatalf("%v %v", samples, err)
	}
	for _, file := range samples {
		text, err := fs.ReadFile(templates.FS, file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("Filesystem 1024-blocks Used Available Capacity Mounted on\n=HYPERLINK(1) 1 2 3 4% /\x1b]0;x\x07../../\u202e\n")
	f.Add("Filesystem 1024-blocks Used Available Capacity Mounted on\na 99999999999999999999 -1 0 101% /\n")
	lib := parse.NewLibrary("")
	l := &layouts{lib: lib, cache: map[string]cachedLayout{}}
	op := New(lib)
	platforms := []string{"endace_osm", "f5_bigip", "linux"}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > maxFuzzed {
			return
		}
		for _, platform := range platforms {
			all, err := l.forPlatform(platform)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range slices.Sorted(maps.Keys(all.reports)) {
				how := all.reports[name]
				if how.unsupported != "" {
					continue
				}
				env := newEnv(platform)
				for _, c := range how.commands {
					env.prints(c.line, text)
				}
				if err := env.run(t, op, name); err != nil {
					checkFailure(t, env, err)
					continue
				}
				checkRows(t, env.rows, env.dev.Name)
			}
		}
	})
}

// checkFailure wants an error that leads on, and the text behind it.
func checkFailure(t *testing.T, env *fakeEnv, err error) {
	t.Helper()
	if !fault.Is(err, fault.Unparsed) || !strings.Contains(err.Error(), env.dev.Name) {
		t.Fatalf("%s: %v", fault.KindOf(err), err)
	}
	if len(env.kept) != 1 || len(env.rows) != 0 {
		t.Fatalf("%d texts kept and %d rows beside the error %v", len(env.kept), len(env.rows), err)
	}
	for name := range env.kept {
		if filepath.Base(name) != name || !filepath.IsLocal(name) {
			t.Fatalf("kept as %q", name)
		}
	}
}

// checkRows wants rows that are JSON, about the device asked, whose figures are
// possible ones.
func checkRows(t *testing.T, rows []any, dev string) {
	t.Helper()
	for _, row := range rows {
		raw, err := json.Marshal(row)
		if err != nil {
			t.Fatalf("%+v: %v", row, err)
		}
		var cells map[string]any
		if err := json.Unmarshal(raw, &cells); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		if cells["device"] != dev {
			t.Fatalf("a row of %s is about %q", dev, cells["device"])
		}
		for key, value := range cells {
			// df gives less than nothing where root has used up the reserve.
			if n, ok := value.(float64); ok && n < 0 && key != "free_bytes" && key != "usable_bytes" {
				t.Fatalf("%s is %v in %s", key, n, raw)
			}
		}
	}
}
