package output

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// writeYAML prints JSON as YAML 1.2 that YAML 1.1 readers take the same way.
//
// It is written here because a general encoder prefers plain scalars: it lets
// escape characters through, and leaves text such as 1e3 or 12:30:00 unquoted,
// which other readers then take for numbers. Here a string is plain only when no
// reader can mistake it; otherwise it is double-quoted or a literal block.
func writeYAML(w io.Writer, doc any) error {
	flat, err := marshal(doc)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	y := yamlWriter{dec: json.NewDecoder(bytes.NewReader(flat)), w: out}
	y.dec.UseNumber()
	if err := y.value(0, atTop); err != nil {
		return err
	}
	return out.Flush()
}

// yamlWriter turns a stream of JSON tokens into block style, keys in order.
type yamlWriter struct {
	dec *json.Decoder
	w   *bufio.Writer
}

// position is what stands before a value.
type position int

const (
	atTop position = iota
	afterKey
	afterDash
)

// value writes the next value, whose block, if it is one, is indented by indent.
// Writes to a bufio.Writer keep their error until Flush; none is checked here.
func (y yamlWriter) value(indent int, at position) error {
	tok, err := y.dec.Token()
	if err != nil {
		return err
	}
	switch tok := tok.(type) {
	case json.Delim:
		return y.block(tok, indent, at)
	case string:
		y.scalar(at, yamlString(tok, indent))
	case json.Number:
		y.scalar(at, tok.String())
	case bool:
		y.scalar(at, strconv.FormatBool(tok))
	case nil:
		y.scalar(at, "null")
	}
	return nil
}

func (y yamlWriter) scalar(at position, text string) {
	if at != atTop {
		y.put(" ")
	}
	y.put(text + "\n")
}

func (y yamlWriter) put(text string) { _, _ = y.w.WriteString(text) }

// block writes the members of a mapping or a sequence up to its end.
func (y yamlWriter) block(open json.Delim, indent int, at position) error {
	if !y.dec.More() {
		empty := "[]"
		if open == '{' {
			empty = "{}"
		}
		y.scalar(at, empty)
	}
	pad := strings.Repeat(" ", indent)
	for first := true; y.dec.More(); first = false {
		switch {
		case first && at == afterDash:
			y.put(" ") // the first member stays on the line of the dash
		case first && at == afterKey:
			y.put("\n" + pad)
		default:
			y.put(pad)
		}
		next := afterDash
		if open == '{' {
			key, err := y.dec.Token()
			if err != nil {
				return err
			}
			y.put(yamlKey(fmt.Sprint(key)) + ":")
			next = afterKey
		} else {
			y.put("-")
		}
		if err := y.value(indent+2, next); err != nil {
			return err
		}
	}
	_, err := y.dec.Token() // the closing bracket
	return err
}

// yamlPlain is text that every reader takes for a string: it starts with a letter
// or a slash, has no indicator inside and does not end in one.
var yamlPlain = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./ -]*$`)

func yamlKey(s string) string {
	if plainYAML(s) {
		return s
	}
	return quoteYAML(s)
}

func plainYAML(s string) bool {
	if !yamlPlain.MatchString(s) || strings.HasSuffix(s, " ") {
		return false
	}
	switch strings.ToLower(s) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf":
		return false
	}
	return true
}

func yamlString(s string, indent int) string {
	switch {
	case plainYAML(s):
		return s
	case literalYAML(s):
		return literalBlock(s, indent)
	default:
		return quoteYAML(s)
	}
}

// literalYAML reports whether s can stand in a literal block as it is: several
// lines, the first of them not indented and not empty, nothing but visible
// characters, and no blank before a line's end, which some readers drop.
func literalYAML(s string) bool {
	return strings.Contains(s, "\n") && s[0] != '\n' && s[0] != ' ' &&
		!strings.Contains(s, " \n") && !strings.HasSuffix(s, " ") && clean(s, "\n") == s
}

func literalBlock(s string, indent int) string {
	mark := "|-"
	body := s
	if strings.HasSuffix(s, "\n") {
		mark, body = "|", s[:len(s)-1]
		if strings.HasSuffix(body, "\n") {
			mark = "|+"
		}
	}
	pad := strings.Repeat(" ", indent)
	var b strings.Builder
	b.WriteString(mark)
	for line := range strings.SplitSeq(body, "\n") {
		b.WriteByte('\n')
		if line != "" {
			b.WriteString(pad + line)
		}
	}
	return b.String()
}

func quoteYAML(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case visible(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
