package parse

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/sirikothe/gotextfsm"

	"capfleet/internal/fault"
)

// Template is a compiled template. It is immutable and safe for concurrent use.
type Template struct {
	name   string
	values []Value
	states []state
	start  int
	// implicitEOF: at the end of the text the last record is kept, as long as the
	// template has no EOF state of its own.
	implicitEOF bool
	strict      bool
}

// Value is a column that a template declares.
type Value struct {
	Name string // as declared
	Key  string // in a Row: the name in lower case
	// The options. IsKey is the option Key, which changes nothing in a parse.
	List, Required, Filldown, Fillup, IsKey bool

	options []option
	// nested matches the text of a List's Value again when its pattern names groups
	// of its own; each item is then a map of them.
	nested *matcher
}

// option is a hook that runs when a value is assigned, cleared or saved.
type option byte

const (
	required option = iota
	filldown
	fillup
	key
	list
)

// state is a list of rules; it is named by its index.
type state struct{ rules []rule }

type rule struct {
	line   int
	match  matcher
	groups []assignment
	action lineAction
	record recordAction
	next   int // index of a state, or one of the marks below
	// message is what an Error rule says.
	message string
}

// assignment says which value a group of the expression fills.
type assignment struct{ group, value int }

type lineAction byte

const (
	goOn lineAction = iota // to the next line
	stay                   // Continue: to the next rule with the same line
	fail                   // Error
)

type recordAction byte

const (
	keepNothing recordAction = iota
	keepRecord
	clearRecord
	clearAll
)

// Where a rule leads, beside a state.
const (
	sameState = -1 - iota
	endState  // End: stop, keep nothing more
	eofState  // EOF: stop as at the end of the text
)

// matcher is an expression compiled for ASCII text and, where that differs, for
// other text.
type matcher struct{ ascii, unicode *regexp.Regexp }

// Compile reads a template. A template that is refused gives fault.Invalid with a
// *TemplateError: the line, what is wrong and what to write instead. The name is
// used in messages only.
func Compile(name string, src []byte) (*Template, error) {
	t, findings := compile(name, src)
	findings = slices.DeleteFunc(findings, func(f Finding) bool { return f.Severity != Error })
	if len(findings) > 0 {
		return nil, &fault.Error{Kind: fault.Invalid, Act: "read template " + name, Stage: "template", Err: &TemplateError{Findings: findings}}
	}
	return t, nil
}

// Name is the name given to Compile.
func (t *Template) Name() string { return t.name }

// Values gives the columns in the order of their declaration.
func (t *Template) Values() []Value { return slices.Clone(t.values) }

// Strict reports whether every state ends in a rule that makes any other line an
// error, so that output which changed cannot go unnoticed.
func (t *Template) Strict() bool { return t.strict }

// compile gives the template, which is usable when no finding is an Error, and the
// findings by line.
func compile(name string, text []byte) (t *Template, findings []Finding) {
	report := func(f Finding) {
		f.Template = name
		findings = append(findings, f)
	}
	defer func() {
		if p := recover(); p != nil {
			t, findings = nil, []Finding{{Template: name, Severity: Error, Message: fmt.Sprintf("the template cannot be read: %v", p)}}
		}
	}()
	src := readSource(string(text), report)
	t = &Template{name: name, implicitEOF: true, strict: true}
	for _, v := range src.values {
		value, f := compileValue(v)
		if f != nil {
			report(*f)
		}
		t.values = append(t.values, value)
	}
	used, targets := map[string]bool{}, map[string]bool{}
	index := map[string]int{}
	for _, s := range src.states {
		if s.name == "End" || s.name == "EOF" {
			if len(s.rules) > 0 {
				report(Finding{Line: s.rules[0].line, Severity: Error, Message: "state " + s.name + " must be empty", Fix: "move its rules to another state"})
			}
			t.implicitEOF = t.implicitEOF && s.name != "EOF"
			continue
		}
		index[s.name] = len(t.states)
		t.states = append(t.states, state{})
	}
	for _, s := range src.states {
		if at, ok := index[s.name]; ok {
			t.states[at] = compileState(s, src, index, used, targets, report)
			t.strict = t.strict && s.strict()
		}
	}
	if start, ok := index["Start"]; ok {
		t.start = start
	} else {
		report(Finding{Severity: Error, Message: "the state Start is missing", Fix: "name the first state Start, after a blank line that ends the Values"})
	}
	src.oddities(used, targets, report)
	// By line; what concerns the template as a whole often follows from a line, and
	// comes last.
	slices.SortStableFunc(findings, func(a, b Finding) int { return cmp.Compare(uint(a.Line-1), uint(b.Line-1)) })
	return t, findings
}

func compileState(s stateSource, src source, index map[string]int, used, targets map[string]bool, report func(Finding)) state {
	out := state{}
	for _, r := range s.rules {
		compiled, next, err := compileRule(r, src.values, used)
		if err != nil {
			report(Finding{Line: r.line, Severity: Error, Message: err.problem, Fix: err.fix})
			continue
		}
		if name := repeatsEmptyGroup(compiled.match.ascii.String()); name != "" {
			report(Finding{Line: r.line, Severity: Warning, Message: fmt.Sprintf("%s is inside a repeat that can match nothing: Python keeps an empty last round, this engine the one before", name),
				Fix: "let what is repeated match at least one character"})
		}
		if next != "" && compiled.action != fail {
			targets[next] = true
			at, ok := index[next]
			switch {
			case ok:
				compiled.next = at
			case next == "End":
				compiled.next = endState
			case next == "EOF":
				compiled.next = eofState
			default:
				report(Finding{Line: r.line, Severity: Error, Message: fmt.Sprintf("there is no state %q", next), Fix: "define it, or correct the action"})
			}
		}
		out.rules = append(out.rules, compiled)
	}
	return out
}

func compileValue(v valueSource) (Value, *Finding) {
	out := Value{Name: v.name, Key: strings.ToLower(v.name)}
	for _, o := range v.options {
		switch o {
		case "List":
			out.List, out.options = true, append(out.options, list)
		case "Required":
			out.Required, out.options = true, append(out.options, required)
		case "Filldown":
			out.Filldown, out.options = true, append(out.options, filldown)
		case "Fillup":
			out.Fillup, out.options = true, append(out.options, fillup)
		case "Key":
			out.IsKey, out.options = true, append(out.options, key)
		}
	}
	m, groups, err := compileExpression(v.group())
	if err != nil {
		return out, &Finding{Line: v.line, Severity: Error, Message: err.problem, Fix: err.fix}
	}
	if out.List && groups > 1 && slices.ContainsFunc(m.ascii.SubexpNames(), func(n string) bool { return n != "" && n != v.name }) {
		out.nested = &m
	}
	return out, nil
}

func compileExpression(pattern string) (matcher, int, *patternError) {
	tr, err := translate(pattern)
	if err != nil {
		return matcher{}, 0, err
	}
	m, err := tr.compile()
	return m, tr.groups, err
}

func (tr translation) compile() (matcher, *patternError) {
	ascii, err := regexp.Compile(tr.ascii)
	if err != nil {
		return matcher{}, badExpression(err)
	}
	m := matcher{ascii: ascii, unicode: ascii}
	if tr.unicode != tr.ascii {
		if m.unicode, err = regexp.Compile(tr.unicode); err != nil {
			return matcher{}, badExpression(err)
		}
	}
	return m, nil
}

func badExpression(err error) *patternError {
	return &patternError{strings.TrimPrefix(err.Error(), "error parsing regexp: "), "correct the expression"}
}

// compileRule has gotextfsm read the rule, whose expression is translated and has
// its Values in place already. It gives the rule and the name of the next state.
func compileRule(r ruleSource, values []valueSource, used map[string]bool) (rule, string, *patternError) {
	match, names, perr := substitute(r.match, values)
	if perr != nil {
		return rule{}, "", perr
	}
	for _, n := range names {
		used[n] = true
	}
	tr, perr := translate(match)
	if perr != nil {
		return rule{}, "", perr
	}
	m, perr := tr.compile() // before gotextfsm does, for the clearer message
	if perr != nil {
		return rule{}, "", perr
	}
	read, perr := readAction(tr.ascii, r)
	if perr != nil {
		return rule{}, "", perr
	}
	out := rule{line: r.line, match: m, next: sameState}
	out.match.ascii = read.CompiledRegex
	if tr.unicode == tr.ascii {
		out.match.unicode = read.CompiledRegex
	}
	for group, name := range read.CompiledRegex.SubexpNames() {
		if at := slices.IndexFunc(values, func(v valueSource) bool { return v.name == name }); at >= 0 {
			out.groups = append(out.groups, assignment{group: group, value: at})
		}
	}
	switch read.LineOp {
	case "Continue":
		out.action = stay
	case "Error":
		out.action = fail
		out.message = strings.Trim(read.NewState, `"`)
	}
	switch read.RecordOp {
	case "Record":
		out.record = keepRecord
	case "Clear":
		out.record = clearRecord
	case "Clearall":
		out.record = clearAll
	}
	return out, read.NewState, nil
}

// readAction gives what gotextfsm makes of a rule. It compiles expressions with
// MustCompile on the way, so a panic becomes an error.
func readAction(expression string, r ruleSource) (out gotextfsm.TextFSMRule, perr *patternError) {
	const form = "write -> [Next|Continue|Error][.Record|.Clear|.Clearall|.NoRecord] [State]; Continue takes no state"
	defer func() {
		if p := recover(); p != nil {
			perr = &patternError{fmt.Sprintf("the rule cannot be read: %v", p), "correct the rule"}
		}
	}()
	line := expression
	if r.action != "" {
		line += " ->" + r.action
	}
	err := out.Parse(line, r.line, map[string]any{})
	switch {
	case strings.Contains(expression, "__DOUBLE_OPENBR__"), strings.Contains(expression, "__DOUBLE_CLOSEBR__"), err == nil && out.Regex != expression:
		return out, &patternError{"the expression holds a mark that gotextfsm uses itself", "leave out words such as __DOUBLE_OPENBR__"}
	case err != nil:
		return out, &patternError{fmt.Sprintf("the action %q cannot be read", "->"+fault.Clip(r.action, 200)), form}
	}
	return out, nil
}
