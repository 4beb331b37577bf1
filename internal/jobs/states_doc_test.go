package jobs

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestStatesAreDocumented: the table in docs/architecture.md is the code's, row
// by row, and the drawings there and in the package comment name every state.
func TestStatesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(page), "\n## States\n")
	if !ok {
		t.Fatal("docs/architecture.md has no section States")
	}
	section, _, _ = strings.Cut(section, "\n## ")

	row := regexp.MustCompile("^\\| *(?:`([a-z]+)`)? *\\| *`([a-z]+)` *\\| *([a-z]+) *\\| *(.+?) *\\|$")
	var documented, coded []string
	for line := range strings.Lines(section) {
		if m := row.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			documented = append(documented, fmt.Sprintf("| %s | %s | %s | %s |", m[1], m[2], m[3], m[4]))
		}
	}
	var table strings.Builder
	for _, tr := range Transitions() {
		coded = append(coded, fmt.Sprintf("| %s | %s | %s | %s |", tr.From, tr.To, tr.By, tr.When))
		from := ""
		if tr.From != "" {
			from = "`" + string(tr.From) + "`"
		}
		fmt.Fprintf(&table, "| %s | `%s` | %s | %s |\n", from, tr.To, tr.By, tr.When)
	}
	if strings.Join(documented, "\n") != strings.Join(coded, "\n") {
		t.Errorf("the table in docs/architecture.md is not Transitions(); it would be\n\n| from | to | by | when |\n| --- | --- | --- | --- |\n%s", table.String())
	}

	source, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"docs/architecture.md": drawn(section, "    "), "the package comment": drawn(string(source), "//\t")} {
		for _, s := range []State{Pending, Waiting, Running, Succeeded, Unchanged, Failed, Attention, Skipped, Canceled} {
			if !strings.Contains(text, string(s)) {
				t.Errorf("the drawing in %s has no %s", name, s)
			}
		}
	}
	if there, here := drawn(section, "    "), drawn(string(source), "//\t"); there != here {
		t.Errorf("the drawings differ:\n%s\n%s", there, here)
	}
}

// drawn gives the lines that begin with a prefix, without it.
func drawn(text, prefix string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			b.WriteString(strings.TrimRight(rest, " \n") + "\n")
		}
	}
	return b.String()
}
