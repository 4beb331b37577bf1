package override

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/fault"
	"capfleet/internal/parse"
	"capfleet/internal/report"
)

const (
	name   = "endace_osm/filesystem"
	garble = "lon-probe-01 # show files system\n| Bytes | Total | 43980.5 |\n| Bytes | Used | 41781.4 |\n| Bytes | Usable | 42101.2 |\n| Bytes | Free | 2199.1 |\n"
)

// fixed reads the built-in layout as well as the new one.
func fixed(t *testing.T) string {
	t.Helper()
	src, err := parse.NewLibrary("").ReadFile(name + parse.Extension)
	if err != nil {
		t.Fatal(err)
	}
	head, states, _ := strings.Cut(string(src), "\nStart\n")
	return head + `
Start
  ^\| Bytes \| Total \| ${Total} \|
  ^\| Bytes \| Used \| ${Used} \|
  ^\| Bytes \| Usable \| ${Usable} \|
  ^\| Bytes \| Free \| ${Free} \| -> Record
` + states
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	out := []string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			out = append(out, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := New(dir)
	was, err := s.Template(name)
	if err != nil || was.Overridden || len(was.SHA256) != 64 {
		t.Fatalf("%+v, %v", was, err)
	}
	saved, err := s.Put(t.Context(), Change{Name: name, Text: fixed(t), Base: was.SHA256, Sample: &Sample{Case: "garbled", Raw: garble, Origin: "verified on a probe"}})
	if err != nil {
		t.Fatal(err)
	}
	if !saved.Template.Overridden || saved.Template.Text != fixed(t) || saved.Rows != 1 || saved.Previous != "" || len(saved.Warnings) > 0 {
		t.Errorf("%+v", saved)
	}
	want := []string{"templates/endace_osm/filesystem.textfsm", "templates/endace_osm/samples/filesystem/garbled/origin.txt",
		"templates/endace_osm/samples/filesystem/garbled/raw.txt", "templates/endace_osm/samples/filesystem/garbled/want.json"}
	if diff := cmp.Diff(want, files(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	// It is what reports use from now on.
	if err := report.Check(parse.NewLibrary(dir), "endace_osm"); err != nil {
		t.Error(err)
	}
	again, err := s.Put(t.Context(), Change{Name: name, Text: fixed(t) + "# more\n", Base: saved.Template.SHA256})
	if err != nil || again.Previous == "" {
		t.Fatalf("%+v, %v", again, err)
	}
	if text, err := os.ReadFile(again.Previous); err != nil || string(text) != fixed(t) {
		t.Errorf("what was there is gone: %v", err)
	}
}

// Whatever is refused leaves everything as it was.
func TestRefused(t *testing.T) {
	t.Parallel()
	onlyNew := "Value Total (\\S+)\n\nStart\n  ^\\| Bytes \\| Total \\| ${Total} \\| -> Record\n  ^. -> Error\n"
	for title, c := range map[string]struct {
		change Change
		kind   fault.Kind
		says   string
	}{
		"name that leaves the folder":  {Change{Name: "../../etc/cron", Text: "x"}, fault.Invalid, "is no name of a template"},
		"name of a sample":             {Change{Name: "endace_osm/samples/x", Text: "x"}, fault.Invalid, "is no name of a template"},
		"template that is none":        {Change{Name: name, Text: "Value X (\n\nStart\n"}, fault.Invalid, "line 1"},
		"sample it does not read":      {Change{Name: name, Text: "Value Total (\\S+)\n\nStart\n  ^. -> Error\n", Sample: &Sample{Case: "a", Raw: garble}}, fault.Unparsed, "line 1 does not match"},
		"sample outside":               {Change{Name: name, Text: onlyNew, Sample: &Sample{Case: "../..", Raw: ""}}, fault.Invalid, "is no name of a sample"},
		"Values that the report needs": {Change{Name: name, Text: onlyNew}, fault.Invalid, `has no Value "`},
		"too large":                    {Change{Name: name, Text: strings.Repeat("#", maxTemplate+1)}, fault.TooLarge, "larger"},
		"changed meanwhile":            {Change{Name: name, Text: fixed(t), Base: strings.Repeat("0", 64)}, fault.Conflict, "changed since"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			_, err := New(dir).Put(t.Context(), c.change)
			if !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "fleetd-override-") {
				t.Errorf("%v", err)
			}
			if left := files(t, dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
	if _, err := New("").Put(t.Context(), Change{Name: name, Text: fixed(t)}); !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), "--overrides") {
		t.Errorf("no folder: %v", err)
	}
	if _, err := New("").Template("endace_osm/nothing"); !fault.Is(err, fault.NotFound) {
		t.Errorf("no template: %v", err)
	}
}

// What was read before and is not any more is told, of built-in and of own samples.
func TestWhatIsLost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := New(dir)
	if _, err := s.Put(t.Context(), Change{Name: name, Text: fixed(t), Sample: &Sample{Case: "garbled", Raw: garble}}); err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(fixed(t), "\nStart\n")
	saved, err := s.Put(t.Context(), Change{Name: name, Text: head + "\nStart\n  ^\\S+ # show\n  ^. -> Error\n"})
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(saved.Warnings, "\n")
	for _, want := range []string{"built-in sample endace_osm/samples/filesystem/blocks was read before and is not any more: line 2 does not match",
		"own sample endace_osm/samples/filesystem/garbled was read before and is not any more", "no rule uses Value Total"} {
		if !strings.Contains(all, want) {
			t.Errorf("not told: %s\n%s", want, all)
		}
	}
}

// An override that cannot be used at all can be replaced: that is what is wanted.
func TestBrokenOverrideCanBeReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "templates", filepath.FromSlash(name)+parse.Extension)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	saved, err := New(dir).Put(t.Context(), Change{Name: name, Text: fixed(t), Sample: &Sample{Case: "a", Raw: garble}})
	if err != nil || saved.Previous != file+".previous" {
		t.Errorf("%+v, %v", saved, err)
	}
}

func TestSampleOfThatNameIsKept(t *testing.T) {
	t.Parallel()
	s := New(t.TempDir())
	put := func(raw string) error {
		_, err := s.Put(t.Context(), Change{Name: name, Text: fixed(t), Sample: &Sample{Case: "a", Raw: raw}})
		return err
	}
	if err := put(garble); err != nil {
		t.Fatal(err)
	}
	if err := put(garble); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if err := put(strings.ReplaceAll(garble, "43980.5", "1")); !fault.Is(err, fault.Conflict) {
		t.Errorf("another one: %v", err)
	}
}
