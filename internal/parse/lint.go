package parse

import (
	"fmt"
	"slices"
	"strings"
)

// Severity says whether a finding keeps a template from being used.
type Severity string

const (
	// Error means that the template is refused.
	Error Severity = "error"
	// Warning means that the template runs, and does something its author may not expect.
	Warning Severity = "warning"
)

// Finding is one thing wrong, or odd, in a template.
type Finding struct {
	Template string   `json:"template"`
	Line     int      `json:"line"` // 1-based; 0 is the template as a whole
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
	Fix      string   `json:"fix"` // what to write instead
}

// String gives one line: template, line, what is wrong, what to write instead.
func (f Finding) String() string {
	var b strings.Builder
	if f.Template != "" {
		fmt.Fprintf(&b, "%s: ", f.Template)
	}
	if f.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", f.Line)
	}
	b.WriteString(f.Message)
	if f.Fix != "" {
		fmt.Fprintf(&b, " (%s)", f.Fix)
	}
	return b.String()
}

// TemplateError is why a template was refused: all findings of severity Error.
type TemplateError struct {
	Findings []Finding
}

// Error gives the first finding and how many more there are.
func (e *TemplateError) Error() string {
	f := e.Findings[0]
	f.Template = "" // the error around it names the template
	if more := len(e.Findings) - 1; more > 0 {
		return fmt.Sprintf("%s; and %d more", f, more)
	}
	return f.String()
}

// Lint reads a template and tells everything that is wrong or odd in it, ordered
// by line. A template without findings of severity Error compiles.
func Lint(name string, src []byte) []Finding {
	_, findings := compile(name, src)
	return findings
}

// A state without a rule that ends in Error lets lines pass that no rule matches,
// so a changed output goes unnoticed. These are the ways to write "any line".
var catchAll = []string{"^", "^.", "^.*", "^.+", "^.*$$", "^.+$$"}

func (s stateSource) strict() bool {
	if len(s.rules) == 0 {
		return false
	}
	last := s.rules[len(s.rules)-1]
	word, _, _ := strings.Cut(strings.TrimSpace(last.action), " ")
	return slices.Contains(catchAll, last.match) && (word == "Error" || strings.HasPrefix(word, "Error."))
}

// oddities adds the warnings: what Python accepts as well, but hardly anybody
// wants.
func (s source) oddities(used map[string]bool, targets map[string]bool, report func(Finding)) {
	for _, v := range s.values {
		if !used[v.name] {
			report(Finding{Line: v.line, Severity: Warning, Message: fmt.Sprintf("no rule uses Value %s", v.name), Fix: "leave it out, or write ${" + v.name + "} in a rule"})
		}
		if slices.Contains(v.options, "List") && slices.Contains(v.options, "Fillup") {
			report(Finding{Line: v.line, Severity: Warning, Message: fmt.Sprintf("Fillup puts a plain value into the empty lists of Value %s", v.name), Fix: "use one of the two options"})
		}
		if i, j := slices.Index(v.options, "Required"), slices.Index(v.options, "List"); j > i && i >= 0 {
			report(Finding{Line: v.line, Severity: Warning, Message: fmt.Sprintf("Required looks at the last item of the list in Value %s, not at the list", v.name), Fix: "write List,Required"})
		}
	}
	for _, state := range s.states {
		if state.name == "End" || state.name == "EOF" {
			continue
		}
		if state.name != "Start" && !targets[state.name] {
			report(Finding{Line: state.line, Severity: Warning, Message: fmt.Sprintf("no rule leads to state %s", state.name), Fix: "leave it out, or name it in an action"})
		}
		if !state.strict() {
			report(Finding{Line: state.line, Severity: Warning, Message: fmt.Sprintf("state %s lets lines pass that no rule matches", state.name),
				Fix: "end the state with: ^. -> Error"})
		}
	}
}
