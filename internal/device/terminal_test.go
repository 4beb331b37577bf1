package device_test

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"capfleet/internal/device"
)

func TestCleanText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                                   "",
		"plain\ttext\n":                      "plain\ttext\n",
		"a\r\nb\r\r\nc\r\r\r\n":              "a\nb\nc\n",
		"a\n\rb\n\r":                         "a\nb\n",
		"\ra":                                "a",
		"10%\r20%\r\n":                       "10%\r20%\n",
		"ends in CR\r":                       "ends in CR\r",
		"\x1b[1;32mgreen\x1b[0m":             "green",
		"\x1b[?25l\x1b[2J\x1b[H\x1b[10;20Hx": "x",
		"\x1b[>4;2m\x1b[!p\x1b[0 qx":         "x",
		"\x1b]0;title\x07x":                  "x",
		"\x1b]0;title\x1b\\x":                "x",
		"\x1b]52;c;aGk=\x07x":                "x", // would set the clipboard
		"\x1bP1$r0m\x1b\\x":                  "x",
		"\x1b^pm\x1b\\\x1b_apc\x1b\\\x1bXsos\x1b\\x": "x",
		"\x1b(B\x1b)0\x1b=\x1b>\x1b7\x1b8\x1bcx":     "x",
		"\x1b#8x":                                    "x",
		"\x1b]never ends\r\nnext line\n":             "\nnext line\n",
		"\x1b[31\nx":                                 "\nx",
		"\x1b[31\x18mx":                              "mx",
		"\x1b\x1b[1mx":                               "x",
		"\x9b1mx":                                    "x",
		"\xc2\x9b1mx":                                "x",
		"\xc2\x9d0;title\x07x":                       "x",
		"\x9d0;title\x07x":                           "x",
		"é–東京🙂":                                      "é–東京🙂",
		"\u00a0nbsp":                                 "\u00a0nbsp",
		"\u061b\u089b":                               "\u061b\u089b", // 0x9b inside a character
		"\xff\xfe":                                   "\xff\xfe",
		"bell\x07 nul\x00 del\x7f so\x0e":            "bell nul del so",
		"o\bver":                                     "over",
		"\x1b[1m\r\n":                                "\n",
		"text\r\x1b[K\n":                             "text\n",
	} {
		if got := device.CleanText([]byte(in)); got != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
}

// However a stream is cut, the text is the same.
func TestCleanerIsCutAnywhere(t *testing.T) {
	t.Parallel()
	piece := rapid.OneOf(
		rapid.SampledFrom([]string{"\r", "\n", "\r\n", "\x1b", "[", "1;31m", "]0;t", "\x07", "\x1b\\", "\x9b", "\xc2", "\xe2\x82", "\xac", "é", " ", "\b"}),
		rapid.StringMatching(`[ -~]{0,6}`))
	rapid.Check(t, func(t *rapid.T) {
		in := []byte(strings.Join(rapid.SliceOfN(piece, 0, 40).Draw(t, "pieces"), ""))
		var whole, cut device.Cleaner
		want := whole.Append(nil, in)
		var got []byte
		for rest := in; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "read")
			got = cut.Append(got, rest[:n])
			rest = rest[n:]
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%q: whole %q, cut %q", in, want, got)
		}
	})
}

// What is left can neither move a cursor nor start a sequence, and what had no
// controls is untouched.
func FuzzCleanText(f *testing.F) {
	for _, s := range []string{"a\r\n", "\x1b[1mx", "\x1b]0;x", "\xc2\x9b1m", "\x9b", "é", "\x1b\xc2\x9b", "\r\r\x1b\r\n"} {
		f.Add([]byte(s))
	}
	controls := regexp.MustCompile(`[\x00-\x07\x0b-\x0c\x0e-\x1f\x7f]`)
	f.Fuzz(func(t *testing.T, in []byte) {
		out := device.CleanText(in)
		if m := controls.FindString(out); m != "" {
			t.Fatalf("%q leaves %q in %q", in, m, out)
		}
		if len(out) > len(in) {
			t.Fatalf("%q grew to %q", in, out)
		}
		if utf8.Valid(in) {
			for _, r := range out {
				if r >= 0x80 && r < 0xa0 {
					t.Fatalf("%q leaves the control %U in %q", in, r, out)
				}
			}
			if !strings.ContainsFunc(string(in), func(r rune) bool { return r < 0x20 && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 }) && out != string(in) {
				t.Fatalf("%q was changed to %q", in, out)
			}
		}
	})
}
