package parse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"unicode/utf8"

	"capfleet/internal/fault"
)

// Row is one record. Its keys are the Value names in lower case. A value is a
// string, "" where nothing matched; a List is []any of strings, with nil for a
// group that took no part in its match, or of map[string]any where the pattern
// names groups of its own. (Fillup on a List puts a plain string there, as Python
// does; Lint warns of it.)
type Row = map[string]any

// LineError is a line for which the template orders an error: in a strict
// template, one that no other rule matches.
type LineError struct {
	Line    int    // 1-based, in the text
	Text    string // the line; untrusted
	Rule    int    // line of the rule in the template
	Message string // of the rule; may be empty
}

// Error quotes the line, shortened.
func (e *LineError) Error() string {
	s := fmt.Sprintf("line %d does not match: %q", e.Line, fault.Clip(e.Text, 200))
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// longLine is the length from which an expression is run on a reader that looks at
// the context, since one run may take longer than a cancelled parse may.
const longLine = 16 << 10

// Parse runs the template over a text and gives its rows. A line that the template
// makes an error gives fault.Unparsed with a *LineError and no rows; a line over
// MaxLine fault.TooLarge. It ends within 100 ms of ctx, unless r itself blocks in
// Read. Time and memory are linear in the text.
func (t *Template) Parse(ctx context.Context, r io.Reader) (rows []Row, err error) {
	defer func() {
		if p := recover(); p != nil {
			rows, err = nil, t.failed(fmt.Errorf("panic: %v", p))
		}
	}()
	m := machine{t: t, ctx: ctx, state: t.start, cells: make([]cell, len(t.values))}
	lines := newLineReader(ctx, r)
	for m.state >= 0 {
		line, ascii, err := lines.next()
		if errors.Is(err, io.EOF) {
			m.state = eofState
			break
		}
		if err == nil {
			err = ctx.Err() // a line costs a hundred times as much
		}
		if err == nil {
			err = m.line(line, ascii, lines.number)
		}
		if err != nil {
			return nil, t.failed(err)
		}
	}
	if m.state == eofState && t.implicitEOF {
		m.save()
	}
	return m.result(), nil
}

func (t *Template) failed(err error) error {
	out := &fault.Error{Kind: fault.KindOf(err), Act: "parse with template " + t.name, Stage: "parse", Err: err}
	var line *LineError
	if errors.As(err, &line) {
		out.Kind = fault.Unparsed
	}
	return out
}

// machine is one run of a template.
type machine struct {
	t     *Template
	ctx   context.Context
	state int
	cells []cell
	rows  [][]any
}

// cell is a value while a record is built. A nil value is Python's None: nothing
// matched since the record began. It is not the same as the empty text.
type cell struct {
	value any // nil, string or []any
	down  any // Filldown's memory
	items []any
}

func (m *machine) line(line []byte, ascii bool, number int) error {
	rules := m.t.states[m.state].rules
	for i := range rules {
		r := &rules[i]
		expression := r.match.unicode
		if ascii {
			expression = r.match.ascii
		}
		at, err := m.find(expression, line)
		if err != nil {
			return err
		}
		if at == nil {
			continue
		}
		for _, a := range r.groups {
			m.assign(a.value, line, at[2*a.group], at[2*a.group+1])
		}
		switch r.record {
		case keepRecord:
			m.save()
		case clearRecord:
			m.clear()
		case clearAll:
			m.clearAll()
		}
		switch r.action {
		case fail:
			return &LineError{Line: number, Text: string(line), Rule: r.line, Message: r.message}
		case stay:
			continue
		}
		if r.next != sameState {
			m.state = r.next
		}
		return nil
	}
	return nil
}

func (m *machine) find(expression *regexp.Regexp, line []byte) ([]int, error) {
	if len(line) < longLine {
		return expression.FindSubmatchIndex(line), nil
	}
	runes := &contextRunes{ctx: m.ctx, line: line}
	at := expression.FindReaderSubmatchIndex(runes)
	return at, runes.err
}

// assign is Python's AssignVar: the text of a group, or None where the group took
// no part in the match, and then the hooks of the options in their order.
func (m *machine) assign(index int, line []byte, from, to int) {
	v, c := &m.t.values[index], &m.cells[index]
	c.value = nil
	if from >= 0 {
		c.value = string(line[from:to])
	}
	for _, o := range v.options {
		switch o {
		case filldown:
			c.down = c.value
		case fillup:
			if empty(c.value) {
				continue
			}
			for i := len(m.rows) - 1; i >= 0 && empty(m.rows[i][index]); i-- {
				m.rows[i][index] = c.value
			}
		case list:
			c.items = append(c.items, v.item(c.value))
		}
	}
}

// item is what a List appends: the text, or a map of the groups that its pattern
// names.
func (v *Value) item(value any) any {
	text, ok := value.(string)
	if v.nested == nil || !ok {
		return value
	}
	expression := v.nested.unicode
	at := expression.FindStringSubmatchIndex(text)
	if at == nil {
		return value
	}
	item := map[string]any{}
	for group, name := range expression.SubexpNames() {
		switch {
		case name == "" || name == v.Name:
		case at[2*group] < 0:
			item[name] = nil
		default:
			item[name] = text[at[2*group]:at[2*group+1]]
		}
	}
	return item
}

// empty is Python's falsehood.
func empty(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	}
	return false
}

// save is Python's _AppendRecord: a record without any value is not kept.
func (m *machine) save() {
	record := make([]any, len(m.cells))
	nothing := true
	for i := range m.cells {
		c := &m.cells[i]
		for _, o := range m.t.values[i].options {
			switch o {
			case required:
				if empty(c.value) {
					m.clear()
					return
				}
			case list:
				c.value = slices.Clone(c.items)
				if c.value.([]any) == nil {
					c.value = []any{}
				}
			}
		}
		record[i] = c.value
		if list, ok := c.value.([]any); c.value != nil && (!ok || len(list) > 0) {
			nothing = false
		}
	}
	if nothing {
		return
	}
	for i, v := range record {
		if v == nil {
			record[i] = ""
		}
	}
	m.rows = append(m.rows, record)
	m.clear()
}

func (m *machine) clear() {
	for i := range m.cells {
		v, c := &m.t.values[i], &m.cells[i]
		c.value = nil
		for _, o := range v.options {
			switch o {
			case filldown:
				c.value = c.down
			case list:
				if !v.Filldown {
					c.items = nil
				}
			}
		}
	}
}

func (m *machine) clearAll() {
	for i := range m.cells {
		m.cells[i] = cell{}
	}
}

func (m *machine) result() []Row {
	rows := make([]Row, len(m.rows))
	for i, record := range m.rows {
		row := make(Row, len(record))
		for j, value := range record {
			row[m.t.values[j].Key] = value
		}
		rows[i] = row
		m.rows[i] = nil
	}
	return rows
}

// contextRunes gives a long line rune by rune and ends early with the context.
type contextRunes struct {
	ctx  context.Context
	line []byte
	pos  int
	read int // runes
	err  error
}

// ReadRune implements io.RuneReader.
func (c *contextRunes) ReadRune() (rune, int, error) {
	if c.read%1024 == 0 && c.err == nil {
		c.err = c.ctx.Err()
	}
	c.read++
	if c.err != nil || c.pos >= len(c.line) {
		return 0, 0, io.EOF
	}
	if b := c.line[c.pos]; b < utf8.RuneSelf {
		c.pos++
		return rune(b), 1, nil
	}
	r, size := utf8.DecodeRune(c.line[c.pos:])
	c.pos += size
	return r, size, nil
}
