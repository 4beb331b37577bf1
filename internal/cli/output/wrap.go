package output

import (
	"strings"

	"github.com/mattn/go-runewidth"
)

// Wrap breaks a line at blanks so that it fits width columns; what follows the
// first break is indented by hang. A width of 0 leaves the line as it is, and a
// word that is too long stays whole, so that it can be copied.
func Wrap(line string, width int, hang string) string {
	if width <= 0 || runewidth.StringWidth(line) <= width {
		return line
	}
	lead := line[:len(line)-len(strings.TrimLeft(line, " "))]
	var b strings.Builder
	b.WriteString(lead)
	column := len(lead)
	first := true
	for word := range strings.SplitSeq(line[len(lead):], " ") {
		w := runewidth.StringWidth(word)
		switch {
		case first:
		case column+1+w > width:
			b.WriteString("\n" + hang)
			column = len(hang)
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += w
		first = false
	}
	return b.String()
}
