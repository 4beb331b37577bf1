package output

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// TestChartOfAYear: a year of daily values fits into 80 columns, rises as they do, and
// shows a gap as a gap.
func TestChartOfAYear(t *testing.T) {
	begin := time.Date(2025, 1, 1, 6, 0, 0, 0, time.UTC)
	c := Chart{Title: "lon-probe-01 Main: used", Unit: "%", Top: 100, Width: 80, Height: 8}
	for d := range 365 {
		if d > 100 && d < 160 {
			continue // nobody asked for two months
		}
		c.Points = append(c.Points, ChartPoint{begin.AddDate(0, 0, d), float64(d) / 364 * 100})
	}
	text := c.String()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) != 11 {
		t.Fatalf("%d lines:\n%s", len(lines), text)
	}
	for _, l := range lines {
		if utf8.RuneCountInString(l) > 80 {
			t.Errorf("%d columns: %s", utf8.RuneCountInString(l), l)
		}
	}
	if !strings.HasPrefix(lines[1], "   100%") || !strings.HasSuffix(lines[1], "█") || strings.Contains(lines[1], "██████████████") {
		t.Errorf("upper edge: %q", lines[1])
	}
	bottom := []rune(lines[8])
	if plot := string(bottom[9:]); !strings.Contains(plot, "     ") || strings.HasPrefix(plot, "     ") {
		t.Errorf("no gap: %q", plot)
	}
	if !strings.HasSuffix(lines[10], "2025-12-31") || !strings.Contains(lines[10], "2025-01-01") {
		t.Errorf("%q", lines[10])
	}
}

func TestOddCharts(t *testing.T) {
	at := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]Chart{
		"empty":    {Title: strings.Repeat("x", 200)},
		"one":      {Points: []ChartPoint{{at, 5}}},
		"nought":   {Points: []ChartPoint{{at, 0}, {at.AddDate(0, 0, 1), 0}}},
		"same":     {Points: []ChartPoint{{at, 3}, {at, 4}}},
		"negative": {Points: []ChartPoint{{at, -3}, {at.AddDate(0, 0, 9), 1e18}}},
	} {
		for _, c.Width = range []int{20, 80} {
			for _, l := range strings.Split(c.String(), "\n") {
				if utf8.RuneCountInString(l) > c.Width {
					t.Errorf("%s: %d columns of %d: %s", name, utf8.RuneCountInString(l), c.Width, l)
				}
			}
		}
	}
}

// TestPlainChart: in a locale without UTF-8 a chart has the same heights in characters
// that every locale has.
func TestPlainChart(t *testing.T) {
	begin := time.Date(2025, 1, 1, 6, 0, 0, 0, time.UTC)
	c := Chart{Title: strings.Repeat("x", 90), Width: 40, Height: 3, ASCII: true, Top: 90}
	for d := range 90 {
		c.Points = append(c.Points, ChartPoint{begin.AddDate(0, 0, d), float64(d)})
	}
	text := c.String()
	if strings.ContainsFunc(text, func(r rune) bool { return r > '~' }) {
		t.Errorf("not every locale has these:\n%s", text)
	}
	lines := strings.Split(text, "\n")
	if !strings.HasSuffix(lines[0], "x...") || len(lines[0]) != 40 || !strings.HasSuffix(lines[1], "#") || !strings.Contains(lines[3], "|..") || !strings.Contains(lines[4], "+---") {
		t.Errorf("\n%s", text)
	}
}
