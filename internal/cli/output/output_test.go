package output_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"flag"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/mattn/go-runewidth"
	"pgregory.net/rapid"

	"capfleet/internal/cli/output"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func view() output.View {
	return output.View{
		Table: []output.Column{
			{Key: "device", Head: "DEVICE", Fixed: true},
			{Key: "state", Head: "STATE", Kind: output.State},
			{Key: "size", Head: "SIZE GB", Kind: output.Bytes},
			{Key: "used", Head: "USED", Kind: output.Percent},
			{Key: "kept", Head: "KEPT", Kind: output.Duration},
			{Key: "hotfixes", Head: "HOTFIXES", Kind: output.List, Wide: true},
			{Key: "remark", Head: "REMARK"},
		},
		CSV: []output.Column{
			{Key: "device", Head: "Device"},
			{Key: "size", Head: "Size (GB)", Kind: output.Bytes},
			{Key: "kept", Head: "Kept", Kind: output.Duration},
			{Key: "hotfixes", Head: "Hotfixes", Kind: output.List},
			{Key: "remark", Head: "Remark"},
		},
	}
}

func sampleRows() []json.RawMessage {
	return []json.RawMessage{
		json.RawMessage(`{"device":"lon-probe-01","state":"succeeded","size":43980500000001,"used":95,"kept":1051860,"hotfixes":["a-v1","b"],"remark":"a remark that is much too long for a terminal of eighty columns"}`),
		json.RawMessage(`{"device":"lon-probe-02","state":"failed","size":null,"used":0.5,"kept":null,"hotfixes":[],"remark":"=HYPERLINK(\"http://x\")"}`),
		json.RawMessage(`{"device":"東京-probe","state":"waiting","size":20000000,"used":null,"kept":61,"hotfixes":null,"remark":"\u001b[2Jgone \u009b31m \u202edesrever\nsecond, \"line\""}`),
		json.RawMessage(`{"device":"z","state":"pending","size":0,"used":0,"kept":0,"hotfixes":["x",null],"remark":"-1+1"}`),
	}
}

func write(t *testing.T, f output.Format, screen output.Screen) []byte {
	t.Helper()
	rows := sampleRows()
	doc := struct {
		Rows     []json.RawMessage `json:"rows"`
		Failures []string          `json:"failures"`
	}{rows, []string{}}
	var b bytes.Buffer
	if err := output.Write(&b, f, view(), rows, doc, screen); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFormatsGolden(t *testing.T) {
	terminal := output.Screen{Terminal: true, Width: 80}
	for name, c := range map[string]struct {
		format output.Format
		screen output.Screen
	}{
		"table-80.txt":    {output.Table, terminal},
		"table-color.txt": {output.Table, output.Screen{Terminal: true, Width: 80, Color: true}},
		"table-pipe.txt":  {output.Table, output.Screen{}},
		"wide.txt":        {output.Wide, terminal},
		"rows.json":       {output.JSON, terminal},
		"rows.jsonl":      {output.JSONL, terminal},
		"rows.csv":        {output.CSV, terminal},
		"rows.yaml":       {output.YAML, terminal},
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, write(t, c.format, c.screen)) })
	}
}

func TestTableFitsTheTerminal(t *testing.T) {
	for _, width := range []int{80, 100, 120} {
		text := write(t, output.Table, output.Screen{Terminal: true, Width: width})
		for line := range strings.Lines(string(text)) {
			if got := runewidth.StringWidth(strings.TrimSuffix(line, "\n")); got > width {
				t.Errorf("at %d columns a line has %d: %q", width, got, line)
			}
		}
	}
}

// A terminal has room for the time of an instant or for its date, a file for all of it.
func TestInstants(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	cols := output.View{Table: []output.Column{{Key: "t", Head: "T", Kind: output.Instant}}}
	for at, want := range map[string]string{
		"2026-11-20T11:59:58.123456Z":    "11:59:58",
		"2026-11-20T01:30:00+02:00":      "11-19 23:30",
		"2025-12-31T23:59:59.999999999Z": "2025-12-31",
		"no time":                        "no time",
	} {
		rows := []json.RawMessage{json.RawMessage(`{"t":"` + at + `"}`)}
		for screen, text := range map[output.Screen]string{{Terminal: true, Width: 80, Now: now}: want, {}: at} {
			var b bytes.Buffer
			if err := output.Write(&b, output.Table, cols, rows, nil, screen); err != nil || b.String() != "T\n"+text+"\n" {
				t.Errorf("%s: %q, %v", at, b.String(), err)
			}
		}
	}
}

func TestMissingIsNeverZero(t *testing.T) {
	rows := []json.RawMessage{json.RawMessage(`{"device":"d","size":null}`)}
	var table, file bytes.Buffer
	if err := output.Write(&table, output.Table, view(), rows, nil, output.Screen{}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(table.String(), "0") {
		t.Errorf("a zero for a missing figure:\n%s", table.String())
	}
	if err := output.Write(&file, output.CSV, view(), rows, nil, output.Screen{}); err != nil {
		t.Fatal(err)
	}
	if want := "Device,Size (GB),Kept,Hotfixes,Remark\nd,,,,\n"; file.String() != want {
		t.Errorf("got %q, want %q", file.String(), want)
	}
}

// hostile makes text of the kind that devices should not, but may, print.
func hostile() *rapid.Generator[string] {
	bits := rapid.SampledFrom([]string{"\x1b[31m", "\x1b]0;title\a", "\u009b31m", "\u202e", "\u200b", "\u2028", "\r", "\n", "\t", "\x00", "\x7f",
		"\xff", "\U000e0041", "=1+1", "@x", "-", "+", "yes", "1e3", "12:30:00", "null", "~", "a: b", "# c", "- d", "'", `"`, `\`, " ", "{", "|", "é", "東", "text"})
	return rapid.Map(rapid.SliceOfN(bits, 0, 8), func(parts []string) string { return strings.Join(parts, "") })
}

func TestNothingInvisibleIsPrinted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		row, err := json.Marshal(map[string]any{"device": hostile().Draw(t, "device"), "remark": hostile().Draw(t, "remark"),
			"hotfixes": []string{hostile().Draw(t, "hotfix")}, hostile().Draw(t, "key"): hostile().Draw(t, "value")})
		if err != nil {
			t.Fatal(err)
		}
		rows := []json.RawMessage{row}
		for _, f := range output.Formats() {
			var b bytes.Buffer
			if err := output.Write(&b, f, view(), rows, map[string]any{"rows": rows}, output.Screen{Terminal: true, Width: 80}); err != nil {
				t.Fatalf("%s: %v", f, err)
			}
			text := b.String()
			if !utf8.ValidString(text) {
				t.Fatalf("%s: not UTF-8: %q", f, text)
			}
			if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsGraphic(r) }); i >= 0 {
				t.Fatalf("%s: prints %q", f, text[i:])
			}
		}
	})
}

func TestNoCSVCellIsAFormula(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		row, err := json.Marshal(map[string]any{"device": hostile().Draw(t, "device"), "remark": hostile().Draw(t, "remark")})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := output.Write(&b, output.CSV, view(), []json.RawMessage{row}, nil, output.Screen{}); err != nil {
			t.Fatal(err)
		}
		records, err := csv.NewReader(&b).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, cell := range records[1] {
			if cell != "" && strings.ContainsRune("=+-@\t\r\n", rune(cell[0])) {
				t.Fatalf("a spreadsheet would run %q", cell)
			}
		}
	})
}

func TestJSONKeepsItsValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := map[string]any{"value": strings.ToValidUTF8(hostile().Draw(t, "value"), "\ufffd")}
		var b bytes.Buffer
		if err := output.Write(&b, output.JSON, output.View{}, nil, want, output.Screen{}); err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(b.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// document makes values of every shape that JSON has.
func document() *rapid.Generator[any] {
	scalar := rapid.OneOf(
		rapid.Map(hostile(), func(s string) any { return strings.ToValidUTF8(s, "?") }),
		rapid.Map(rapid.Int32(), func(n int32) any { return float64(n) }),
		rapid.SampledFrom([]any{nil, true, false, 0.5, "", "true", "NO", "0x1f", "1_000", "2024-01-01", ".5", "=", "<<", "a\nb\n", "a\n\n", "\n", "a\n b", " a\nb", "a\n", "\ta\nb", "a \nb "}),
	)
	return rapid.Custom(func(t *rapid.T) any { return draw(t, scalar, 3) })
}

func draw(t *rapid.T, scalar *rapid.Generator[any], depth int) any {
	if depth == 0 {
		return scalar.Draw(t, "scalar")
	}
	switch rapid.IntRange(0, 3).Draw(t, "shape") {
	case 0:
		list := make([]any, rapid.IntRange(0, 3).Draw(t, "items"))
		for i := range list {
			list[i] = draw(t, scalar, depth-1)
		}
		return list
	case 1:
		m := map[string]any{}
		for range rapid.IntRange(0, 3).Draw(t, "keys") {
			m[strings.ToValidUTF8(hostile().Draw(t, "key"), "?")] = draw(t, scalar, depth-1)
		}
		return m
	default:
		return scalar.Draw(t, "scalar")
	}
}

func TestYAMLKeepsItsValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := map[string]any{"doc": document().Draw(t, "doc")}
		var b bytes.Buffer
		if err := output.Write(&b, output.YAML, output.View{}, nil, want, output.Screen{}); err != nil {
			t.Fatal(err)
		}
		var got any
		if err := yaml.Unmarshal(b.Bytes(), &got); err != nil {
			t.Fatalf("%v in:\n%s", err, b.String())
		}
		if diff := cmp.Diff(normal(t, want), normal(t, got)); diff != "" {
			t.Fatalf("%s\n%s", diff, b.String())
		}
	})
}

// TestYAMLReadByPyYAML compares with a reader of YAML 1.1 that is not ours and
// not in Go: what we leave unquoted must be text there too.
func TestYAMLReadByPyYAML(t *testing.T) {
	docs := make([]any, 400)
	gen := document()
	for i := range docs {
		docs[i] = map[string]any{"doc": gen.Example(i)}
	}
	var text bytes.Buffer
	for _, doc := range docs {
		text.WriteString("---\n")
		if err := output.Write(&text, output.YAML, output.View{}, nil, doc, output.Screen{}); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "python3", "-c", "import json,sys,yaml\nfor d in yaml.safe_load_all(sys.stdin.buffer): print(json.dumps(d))")
	cmd.Stdin = bytes.NewReader(text.Bytes())
	cmd.Stderr = os.Stderr
	got, err := cmd.Output()
	if err != nil {
		t.Fatalf("python3 with PyYAML (package python3-yaml) is needed: %v", err)
	}
	dec := json.NewDecoder(bytes.NewReader(got))
	for i, doc := range docs {
		var back any
		if err := dec.Decode(&back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(normal(t, doc), normal(t, back)); diff != "" {
			var b bytes.Buffer
			_ = output.Write(&b, output.YAML, output.View{}, nil, doc, output.Screen{})
			t.Fatalf("document %d: %s\n%s", i, diff, b.String())
		}
	}
}

// normal takes a value through JSON, so that numbers and maps have one type.
func normal(t interface{ Fatal(...any) }, v any) any {
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestGBIsExactInCSV(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bytesIn := rapid.Int64().Draw(t, "bytes")
		row, err := json.Marshal(map[string]any{"size": bytesIn})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		v := output.View{Table: []output.Column{{Key: "size", Head: "s", Kind: output.Bytes}}}
		if err := output.Write(&b, output.CSV, v, []json.RawMessage{row}, nil, output.Screen{}); err != nil {
			t.Fatal(err)
		}
		_, cell, _ := strings.Cut(strings.TrimSpace(b.String()), "\n")
		gb, ok := new(big.Rat).SetString(cell)
		if !ok {
			t.Fatalf("not a number: %q", cell)
		}
		if back := new(big.Rat).Mul(gb, big.NewRat(1_000_000_000, 1)); back.Cmp(new(big.Rat).SetInt64(bytesIn)) != 0 {
			t.Fatalf("%d bytes became %s GB", bytesIn, cell)
		}
	})
}

func TestShort(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0s": 0, "5s": 5 * time.Second, "1.4s": 1400 * time.Millisecond, "42s": 42 * time.Second, "3m 20s": 200 * time.Second,
		"4h 11m": 4*time.Hour + 11*time.Minute, "12d 4h": 12*24*time.Hour + 4*time.Hour + 11*time.Minute, "-1m 0s": -time.Minute,
	} {
		if got := output.Short(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain text é 東":      "plain text é 東",
		"\x1b[31mred":         `\x1b[31mred`,
		"\u009b31m":           `\x9b31m`,
		"a\nb\tc\rd":          `a\nb\tc\rd`,
		"\xff\xfe":            `\xff\xfe`,
		"\u202eabc\U000e0041": `\u202eabc\U000e0041`,
		"":                    "",
	} {
		if got := output.Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
	if got, want := output.CleanBlock("a\n\tb\r\n\x1b"), "a\n\tb\\r\n\\x1b"; got != want {
		t.Errorf("CleanBlock: got %q, want %q", got, want)
	}
}

func TestWrap(t *testing.T) {
	for name, c := range map[string]struct {
		line, hang, want string
		width            int
	}{
		"fits":           {"  short", "    ", "  short", 10},
		"no terminal":    {"  much longer than that", "    ", "  much longer than that", 0},
		"hangs":          {"  one two three four", "    ", "  one two\n    three\n    four", 10},
		"long word":      {"a verylongword b", " ", "a\n verylongword\n b", 8},
		"wide character": {"東京 東京", " ", "東京\n 東京", 7},
	} {
		if got := output.Wrap(c.line, c.width, c.hang); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestWriteFileLeavesTheOldOneWhenItFails(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "report.csv")
	if err := output.WriteFile(name, []byte("first\n")); err != nil {
		t.Fatal(err)
	}
	if err := output.WriteFile(name, []byte("second\n")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != "second\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := output.WriteFile(filepath.Join(dir, "taken"), []byte("x")); err == nil {
		t.Error("a directory was replaced")
	}
	link := filepath.Join(t.TempDir(), "link.csv")
	if err := os.Symlink(name, link); err != nil {
		t.Fatal(err)
	}
	if err := output.WriteFile(link, []byte("third\n")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != "third\n" {
		t.Errorf("through a link: %q, %v", got, err)
	}
	if err := os.Chmod(name, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := output.WriteFile(name, []byte("fourth\n")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a file of its owner alone has mode %v, %v", info.Mode(), err)
	}
	if err := output.WriteFile(os.DevNull, []byte("x")); err == nil {
		t.Error("a device was replaced")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 {
		t.Errorf("something is left over: %v", entries)
	}
}
