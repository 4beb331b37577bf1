package cli

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
)

// FuzzNames: names that devices choose (mount points, rotation files, prompts, host
// keys, volumes), in every result and every format. A terminal obeys none, a line
// stays a line, a cell a cell, and the values come back from JSON and YAML.
func FuzzNames(f *testing.F) {
	for _, name := range []string{
		"/", "rot-file-01", "lon-probe-01 (config) # ", "=HYPERLINK(\"http://x\",\"y\")", "@SUM(1)", "+1", "-1", "\t=1", " =1", "a,b\"c\nd", "\r\n,",
		"\x1b[2J\x1b]0;t\x07", "\u009b31m", "\u202egpj.exe", "\u2028", "\xff\xfe", "\x00", "'", "null", "~", "!!binary x", "東京", "e\u0301", "\U000e0041",
		"ssh-ed25519 AAAA\nssh-rsa BBBB", "../../etc/passwd", "C:\\x", strings.Repeat("é", 300),
	} {
		f.Add(name, "x")
	}
	f.Add("a", strings.Repeat("../", 40))
	f.Fuzz(func(t *testing.T, name, other string) {
		if len(name)+len(other) > 8<<10 {
			return
		}
		for operation, row := range map[string]map[string]any{
			`report {"report":"filesystem"}`:    {"device": name, "filesystem": other, "total_bytes": 1, "assumed_unit": name},
			`report {"report":"rotation-file"}`: {"device": "d", "name": name, "vision_retention_seconds": 61, "source": other},
			`report {"report":"software"}`: {"device": "d", "version": name, "hotfixes": []string{other, name}, "active_volume": other,
				"volumes": []map[string]any{{"volume": name, "version": other, "status": name, "active": true}}},
			`report {"report":"of tomorrow"}`: {"device": name, "key of " + other: other},
			`hostkeys {}`:                     {"device": "d", "host": name, "type": other, "sha256": name, "public_key": other},
			`check {}`:                        {"device": "d", "prompt": name, "version": other, "server_version": other},
			`command {}`:                      {"device": "d", "command": other, "output": name + "\n" + other},
		} {
			kind, spec, _ := strings.Cut(operation, " ")
			raw, err := json.Marshal(row)
			if err != nil {
				t.Fatal(err)
			}
			res := api.Results{Job: api.Job{ID: "1", Operation: kind, Spec: json.RawMessage(spec)}, Rows: []json.RawMessage{raw},
				Failures: []api.Failure{{Device: name, Stage: "parse", Kind: "unparsed", Message: other}}}
			ans, err := resultAnswer(res)
			if err != nil {
				t.Fatalf("%s: %v", operation, err)
			}
			for _, format := range output.Formats() {
				checkFormat(t, operation, format, &ans, raw)
			}
		}
		if got := fileName(name); got == "" || filepath.Base(got) != got || !filepath.IsLocal(got) || strings.ContainsFunc(got, func(r rune) bool { return r > 0x7e || r <= ' ' }) {
			t.Fatalf("%q is kept as %q", name, got)
		}
	})
}

// checkFormat prints an answer with one row, in one format.
func checkFormat(t *testing.T, what string, format output.Format, ans *answer, row json.RawMessage) {
	t.Helper()
	var b bytes.Buffer
	screen := output.Screen{Terminal: true, Width: 80}
	var err error
	if format.ForPeople() && ans.people != nil {
		err = ans.people(&b, format == output.Wide, screen)
	} else {
		err = output.Write(&b, format, ans.view, ans.rows, ans.doc, screen)
	}
	if err != nil {
		t.Fatalf("%s as %s: %v", what, format, err)
	}
	text := b.String()
	if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsGraphic(r) }); i >= 0 || !utf8.ValidString(text) {
		t.Fatalf("%s as %s prints %q", what, format, text)
	}
	var want, got any
	switch format {
	case output.Table, output.Wide:
		if n := strings.Count(text, "\n"); ans.people == nil && n != 2 {
			t.Fatalf("%s as %s: one row takes %d lines:\n%s", what, format, n, text)
		}
		return
	case output.CSV:
		cells, err := csv.NewReader(&b).ReadAll()
		if err != nil || len(cells) != 2 {
			t.Fatalf("%s as CSV: %d lines, %v", what, len(cells), err)
		}
		for _, cell := range append(cells[0], cells[1]...) {
			if cell != "" && strings.ContainsRune("=+-@\t\r\n", rune(cell[0])) {
				t.Fatalf("%s: a spreadsheet would run %q", what, cell)
			}
		}
		return
	case output.JSONL:
		if strings.Count(text, "\n") != 1 {
			t.Fatalf("%s as JSONL: %q", what, text)
		}
		err = json.Unmarshal(b.Bytes(), &got)
	case output.JSON:
		var doc struct{ Rows []any }
		if err = json.Unmarshal(b.Bytes(), &doc); err == nil && len(doc.Rows) == 1 {
			got = doc.Rows[0]
		}
	case output.YAML:
		var doc struct{ Rows []any }
		if err = yaml.Unmarshal(b.Bytes(), &doc); err == nil && len(doc.Rows) == 1 {
			var again []byte
			if again, err = json.Marshal(doc.Rows[0]); err == nil {
				err = json.Unmarshal(again, &got)
			}
		}
	}
	if err == nil {
		err = json.Unmarshal(row, &want)
	}
	if err != nil {
		t.Fatalf("%s as %s: %v\n%s", what, format, err, text)
	}
	a, _ := json.Marshal(want)
	c, _ := json.Marshal(got)
	if !bytes.Equal(a, c) {
		t.Fatalf("%s as %s: %s came back as %s\n%s", what, format, a, c, text)
	}
}
