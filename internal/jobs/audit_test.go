package jobs_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/audit"
	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/jobs/runnertest"
)

// TestWhoAskedIsAudited: each change has one entry, also after a restart; what
// was refused or changed nothing has none.
func TestWhoAskedIsAudited(t *testing.T) {
	h := newHarness(t, &runnertest.Fake{})
	req := request("read", spec(runnertest.Succeeds), "a", "b")
	req.RequestID = "once"
	job := h.submit(req)
	h.submit(req)
	for _, step := range []struct {
		by   string
		act  func() (jobs.Job, error)
		want fault.Kind
	}{
		{"bob", func() (jobs.Job, error) { return h.Pause(t.Context(), job.ID, "bob") }, ""},
		{"bob", func() (jobs.Job, error) { return h.Pause(t.Context(), job.ID, "eve") }, ""},
		{"bob", func() (jobs.Job, error) { return h.Retry(t.Context(), job.ID, "eve") }, fault.Conflict},
		{"carol", func() (jobs.Job, error) { return h.Resume(t.Context(), job.ID, "carol") }, ""},
		{"carol", func() (jobs.Job, error) { return h.Resume(t.Context(), job.ID, "eve") }, ""},
		{"dave", func() (jobs.Job, error) { return h.Cancel(t.Context(), job.ID, "dave") }, ""},
		{"dave", func() (jobs.Job, error) { return h.Cancel(t.Context(), job.ID, "eve") }, fault.Conflict},
		{"erin", func() (jobs.Job, error) { return h.Retry(t.Context(), job.ID, "erin") }, ""},
	} {
		if _, err := step.act(); fault.KindOf(err) != step.want && (err != nil || step.want != "") {
			t.Fatalf("%s: %v", step.by, err)
		}
	}
	h.reopen()
	list, _, err := audit.List(t.Context(), h.db, audit.Query{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range list {
		if e.Job != job.ID || e.Time.IsZero() || e.Result != audit.Done {
			t.Errorf("%+v", e)
		}
		got = append(got, fmt.Sprint(e.By, " ", e.Action, " ", e.Detail))
	}
	want := []string{"erin job.retry 2 devices", "dave job.cancel ", "carol job.resume ", "bob job.pause ",
		"alice job.submit fake (read) on 2 devices: " + string(req.Spec)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
