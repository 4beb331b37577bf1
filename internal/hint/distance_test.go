package hint

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	words := []string{"address", "platform", "site", "groups", "labels", "lon-probe-01", "lon-probe-02", "Lab"}
	for in, want := range map[string]string{
		"addrses": "address", "ADDRESS": "address", "plaftorm": "platform", "stie": "site", "group": "groups",
		"lon-probe-1": "lon-probe-01", "lon-probe-03": "lon-probe-01", "lab": "Lab", "": "", "x": "", "zzzzzz": "", "addr": "",
		strings.Repeat("a", 1000): "",
	} {
		if got, _ := Nearest(in, slices.Values(words)); got != want {
			t.Errorf("nearest(%.20q) = %q, want %q", in, got, want)
		}
	}
}

func TestDistanceIsAMetricOfEdits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"kitten", "sitting", 3}, {"ab", "ba", 1}, {"site", "stie", 1}, {"abcd", "acbd", 1}, {"ca", "abc", 3}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
	word := rapid.StringMatching(`[abc]{0,6}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := word.Draw(t, "a"), word.Draw(t, "b")
		d := distance(a, b)
		if d != distance(b, a) || (d == 0) != (a == b) || d > max(len(a), len(b)) || d < max(len(a), len(b))-min(len(a), len(b)) {
			t.Fatalf("distance(%q, %q) = %d, other way %d", a, b, d, distance(b, a))
		}
	})
}
