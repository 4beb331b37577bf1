package jobs

import (
	"testing"
)

// TestTransitions walks the table: each state is reached, each that is not final
// can be left, and only an operator leaves a final one.
func TestTransitions(t *testing.T) {
	states := []State{Pending, Waiting, Running, Succeeded, Unchanged, Failed, Attention, Skipped, Canceled}
	reached, left := map[State]bool{}, map[State]bool{}
	for _, tr := range Transitions() {
		reached[tr.To], left[tr.From] = true, true
		if !allowed(tr.From, tr.To, tr.By) {
			t.Errorf("%v is in the table and not allowed", tr)
		}
		if tr.From.Final() && tr.By != Operator {
			t.Errorf("%s: the %s leaves a final state", tr.From, tr.By)
		}
		if tr.From == Running && tr.By == Operator {
			t.Error("an operator moves a running task: it must come back from its runner")
		}
		if tr.To == Running && tr.By != Scheduler {
			t.Errorf("the %s begins work", tr.By)
		}
		if tr.When == "" {
			t.Errorf("%v does not say when", tr)
		}
	}
	for _, s := range states {
		if !reached[s] {
			t.Errorf("%s is never reached", s)
		}
		if !s.Final() && !left[s] {
			t.Errorf("%s is never left", s)
		}
		if s.retried() != allowed(s, Pending, Operator) {
			t.Errorf("%s: retry and the table disagree", s)
		}
		for _, by := range []Mover{Submission, Scheduler, Worker, Operator, Recovery} {
			if s.Final() && by != Operator && allowed(s, Running, by) {
				t.Errorf("the %s begins a task that is %s", by, s)
			}
		}
	}
	for _, s := range []State{Paused, Partial} {
		if reached[s] {
			t.Errorf("%s is a job's state alone", s)
		}
	}
}

func TestJobState(t *testing.T) {
	tests := map[string]struct {
		counts map[State]int
		want   State
	}{
		"new":                        {map[State]int{Pending: 3}, Pending},
		"begun":                      {map[State]int{Pending: 2, Running: 1}, Running},
		"between two":                {map[State]int{Pending: 2, Succeeded: 1}, Running},
		"one failed, others to come": {map[State]int{Pending: 2, Failed: 1}, Running},
		"waits and runs":             {map[State]int{Waiting: 2, Running: 1}, Running},
		"waits and pending":          {map[State]int{Waiting: 2, Pending: 1}, Running},
		"all that are left wait":     {map[State]int{Waiting: 2, Succeeded: 9}, Waiting},
		"attention can wait":         {map[State]int{Running: 1, Attention: 1}, Running},
		"all succeeded":              {map[State]int{Succeeded: 3}, Succeeded},
		"nothing was needed":         {map[State]int{Unchanged: 3}, Succeeded},
		"succeeded or unchanged":     {map[State]int{Unchanged: 1, Succeeded: 2}, Succeeded},
		"some failed":                {map[State]int{Succeeded: 1, Failed: 2}, Partial},
		"some skipped":               {map[State]int{Unchanged: 1, Skipped: 2}, Partial},
		"none succeeded":             {map[State]int{Failed: 2}, Failed},
		"failed and skipped":         {map[State]int{Failed: 1, Skipped: 9}, Failed},
		"one needs a person":         {map[State]int{Succeeded: 9, Attention: 1, Failed: 1, Canceled: 1}, Attention},
		"canceled":                   {map[State]int{Canceled: 3}, Canceled},
		"canceled halfway":           {map[State]int{Succeeded: 2, Failed: 1, Canceled: 1}, Canceled},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := JobState(Job{Counts: tc.counts}); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}
