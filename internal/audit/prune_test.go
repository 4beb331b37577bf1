package audit_test

import (
	"context"
	"testing"
	"time"

	"capfleet/internal/audit"
	"capfleet/internal/fault"
)

func TestPrune(t *testing.T) {
	db := open(t)
	began := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var all []audit.Entry
	for i := range 1300 {
		all = append(all, audit.Entry{Time: began.Add(time.Duration(i) * time.Minute), By: "ann", Action: audit.JobSubmit})
	}
	add(t, db, all...)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := audit.Prune(canceled, db, began.Add(time.Hour)); n != 0 || !fault.Is(err, fault.Canceled) {
		t.Errorf("canceled: %d, %v", n, err)
	}
	for _, tc := range []struct {
		before time.Time
		want   int
	}{
		{began, 0},
		{began.Add(1200 * time.Minute), 1200}, // in three transactions
		{began.Add(1200 * time.Minute), 0},
		{began.Add(time.Hour * 1000), 100},
		{began.Add(time.Hour * 1000), 0},
	} {
		if n, err := audit.Prune(t.Context(), db, tc.before); err != nil || n != tc.want {
			t.Errorf("before %v: %d, %v; want %d", tc.before, n, err, tc.want)
		}
	}
	add(t, db, audit.Entry{Time: began, By: "ann", Action: audit.JobSubmit})
	list, _, err := audit.List(t.Context(), db, audit.Query{})
	if err != nil || len(list) != 1 || list[0].Seq != 1301 {
		t.Errorf("%+v, %v; a number was used again", list, err)
	}
}
