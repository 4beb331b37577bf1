package parse

import (
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"capfleet/internal/fault"
	"capfleet/internal/hint"
)

// maxNameLength is Python TextFSM's limit for names of values and states.
const maxNameLength = 48

var (
	valueName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	stateName = regexp.MustCompile(`^\w+$`)
)

// Words that cannot name a state, since an action would read them as operators.
var (
	lineOperators   = []string{"Continue", "Next", "Error"}
	recordOperators = []string{"Clear", "Clearall", "Record", "NoRecord"}
	valueOptions    = []string{"Required", "Filldown", "Fillup", "Key", "List"}
)

// source is a template taken apart into declarations, nothing compiled yet.
type source struct {
	values []valueSource
	states []stateSource
}

type valueSource struct {
	line    int
	name    string
	options []string // in the order written: Python runs their hooks in it
	pattern string   // with its parentheses, spaces as written
}

// group is the pattern as a rule gets it: the first group carries the name.
func (v valueSource) group() string { return "(?P<" + v.name + ">" + v.pattern[1:] }

type stateSource struct {
	line  int
	name  string
	rules []ruleSource
}

type ruleSource struct {
	line   int
	match  string // the expression as written, ${Value} not yet replaced
	action string // what follows "->"; "" without one
}

// readSource reads a template as Python's TextFSM does: values up to the first
// blank line, then states, each with its rules up to the next blank line. What is
// wrong is reported through report and reading goes on, so that a lint shows
// everything at once.
func readSource(text string, report func(Finding)) source {
	var src source
	text = strings.TrimPrefix(text, "\ufeff")
	lines := strings.Split(text, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	n := src.readValues(lines, report)
	src.readStates(lines, n, report)
	return src
}

// readValues gives the index of the first line after the values.
func (s *source) readValues(lines []string, report func(Finding)) int {
	for i, line := range lines {
		line = strings.TrimRightFunc(line, isSpace)
		switch {
		case line == "":
			return i + 1
		case isComment(line):
			continue
		case !strings.HasPrefix(line, "Value "):
			f := Finding{Line: i + 1, Severity: Error, Message: "a blank line must follow the last Value", Fix: "put a blank line before this one"}
			if len(s.values) == 0 {
				f.Message, f.Fix = "no Value is declared", `begin the template with lines such as "Value Name (\S+)"`
			}
			report(f)
			// Whether this was meant as a state or as a Value is anybody's guess; the
			// states are read from here so that their own mistakes show.
			return i
		}
		v, f := readValue(line, i+1)
		if f != nil {
			report(*f)
			continue
		}
		if have := s.collides(v.name); have != nil {
			msg := fmt.Sprintf("Value %s is declared twice (first on line %d)", v.name, have.line)
			if have.name != v.name {
				msg = fmt.Sprintf("Values %s and %s have the same key in a row, which is the name in lower case", have.name, v.name)
			}
			report(Finding{Line: i + 1, Severity: Error, Message: msg, Fix: "give them different names"})
			continue
		}
		s.values = append(s.values, v)
	}
	return len(lines)
}

func (s *source) collides(name string) *valueSource {
	for i := range s.values {
		if strings.EqualFold(s.values[i].name, name) {
			return &s.values[i]
		}
	}
	return nil
}

// readValue reads "Value [options] Name (pattern)". Fields are separated by one
// space each, as Python splits them, so spaces inside the pattern are its own.
func readValue(line string, number int) (valueSource, *Finding) {
	fail := func(fix, format string, args ...any) (valueSource, *Finding) {
		return valueSource{}, &Finding{Line: number, Severity: Error, Message: fmt.Sprintf(format, args...), Fix: fix}
	}
	const form = `write "Value [Option,Option] Name (pattern)", one space between the parts`
	fields := strings.Split(line, " ")
	if len(fields) < 3 {
		return fail(form, "a Value needs a name and a pattern")
	}
	v := valueSource{line: number}
	if strings.HasPrefix(fields[2], "(") {
		v.name, v.pattern = fields[1], strings.Join(fields[2:], " ")
	} else {
		for option := range strings.SplitSeq(fields[1], ",") {
			if !slices.Contains(valueOptions, option) {
				return fail(form+"; options are "+strings.Join(valueOptions, ", "), "unknown option %q", option)
			}
			if slices.Contains(v.options, option) {
				return fail("leave one out", "option %s is given twice", option)
			}
			v.options = append(v.options, option)
		}
		v.name, v.pattern = fields[2], strings.Join(fields[3:], " ")
	}
	switch {
	case len(v.name) > maxNameLength:
		return fail("shorten it", "the name of Value %s is longer than %d characters", v.name, maxNameLength)
	case !strings.HasPrefix(v.pattern, "(") || !strings.HasSuffix(v.pattern, ")") || len(v.pattern) < 2:
		return fail(form, "the pattern of Value %q must stand in one pair of parentheses, got %q", v.name, v.pattern)
	case strings.Count(v.pattern, "(") != strings.Count(v.pattern, ")"):
		// Python counts escaped ones too; a template that passes here must pass there.
		return fail(`balance them; write an escaped one as \x28 or \x29`, "the parentheses in the pattern of Value %q are not balanced", v.name)
	case !valueName.MatchString(v.name):
		return fail("use letters, digits and _, and begin with a letter", "%q cannot name a Value", v.name)
	}
	return v, nil
}

func (s *source) readStates(lines []string, from int, report func(Finding)) {
	for i := from; i < len(lines); {
		line := strings.TrimRightFunc(lines[i], isSpace)
		if line == "" || isComment(line) {
			i++
			continue
		}
		state := stateSource{line: i + 1, name: line}
		if f := s.checkStateName(state); f != nil {
			report(*f)
		}
		for i++; i < len(lines); i++ {
			line := strings.TrimRightFunc(lines[i], isSpace)
			if line == "" {
				break
			}
			if isComment(line) {
				continue
			}
			if !strings.HasPrefix(line, " ^") && !strings.HasPrefix(line, "  ^") && !strings.HasPrefix(line, "\t^") {
				report(Finding{Line: i + 1, Severity: Error, Message: "a rule begins with one or two spaces, or a tab, and ^",
					Fix: "indent the rule by two spaces and begin it with ^; a state's name stands after a blank line"})
				continue
			}
			state.rules = append(state.rules, readRule(line, i+1))
		}
		s.states = append(s.states, state)
	}
}

func (s *source) checkStateName(state stateSource) *Finding {
	fail := func(fix, format string, args ...any) *Finding {
		return &Finding{Line: state.line, Severity: Error, Message: fmt.Sprintf(format, args...), Fix: fix}
	}
	switch {
	case !stateName.MatchString(state.name):
		return fail("use letters, digits and _; rules are indented by two spaces", "%q cannot name a state", fault.Clip(state.name, 200))
	case len(state.name) > maxNameLength:
		return fail("shorten it", "the name of state %s is longer than %d characters", state.name, maxNameLength)
	case slices.Contains(lineOperators, state.name), slices.Contains(recordOperators, state.name):
		return fail("choose another name", "%s is an action and cannot name a state", state.name)
	}
	if i := slices.IndexFunc(s.states, func(have stateSource) bool { return have.name == state.name }); i >= 0 {
		return fail("give them different names", "state %s is defined twice (first on line %d)", state.name, s.states[i].line)
	}
	return nil
}

// readRule splits a rule at its last "->" that follows white space.
func readRule(line string, number int) ruleSource {
	line = strings.TrimFunc(line, isSpace)
	for i := len(line); ; {
		i = strings.LastIndex(line[:i], "->")
		if i < 0 {
			return ruleSource{line: number, match: line}
		}
		if r, size := utf8.DecodeLastRuneInString(line[:i]); size > 0 && isSpace(r) {
			action := strings.Map(func(r rune) rune {
				if isSpace(r) {
					return ' '
				}
				return r
			}, line[i+2:])
			return ruleSource{line: number, match: line[:i-size], action: action}
		}
	}
}

// substitute replaces $Name and ${Name} by the values' groups and $$ by $, as
// Python's string.Template does: anything else after a $ is an error. It also
// gives the names used.
func substitute(match string, values []valueSource) (string, []string, *patternError) {
	if len(values) == 0 {
		return match, nil, nil // Python substitutes nothing then, not even $$
	}
	var out strings.Builder
	var used []string
	for {
		i := strings.IndexByte(match, '$')
		if i < 0 {
			out.WriteString(match)
			return out.String(), used, nil
		}
		out.WriteString(match[:i])
		match = match[i+1:]
		if strings.HasPrefix(match, "$") {
			out.WriteByte('$')
			match = match[1:]
			continue
		}
		name, rest := match, ""
		if body, braced := strings.CutPrefix(match, "{"); braced {
			var closed bool
			if name, rest, closed = strings.Cut(body, "}"); !closed || !valueName.MatchString(name) {
				return "", nil, &patternError{"${ without a Value's name and }", "write ${Name}; for the end of the line write $$"}
			}
		} else {
			end := strings.IndexFunc(match, func(r rune) bool {
				return r > unicode.MaxASCII || r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
			})
			if end >= 0 {
				name, rest = match[:end], match[end:]
			}
			if !valueName.MatchString(name) {
				return "", nil, &patternError{"a single $", "write $$ for the end of the line, ${Name} for a Value"}
			}
		}
		at := slices.IndexFunc(values, func(v valueSource) bool { return v.name == name })
		if at < 0 {
			return "", nil, &patternError{fmt.Sprintf("no Value is called %q", name), "declare it, or correct the name" + hint.DidYouMean(name, names(values))}
		}
		if slices.Contains(used, name) {
			return "", nil, &patternError{fmt.Sprintf("Value %s is used twice in one rule", name), "declare a second Value for the second place"}
		}
		used = append(used, name)
		out.WriteString(values[at].group())
		match = rest
	}
}

// names gives the names of declared Values.
func names(values []valueSource) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, v := range values {
			if !yield(v.name) {
				return
			}
		}
	}
}

// isComment follows Python's expression ^\s*#.
func isComment(line string) bool {
	return strings.HasPrefix(strings.TrimLeftFunc(line, isSpace), "#")
}

// isSpace is Python's str.isspace, which \s, strip and split go by.
func isSpace(r rune) bool {
	switch {
	case r <= ' ':
		return r >= '\t' && r <= '\r' || r >= 0x1c
	case r < 0x1680:
		return r == 0x85 || r == 0xa0
	}
	return r == 0x1680 || r >= 0x2000 && r <= 0x200a || r == 0x2028 || r == 0x2029 || r == 0x202f || r == 0x205f || r == 0x3000
}
