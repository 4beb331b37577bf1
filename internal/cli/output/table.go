package output

import (
	"encoding/json"
	"io"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"
)

// Screen says what a table is printed on.
type Screen struct {
	// Terminal is set when a person looks at it. Without it columns are plain:
	// full length, no colour.
	Terminal bool
	// Width is the terminal's columns; 0 does not fit anything to a width.
	Width int
	Color bool
	// ASCII is set where the locale has no other characters: what we draw is made of
	// these. Text of devices and people is left as it is.
	ASCII bool
	// Now is what ages are counted to.
	Now time.Time
}

const (
	columnGap = "  "
	noValue   = "-"
	ellipsis  = "…"
	// asciiEllipsis is that of Screen.ASCII.
	asciiEllipsis = "..."
	// minShrunk is how narrow a column may get to fit the terminal.
	minShrunk = 10
)

// SGR sequences of our own; nothing of a device's ever gets here.
const (
	sgrReset  = "\x1b[0m"
	sgrBold   = "\x1b[1m"
	sgrDim    = "\x1b[2m"
	sgrRed    = "\x1b[31m"
	sgrGreen  = "\x1b[32m"
	sgrYellow = "\x1b[33m"
)

// tableCell is a cleaned cell.
type tableCell struct {
	text  string
	width int
}

func newCell(text string) tableCell {
	text = Clean(text)
	return tableCell{text, runewidth.StringWidth(text)}
}

// writeTable prints headings and rows in columns that line up. On a terminal
// that is too narrow columns without any value are left out, and then the widest
// texts are shortened, never the fixed columns; what still does not fit is left to
// the terminal.
func writeTable(w io.Writer, cols []Column, rows []json.RawMessage, wide bool, screen Screen) error {
	at := place{style: inTable}
	if wide {
		at.style = inWide
	}
	if screen.Terminal {
		at.now = screen.Now
	}
	head := make([]tableCell, len(cols))
	widths := make([]int, len(cols))
	for i, c := range cols {
		head[i] = newCell(c.Head)
		widths[i] = head[i].width
	}
	said := make([]bool, len(cols)) // a column has a value
	body := make([][]tableCell, 0, len(rows))
	for _, raw := range rows {
		rec, err := decodeRecord(raw)
		if err != nil {
			return err
		}
		line := make([]tableCell, len(cols))
		for i, c := range cols {
			text, ok := c.cell(rec, at)
			if !ok || text == "" {
				text = noValue
			} else {
				said[i] = true
			}
			line[i] = newCell(text)
			widths[i] = max(widths[i], line[i].width)
		}
		body = append(body, line)
	}
	shown := make([]int, 0, len(cols))
	narrow := screen.Terminal && !wide && screen.Width > 0 && lineWidth(widths) > screen.Width
	for i, c := range cols {
		if !narrow || said[i] || c.Fixed {
			shown = append(shown, i)
		}
	}
	cols, head, widths = pick(cols, shown), pick(head, shown), pick(widths, shown)
	cut := ellipsis
	if screen.ASCII {
		cut = asciiEllipsis
	}
	if narrow {
		shrink(cols, head, widths, screen.Width)
	}

	var b strings.Builder
	writeLine(&b, cols, head, widths, cut, func(int, string) string {
		if screen.Color {
			return sgrBold
		}
		return ""
	})
	for _, line := range body {
		writeLine(&b, cols, pick(line, shown), widths, cut, func(i int, text string) string {
			if screen.Color && cols[i].Kind == State {
				return stateColor(text)
			}
			return ""
		})
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// pick gives those of all whose numbers are given.
func pick[T any](all []T, which []int) []T {
	out := make([]T, len(which))
	for i, n := range which {
		out[i] = all[n]
	}
	return out
}

func lineWidth(widths []int) int {
	total := len(columnGap) * (len(widths) - 1)
	for _, n := range widths {
		total += n
	}
	return total
}

// shrink makes columns narrower until the line fits, always the widest first.
func shrink(cols []Column, head []tableCell, widths []int, limit int) {
	total := lineWidth(widths)
	for total > limit {
		widest := -1
		for i, c := range cols {
			if c.Fixed || c.Kind.rightAligned() || widths[i] <= max(minShrunk, head[i].width) {
				continue
			}
			if widest < 0 || widths[i] > widths[widest] {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
		total--
	}
}

func writeLine(b *strings.Builder, cols []Column, line []tableCell, widths []int, cut string, color func(i int, text string) string) {
	for i, cell := range line {
		if cell.width > widths[i] {
			cell.text = runewidth.Truncate(cell.text, widths[i], cut)
			cell.width = runewidth.StringWidth(cell.text)
		}
		pad := strings.Repeat(" ", widths[i]-cell.width)
		if cols[i].Kind.rightAligned() {
			b.WriteString(pad)
		}
		if sgr := color(i, cell.text); sgr != "" {
			b.WriteString(sgr + cell.text + sgrReset)
		} else {
			b.WriteString(cell.text)
		}
		if i == len(line)-1 {
			break
		}
		if !cols[i].Kind.rightAligned() {
			b.WriteString(pad)
		}
		b.WriteString(columnGap)
	}
	b.WriteByte('\n')
}

// stateColor gives the colour of a state word.
func stateColor(word string) string {
	switch word {
	case "succeeded", "unchanged", "ok", "pinned":
		return sgrGreen
	case "failed", "attention", "changed":
		return sgrRed
	case "partial", "waiting", "paused", "canceled", "unknown":
		return sgrYellow
	case "pending", "skipped":
		return sgrDim
	default:
		return ""
	}
}

// Emphasis wraps text of our own in bold on a screen with colour.
func (s Screen) Emphasis(text string) string {
	if !s.Color {
		return text
	}
	return sgrBold + text + sgrReset
}

// State colours a state word on a screen with colour.
func (s Screen) State(word string) string {
	if sgr := stateColor(word); s.Color && sgr != "" {
		return sgr + word + sgrReset
	}
	return word
}
