package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

// jobShowDoc is the JSON of `job show`.
type jobShowDoc struct {
	Job      api.Job           `json:"job"`
	Rows     []json.RawMessage `json:"rows"` // the tasks
	Failures []api.Failure     `json:"failures"`
}

func (a *app) jobShowCommand() *cobra.Command {
	var out outputFlags
	var device string
	cmd := &cobra.Command{
		Use:   "show JOB",
		Short: "a job with every task, its step, attempt and reason",
		Long: `Shows a job with its tasks. With --device it shows what was done to that device
instead, from the journal.

Task states: pending, waiting, running, succeeded, unchanged, failed, attention,
skipped, canceled.

` + jsonHelp("job, rows (the tasks) and failures", "task", `job, device, unit, site, wave, state, step, attempt, reason, until, started_at,
finished_at, failure, warnings, artifacts, rows`) + `
Keys of a journal entry: time, kind, unit, step, attempt, detail, error

` + readExits(),
		Args:              oneArg,
		ValidArgsFunction: a.completeJobs,
	}
	out.register(cmd)
	cmd.Flags().StringVar(&device, "device", "", "show the journal of this `device`")
	_ = cmd.RegisterFlagCompletionFunc("device", a.completeDevices)
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		if device != "" {
			entries, err := f.Journal(ctx, args[0], device)
			if err != nil {
				return err
			}
			return list(a, &out, journalView(), entries)
		}
		job, err := f.Job(ctx, args[0])
		if err != nil {
			return err
		}
		tasks, err := f.Tasks(ctx, args[0])
		if err != nil {
			return err
		}
		rows, err := output.Rows(tasks)
		if err != nil {
			return fault.Wrap(fault.Internal, "print the job", err)
		}
		doc := jobShowDoc{Job: job, Rows: rows, Failures: []api.Failure{}}
		for _, t := range tasks {
			if t.Failure != nil {
				doc.Failures = append(doc.Failures, *t.Failure)
			}
		}
		ans := answer{view: taskView(), rows: rows, doc: doc}
		ans.people = func(w io.Writer, wide bool, screen output.Screen) error {
			if err := printJobHead(w, job, tasks, screen); err != nil {
				return err
			}
			view := taskView()
			if job.Rollout != nil {
				view = rolloutTaskView()
				slices.SortStableFunc(tasks, func(x, y api.Task) int { return x.Wave - y.Wave })
				if rows, err = rolloutRows(tasks, wide); err != nil {
					return fault.Wrap(fault.Internal, "print the job", err)
				}
			}
			format := output.Table
			if wide {
				format = output.Wide
			}
			return output.Write(w, format, view, rows, nil, screen)
		}
		return a.print(&out, ans)
	})
	return cmd
}

func printJobHead(w io.Writer, job api.Job, tasks []api.Task, screen output.Screen) error {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			b.WriteString(output.Wrap(fmt.Sprintf("%-10s %s", name, value), screen.Width, "           ") + "\n")
		}
	}
	line("job", job.ID)
	line("what", output.Clean(jobTitle(job)))
	line("state", screen.State(output.Clean(job.State))+" ("+output.Clean(countsText(job.Counts))+")")
	line("created", showTime(&job.CreatedAt)+" by "+output.Clean(job.CreatedBy))
	if job.Schedule != "" {
		line("schedule", output.Clean(job.Schedule))
	}
	line("started", showTime(job.StartedAt))
	finished := showTime(job.FinishedAt)
	if d := took(job.StartedAt, job.FinishedAt); d != "" {
		finished += ", took " + d
	}
	line("finished", finished)
	if job.CanceledBy != "" {
		line("canceled", "by "+output.Clean(job.CanceledBy))
	}
	if job.PausedAt != nil {
		line("paused", "since "+showTime(job.PausedAt)+" by "+output.Clean(job.PausedBy)+"; to go on: fleetctl job resume "+job.ID)
	}
	if job.ApprovedAt != nil {
		line("approved", showTime(job.ApprovedAt)+" by "+output.Clean(job.ApprovedBy))
	}
	if r := job.Rollout; r != nil {
		if r.Approve && job.ApprovedAt == nil && job.FinishedAt == nil {
			line("approval", "wanted, by another user than "+output.Clean(job.CreatedBy)+": fleetctl job approve "+job.ID)
		}
		line("rollout", output.Clean(rolloutText(r)))
		name := "waves"
		for _, text := range waveLines(tasks, r.Canary == nil || *r.Canary > 0) {
			line(name, output.Clean(text))
			name = " "
		}
	}
	for _, warning := range job.Warnings {
		line("note", output.Clean(warning))
	}
	b.WriteByte('\n')
	_, err := io.WriteString(w, b.String())
	return err
}

func taskView() output.View {
	return output.View{Table: []output.Column{
		{Key: "device", Head: "DEVICE", Fixed: true},
		{Key: "unit", Head: "UNIT", Wide: true},
		{Key: "wave", Head: "WAVE", Kind: output.Number, Wide: true},
		{Key: "state", Head: "STATE", Kind: output.State, Fixed: true},
		{Key: "step", Head: "STEP"},
		{Key: "attempt", Head: "TRY", Kind: output.Number},
		{Key: "rows", Head: "ROWS", Kind: output.Number},
		{Key: "started_at", Head: "STARTED", Kind: output.Time, Wide: true},
		{Key: "finished_at", Head: "FINISHED", Kind: output.Time, Wide: true},
		{Key: "until", Head: "UNTIL", Kind: output.Time, Wide: true},
		{Key: "reason", Head: "REASON"},
	}}
}

// rolloutTaskView shows what people look for in a rollout: which wave, and what a
// device is at or waits for.
func rolloutTaskView() output.View {
	return output.View{Table: []output.Column{
		{Key: "wave", Head: "WAVE", Kind: output.Number},
		{Key: "device", Head: "DEVICE", Fixed: true},
		{Key: "unit", Head: "UNIT", Wide: true},
		{Key: "state", Head: "STATE", Kind: output.State, Fixed: true},
		{Key: "step", Head: "STEP", Wide: true},
		{Key: "attempt", Head: "TRY", Kind: output.Number, Wide: true},
		{Key: "started_at", Head: "STARTED", Kind: output.Time, Wide: true},
		{Key: "finished_at", Head: "FINISHED", Kind: output.Time, Wide: true},
		{Key: "until", Head: "UNTIL", Kind: output.Time, Wide: true},
		{Key: "reason", Head: "NOW"},
	}}
}

// rolloutRows are the rows of that table. Where it is narrow, one column tells the
// step of what is at work, and until when the others wait.
func rolloutRows(tasks []api.Task, wide bool) ([]json.RawMessage, error) {
	if wide {
		return output.Rows(tasks)
	}
	tasks = slices.Clone(tasks)
	for i := range tasks {
		switch t := &tasks[i]; {
		case t.State == "running":
			t.Reason = strings.TrimSuffix(t.Step+"; "+t.Reason, "; ")
		case t.State == "waiting" && t.Until != nil:
			t.Reason = "until " + t.Until.UTC().Format("2006-01-02 15:04Z") + ": " + t.Reason
		}
	}
	return output.Rows(tasks)
}

func journalView() output.View {
	return output.View{Table: []output.Column{
		{Key: "time", Head: "TIME", Kind: output.Time, Fixed: true},
		{Key: "kind", Head: "KIND"},
		{Key: "step", Head: "STEP"},
		{Key: "attempt", Head: "TRY", Kind: output.Number},
		{Key: "detail", Head: "DETAIL"},
		{Key: "error", Head: "ERROR"},
	}}
}
