package output

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"
)

// Chart draws values over time: a column of eighths for each span of time that has the
// width of a character. A span without a point stays empty.
type Chart struct {
	Title  string // cleaned by the caller
	Unit   string
	Points []ChartPoint // in order of time
	// Width is that of the whole chart in columns, Height that of the plot in lines.
	Width, Height int
	// Top is the value of the upper edge; 0 is the greatest.
	Top float64
	// ASCII draws in thirds of a character that every locale has.
	ASCII bool
}

// ChartPoint is one value.
type ChartPoint struct {
	At    time.Time
	Value float64
}

// pen is what a chart is drawn with: cells from empty to full, and its two axes.
type pen struct {
	cells                   []rune
	tick, corner, axis, cut string
}

func (c Chart) pen() pen {
	if c.ASCII {
		return pen{[]rune(" .:#"), "|", "+", "-", asciiEllipsis}
	}
	return pen{[]rune(" ▁▂▃▄▅▆▇█"), "┤", "└", "─", ellipsis}
}

// String draws it. Lines are at most Width columns.
func (c Chart) String() string {
	var b strings.Builder
	pen := c.pen()
	fit := func(s string) string { return runewidth.Truncate(s, max(c.Width, len(pen.cut)), pen.cut) }
	b.WriteString(fit(c.Title) + "\n")
	if len(c.Points) == 0 {
		b.WriteString(fit("  no points") + "\n")
		return b.String()
	}
	top := c.Top
	if top == 0 {
		for _, p := range c.Points {
			top = max(top, p.Value)
		}
	}
	if top <= 0 {
		top = 1
	}
	label := func(v float64) string { return fmt.Sprintf("%6.4g%s", v, c.Unit) }
	margin := max(len([]rune(label(top))), len([]rune(label(top/2)))) + 2
	columns := max(c.Width-margin, 10)
	values := c.columns(columns)
	height := max(c.Height, 2)
	for line := height; line > 0; line-- {
		head := ""
		switch line {
		case height:
			head = label(top)
		case 1:
			head = label(0)
		case height/2 + 1:
			head = label(top * float64(height/2) / float64(height))
		}
		fmt.Fprintf(&b, "%*s %s", margin-2, head, pen.tick)
		text := make([]rune, 0, columns)
		for _, v := range values {
			text = append(text, pen.cell(v/top*float64(height)-float64(line-1)))
		}
		b.WriteString(strings.TrimRight(string(text), " ") + "\n")
	}
	first, last := c.Points[0].At.Format(time.DateOnly), c.Points[len(c.Points)-1].At.Format(time.DateOnly)
	b.WriteString(strings.Repeat(" ", margin-1) + pen.corner + strings.Repeat(pen.axis, columns) + "\n")
	between := columns - len(first) - len(last)
	if first == last || between < 1 {
		b.WriteString(strings.Repeat(" ", margin) + first + "\n")
	} else {
		b.WriteString(strings.Repeat(" ", margin) + first + strings.Repeat(" ", between) + last + "\n")
	}
	return b.String()
}

// columns gives the mean of each column's points, NaN where there is none.
func (c Chart) columns(n int) []float64 {
	values, counts := make([]float64, n), make([]int, n)
	begin, end := c.Points[0].At, c.Points[len(c.Points)-1].At
	span := end.Sub(begin)
	for _, p := range c.Points {
		i := 0
		if span > 0 {
			i = min(int(float64(p.At.Sub(begin))/float64(span)*float64(n)), n-1)
		}
		values[max(i, 0)] += p.Value
		counts[max(i, 0)]++
	}
	// Fewer points than columns: what lies between two is taken to be as the one before,
	// for up to three times their usual distance. One point alone is one column.
	reach, last := 3*n/max(len(c.Points), 1), -1
	for i := range values {
		if counts[i] > 0 {
			values[i] /= float64(counts[i])
			last = i
			continue
		}
		if last >= 0 && i-last <= reach && span > 0 {
			values[i] = values[last]
		} else {
			values[i] = math.NaN()
		}
	}
	return values
}

// cell gives the character for a height in a cell, from below 0 to above 1.
func (p pen) cell(height float64) rune {
	if math.IsNaN(height) || height <= 0 {
		return p.cells[0]
	}
	full := len(p.cells) - 1
	return p.cells[min(max(int(math.Round(min(height, 1)*float64(full))), 1), full)]
}
