package fault_test

import (
	"testing"

	"capfleet/internal/fault"
)

func TestClip(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		most int
		want string
	}{
		{"", 3, ""},
		{"abc", 3, "abc"},
		{"abcd", 3, "abc..."},
		{"aé", 2, "a..."},
		{"é", 1, "..."},
		{"a\xff", 5, "a\uFFFD"},
		{"a\xffbcd", 3, "a\uFFFDb..."},
		{"\x80\x80\x80", 2, "..."},
	} {
		if got := fault.Clip(c.in, c.most); got != c.want {
			t.Errorf("Clip(%q, %d) = %q, want %q", c.in, c.most, got, c.want)
		}
	}
}
