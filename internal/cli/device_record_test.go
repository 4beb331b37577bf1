package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

// templatesOf is the part of the fake that keeps templates.
type templatesOf struct {
	inForce string
	refused error // what PutTemplate gives, once
	put     []api.TemplateChange
}

func (f *fakeFleet) Template(_ context.Context, platform, name string) (api.Template, error) {
	return api.Template{Name: platform + "/" + name, Text: f.templates.inForce, SHA256: "sha of " + name}, f.down
}

func (f *fakeFleet) PutTemplate(_ context.Context, platform, name string, c api.TemplateChange) (api.TemplateSaved, error) {
	f.templates.put = append(f.templates.put, c)
	if err := f.templates.refused; err != nil {
		f.templates.refused = nil
		return api.TemplateSaved{}, err
	}
	f.templates.inForce = c.Text
	f.outcome = api.Results{Job: api.Job{State: "succeeded", Devices: 1, Counts: map[string]int{"succeeded": 1}},
		Rows: []json.RawMessage{json.RawMessage(`{"device":"lon-probe-01","filesystem":"/endace"}`)}}
	return api.TemplateSaved{Template: api.Template{File: "/etc/o/" + platform + "/" + name + ".textfsm"}, Rows: 1, Sample: "/etc/o/sample", Warnings: []string{"a sample is lost"}}, nil
}

const (
	strict    = "Value Total (\\d+)\n\nStart\n  ^\\S+ #\n  ^Total ${Total} -> Record\n  ^. -> Error \"not known\"\n"
	corrected = "Value Total (\\d+)\n\nStart\n  ^\\S+ #\n  ^\\| Total \\| ${Total} \\| -> Record\n  ^. -> Error \"not known\"\n"
	unknown   = `{"device":"lon-probe-01","platform":"endace_osm","report":"filesystem","command":"show files system","mode":"enable","template":"endace_osm/filesystem","refused":false,` +
		`"transcript":"xxx # show files system\n| Total | 77 |\n","blanked":[{"kind":"host name","count":1,"as":"xxx"}],"collected_at":"2024-05-01T10:11:12Z"}`
)

func recordFixture(t *testing.T) *fakeFleet {
	t.Helper()
	return &fakeFleet{
		templates: templatesOf{inForce: strict},
		outcome: api.Results{Job: api.Job{State: "succeeded", Devices: 1, Counts: map[string]int{"succeeded": 1}},
			Rows: rows(t, unknown)},
	}
}

func TestRecord(t *testing.T) {
	dir := t.TempDir()
	got := session{fleet: recordFixture(t)}.run(t.Context(), t, "device", "record", "lon-probe-01", "--report", "filesystem", "--blank", "Acme")
	if got.code != 0 || got.out != "xxx # show files system\n| Total | 77 |\n" || !strings.Contains(got.errOut, "blanked: host name at 1 place (xxx); read the text before you pass it on") {
		t.Errorf("%+v", got)
	}
	f := recordFixture(t)
	got = session{fleet: f}.run(t.Context(), t, "device", "record", "lon-probe-01", "--samples", dir, "--case", "new", "--", "show", "files", "system")
	if got.code != 0 || got.out != "" {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff(`{"command":"show files system","record":true}`, string(f.submitted[0].Spec)); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string]string{"raw.txt": "xxx # show files system\n| Total | 77 |\n", "origin.txt": "verified: recorded from a device of platform endace_osm on 2024-05-01, cleaned\n"} {
		text, err := os.ReadFile(filepath.Join(dir, "endace_osm/samples/filesystem/new", name))
		if err != nil || string(text) != want {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "endace_osm/samples/filesystem/new/raw.txt"), []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := (session{fleet: recordFixture(t)}).run(t.Context(), t, "device", "record", "a", "--samples", dir, "--case", "new", "--report", "filesystem"); got.code == 0 || !strings.Contains(got.errOut, "another --case") {
		t.Errorf("a sample was overwritten: %+v", got)
	}
}

func TestRecordUsage(t *testing.T) {
	for name, args := range map[string]string{
		"nothing to record":      "lon-probe-01",
		"two devices":            "a b -- show version",
		"a glob":                 "lon-* -- show version",
		"report and command":     "a --report filesystem -- show version",
		"fix without report":     "a --fix -- show version",
		"template without fix":   "a --report filesystem --template x",
		"mode with report":       "a --report filesystem --mode enable",
		"case with a path":       "a --report filesystem --case ../x",
		"fix without a terminal": "a --report filesystem --fix",
	} {
		f := recordFixture(t)
		if got := (session{fleet: f}).run(t.Context(), t, append([]string{"device", "record"}, strings.Fields(args)...)...); got.code != fault.ExitUsage || len(f.submitted) > 0 {
			t.Errorf("%s: %+v, %v", name, got, f.submitted)
		}
	}
}

// fixSession runs --fix at a terminal; each edit makes the file what is next in
// edits.
func fixSession(t *testing.T, f *fakeFleet, typed string, edits ...string) (outcome, *int) {
	t.Helper()
	var out, errOut bytes.Buffer
	n := new(int)
	streams := Streams{
		In: strings.NewReader(typed), Out: &out, Err: &errOut, InTerminal: true, OutTerminal: true, ErrTerminal: true,
		Width:  func() int { return 100 },
		Getenv: func(key string) string { return map[string]string{"TERM": "dumb", "EDITOR": "ed -x"}[key] },
		Now:    func() time.Time { return testTime },
		Edit: func(_ context.Context, editor, file string) error {
			if editor != "ed -x" || *n >= len(edits) {
				t.Errorf("edit %d with %q", *n, editor)
				return os.ErrInvalid
			}
			*n++
			if edits[*n-1] == "fails" {
				return errors.New("exit status 1")
			}
			return os.WriteFile(file, []byte(edits[*n-1]), 0o600)
		},
	}
	code := run(t.Context(), strings.Fields("device record lon-probe-01 --report filesystem --fix"), streams, Build{}, func(string) (fleet, error) { return f, nil })
	return outcome{code, out.String(), errOut.String()}, n
}

// The whole way: an unknown line, a slip, another unknown line, rows, saved,
// proven.
func TestFix(t *testing.T) {
	f := recordFixture(t)
	got, n := fixSession(t, f, "\ne\n\ns\n", "Value Total (\\d+\n\nStart\n", strict+"# changed\n", corrected)
	if got.code != 0 || *n != 3 {
		t.Fatalf("%d edits, %+v", *n, got)
	}
	for _, want := range []string{
		`endace_osm/filesystem does not know line 2 of "show files system":`,
		"> \x1b", "| Total | 77 |",
		`stopped in state Start by line 6 of the template: ^. -> Error "not known"`,
		"template endace_osm/filesystem: line 1",
		"endace_osm/filesystem matches: 1 row",
		"saved as /etc/o/endace_osm/filesystem.textfsm on fleetd's host",
		"warning: a sample is lost",
		"running report filesystem on lon-probe-01:",
	} {
		if want == "> \x1b" {
			want = ">    2  | Total | 77 |"
		}
		if !strings.Contains(strings.ReplaceAll(strings.ReplaceAll(got.errOut, "\x1b[1m", ""), "\x1b[0m", ""), want) {
			t.Errorf("not said: %s\n%s", want, got.errOut)
		}
	}
	if !strings.Contains(got.out, "/endace") {
		t.Errorf("the proof: %q", got.out)
	}
	want := []api.TemplateChange{{Text: corrected, Base: "sha of filesystem", Sample: &api.TemplateSample{Case: "recorded_20240501", Raw: "xxx # show files system\n| Total | 77 |\n",
		Origin: "verified: recorded from a device of platform endace_osm on 2024-05-01, cleaned\n"}}}
	if diff := cmp.Diff(want, f.templates.put); diff != "" {
		t.Errorf("put (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(`{"report":"filesystem"}`, string(f.submitted[len(f.submitted)-1].Spec)); diff != "" {
		t.Error(diff)
	}
}

// What fleetd refuses is shown and can be corrected; the copy is never lost.
func TestFixRefusedByFleetd(t *testing.T) {
	f := recordFixture(t)
	f.templates.refused = fault.New(fault.Invalid, "template has no Value total_unit")
	got, _ := fixSession(t, f, "\ns\n\ns\n", corrected, corrected+"# better\n")
	if got.code != 0 || len(f.templates.put) != 2 || !strings.Contains(got.errOut, "template has no Value total_unit") {
		t.Errorf("%+v, %d puts", got, len(f.templates.put))
	}
}

// An editor that fails, or is not there, takes nothing and ends nothing.
func TestFixEditorFails(t *testing.T) {
	f := recordFixture(t)
	got, _ := fixSession(t, f, "\ne\ns\n", "fails", corrected)
	if got.code != 0 || len(f.templates.put) != 1 || !strings.Contains(got.errOut, "run the editor ed -x: exit status 1 (set EDITOR)") {
		t.Errorf("%+v", got)
	}
}

func TestFixQuit(t *testing.T) {
	for name, typed := range map[string]string{"quit": "\nq\n", "end of input": "\n"} {
		f := recordFixture(t)
		got, _ := fixSession(t, f, typed, corrected)
		_, rest, ok := strings.Cut(got.errOut, "your copy is kept: ")
		file, _, _ := strings.Cut(rest, "\n")
		t.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(file)) })
		if text, err := os.ReadFile(file); !ok || err != nil || string(text) != corrected || got.code != fault.ExitFailed || len(f.templates.put) > 0 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestFixWithoutTerminal(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{"good.textfsm": corrected, "bad.textfsm": strict} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fix := strings.Fields("device record lon-probe-01 --report filesystem --fix --template")
	f := recordFixture(t)
	if got := (session{fleet: f}).run(t.Context(), t, append(fix, "good.textfsm")...); got.code != 0 || len(f.templates.put) != 1 {
		t.Errorf("%+v", got)
	}
	f = recordFixture(t)
	if got := (session{fleet: f}).run(t.Context(), t, append(fix, "bad.textfsm")...); got.code != fault.ExitFailed || len(f.templates.put) != 0 || !strings.Contains(got.errOut, "line 2") {
		t.Errorf("%+v", got)
	}
	// A fleetd without a place for overrides: the template is left here.
	f = recordFixture(t)
	f.templates.refused = &fault.Error{Kind: fault.Unsupported, Act: "save", Next: "start fleetd with --overrides DIR"}
	got := session{fleet: f}.run(t.Context(), t, append(fix, "good.textfsm")...)
	if text, err := os.ReadFile("filesystem.textfsm"); err != nil || string(text) != corrected || got.code == 0 || !strings.Contains(got.errOut, "DIR/templates/endace_osm/filesystem.textfsm") {
		t.Errorf("%+v, %v", got, err)
	}
	// Nothing to mend: the report is run all the same.
	f = recordFixture(t)
	f.templates.inForce = corrected
	if got := (session{fleet: f}).run(t.Context(), t, append(fix, "good.textfsm")...); got.code != 0 || len(f.templates.put) != 0 || !strings.Contains(got.errOut, "nothing to mend") {
		t.Errorf("%+v", got)
	}
}
