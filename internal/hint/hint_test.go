package hint_test

import (
	"slices"
	"strings"
	"testing"

	"capfleet/internal/hint"
)

func TestDidYouMean(t *testing.T) {
	t.Parallel()
	words := []string{"lon-probe-01", "lon-probe-02", "Platform", "b", "a"}
	for written, want := range map[string]string{
		"lon-probe-1":            `; did you mean "lon-probe-01"?`, // one letter less; the first of equals
		"lno-probe-02":           `; did you mean "lon-probe-02"?`, // two letters swapped are one slip
		"platform":               `; did you mean "Platform"?`,
		"paris":                  "",
		"c":                      `; did you mean "a"?`,
		"":                       "",
		strings.Repeat("x", 999): "",
	} {
		if got := hint.DidYouMean(written, slices.Values(words)); got != want {
			t.Errorf("DidYouMean(%q) = %q, want %q", written, got, want)
		}
	}
}
