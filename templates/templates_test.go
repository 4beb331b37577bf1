package templates_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/parse"
	"capfleet/templates"
)

// What is built in is strict and clean: a line that no rule knows is an error.
func TestTemplatesAreStrict(t *testing.T) {
	lib := parse.NewLibrary("")
	names, err := lib.Names()
	if err != nil || len(names) == 0 {
		t.Fatalf("%v %v", names, err)
	}
	for _, name := range names {
		src, err := lib.ReadFile(name + parse.Extension)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range parse.Lint(name, src) {
			t.Error(f)
		}
		template, err := lib.Template(name)
		if err != nil {
			t.Fatal(err)
		}
		if !template.Strict() {
			t.Errorf("%s lets lines pass", name)
		}
		if _, err := template.Parse(t.Context(), strings.NewReader("% Unknown command, all is well\n")); err == nil {
			t.Errorf("%s reads an error message as its command's output", name)
		}
	}
}

// Every sample gives its rows, every template has a sample, and every sample tells
// where it is from.
func TestSamples(t *testing.T) {
	lib := parse.NewLibrary("")
	sampled := map[string]bool{}
	raws, err := fs.Glob(templates.FS, "*/samples/*/*/raw.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range raws {
		parts := strings.Split(raw, "/")
		name, dir := parts[0]+"/"+parts[2], path.Dir(raw)
		sampled[name] = true
		t.Run(dir, func(t *testing.T) {
			template, err := lib.Template(name)
			if err != nil {
				t.Fatal(err)
			}
			rows, err := template.Parse(t.Context(), bytes.NewReader(read(t, raw)))
			if err != nil {
				t.Fatal(err)
			}
			var want []parse.Row
			if err := json.Unmarshal(read(t, dir+"/want.json"), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, rows); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			origin := string(read(t, dir+"/origin.txt"))
			if !strings.HasPrefix(origin, "verified") && !strings.HasPrefix(origin, "inferred: ") {
				t.Errorf("origin.txt begins with neither verified nor inferred: %q", origin)
			}
		})
	}
	names, err := lib.Names()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !sampled[name] {
			t.Errorf("%s has no sample", name)
		}
	}
}

// A line that is changed, added or cut into is noticed: each sample with one line
// of something else in it is an error of that line.
func TestSamplesWithAnUnknownLine(t *testing.T) {
	lib := parse.NewLibrary("")
	raws, err := fs.Glob(templates.FS, "*/samples/*/*/raw.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range raws {
		parts := strings.Split(raw, "/")
		template, err := lib.Template(parts[0] + "/" + parts[2])
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.SplitAfter(string(read(t, raw)), "\n")
		for i := range lines {
			text := strings.Join(lines[:i], "") + "% Something has gone wrong\n" + strings.Join(lines[i:], "")
			if rows, err := template.Parse(t.Context(), strings.NewReader(text)); err == nil {
				t.Errorf("%s: an unknown line %d gave %v", raw, i+1, rows)
			}
		}
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := fs.ReadFile(templates.FS, name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
