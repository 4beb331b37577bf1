package audit_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/audit"
	"capfleet/internal/fault"
	"capfleet/internal/leaktest"
	"capfleet/internal/ledger"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func open(t *testing.T) *ledger.DB {
	t.Helper()
	db, err := ledger.Open(filepath.Join(t.TempDir(), "ledger.db"), ledger.Options{Namespaces: audit.Namespaces()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func add(t *testing.T, db *ledger.DB, list ...audit.Entry) {
	t.Helper()
	if err := db.Update(t.Context(), func(tx *ledger.Tx) error {
		for _, e := range list {
			if err := audit.Add(tx, e); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestList(t *testing.T) {
	db := open(t)
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("CET", 3600))
	var all []audit.Entry
	for i := range 10 {
		e := audit.Entry{Time: at.Add(time.Duration(i) * time.Second), By: fmt.Sprint("user", i%2), Action: audit.JobSubmit, Job: fmt.Sprint(i / 2)}
		if i%5 == 0 {
			e.Action, e.Device, e.Result = audit.HostKeyPin, "lon-probe-01", audit.Begun
		}
		all = append(all, e)
	}
	add(t, db, all...)

	seqs := func(q audit.Query) (got []uint64) {
		t.Helper()
		for { // page by page to the end
			list, next, err := audit.List(t.Context(), db, q)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range list {
				got = append(got, e.Seq)
			}
			if next == 0 {
				return got
			}
			q.Before = next
		}
	}
	for name, tc := range map[string]struct {
		q    audit.Query
		want []uint64
	}{
		"all, in pages": {audit.Query{Limit: 3}, []uint64{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}},
		"one page":      {audit.Query{Limit: 10}, []uint64{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}},
		"before":        {audit.Query{Before: 3}, []uint64{2, 1}},
		"by":            {audit.Query{By: "user1", Limit: 2}, []uint64{10, 8, 6, 4, 2}},
		"action":        {audit.Query{Action: audit.HostKeyPin}, []uint64{6, 1}},
		"job":           {audit.Query{Job: "4"}, []uint64{10, 9}},
		"device":        {audit.Query{Device: "lon-probe-01", By: "user0"}, []uint64{1}},
		"nothing":       {audit.Query{By: "nobody"}, nil},
	} {
		if diff := cmp.Diff(tc.want, seqs(tc.q)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}

	list, _, err := audit.List(t.Context(), db, audit.Query{Limit: 1, Before: 2})
	want := []audit.Entry{{Seq: 1, Time: at.UTC(), By: "user0", Action: audit.HostKeyPin, Result: audit.Begun, Job: "0", Device: "lon-probe-01"}}
	if diff := cmp.Diff(want, list); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := audit.List(gone, db, audit.Query{}); !fault.Is(err, fault.Canceled) {
		t.Errorf("under a context that has ended: %v", err)
	}
}

func TestEntryHasBounds(t *testing.T) {
	db := open(t)
	add(t, db, audit.Entry{Detail: strings.Repeat("語", 1000)})
	list, _, err := audit.List(t.Context(), db, audit.Query{})
	if err != nil || len(list) != 1 || len(list[0].Detail) > 510 || !utf8.ValidString(list[0].Detail) || list[0].Result != audit.Done {
		t.Errorf("%v %+v", err, list)
	}
}

// TestSearchIsBounded: what is not there is not looked for in all years at once,
// and is still found by going on.
func TestSearchIsBounded(t *testing.T) {
	db := open(t)
	add(t, db, audit.Entry{By: "alice"})
	for range 6 {
		add(t, db, make([]audit.Entry, 10_000)...)
	}
	list, next, err := audit.List(t.Context(), db, audit.Query{By: "alice"})
	if err != nil || len(list) != 0 || next == 0 {
		t.Fatalf("%v: %d entries, next %d", err, len(list), next)
	}
	list, next, err = audit.List(t.Context(), db, audit.Query{By: "alice", Before: next})
	if err != nil || len(list) != 1 || next != 0 {
		t.Errorf("%v: %d entries, next %d", err, len(list), next)
	}
}
