package parse

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// class takes [...].
func (t *translator) class() *patternError {
	var ascii, uni strings.Builder
	head := "["
	if t.take("^") {
		head = "[^"
	}
	unclosed := &patternError{"a class [ without its end", `write \[ for the character itself`}
	for first := true; ; first = false {
		if t.take("]") {
			if !first {
				break
			}
			t.pos--
		}
		low, set, err := t.classItem(unclosed)
		if err != nil {
			return err
		}
		if !t.take("-") {
			if set != nil {
				ascii.WriteString(set.ascii)
				uni.WriteString(set.unicode)
			} else {
				ascii.WriteString(literal(low))
				uni.WriteString(literal(low))
			}
			continue
		}
		if t.take("]") {
			item := charClass{ascii: literal(low), unicode: literal(low)}
			if set != nil {
				item = *set
			}
			ascii.WriteString(item.ascii + `\-`)
			uni.WriteString(item.unicode + `\-`)
			break
		}
		high, endSet, err := t.classItem(unclosed)
		if err != nil {
			return err
		}
		if set != nil || endSet != nil || low > high {
			return &patternError{"a range in a class [...] has no order", "put a literal - first or last in the class"}
		}
		ascii.WriteString(literal(low) + "-" + literal(high))
		uni.WriteString(literal(low) + "-" + literal(high))
	}
	t.emitBoth(head+ascii.String()+"]", head+uni.String()+"]")
	t.prev = atom
	return nil
}

// classItem takes one character or one escaped class inside [...].
func (t *translator) classItem(unclosed *patternError) (rune, *charClass, *patternError) {
	r, ok := t.next()
	if !ok {
		return 0, nil, unclosed
	}
	if r != '\\' {
		return r, nil, nil
	}
	if r, ok = t.next(); !ok {
		return 0, nil, unclosed
	}
	switch {
	case strings.ContainsRune("dDwWsS", r):
		c := escapedClass(r)
		return 0, &c, nil
	case r == 'b':
		return '\b', nil, nil
	case r >= '0' && r <= '7':
		if code, ok := t.octal(r, 1); ok {
			return code, nil, nil
		}
		return 0, nil, &patternError{"an octal escape over 377", `write \xhh`}
	}
	code, err := t.character(r)
	return code, nil, err
}

// charClass is the inside of [...] for one of Python's escapes.
type charClass struct{ ascii, unicode string }

// escapedClass gives Python's Unicode class of an escape. The ascii form only has
// to be right for ASCII text, so a complement ends at 7f: going further would let
// (?i) fold letters into it.
func escapedClass(r rune) charClass {
	const space = `\x{9}-\x{d}\x{1c}-\x{20}`
	switch r {
	case 'd':
		return charClass{`0-9`, `\p{Nd}`}
	case 'D':
		return charClass{`\x{0}-\x{2f}\x{3a}-\x{7f}`, `\P{Nd}`}
	case 'w':
		return charClass{`0-9A-Za-z_`, `\p{L}\p{N}_`}
	case 'W':
		return charClass{`\x{0}-\x{2f}\x{3a}-\x{40}\x{5b}-\x{5e}\x{60}\x{7b}-\x{7f}`, notWord()}
	case 's':
		return charClass{space, space + `\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}`}
	default:
		return charClass{`\x{0}-\x{8}\x{e}-\x{1b}\x{21}-\x{7f}`, `\x{0}-\x{8}\x{e}-\x{1b}\x{21}-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}` +
			`\x{200b}-\x{2027}\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff}`}
	}
}

// notWord spells out the complement of \w for the inside of a class, where RE2
// has no complement of a union.
var notWord = sync.OnceValue(func() string {
	type span struct{ low, high rune }
	words := []span{{'_', '_'}}
	for _, table := range []*unicode.RangeTable{unicode.L, unicode.N} {
		add := func(low, high, stride rune) {
			if stride == 1 {
				words = append(words, span{low, high})
				return
			}
			for r := low; r <= high; r += stride {
				words = append(words, span{r, r})
			}
		}
		for _, r := range table.R16 {
			add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
		for _, r := range table.R32 {
			add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
	}
	slices.SortFunc(words, func(a, b span) int { return int(a.low - b.low) })
	var b strings.Builder
	from := rune(0)
	for _, w := range append(words, span{unicode.MaxRune + 1, unicode.MaxRune + 1}) {
		if w.low > from {
			fmt.Fprintf(&b, `\x{%x}-\x{%x}`, from, w.low-1)
		}
		from = max(from, w.high+1)
	}
	return b.String()
})
