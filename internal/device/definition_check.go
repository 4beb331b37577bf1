package device

import (
	"fmt"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"capfleet/internal/hint"
)

// Transports of a definition.
const (
	TransportShell = "shell"
	TransportExec  = "exec"
)

// SecretEnable is the value of a mode's `secret` where entering it may ask for
// the enable password. What the device asks then is the question of the name
// QuestionPassword.
const (
	SecretEnable     = "enable"
	QuestionPassword = "password"
)

// checker knows where in the file things stand.
type checker struct {
	source string
	root   *yaml.Node
}

func (c checker) errorf(path []any, format string, args ...any) error {
	n := at(c.root, path...)
	where := fmt.Sprintf("%s:%d:%d: ", c.source, n.Line, n.Column)
	if p := pathText(path); p != "" {
		where += p + ": "
	}
	return fmt.Errorf("%s%w", where, fmt.Errorf(format, args...))
}

// decode fills d from root. Keys are checked against the struct tags first, so
// that the error has a position and the nearest known word.
func (c checker) decode(root *yaml.Node, d *Definition) error {
	if err := c.keys(root, reflect.TypeFor[Definition](), nil); err != nil {
		return err
	}
	if err := root.Decode(d); err != nil {
		return fmt.Errorf("%s: %w", c.source, yamlError(err))
	}
	return nil
}

// keys walks node beside the type that it will be decoded into.
func (c checker) keys(n *yaml.Node, t reflect.Type, path []any) error {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t.Kind() == reflect.Struct && n.Kind == yaml.MappingNode:
		return c.structKeys(n, t, path)
	case t.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		for i, item := range n.Content {
			if err := c.keys(item, t.Elem(), with(path, i)); err != nil {
				return err
			}
		}
	case t.Kind() == reflect.Map && n.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if err := c.keys(n.Content[i+1], t.Elem(), with(path, n.Content[i].Value)); err != nil {
				return err
			}
		}
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
	case t.Kind() == reflect.Struct || t.Kind() == reflect.Map:
		return c.errorf(path, "must be a mapping (key: value)")
	case t.Kind() == reflect.Slice:
		return c.errorf(path, "must be a list")
	case n.Kind != yaml.ScalarNode:
		return c.errorf(path, "must be a single value")
	}
	return nil
}

func (c checker) structKeys(n *yaml.Node, t reflect.Type, path []any) error {
	fields := make(map[string]reflect.Type, t.NumField())
	var known []string
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("yaml"); name != "" && name != "-" {
			fields[name] = t.Field(i).Type
			known = append(known, name)
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		ft, ok := fields[key.Value]
		if !ok {
			help := "known: " + strings.Join(known, ", ")
			if near, ok := hint.Nearest(key.Value, slices.Values(known)); ok {
				help = "did you mean " + near + "?"
			}
			return fmt.Errorf("%s:%d:%d: unknown key %.80q (%s)", c.source, key.Line, key.Column, key.Value, help)
		}
		if err := c.keys(value, ft, with(path, key.Value)); err != nil {
			return err
		}
	}
	return nil
}

// with appends to a path without sharing its array.
func with(path []any, step ...any) []any { return append(slices.Clip(path), step...) }

var platformName = regexp.MustCompile(`\A[a-z][a-z0-9_]{0,39}\z`)

// check holds every rule that the types do not express.
func (c checker) check(d *Definition) error {
	switch {
	case !platformName.MatchString(d.Platform):
		return c.errorf([]any{"platform"}, "a name of lower-case letters, digits and _ is needed")
	case d.Transport != TransportShell && d.Transport != TransportExec:
		return c.errorf([]any{"transport"}, "must be %s or %s", TransportShell, TransportExec)
	case d.Transport == TransportShell && len(d.Shell.Modes) == 0:
		return c.errorf([]any{"shell", "modes"}, "transport %s needs at least one mode", TransportShell)
	}
	for i, g := range d.ReadOnly {
		if _, err := path.Match(g, ""); err != nil || strings.TrimSpace(g) == "" {
			return c.errorf([]any{"read_only", i}, "not a glob: %q", g)
		}
	}
	if err := c.files(&d.Files); err != nil {
		return err
	}
	if err := c.checks(&d.Checks); err != nil {
		return err
	}
	if err := c.shell(&d.Shell); err != nil {
		return err
	}
	if err := c.proofs(d); err != nil {
		return err
	}
	if err := c.dossier(d); err != nil {
		return err
	}
	return c.hotfix(d)
}

func (c checker) checks(k *Checks) error {
	for _, p := range []struct {
		key, pattern, command string
	}{{"clock_match", k.ClockMatch, k.Clock}, {"version_match", k.VersionMatch, k.Version}} {
		switch re, err := regexp.Compile(p.pattern); {
		case err != nil:
			return c.errorf([]any{"checks", p.key}, "%w", err)
		case (p.command == "") != (p.pattern == ""):
			return c.errorf([]any{"checks"}, "%s and its command go together", p.key)
		case p.pattern != "" && re.NumSubexp() == 0:
			return c.errorf([]any{"checks", p.key}, "needs a group ( ) around the value")
		}
	}
	if (k.Clock == "") != (k.ClockLayout == "") {
		return c.errorf([]any{"checks"}, "clock and clock_layout go together")
	}
	return nil
}

func (c checker) shell(s *ShellDefinition) error {
	if s.TerminalWidth < 0 || s.TerminalWidth > 10000 || s.TerminalHeight < 0 || s.TerminalHeight > 10000 {
		return c.errorf([]any{"shell"}, "the terminal's size must be between 0 and 10000")
	}
	for i, e := range s.Errors {
		if err := c.pattern(e, "shell", "errors", i); err != nil {
			return err
		}
	}
	if s.Pager != nil {
		if err := c.pattern(s.Pager.Pattern, "shell", "pager", "pattern"); err != nil {
			return err
		}
		if s.Pager.Next == "" {
			return c.errorf([]any{"shell", "pager"}, "next says what to type to go on")
		}
	}
	if err := c.questions(s); err != nil {
		return err
	}
	if err := c.lines(s); err != nil {
		return err
	}
	return c.modes(s)
}

// pattern refuses what does not compile and what matches nothing at all, which
// would be found in every line.
func (c checker) pattern(p string, path ...any) error {
	re, err := regexp.Compile(p)
	switch {
	case err != nil:
		return c.errorf(path, "%w", err)
	case re.MatchString(""):
		return c.errorf(path, "matches the empty text, so it would be found everywhere")
	}
	return nil
}

func (c checker) questions(s *ShellDefinition) error {
	for i, q := range s.Questions {
		if q.Name == "" {
			return c.errorf([]any{"shell", "questions", i}, "a question needs a name")
		}
		if slices.ContainsFunc(s.Questions[:i], func(o Question) bool { return o.Name == q.Name }) {
			return c.errorf([]any{"shell", "questions", i, "name"}, "%q is there twice", q.Name)
		}
		if err := c.pattern(q.Pattern, "shell", "questions", i, "pattern"); err != nil {
			return err
		}
		if q.Yes != "" && q.Yes == q.Safe {
			return c.errorf([]any{"shell", "questions", i, "safe"}, "is the answer that agrees")
		}
		if !printable(q.Safe) || !printable(q.Yes) {
			return c.errorf([]any{"shell", "questions", i}, "an answer is one line without control characters")
		}
	}
	return nil
}

// lines checks everything that is typed.
func (c checker) lines(s *ShellDefinition) error {
	for key, list := range map[string][]string{"on_login": s.OnLogin, "on_login_optional": s.OnLoginOptional} {
		for i, l := range list {
			if strings.TrimSpace(l) == "" || !printable(l) {
				return c.errorf([]any{"shell", key, i}, "must be one line to type")
			}
		}
	}
	if !printable(s.Logout) {
		return c.errorf([]any{"shell", "logout"}, "must be one line to type")
	}
	return nil
}

// printable reports whether a terminal takes text as it is, as part of a line.
func printable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 })
}

func (c checker) modes(s *ShellDefinition) error {
	if len(s.Modes) == 0 {
		return nil
	}
	exprs := make([]*regexp.Regexp, len(s.Modes))
	for i, m := range s.Modes {
		var err error
		if exprs[i], err = c.mode(s, i); err != nil {
			return err
		}
		if slices.ContainsFunc(s.Modes[:i], func(o Mode) bool { return o.Name == m.Name }) {
			return c.errorf([]any{"shell", "modes", i, "name"}, "%q is there twice", m.Name)
		}
	}
	switch {
	case s.WorkingMode == "":
		return c.errorf([]any{"shell"}, "working_mode is missing")
	case s.modeIndex(s.WorkingMode) < 0:
		return c.errorf([]any{"shell", "working_mode"}, "%q is not a mode", s.WorkingMode)
	}
	if err := c.connected(s); err != nil {
		return err
	}
	varying, err := c.varying(s)
	if err != nil {
		return err
	}
	return c.examples(s, exprs, varying)
}

func (c checker) mode(s *ShellDefinition, i int) (*regexp.Regexp, error) {
	m := s.Modes[i]
	here := []any{"shell", "modes", i}
	if m.Name == "" {
		return nil, c.errorf(here, "a mode needs a name")
	}
	if err := c.pattern(m.Pattern, with(here, "pattern")...); err != nil {
		return nil, err
	}
	re, err := PromptExpr(m.Pattern)
	if err != nil {
		return nil, c.errorf(with(here, "pattern"), "%w", err)
	}
	if len(m.Examples) == 0 {
		return nil, c.errorf(here, "a mode needs at least one example of its prompt: patterns are checked with them")
	}
	if m.From == "" {
		if m.Enter != "" || m.Leave != "" || m.Secret != "" {
			return nil, c.errorf(here, "enter, leave and secret need from")
		}
		return re, nil
	}
	switch {
	case s.modeIndex(m.From) < 0:
		return nil, c.errorf(with(here, "from"), "%q is not a mode", m.From)
	case m.Enter == "" || m.Leave == "":
		return nil, c.errorf(here, "a mode with from needs enter and leave")
	case !printable(m.Enter) || !printable(m.Leave):
		return nil, c.errorf(here, "enter and leave are one line to type")
	}
	if m.Secret == "" {
		return re, nil
	}
	if m.Secret != SecretEnable {
		return nil, c.errorf(with(here, "secret"), "must be %s", SecretEnable)
	}
	if !slices.ContainsFunc(s.Questions, func(q Question) bool { return q.Name == QuestionPassword }) {
		return nil, c.errorf(with(here, "secret"), "needs a question named %s: what the device asks", QuestionPassword)
	}
	return re, nil
}

// connected demands a tree: exactly one mode without from, and every other one
// leads down to it.
func (c checker) connected(s *ShellDefinition) error {
	base := -1
	for i, m := range s.Modes {
		if m.From != "" {
			continue
		}
		if base >= 0 {
			return c.errorf([]any{"shell", "modes", i}, "%q and %q are both without from: no way leads from one to the other",
				s.Modes[base].Name, m.Name)
		}
		base = i
	}
	for i, m := range s.Modes {
		steps := 0
		for ; m.From != "" && steps <= len(s.Modes); steps++ {
			m = s.Modes[s.modeIndex(m.From)]
		}
		if steps > len(s.Modes) {
			return c.errorf([]any{"shell", "modes", i, "from"}, "goes round in a circle")
		}
	}
	return nil
}

func (c checker) varying(s *ShellDefinition) (*regexp.Regexp, error) {
	if s.Varying == "" {
		if len(s.Modes) > 1 {
			return nil, c.errorf([]any{"shell"}, "varying is missing: prompts of several modes differ, and it says where")
		}
		return nil, nil
	}
	if err := c.pattern(s.Varying, "shell", "varying"); err != nil {
		return nil, err
	}
	return regexp.MustCompile(s.Varying), nil
}

// examples demands that each example matches its own mode and no other, and that
// something is left of it once the varying parts are gone: what is left tells
// the prompt from output that looks like one.
func (c checker) examples(s *ShellDefinition, exprs []*regexp.Regexp, varying *regexp.Regexp) error {
	for i, m := range s.Modes {
		for j, e := range m.Examples {
			here := []any{"shell", "modes", i, "examples", j}
			if !exprs[i].MatchString(e) {
				return c.errorf(here, "%q does not match the pattern of its own mode", e)
			}
			for k, other := range exprs {
				if k != i && other.MatchString(e) {
					return c.errorf(here, "%q matches mode %s too: patterns must exclude each other", e, s.Modes[k].Name)
				}
			}
			if varying != nil && strings.TrimSpace(varying.ReplaceAllString(e, "")) == "" {
				return c.errorf(here, "varying takes all of %q away: nothing would tell a prompt from output", e)
			}
		}
	}
	return nil
}
