package cli

import (
	"encoding/json"
	"testing"
)

// TestAuditListAsksOn: fleetd may give fewer entries than wanted and still have
// more.
func TestAuditListAsksOn(t *testing.T) {
	for limit, want := range map[string]struct {
		rows int
		next uint64
	}{"3": {3, 3}, "5": {5, 0}, "50": {5, 0}} {
		got := session{}.run(t.Context(), t, "audit", "list", "--limit", limit, "-o", "json")
		var doc auditDoc
		if err := json.Unmarshal([]byte(got.out), &doc); err != nil || got.code != 0 {
			t.Fatalf("%v, exit %d: %s%s", err, got.code, got.out, got.errOut)
		}
		if len(doc.Rows) != want.rows || doc.Next != want.next || doc.Rows[0].ID != 5 {
			t.Errorf("--limit %s: %+v", limit, doc)
		}
	}
	if got := (session{}).run(t.Context(), t, "audit", "list", "--limit", "0"); got.code != 4 {
		t.Errorf("exit %d", got.code)
	}
}
