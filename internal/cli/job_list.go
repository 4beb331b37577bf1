package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

func (a *app) jobListCommand() *cobra.Command {
	var out outputFlags
	var query api.JobQuery
	cmd := &cobra.Command{
		Use:   "list",
		Short: "jobs, newest first",
		Long: `Lists jobs, newest first.

` + stateHelp + `

` + jsonHelp("rows, and next where there are older ones (for --before)", "row", jobKeysHelp) + `

` + readExits(),
		Args: cobra.NoArgs,
	}
	out.register(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&query.Active, "active", false, "only jobs that have not finished")
	fl.IntVar(&query.Limit, "limit", 20, "list at most `n` jobs")
	fl.StringVar(&query.Before, "before", "", "only jobs older than this `id`")
	cmd.RunE = a.with(func(ctx context.Context, f fleet, _ []string) error {
		if query.Limit < 1 {
			return fault.New(fault.Invalid, "--limit must be at least 1")
		}
		jobs, err := f.Jobs(ctx, query)
		if err != nil {
			return err
		}
		if err := a.printJobs(&out, jobs.Rows, jobs.Next); err != nil {
			return err
		}
		if jobs.Next != "" {
			a.remark("older jobs: fleetctl job list --before %s", jobs.Next)
		}
		return nil
	})
	return cmd
}

// jobsDoc is the JSON of a list of jobs.
type jobsDoc struct {
	Rows []api.Job `json:"rows"`
	Next string    `json:"next,omitempty"`
}

// printJobs prints jobs; next, when not "", is where older ones begin.
func (a *app) printJobs(o *outputFlags, jobs []api.Job, next string) error {
	if jobs == nil {
		jobs = []api.Job{}
	}
	rows, err := output.Rows(jobs)
	if err != nil {
		return fault.Wrap(fault.Internal, "print the jobs", err)
	}
	lines, err := output.Rows(jobLines(jobs))
	if err != nil {
		return fault.Wrap(fault.Internal, "print the jobs", err)
	}
	return a.print(o, answer{view: jobListView(), rows: rows, lines: lines, doc: jobsDoc{jobs, next}, empty: "there are no jobs"})
}

// jobLine is a job as a line of a table.
type jobLine struct {
	ID         string  `json:"id"`
	Title      string  `json:"title"`
	State      string  `json:"state"`
	Done       string  `json:"done"`   // of how many
	Failed     int     `json:"failed"` // or needs attention; what was skipped or canceled is in counts
	Counts     string  `json:"counts"`
	CreatedBy  string  `json:"created_by"`
	CreatedAt  string  `json:"created_at"`
	FinishedAt *string `json:"finished_at"`
	Took       string  `json:"took"`
}

func jobLines(list []api.Job) []jobLine {
	lines := make([]jobLine, len(list))
	for i, j := range list {
		done, _ := tasksDone(j.Counts)
		failed := j.Counts["failed"] + j.Counts["attention"]
		lines[i] = jobLine{ID: j.ID, Title: jobTitle(j), State: j.State, Done: fmt.Sprintf("%d/%d", done, j.Devices), Failed: failed,
			Counts: countsText(j.Counts), CreatedBy: j.CreatedBy, CreatedAt: showTime(&j.CreatedAt), Took: took(j.StartedAt, j.FinishedAt)}
		if j.FinishedAt != nil {
			t := showTime(j.FinishedAt)
			lines[i].FinishedAt = &t
		}
	}
	return lines
}

func jobListView() output.View {
	return output.View{Table: []output.Column{
		{Key: "id", Head: "ID", Kind: output.Number},
		{Key: "title", Head: "WHAT"},
		{Key: "state", Head: "STATE", Kind: output.State, Fixed: true},
		{Key: "done", Head: "DONE", Kind: output.Number},
		{Key: "failed", Head: "FAILED", Kind: output.Number},
		{Key: "counts", Head: "TASKS", Wide: true},
		{Key: "created_at", Head: "CREATED", Kind: output.Age, Fixed: true},
		{Key: "took", Head: "TOOK"},
		{Key: "created_by", Head: "BY", Wide: true},
		{Key: "finished_at", Head: "FINISHED", Kind: output.Time, Wide: true},
	}}
}
