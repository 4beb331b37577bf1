package artifact

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"capfleet/internal/audit"
)

func TestWhoAddedAndRemovedIsAudited(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	mine := s.put(t, Meta{Name: "a.end", CreatedBy: "alice"}, "hotfix")
	s.put(t, Meta{Name: "a.end", CreatedBy: "bob"}, "hotfix") // is there already: nothing was changed
	made := s.put(t, Meta{Name: "raw.txt", Job: "7", Device: "lon-probe-01"}, "raw")
	if err := s.RemoveFor(t.Context(), mine.SHA256, "carol"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), made.SHA256); err != nil { // by fleetd itself
		t.Fatal(err)
	}
	list, _, err := audit.List(t.Context(), s.db, audit.Query{})
	want := []audit.Entry{
		{By: "carol", Action: audit.ArtifactRemove, Result: audit.Done, Artifact: mine.SHA256, Detail: "a.end, 6 bytes"},
		{By: "alice", Action: audit.ArtifactAdd, Result: audit.Done, Artifact: mine.SHA256, Detail: "a.end, 6 bytes"},
	}
	if diff := cmp.Diff(want, list, cmpopts.IgnoreFields(audit.Entry{}, "Seq", "Time")); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
