package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
)

func (a *app) jobCommand() *cobra.Command {
	cmd := a.group("job", "jobs that fleetd ran and runs")
	cmd.AddCommand(a.jobListCommand(), a.jobShowCommand(), a.jobLogsCommand(), a.jobWatchCommand(), a.jobPauseCommand(), a.jobResumeCommand(),
		a.jobApproveCommand(), a.jobCancelCommand(), a.jobRetryCommand())
	return cmd
}

// jobKeysHelp documents a job's JSON.
const jobKeysHelp = `id, operation, state, access, created_by, schedule, created_at, started_at,
finished_at, canceled_by, paused_by, paused_at, approved_by, approved_at,
rollout, counts (tasks by state), devices, spec, warnings`

const stateHelp = `A job's state is computed from its tasks: pending, waiting, running, paused,
succeeded (all did), partial (some did), failed (none did), attention (a person
must look at one), canceled.`

// jobTitle says what a job does: its operation and the word that tells it from
// others of its kind.
func jobTitle(job api.Job) string {
	var spec struct {
		Report  string `json:"report"`
		Command string `json:"command"`
	}
	_ = json.Unmarshal(job.Spec, &spec) // an operation without these words has its name alone
	if job.Operation == "capacity" {
		return "report capacity"
	}
	return strings.TrimSpace(job.Operation + " " + spec.Report + spec.Command)
}

// tasksDone counts the tasks that ended well, and those that ended otherwise.
func tasksDone(counts map[string]int) (good, bad int) {
	for state, n := range counts {
		switch state {
		case "succeeded", "unchanged":
			good += n
		case "failed", "attention", "skipped", "canceled":
			bad += n
		}
	}
	return good, bad
}

// countsText gives the counts of tasks by state in the order of a task's life.
func countsText(counts map[string]int) string {
	order := []string{"succeeded", "unchanged", "failed", "attention", "running", "waiting", "pending", "skipped", "canceled"}
	states := make([]string, 0, len(counts))
	for state := range counts {
		states = append(states, state)
	}
	slices.SortFunc(states, func(x, y string) int {
		if d := slices.Index(order, x) - slices.Index(order, y); d != 0 {
			return d
		}
		return strings.Compare(x, y)
	})
	var parts []string
	for _, state := range states {
		if n := counts[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	return strings.Join(parts, ", ")
}

// showTime gives a time as results do: RFC 3339, UTC, whole seconds.
func showTime(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// took gives how long something ran, in words, or "" before its end.
func took(start, end *time.Time) string {
	if start == nil || end == nil {
		return ""
	}
	return output.Short(end.Sub(*start))
}
