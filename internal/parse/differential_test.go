package parse

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// compare runs a template over inputs here and in Python. Both must refuse the
// template, or fail on an input, or give the same rows.
func compare(tb failer, p *peer, template string, inputs ...string) {
	tb.Helper()
	want := p.ask(tb, peerRequest{Template: template, Inputs: inputs})
	got, err := Compile("t", []byte(template))
	if err != nil && want.Error == "" && strings.Contains(err.Error(), "not available") {
		return // RE2 cannot
	}
	if (err != nil) != (want.Error != "") {
		tb.Fatalf("template\n%s\nwe say %v, Python says %q", template, err, want.Error)
	}
	if err != nil {
		return
	}
	for _, f := range Lint("t", []byte(template)) {
		if strings.Contains(f.Message, "inside a repeat that can match nothing") {
			return // RE2 differs, and says so
		}
	}
	var header []string
	for _, v := range got.Values() {
		header = append(header, v.Name)
	}
	if diff := cmp.Diff(want.Header, header); diff != "" && len(header)+len(want.Header) > 0 {
		tb.Fatalf("template\n%s\nheader -Python +ours\n%s", template, diff)
	}
	for i, input := range inputs {
		if strings.HasPrefix(want.Results[i].Error, "TypeError") {
			continue // Python's own crash: a List with groups of its own whose group matched nothing; null here
		}
		rows, err := got.Parse(context.Background(), strings.NewReader(input))
		if (err != nil) != (want.Results[i].Error != "") {
			tb.Fatalf("template\n%s\ninput %q\nwe say %v, Python says %q", template, input, err, want.Results[i].Error)
		}
		ours := [][]any{}
		for _, row := range rows {
			record := []any{}
			for _, v := range got.Values() {
				record = append(record, row[v.Key])
			}
			ours = append(ours, record)
		}
		theirs := want.Results[i].Rows
		if theirs == nil {
			theirs = [][]any{}
		}
		if diff := cmp.Diff(theirs, ours); diff != "" {
			tb.Fatalf("template\n%s\ninput %q\nrows -Python +ours\n%s", template, input, diff)
		}
	}
}

// Each file of the corpus is a template, then inputs, parted by lines "=== input".
func TestAgreesWithPythonOnCorpus(t *testing.T) {
	p := startPeer(t)
	files, err := filepath.Glob("testdata/corpus/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parts := strings.Split(string(text), "=== input\n")
			compare(t, p, parts[0], append(parts[1:], "")...)
		})
	}
}

// Small templates whose inputs hold what does not show in a file: control
// characters, line breaks of all kinds, text beyond ASCII.
func TestAgreesWithPythonOnExpressions(t *testing.T) {
	p := startPeer(t)
	text, err := os.ReadFile("testdata/expressions.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name, Value, Rule string
		Template          string
		Inputs            []string
		Repeat            int // of each input, " y" after it
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			template := c.Template
			if template == "" {
				value, rule := c.Value, c.Rule
				if value == "" {
					value = `Value A (\S+)`
				}
				if rule == "" {
					rule = "^${A} -> Record"
				}
				template = value + "\nValue B (b*)\n\nStart\n  " + rule + "\n"
			}
			for i := range c.Inputs {
				if c.Repeat > 0 {
					c.Inputs[i] = strings.Repeat(c.Inputs[i], c.Repeat) + " y"
				}
			}
			compare(t, p, template, c.Inputs...)
		})
	}
}

// Every template made of these parts must behave as in Python, whatever the text.
func TestAgreesWithPythonOnGeneratedTemplates(t *testing.T) {
	p := startPeer(t)
	rapid.Check(t, func(t *rapid.T) {
		inputs := rapid.SliceOfN(rapid.Custom(genText), 1, 6).Draw(t, "inputs")
		compare(t, p, rapid.Custom(genTemplate).Draw(t, "template"), inputs...)
	})
}

// Expressions are drawn from everything the two dialects read differently.
func TestAgreesWithPythonOnGeneratedExpressions(t *testing.T) {
	p := startPeer(t)
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.SampledFrom([]string{
			"a", "b", "c", "1", " ", "-", "_", "]", "{", "}", ",", ".", "|", "(?:", ")", "(", "(?i:", "(?-i:", "(?s:", "(?#x)", "[", "[^", "[]", "[]a]", "[^]a]", "[[:alpha:]]",
			"[a-c]", "[c-a]", "[a-]", `[\w-]`, `[\w-c]`, `[^\W_]`, `[\S ]`, `[\D\s]`, `[\]\-]`, `[\b]`, `[\101]`, "[a&&b]", "[-a]", `[!--]`, `[\x41-\x43]`,
			`\d`, `\D`, `\w`, `\W`, `\s`, `\S`, `\b`, `\B`, `\A`, `\Z`, `\z`, `\x41`, `\u0041`, `\101`, `\0`, `\08`, `\400`, `\t`, `\q`, `\_`, `\-`, `\ `, `\é`, "é", "\u00a0",
			"*", "+", "?", "*?", "+?", "??", "*+", "{2}", "{,2}", "{1,}", "{,}", "{1,2}?", "{2,1}", "{}", "{x}", "{1,2,3}", "{02}", "{1001}", "^", "$$", "$", `\$$`, "(?=a)", "(?!a)", "(?<=a)", "(?<!a)", "(?>a)", "(?P<x>a)", "(?<x>a)", `\1`,
			"${A}", "$A", "${a}", "$AB",
		}), 0, 7).Draw(t, "expression")
		expression := strings.Join(parts, "")
		template := "Value A ([ab1]*)\nValue List B (c)\n\nStart\n  ^" + expression + " -> Record\n  ^${A}${B}? -> Continue.Clear\n"
		if rapid.Bool().Draw(t, "in a value") {
			template = "Value A (" + expression + ")\n\nStart\n  ^.?${A}.* -> Record\n"
		}
		if strings.Contains(expression, `\b`) || strings.Contains(expression, `\B`) {
			return // RE2's word boundary is ASCII's
		}
		compare(t, p, template, rapid.SliceOfN(rapid.Custom(genText), 1, 5).Draw(t, "inputs")...)
	})
}

func genTemplate(t *rapid.T) string {
	var b strings.Builder
	names := []string{"Alpha", "Bravo", "Charlie", "Delta"}[:rapid.IntRange(1, 4).Draw(t, "values")]
	for _, name := range names {
		options := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"Filldown", "Key", "Required", "List", "Fillup"}), 0, 3, rapid.ID).Draw(t, "options")
		pattern := rapid.SampledFrom([]string{`(\d+)`, `(\w*)`, `(\S+)`, `(a|b|)`, `([a-c]{,2})`, `(\d*|x)`, `((?P<` + strings.ToLower(name) + `_in>[ab]+)\d?)`, `(.*)`, `([^\W\d]+)`}).Draw(t, "pattern")
		b.WriteString("Value ")
		if len(options) > 0 {
			b.WriteString(strings.Join(options, ",") + " ")
		}
		b.WriteString(name + " " + pattern + "\n")
	}
	states := []string{"Start", "Middle", "Last"}[:rapid.IntRange(1, 3).Draw(t, "states")]
	next := append([]string{"", "", "", "End", "EOF"}, states...)
	for _, state := range states {
		b.WriteString("\n" + state + "\n")
		for range rapid.IntRange(1, 5).Draw(t, "rules") {
			b.WriteString("  ^" + genExpression(t, names))
			action := rapid.SampledFrom([]string{"", "", "Next", "Continue", "Record", "Clear", "Clearall", "NoRecord", "Next.Record", "Continue.Record",
				"Continue.Clear", "Continue.Clearall", "Next.Clearall", "Next.NoRecord", "Error", `Error "no"`}).Draw(t, "action")
			if !strings.HasPrefix(action, "Continue") && !strings.HasPrefix(action, "Error") {
				action = strings.TrimSpace(action + " " + rapid.SampledFrom(next).Draw(t, "next"))
			}
			if action != "" {
				b.WriteString(" -> " + action)
			}
			b.WriteString("\n")
		}
	}
	if rapid.IntRange(0, 4).Draw(t, "eof") == 0 {
		b.WriteString("\nEOF\n")
	}
	return b.String()
}

func genExpression(t *rapid.T, names []string) string {
	var b strings.Builder
	left := append([]string{}, names...)
	for range rapid.IntRange(0, 4).Draw(t, "parts") {
		part := rapid.SampledFrom([]string{"V", "V", "V", "V?", "V|", " ", `\s*`, `\s+`, "a", "x?", "(?:b|c)", ".", "#", "|", "$$", `\d`, `(?:V)?`, `\[`}).Draw(t, "part")
		if strings.Contains(part, "V") {
			if len(left) == 0 {
				continue
			}
			i := rapid.IntRange(0, len(left)-1).Draw(t, "value")
			part = strings.ReplaceAll(part, "V", "${"+left[i]+"}")
			left = append(left[:i], left[i+1:]...)
		}
		b.WriteString(part)
	}
	return b.String()
}

func genText(t *rapid.T) string {
	part := rapid.SampledFrom([]string{"a", "b", "c", "1", "23", " ", "  ", "x", "#", "[", "ab", "\u00a0", "é", "٣", "ab1 23", "\t"})
	line := rapid.Custom(func(t *rapid.T) string { return strings.Join(rapid.SliceOfN(part, 0, 6).Draw(t, "line"), "") })
	end := rapid.SampledFrom([]string{"\n", "\n", "\n", "\r\n", "\n\n", "\f", "\r", "\u2028", "\u0085"})
	var b strings.Builder
	for range rapid.IntRange(0, 8).Draw(t, "lines") {
		b.WriteString(line.Draw(t, "line") + end.Draw(t, "end"))
	}
	return b.String()
}

// The samples of the built-in templates, whose expected rows came from Python.
func TestAgreesWithPythonOnSamples(t *testing.T) {
	p := startPeer(t)
	lib := NewLibrary("")
	raws, err := filepath.Glob("../../templates/*/samples/*/*/raw.txt")
	if err != nil || len(raws) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	for _, raw := range raws {
		parts := strings.Split(filepath.ToSlash(raw), "/")
		src, err := lib.ReadFile(parts[3] + "/" + parts[5] + Extension)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(raw)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, p, string(src), string(text))
	}
}
