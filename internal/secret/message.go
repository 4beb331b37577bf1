package secret

import (
	"bytes"
	"regexp"
	"strings"
	"unicode"
)

const (
	maxTail    = 4 << 10 // bytes kept of what a command says
	maxMessage = 200     // bytes of it that are told
)

// tail keeps the end of what a command writes on standard error.
type tail struct {
	kept []byte
	cut  bool // the beginning is lost
}

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - maxTail; over > 0 {
		t.kept, t.cut = append(t.kept[:0], t.kept[over:]...), true
	}
	return len(p), nil
}

// told is ": " and the last message, fit for an error, or "".
func (t *tail) told() string {
	kept := t.kept
	if t.cut {
		// The first line may begin inside of what would have been hidden.
		_, kept, _ = bytes.Cut(kept, []byte("\n"))
	}
	if m := message(string(kept)); m != "" {
		return ": " + m
	}
	return ""
}

var (
	// What follows a word that names a secret: NAME=value, name: value, --name value.
	named  = regexp.MustCompile(`(?i)([\w-]*(?:` + secretWords + `)[\w-]*["']?\s*[=:]\s*(?:(?:bearer|basic)\s+)?)("[^"]*"?|'[^']*'?|\S+)`)
	option = regexp.MustCompile(`(?i)(--?[\w-]*(?:` + secretWords + `)[\w-]*\s+)(\S+)`)
	scheme = regexp.MustCompile(`(?i)\b((?:bearer|basic)\s+)(\S+)`)
	// The user part of a URL.
	userinfo = regexp.MustCompile(`://[^/\s]*@`)
	// A long word without a slash may be a token; it is one when it has a digit.
	long = regexp.MustCompile(`[A-Za-z0-9+_=.~-]{20,}`)
)

const secretWords = `pass|pwd|secret|token|key|auth|credential|cookie`

// message gives the last line of text without anything that looks like a secret,
// without control characters and bounded. Lines that a shell's trace writes are
// left out, as they show values.
func message(text string) string {
	last := ""
	for line := range strings.Lines(text) {
		line = printable(line)
		if line != "" && line[0] != '+' {
			last = line
		}
	}
	last = userinfo.ReplaceAllString(last, "://"+Redacted+"@")
	for _, value := range []*regexp.Regexp{scheme, named, option} {
		last = value.ReplaceAllString(last, "${1}"+Redacted)
	}
	last = long.ReplaceAllStringFunc(last, func(word string) string {
		if strings.ContainsAny(word, "0123456789") {
			return Redacted
		}
		return word
	})
	if len(last) > maxMessage {
		last = strings.ToValidUTF8(last[:maxMessage], "") + "..."
	}
	return last
}

func printable(line string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r == unicode.ReplacementChar || !unicode.IsPrint(r):
			return -1
		default:
			return r
		}
	}, line))
}
