package artifact

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"capfleet/internal/fault"
)

// Every prefix of every digest finds what a look at all entries finds.
func TestFind(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	var all []Artifact
	for i := range 60 {
		all = append(all, s.put(t, Meta{Name: "f", Job: fmt.Sprint(i % 3)}, fmt.Sprint("content ", i)))
	}
	all = append(all, s.put(t, Meta{Name: "again", CreatedBy: "op"}, "content 7"))
	slices.SortStableFunc(all, func(a, b Artifact) int { return strings.Compare(a.SHA256, b.SHA256) })
	rapid.Check(t, func(t *rapid.T) {
		sha := rapid.SampledFrom(all).Draw(t, "artifact").SHA256
		prefix := sha[:rapid.IntRange(1, 64).Draw(t, "length")]
		if rapid.Bool().Draw(t, "other digit") {
			prefix = prefix[:len(prefix)-1] + string("0123456789abcdef"[rapid.IntRange(0, 15).Draw(t, "digit")])
		}
		want := []Artifact{}
		for _, a := range all {
			if strings.HasPrefix(a.SHA256, prefix) {
				want = append(want, a)
			}
		}
		limit := rapid.IntRange(0, 3).Draw(t, "limit")
		if limit > 0 {
			want = want[:min(limit, len(want))]
		}
		got, err := s.Find(t.Context(), prefix, limit)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%q (-want +got):\n%s", prefix, diff)
		}
	})
	for _, bad := range []string{"", "x", "A", "../", strings.Repeat("a", 65)} {
		if _, err := s.Find(t.Context(), bad, 0); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestWhoAddedIt(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	if a := s.put(t, Meta{Name: "a", CreatedBy: "op"}, "one"); a.CreatedBy != "op" {
		t.Errorf("%+v", a)
	}
	all, err := s.List(t.Context(), "")
	if err != nil || len(all) != 1 || all[0].CreatedBy != "op" {
		t.Errorf("%+v, %v", all, err)
	}
}
