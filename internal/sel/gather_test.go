package sel

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/dossier"
)

// A dead device fails every command for one reason, which is told once.
func TestIncomplete(t *testing.T) {
	t.Parallel()
	part := func(name string, state dossier.State, reason string) dossier.Part {
		return dossier.Part{Name: name, State: state, Reason: reason}
	}
	got := incomplete([]dossier.Part{
		part("event-log.json", dossier.Complete, ""), part("sensors", dossier.Absent, "not read this way"),
		part("a.txt", dossier.Failed, "refused"), part("b.txt", dossier.Partial, "cut"), part("c.txt", dossier.Failed, "refused"),
		part("d.txt", dossier.Partial, "refused"),
	})
	want := []shortfall{
		{"a.txt, c.txt", dossier.Failed, "refused", 2}, {"b.txt", dossier.Partial, "cut", 1}, {"d.txt", dossier.Partial, "refused", 1},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(shortfall{})); diff != "" {
		t.Error(diff)
	}
}
