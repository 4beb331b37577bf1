package runner

import (
	"strings"
	"unicode"
)

// maxLine bounds what is kept of a message, in bytes.
const maxLine = 1000

// line makes text from a device or an error one bounded line for people: no
// control or formatting characters, runs of white space as one space.
func line(s string) string {
	var b strings.Builder
	space := false
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		switch {
		case unicode.IsSpace(r):
			space = b.Len() > 0
			continue
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			continue
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		if b.Len() >= maxLine {
			b.WriteString("...")
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}
