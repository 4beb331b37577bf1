package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

// scheduleDoc is the JSON of `schedule show`.
type scheduleDoc struct {
	Rows []api.Schedule    `json:"rows"`
	Runs []api.ScheduleRun `json:"runs"`
}

func (a *app) scheduleShowCommand() *cobra.Command {
	var out outputFlags
	var next, last int
	cmd := &cobra.Command{
		Use:   "show SCHEDULE",
		Short: "a schedule, its next times and what became of the last",
		Long: `Shows what a schedule starts, its next times, and what became of its last ones:
started, skipped (by --overlap), missed, merged (a later one ran for them all)
or failed (no job could be made).

` + jsonHelp("rows (the schedule) and runs", "row", scheduleKeysHelp) + `
Keys of a run:
` + runKeysHelp + `

` + readExits(),
		Args:              oneArg,
		ValidArgsFunction: a.completeSchedules,
	}
	out.register(cmd)
	fl := cmd.Flags()
	fl.IntVar(&next, "next", 5, "show so many next `times`")
	fl.IntVar(&last, "last", 10, "show so many last `runs`")
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		if _, err := out.format(); err != nil {
			return err
		}
		if next < 0 || next > 100 || last < 1 || last > 200 {
			return fault.New(fault.Invalid, "--next takes 0 to 100 and --last 1 to 200")
		}
		s, err := f.Schedule(ctx, args[0], next)
		if err != nil {
			return err
		}
		runs, err := f.ScheduleRuns(ctx, args[0], last)
		if err != nil {
			return err
		}
		doc := scheduleDoc{Rows: []api.Schedule{s}, Runs: runs}
		rows, err := output.Rows(doc.Rows)
		if err != nil {
			return fault.Wrap(fault.Internal, "print the schedule", err)
		}
		return a.print(&out, answer{rows: rows, view: viewOfKeys(rows), doc: doc, people: func(w io.Writer, _ bool, screen output.Screen) error {
			return printSchedule(w, s, runs, screen)
		}})
	})
	return cmd
}

func printSchedule(w io.Writer, s api.Schedule, runs []api.ScheduleRun, screen output.Screen) error {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			text := fmt.Sprintf("%-12s %s", name, output.Clean(value))
			b.WriteString(output.Wrap(text, screen.Width, strings.Repeat(" ", 13)) + "\n")
		}
	}
	line("name", s.Name)
	line("starts", scheduleTitle(s.Request)+" on "+selectionText(s.Request.Selection))
	if s.Access == "change" { // who approves it has to see all of it
		line("request", jsonText(s.Request.Spec))
		if s.Request.Rollout != nil {
			line("rollout", jsonText(s.Request.Rollout))
		}
	}
	line("at", s.Cron+" "+s.TimeZone)
	line("policy", schedulePolicy(s))
	line("deliver", strings.Join(s.Deliver, ", "))
	line("created", "by "+s.CreatedBy+" "+showTime(&s.CreatedAt))
	switch {
	case s.ApprovedBy != "":
		line("approved", "by "+s.ApprovedBy+" "+showTime(s.ApprovedAt))
	case s.Access == "change":
		line("approved", "not yet: nothing is started (fleetctl schedule approve "+s.Name+", by another user)")
	}
	if s.QueuedAt != nil {
		line("waiting", "the run of "+showTime(s.QueuedAt)+" waits for job "+s.LastJob)
	}
	for i, at := range s.Next {
		name := ""
		if i == 0 {
			name = "next"
		}
		fmt.Fprintf(&b, "%-12s %s\n", name, showTime(&at))
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	if len(runs) == 0 {
		return nil
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	rows, err := output.Rows(runs)
	if err != nil {
		return err
	}
	return output.Write(w, output.Table, output.View{Table: []output.Column{
		{Key: "occurrence", Head: "OF", Kind: output.Time, Fixed: true},
		{Key: "outcome", Head: "OUTCOME", Kind: output.State, Fixed: true},
		{Key: "job", Head: "JOB", Kind: output.Number},
		{Key: "count", Head: "RUNS", Kind: output.Number},
		{Key: "reason", Head: "REASON"},
	}}, rows, json.RawMessage(nil), screen)
}

// jsonText gives a value as one line of JSON with blanks at which it can be broken.
func jsonText(v any) string {
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return fmt.Sprint(v)
	}
	lines := strings.Split(string(text), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimLeft(l, " ")
	}
	return strings.Join(lines, " ")
}

// selectionText gives a selection as it would be typed.
func selectionText(sel api.Selection) string {
	var parts []string
	if sel.All {
		parts = append(parts, "--all")
	}
	if sel.Selector != "" {
		parts = append(parts, "-l '"+sel.Selector+"'")
	}
	return strings.Join(append(parts, sel.Names...), " ")
}
