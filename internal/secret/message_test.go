package secret

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestMessage(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                             "",
		"\n\n":                         "",
		"gpg: no secret key\n":         "gpg: no secret key",
		"a\nb\r\n\n":                   "b",
		"a\n+ export P=x\n":            "a",
		"* permission denied":          "* permission denied",
		"open /run/user/1000/bus: no":  "open /run/user/1000/bus: no",
		"password: x y":                "password: <secret> y",
		`{"token":"abc"}`:              `{"token":<secret>}`,
		"api_key = 'a b' refused":      "api_key = <secret> refused",
		"curl --password abc failed":   "curl --password <secret> failed",
		"Authorization: Bearer abc.d":  "Authorization: Bearer <secret>",
		"sent bearer abc":              "sent bearer <secret>",
		"see https://a:b@c/d":          "see https://<secret>@c/d",
		"hex 0123456789abcdef01234567": "hex <secret>",
		"verylongwordwithoutanydigits": "verylongwordwithoutanydigits",
		"tab\there\x00\x1b[1m":         "tab here[1m",
	} {
		if got := message(in); got != want {
			t.Errorf("%q is told as %q, want %q", in, got, want)
		}
	}
}

// FuzzMessage: what a program says reaches an error as one bounded, printable
// line, and a secret that is named as one does not.
func FuzzMessage(f *testing.F) {
	f.Add("password", "hunter2")
	f.Add("x\nTOKEN ", "\x1b[1m")
	f.Fuzz(func(t *testing.T, text, value string) {
		got := message(text)
		if len(got) > maxMessage+len("...") || !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) {
			t.Fatalf("%q is told as %q", text, got)
		}
		value = strings.Map(func(r rune) rune {
			if unicode.IsSpace(r) || !unicode.IsPrint(r) || strings.ContainsRune(`"'=:@/<>`, r) {
				return -1
			}
			return r
		}, value)
		if len(value) < 3 || strings.Contains(text+Redacted+"password=,", value) {
			return
		}
		if got := message(text + "\npassword=" + value); strings.Contains(got, value) {
			t.Fatalf("%q is in %q", value, got)
		}
		var whole tail
		for _, chunk := range []string{text, "\n", strings.Repeat("-", maxTail), "password=" + value} {
			_, _ = whole.Write([]byte(chunk))
		}
		if got := whole.told(); len(whole.kept) > maxTail || strings.Contains(got, value) {
			t.Fatalf("kept %d bytes, told %q", len(whole.kept), got)
		}
	})
}
