package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"capfleet/internal/cli/output"
	"capfleet/internal/parse"
)

// contextLines are how many lines around an unknown one are shown.
const contextLines = 3

// shownRows bounds the rows shown after each try.
const shownRows = 20

// showOutcome shows the rows that the template gives, or what is wrong with it.
func (a *app) showOutcome(m *mismatch) {
	if m.err != nil {
		a.showProblem(m)
		return
	}
	keys := make([]string, len(m.values))
	for i, v := range m.values {
		keys[i] = v.Key
	}
	shown := m.rows[:min(len(m.rows), shownRows)]
	rows := make([]json.RawMessage, 0, len(shown))
	for _, r := range shown {
		row, err := orderedRow(keys, r)
		if err != nil {
			a.say("%v", err)
			return
		}
		rows = append(rows, row)
	}
	a.say("%s matches: %s", m.Template, count(len(m.rows), "row"))
	if len(rows) > 0 {
		if err := output.Write(a.streams.Err, output.Table, viewOfNames(keys), rows, nil, a.screenErr()); err != nil {
			a.say("%v", err)
		}
	}
	if more := len(m.rows) - len(shown); more > 0 {
		a.say("and %d more", more)
	}
	for _, f := range parse.Lint("", []byte(m.text)) {
		a.say("%s", output.Wrap("warning: "+f.String(), a.screenErr().Width, "  "))
	}
}

// showProblem shows the first line that is not known, with those around it, and
// the rule that stopped there; or what is wrong with the template itself.
func (a *app) showProblem(m *mismatch) {
	var at *parse.LineError
	if !errors.As(m.err, &at) {
		a.say("%s", output.Wrap(fmt.Sprintf("template %s: %v", m.Template, shortCause(m.err)), a.screenErr().Width, "  "))
		return
	}
	screen := a.screenErr()
	a.say("%s does not know line %d of %q:", m.Template, at.Line, m.Command)
	lines := strings.Split(m.Transcript, "\n")
	for i := max(at.Line-1-contextLines, 0); i < min(at.Line+contextLines, len(lines)); i++ {
		text := fmt.Sprintf("  %4d  %s", i+1, output.Clean(strings.TrimRight(lines[i], "\r")))
		if i+1 == at.Line {
			text = screen.Emphasis("> " + text[2:])
		}
		_, _ = fmt.Fprintln(a.streams.Err, text)
	}
	state, rule := ruleAt(m.text, at.Rule)
	a.say("stopped in state %s by line %d of the template: %s", state, at.Rule, rule)
}

// ruleAt gives a rule of a template by its line, with the state that it is in.
func ruleAt(template string, line int) (state, rule string) {
	lines := strings.Split(template, "\n")
	if line < 1 || line > len(lines) {
		return "?", "?"
	}
	rule = strings.TrimSpace(lines[line-1])
	for i := line - 2; i >= 0; i-- {
		text := strings.TrimRight(lines[i], " \t\r")
		if text != "" && text[0] != ' ' && text[0] != '\t' && text[0] != '#' {
			return text, rule
		}
	}
	return "?", rule
}

// shortCause leaves out what the reader knows: that a template was read.
func shortCause(err error) error {
	var bad *parse.TemplateError
	var line *parse.LineError
	switch {
	case errors.As(err, &bad):
		return bad
	case errors.As(err, &line):
		return line
	}
	return err
}
