package hotfix_test

import (
	"testing"

	"capfleet/internal/hotfix"
	"capfleet/internal/jobs"
)

// A fresh probe is installed, and the second time nothing is done.
func TestApplyTwice(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string][]string{
		"plain list":        nil,
		"versioned list":    {probe + ":packages=versioned"},
		"v1 before":         {probe + ":packages=versioned", probe + ":installed=OSm6.4.x-CumulativeHotfix-v1"},
		"reload asks":       {probe + ":reload_prompt=confirm"},
		"reload asks save":  {probe + ":reload_prompt=unsaved"},
		"reload drops":      {probe + ":reload_prompt=drop"},
		"configuration":     {probe + ":config_prompt=configuration"},
		"counters alone":    {probe + ":capture_status=counter"},
		"colours and pages": {probe + ":ansi", probe + ":banner"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil, faults...)
			first := r.apply(probe)
			want(t, first, jobs.Succeeded)
			if got := r.events(probe); got["install"] != 1 || got["save"] == 0 || got["reload"] != 1 || got["maintenance_on"] != 1 || got["maintenance_off"] != 1 {
				t.Errorf("events %v", got)
			}
			want(t, r.apply(probe), jobs.Unchanged)
			if got := r.events(probe); got["install"] != 1 || got["reload"] != 1 || got["upload"] != 1 {
				t.Errorf("the second time: events %v", got)
			}
		})
	}
}

func TestPlanRow(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	res := r.job(probe, r.spec(hotfix.Plan)).run()
	want(t, res, jobs.Succeeded)
	for _, row := range res.Rows {
		t.Logf("%s", row)
	}
	if got := r.events(probe); len(got) != 0 {
		t.Errorf("a plan did %v", got)
	}
}
