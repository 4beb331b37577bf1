package fault

import (
	"strings"
	"unicode/utf8"
)

// Clip bounds text that is quoted in a message, because whoever wrote it (a
// device, a request, a file) may have made it as long as he liked: at most so many
// bytes, cut at a character's border and followed by "..." where something is left
// out. Invalid UTF-8 becomes the replacement character.
func Clip(s string, most int) string {
	if len(s) <= most {
		return strings.ToValidUTF8(s, string(utf8.RuneError))
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strings.ToValidUTF8(s[:cut], string(utf8.RuneError)) + "..."
}
