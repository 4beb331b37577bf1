package daemon

import (
	"slices"
	"testing"

	"capfleet/internal/api"
)

// TestSlipInSelection: a value that no device has is with the job, for whoever reads it.
func TestSlipInSelection(t *testing.T) {
	c, _ := run(t, options(t, place(t), ""))
	for selector, want := range map[string][]string{
		"tier!=core": {},
		"tier!=croe": {`selector "tier!=croe": no device has tier=croe, did you mean tier=core?`},
	} {
		job, err := c.Submit(t.Context(), api.JobRequest{Operation: "check", Selection: api.Selection{Selector: selector}})
		if err != nil || !slices.Equal(job.Warnings, want) {
			t.Errorf("%s: %q, %v", selector, job.Warnings, err)
		}
	}
}
