package inventory

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	goccy "github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"
	"go.yaml.in/yaml/v3"

	"capfleet/internal/hint"
)

// text is a scalar of the file, as written, and where it stands.
type text struct {
	value string
	at    place
	set   bool
}

// document parses src into the node of its one document; nil with an empty
// file. An error of the syntax goes to p, and ok is false.
//
// go.yaml.in/yaml/v3 is used here and not goccy/go-yaml, as elsewhere, because
// it reads 10,000 devices in a third of the time and a fifth of the memory and
// bounds its depth. Its syntax errors name the wrong line at times, so once
// there is an error the other one is asked where.
func document(src []byte, p *problems) (root *yaml.Node, ok bool) {
	if i, found := notText(src); found {
		p.add(placeOf(src, i), "the file is not plain UTF-8 text: byte 0x%02x", src[i])
		return nil, false
	}
	dec := yaml.NewDecoder(bytes.NewReader(src))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, true
	case err != nil:
		at, message := syntaxError(src, err)
		p.add(at, "%s", message)
		return nil, false
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		p.add(placeOfNode(&second), "a second document: an inventory is one document")
		return nil, false
	} else if !errors.Is(err, io.EOF) {
		at, message := syntaxError(src, err)
		p.add(at, "%s", message)
		return nil, false
	}
	return doc.Content[0], true
}

// notText gives the offset of the first byte that no YAML file holds: one that is
// not UTF-8, or a control character.
func notText(src []byte) (offset int, found bool) {
	for i := 0; i < len(src); {
		c := src[i]
		if c >= ' ' && c < 0x7f || c == '\n' || c == '\r' || c == '\t' {
			i++
			continue
		}
		r, n := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && n == 1 || unicode.IsControl(r) && r != 0x85 {
			return i, true
		}
		i += n
	}
	return 0, false
}

func placeOf(src []byte, offset int) place {
	before := src[:offset]
	return place{
		line:   bytes.Count(before, []byte("\n")) + 1,
		column: utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1,
	}
}

func placeOfNode(n *yaml.Node) place {
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	return place{max(n.Line, 1), n.Column}
}

// syntaxError says where and what the mistake is. Neither parser's excerpt of
// the source is shown and no name out of it: a password stands in the file by
// mistake exactly when somebody got the syntax wrong.
func syntaxError(src []byte, cause error) (place, string) {
	message := strings.TrimPrefix(cause.Error(), "yaml: ")
	at := place{line: 1}
	if m := regexp.MustCompile(`^line (\d+): `).FindStringSubmatch(message); m != nil {
		at.line, _ = strconv.Atoi(m[1])
		message = message[len(m[0]):]
	}
	if m := regexp.MustCompile(`^unknown anchor '(.*)' referenced$`).FindStringSubmatch(message); m != nil {
		if i := bytes.Index(src, []byte("*"+m[1])); i >= 0 {
			at = placeOf(src, i)
		}
		return at, "an alias (*) of an anchor that is not defined; text that begins with * must be quoted"
	}
	if found, text, ok := locate(src); ok {
		at, message = found, text
	}
	if line := sourceLine(src, at.line); regexp.MustCompile(`(address|jump):\s*\[`).MatchString(line) {
		message += ` (an address in brackets must be quoted: "[2001:db8::1]:22")`
	}
	return at, message
}

// locate asks goccy/go-yaml where the syntax error is. It has had panics and
// unbounded recursion on odd input, so it sees only what is shallow.
func locate(src []byte) (at place, message string, ok bool) {
	const maxDepth = 200
	if deeperThan(src, maxDepth) {
		return at, "", false
	}
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	_, err := parser.ParseBytes(src, 0)
	var positioned goccy.Error
	if !errors.As(err, &positioned) || positioned.GetToken() == nil || positioned.GetToken().Position == nil {
		return at, "", false
	}
	pos := positioned.GetToken().Position
	if pos.Line < 1 || strings.Contains(positioned.GetMessage(), "already defined") {
		return at, "", false
	}
	return place{pos.Line, max(pos.Column, 0)}, positioned.GetMessage(), true
}

// deeperThan reports whether the nesting of src may exceed limit: an upper bound
// from brackets and from what lines begin with.
func deeperThan(src []byte, limit int) bool {
	open, lead, leading := 0, 0, true
	for _, c := range src {
		switch c {
		case '\n':
			lead, leading = 0, true
			continue
		case '[', '{':
			open++
		case ']', '}':
			open = max(open-1, 0)
		}
		if leading = leading && strings.IndexByte(" \t-?:", c) >= 0; leading {
			lead++
		}
		if open > limit || lead > 2*limit {
			return true
		}
	}
	return false
}

func sourceLine(src []byte, line int) string {
	n := 1
	for l := range bytes.Lines(src) {
		if n == line {
			return string(l)
		}
		n++
	}
	return ""
}

// decoder walks the nodes of one file and collects what is wrong with them.
type decoder struct{ *problems }

// resolve follows an alias. The schema bounds the depth of the walk, so an alias
// of what it stands in cannot make it endless.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

// mapping calls each for the keys and values of n, which must be a mapping. Keys
// that are not among the allowed ones are errors; nil allows any. what names the
// mapping in errors.
func (d *decoder) mapping(n *yaml.Node, what string, allowed []string, each func(key text, value *yaml.Node)) bool {
	at := placeOfNode(n)
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		d.add(at, "%s must be a mapping (key: value), not %s", what, kindOf(n))
		return false
	}
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		key := text{value: resolve(k).Value, at: placeOfNode(k), set: true}
		switch {
		case k.Tag == "!!merge":
			d.add(key.at, "%s: merge keys (<<) are not supported; groups are for sharing settings", what)
			continue
		case resolve(k).Kind != yaml.ScalarNode:
			d.add(key.at, "%s: a key must be a word, not %s", what, kindOf(resolve(k)))
			continue
		case seen[key.value] > 0:
			d.add(key.at, "%s: %s is given twice, first in line %d", what, quote(key.value), seen[key.value])
			continue
		}
		seen[key.value] = key.at.line
		if allowed != nil && !slices.Contains(allowed, key.value) {
			hint := hint.DidYouMean(key.value, slices.Values(allowed))
			if hint == "" {
				hint = " (known: " + strings.Join(allowed, ", ") + ")"
			}
			d.add(key.at, "%s: unknown key %s%s", what, quote(key.value), hint)
			continue
		}
		each(key, v)
	}
	return true
}

// list calls each for the entries of n, which must be a sequence.
func (d *decoder) list(n *yaml.Node, what string, each func(*yaml.Node)) {
	at := placeOfNode(n)
	n = resolve(n)
	if n.Kind != yaml.SequenceNode {
		d.add(at, "%s must be a list, not %s", what, kindOf(n))
		return
	}
	for _, c := range n.Content {
		each(c)
	}
}

// scalar gives a value as it is written: 012 stays 012, whatever YAML takes it
// for. what names it in errors.
func (d *decoder) scalar(n *yaml.Node, what string) (text, bool) {
	at := placeOfNode(n)
	n = resolve(n)
	switch {
	case n.Kind != yaml.ScalarNode:
		hint := ""
		if n.Kind == yaml.SequenceNode && n.Style&yaml.FlowStyle != 0 {
			hint = ` (text that begins with [ must be quoted)`
		}
		d.add(at, "%s must be text, not %s%s", what, kindOf(n), hint)
		return text{}, false
	case n.Tag == "!!null" || n.Value == "":
		d.add(at, "%s has no value", what)
		return text{}, false
	}
	return text{value: n.Value, at: at, set: true}, true
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		if n.Tag == "!!null" {
			return "nothing"
		}
		return "a single value"
	}
}

// quote shows what was written, escaped and bounded.
func quote(s string) string {
	const limit = 80
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "..."
	}
	return strconv.Quote(s)
}
