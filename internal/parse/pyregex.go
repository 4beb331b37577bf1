package parse

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"capfleet/internal/fault"
)

// patternError says why an expression cannot be used and what to write instead.
type patternError struct{ problem, fix string }

func (e *patternError) Error() string { return e.problem }

// translation is a Python expression in RE2's syntax, anchored to the start of
// the text as Python's match() is. There are two, because Python's \w, \d and \s
// are Unicode classes: ascii is right for text that is all ASCII, and fast;
// unicode is right for all other text. They are equal where no class is used.
//
// One thing stays different: \b in text that is not ASCII, which RE2 decides by
// ASCII letters.
type translation struct {
	ascii, unicode string
	groups         int // capturing ones
}

// maxRepeat is RE2's limit for {n,m}.
const maxRepeat = 1000

// translate rewrites a Python expression. Neither result contains a $ or a brace
// other than a repeat's, which gotextfsm would read as part of a Value's name.
// Only what the two dialects read differently is looked at; the rest of the
// syntax is left to package regexp.
func translate(pattern string) (translation, *patternError) {
	if !utf8.ValidString(pattern) {
		return translation{}, &patternError{"the text is not UTF-8", "save the template as UTF-8"}
	}
	t := translator{in: pattern}
	if err := t.run(); err != nil {
		return translation{}, err
	}
	head, tail := `\A(?:`, ")"
	if t.foldCase {
		head = `(?i)` + head
	}
	return translation{ascii: head + t.ascii.String() + tail, unicode: head + t.unicode.String() + tail, groups: t.groups}, nil
}

// what a repeat finds before it
type previous int

const (
	nothing previous = iota // start of the expression, a group or a branch
	anchor
	atom
	repeat
	lazyRepeat
)

type translator struct {
	in             string
	pos            int
	ascii, unicode strings.Builder
	prev           previous
	foldCase       bool
	groups         int
	depth          int      // of open groups
	names          []string // of the groups so far
}

func (t *translator) emit(s string) { t.emitBoth(s, s) }

func (t *translator) emitBoth(ascii, unicode string) {
	t.ascii.WriteString(ascii)
	t.unicode.WriteString(unicode)
}

// next takes one rune; 0 and false at the end.
func (t *translator) next() (rune, bool) {
	if t.pos >= len(t.in) {
		return 0, false
	}
	r, size := utf8.DecodeRuneInString(t.in[t.pos:])
	t.pos += size
	return r, true
}

func (t *translator) take(s string) bool {
	if strings.HasPrefix(t.in[t.pos:], s) {
		t.pos += len(s)
		return true
	}
	return false
}

func (t *translator) run() *patternError {
	for {
		r, ok := t.next()
		if !ok {
			if t.depth > 0 {
				return &patternError{"a ( without its )", `write \( for the character itself`}
			}
			return nil
		}
		var err *patternError
		switch r {
		case '\\':
			err = t.escape()
		case '[':
			err = t.class()
		case '(':
			err = t.open()
		case ')':
			// Without the count, ")(?:" would leave the group that anchors it all.
			if t.depth--; t.depth < 0 {
				return &patternError{"a ) without its (", `write \) for the character itself`}
			}
			t.emit(")")
			t.prev = atom
		case '|':
			t.emit("|")
			t.prev = nothing
		case '^':
			t.emit(`\A`)
			t.prev = anchor
		case '$':
			t.emit(`\z`) // a line never ends in a line break
			t.prev = anchor
		case '.':
			t.emit(".")
			t.prev = atom
		case '*', '+', '?':
			err = t.repeat(string(r))
		case '{':
			err = t.brace()
		default:
			t.emit(literal(r))
			t.prev = atom
		}
		if err != nil {
			return err
		}
	}
}

// literal gives the rune so that neither RE2 nor gotextfsm sees anything in it.
func literal(r rune) string {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == ' ', r == '_':
		return string(r)
	case r > ' ' && r < 0x7f && r != '$' && r != '{' && r != '}':
		return `\` + string(r)
	case r < 0x7f || r == 0x7f || isSpace(r) || !unicode.IsPrint(r):
		return fmt.Sprintf(`\x{%x}`, r)
	}
	return string(r)
}

// repeat takes a quantifier with the ? or + that may follow it.
func (t *translator) repeat(quantifier string) *patternError {
	switch t.prev {
	case nothing, anchor:
		return &patternError{"nothing to repeat before " + quantifier, `write \` + quantifier[:1] + " for the character itself"}
	case repeat, lazyRepeat:
		if quantifier == "?" && t.prev == repeat {
			t.emit("?")
			t.prev = lazyRepeat
			return nil
		}
		if quantifier == "+" && t.prev == repeat {
			return &patternError{"the possessive repeat is not available", "leave out the second +; here a repeat never takes long"}
		}
		return &patternError{"one repeat after another: " + quantifier, "put the first in (?: )"}
	}
	t.emit(quantifier)
	t.prev = repeat
	return nil
}

// brace reads {n}, {n,}, {,m}, {,} and {n,m}; anything else is a plain brace.
func (t *translator) brace() *patternError {
	body, _, closed := strings.Cut(t.in[t.pos:], "}")
	low, high, comma := strings.Cut(body, ",")
	if !closed || body == "" || !isDigits(low) || !isDigits(high) {
		t.emit(literal('{'))
		t.prev = atom
		return nil
	}
	t.pos += len(body) + 1
	low = cmp.Or(strings.TrimLeft(low, "0"), "0")
	if !comma {
		high = low
	} else if high != "" {
		high = cmp.Or(strings.TrimLeft(high, "0"), "0")
	}
	for _, n := range []string{low, high} {
		if v, err := strconv.Atoi(n); n != "" && (err != nil || v > maxRepeat) {
			return &patternError{fmt.Sprintf("a repeat of more than %d times, {%s}, is not available", maxRepeat, fault.Clip(body, 200)), "write + or *, or a smaller number"}
		}
	}
	quantifier := "{" + low + "," + high + "}"
	if low == high {
		quantifier = "{" + low + "}"
	}
	return t.repeat(quantifier)
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// open takes what begins with a parenthesis.
func (t *translator) open() *patternError {
	if !t.take("?") {
		t.emit("(")
		t.groups++
		t.depth++
		t.prev = nothing
		return nil
	}
	rest := t.in[t.pos:]
	switch {
	case t.take(":"):
		t.emit("(?:")
	case t.take("P<"):
		name, _, closed := strings.Cut(t.in[t.pos:], ">")
		if !closed || !valueName.MatchString(name) {
			return &patternError{"(?P< without a name and >", "write (?P<name>...) with letters, digits and _"}
		}
		if slices.Contains(t.names, name) {
			return &patternError{fmt.Sprintf("two groups are called %q", name), "give them different names"}
		}
		t.names = append(t.names, name)
		t.pos += len(name) + 1
		t.emit("(?P<" + name + ">")
		t.groups++
	case t.take("#"):
		_, after, closed := strings.Cut(t.in[t.pos:], ")")
		if !closed {
			return &patternError{"a comment (?# without its end", "close it with )"}
		}
		t.pos = len(t.in) - len(after)
		return nil // what stood before it can still be repeated
	case t.take("="), t.take("!"), t.take("<="), t.take("<!"):
		kind := map[byte]string{'=': "look-ahead (?=", '!': "negative look-ahead (?!", '<': "look-behind (?<"}[rest[0]]
		fix := "write what must follow into the rule itself; only the groups of the Values are kept"
		if rest[0] == '!' || strings.HasPrefix(rest, "<!") {
			fix = "put a rule for the excluded text before this one, without an action or with -> Next"
		} else if rest[0] == '<' {
			fix = "write what must come before into the rule itself; only the groups of the Values are kept"
		}
		return &patternError{kind + "...) is not available", fix}
	case t.take("P="):
		return &patternError{"a back reference (?P=...) is not available", "match both places with the same expression and compare the rows"}
	case t.take("("):
		return &patternError{"a conditional group (?(...) is not available", "write one rule for each case"}
	case t.take(">"):
		return &patternError{"an atomic group (?>...) is not available", "write (?:...); here a repeat never takes long"}
	default:
		return t.flags()
	}
	t.depth++
	t.prev = nothing
	return nil
}

// flags takes (?i), (?i:...) and the like. m and s change nothing on a single
// line, u is what Python does anyway.
func (t *translator) flags() *patternError {
	end := strings.IndexAny(t.in[t.pos:], ":)")
	if end < 0 {
		return &patternError{"unknown extension (?", "write (?:...) for a group that keeps nothing"}
	}
	flags := t.in[t.pos : t.pos+end]
	scoped := t.in[t.pos+end] == ':'
	on, off, _ := strings.Cut(flags, "-")
	if strings.Trim(on, "imsu") != "" || strings.Trim(off, "ims") != "" || on+off == "" || !scoped && off != "" {
		return &patternError{fmt.Sprintf("(?%s is not available", fault.Clip(flags, 200)), "only the flag i is of use on a single line: (?i) or (?i:...)"}
	}
	t.pos += end + 1
	if !scoped {
		// Python applies a flag to the whole expression wherever it stands.
		t.foldCase = t.foldCase || strings.Contains(on, "i")
		return nil
	}
	switch {
	case strings.Contains(on, "i"):
		t.emit("(?i:")
	case strings.Contains(off, "i"):
		t.emit("(?-i:")
	default:
		t.emit("(?:")
	}
	t.depth++
	t.prev = nothing
	return nil
}

// escape takes what follows a backslash outside a class.
func (t *translator) escape() *patternError {
	r, ok := t.next()
	if !ok {
		return &patternError{"a backslash at the end", `write \\ for the character itself`}
	}
	switch r {
	case 'A':
		t.emit(`\A`)
		t.prev = anchor
		return nil
	case 'Z':
		t.emit(`\z`)
		t.prev = anchor
		return nil
	case 'b', 'B':
		t.emit(`\` + string(r))
		t.prev = anchor
		return nil
	case 'd', 'D', 'w', 'W', 's', 'S':
		head := "["
		if unicode.IsUpper(r) {
			head = "[^"
		}
		c := escapedClass(unicode.ToLower(r))
		t.emitBoth(head+c.ascii+"]", head+c.unicode+"]")
		t.prev = atom
		return nil
	case '1', '2', '3', '4', '5', '6', '7', '8', '9':
		if code, ok := t.octal(r, 3); ok {
			t.emit(literal(code))
			t.prev = atom
			return nil
		}
		return &patternError{fmt.Sprintf(`a back reference \%c is not available`, r), "match both places with the same expression and compare the rows"}
	case '0':
		code, _ := t.octal(r, 1)
		t.emit(literal(code))
	default:
		code, err := t.character(r)
		if err != nil {
			return err
		}
		t.emit(literal(code))
	}
	t.prev = atom
	return nil
}

// octal reads up to three digits, the first being given, and needs at least the
// number said. A code over 0o377 is none.
func (t *translator) octal(first rune, least int) (rune, bool) {
	end := t.pos
	for end < len(t.in) && end < t.pos+2 && t.in[end] >= '0' && t.in[end] <= '7' {
		end++
	}
	digits := string(first) + t.in[t.pos:end]
	code, err := strconv.ParseUint(digits, 8, 32)
	if err != nil || len(digits) < least || code > 0o377 {
		return 0, false
	}
	t.pos = end
	return rune(code), true
}

// character takes an escape that stands for one character, in a class or not.
func (t *translator) character(r rune) (rune, *patternError) {
	switch r {
	case 'a':
		return '\a', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'v':
		return '\v', nil
	case 'x':
		return t.hex(2)
	case 'u':
		return t.hex(4)
	case 'U':
		return t.hex(8)
	}
	if r <= unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
		return 0, &patternError{fmt.Sprintf(`\%c means nothing`, r), `write the character alone, or \\ for a backslash`}
	}
	return r, nil
}

func (t *translator) hex(digits int) (rune, *patternError) {
	if t.pos+digits <= len(t.in) {
		if code, err := strconv.ParseUint(t.in[t.pos:t.pos+digits], 16, 32); err == nil && code <= unicode.MaxRune && utf8.ValidRune(rune(code)) {
			t.pos += digits
			return rune(code), nil
		}
	}
	return 0, &patternError{fmt.Sprintf("an escape needs %d hexadecimal digits of a character here", digits), `write for example \x20`}
}
