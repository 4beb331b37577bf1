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
	// Now is what ages are counted to.
	Now time.Time
}

const (
	columnGap = "  "
	noValue   = "-"
	ellipsis  = "…"
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
// that is too narrow the widest texts are shortened, never the fixed columns;
// what still does not fit is left to the terminal.
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
			}
			line[i] = newCell(text)
			widths[i] = max(widths[i], line[i].width)
		}
		body = append(body, line)
	}
	if screen.Terminal && !wide {
		shrink(cols, head, widths, screen.Width)
	}

	var b strings.Builder
	writeLine(&b, cols, head, widths, func(int, string) string {
		if screen.Color {
			return sgrBold
		}
		return ""
	})
	for _, line := range body {
		writeLine(&b, cols, line, widths, func(i int, text string) string {
			if screen.Color && cols[i].Kind == State {
				return stateColor(text)
			}
			return ""
		})
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// shrink makes columns narrower until the line fits, always the widest first.
func shrink(cols []Column, head []tableCell, widths []int, limit int) {
	if limit <= 0 {
		return
	}
	total := len(columnGap) * (len(cols) - 1)
	for _, n := range widths {
		total += n
	}
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

func writeLine(b *strings.Builder, cols []Column, line []tableCell, widths []int, color func(i int, text string) string) {
	for i, cell := range line {
		if cell.width > widths[i] {
			cell.text = runewidth.Truncate(cell.text, widths[i], ellipsis)
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
