package parse

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capfleet/internal/fault"
)

// Whatever the template: it compiles or it is refused with a reason, and what
// compiles can be run.
func FuzzCompile(f *testing.F) {
	files, err := filepath.Glob("testdata/corpus/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		template, input, _ := strings.Cut(string(text), "=== input\n")
		f.Add(template, input)
	}
	f.Fuzz(func(t *testing.T, src, text string) {
		if len(src) > 4<<10 || len(text) > 4<<10 {
			t.Skip("larger than a fuzz round should be")
		}
		template, err := Compile("t", []byte(src))
		if err != nil {
			var refused *TemplateError
			if !errors.As(err, &refused) || len(refused.Findings) == 0 || refused.Findings[0].Message == "" {
				t.Fatalf("refused without a reason: %v", err)
			}
			if strings.Contains(err.Error(), "cannot be read: runtime error") {
				t.Fatalf("a panic inside: %v", err)
			}
			return
		}
		checkParse(t, template, text)
	})
}

// Whatever a device prints: every built-in template gives rows with all its
// columns, or says which line it does not know.
func FuzzParse(f *testing.F) {
	lib := NewLibrary("")
	names, err := lib.Names()
	if err != nil {
		f.Fatal(err)
	}
	samples, err := filepath.Glob("../../templates/*/samples/*/*/raw.txt")
	if err != nil || len(samples) == 0 {
		f.Fatalf("no samples: %v", err)
	}
	for _, file := range samples {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, name := range names {
			template, err := lib.Template(name)
			if err != nil {
				t.Fatal(err)
			}
			checkParse(t, template, string(text))
		}
	})
}

func checkParse(t *testing.T, template *Template, text string) {
	rows, err := template.Parse(context.Background(), strings.NewReader(text))
	var line *LineError
	if err != nil && (!fault.Is(err, fault.Unparsed) || !errors.As(err, &line) || line.Line < 1 || rows != nil) {
		t.Fatalf("template %s: %v", template.Name(), err)
	}
	for _, row := range rows {
		for _, v := range template.Values() {
			if value, ok := row[v.Key]; !ok || value == nil {
				t.Fatalf("template %s: column %s is %v", template.Name(), v.Key, value)
			}
		}
	}
}
