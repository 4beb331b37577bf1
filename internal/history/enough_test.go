package history

import (
	"strings"
	"testing"
	"time"
)

// What is missing for a trend is counted in readings, whatever a trend is made of.
func TestTooLittleIsCounted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind Kind
		used func(i int) int64
	}{
		"a file system":       {Filesystem, func(int) int64 { return 40e9 }},
		"a ring that fills":   {Ring, func(i int) int64 { return 40e9 + int64(i)*5e9 }},
		"a ring that is full": {Ring, func(int) int64 { return 100e9 }},
	} {
		for n, want := range map[int]string{2: "2 readings over 1 days", 3: "3 readings over 2 days"} {
			var points []Point
			for i := range n {
				points = append(points, Point{Time: time.Date(2026, 3, 1+i, 6, 0, 0, 0, time.UTC), Used: c.used(i), Limit: 100e9, Retention: 86400, Vision: None})
			}
			if got := Assess(c.kind, points, Question{}).Reason; !strings.Contains(got, want) {
				t.Errorf("%s, %d points: %q", name, n, got)
			}
		}
	}
	one := []Point{{Time: time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC), Used: 40e9, Limit: 100e9, Retention: None, Vision: None}}
	if got := Assess(Filesystem, one, Question{}).Reason; !strings.Contains(got, "one reading") {
		t.Errorf("%q", got)
	}
}
