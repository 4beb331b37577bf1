package output

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean makes s safe for one line of a terminal. Control characters, escapes,
// characters that reorder or hide text, and bytes that are not UTF-8 become
// visible escapes (\x1b, \n, \u202e), so that nothing is hidden and nothing acts.
func Clean(s string) string { return clean(s, "") }

// CleanBlock is Clean for text of several lines: line feeds and tabs stay.
func CleanBlock(s string) string { return clean(s, "\n\t") }

func clean(s, keep string) string {
	if !needsCleaning(s, keep) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case visible(r) || strings.ContainsRune(keep, r):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		i += size
	}
	return b.String()
}

func needsCleaning(s, keep string) bool {
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			return true
		}
		if !visible(r) && !strings.ContainsRune(keep, r) {
			return true
		}
		i += size
	}
	return false
}

// visible reports whether a terminal shows r as itself and nothing else happens:
// letters, marks, numbers, punctuation, symbols and spaces. That leaves out the
// C0 and C1 controls (U+009B starts an escape sequence as ESC [ does), the
// bidirectional overrides and the other invisible format characters.
func visible(r rune) bool { return unicode.IsGraphic(r) }
