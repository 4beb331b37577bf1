package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

// scheduleFleet is what the schedule commands need of fleetd.
type scheduleFleet interface {
	Schedules(ctx context.Context) ([]api.Schedule, error)
	Schedule(ctx context.Context, name string, next int) (api.Schedule, error)
	AddSchedule(ctx context.Context, req api.ScheduleRequest) (api.Schedule, error)
	ApproveSchedule(ctx context.Context, name string) (api.Schedule, error)
	RemoveSchedule(ctx context.Context, name string) (api.Schedule, error)
	RunSchedule(ctx context.Context, name string) (api.Job, error)
	ScheduleRuns(ctx context.Context, name string, limit int) ([]api.ScheduleRun, error)
}

func (a *app) scheduleCommand() *cobra.Command {
	cmd := a.group("schedule", "work that starts by the clock")
	cmd.AddCommand(a.scheduleAddCommand(), a.scheduleListCommand(), a.scheduleShowCommand(), a.scheduleRunCommand(),
		a.scheduleApproveCommand(), a.scheduleRemoveCommand())
	return cmd
}

// scheduleKeysHelp documents a schedule's JSON.
const scheduleKeysHelp = `name, cron, time_zone, request (operation, spec, selection), access, overlap,
missed, jitter_seconds, deliver, created_by, created_at, approved_by,
approved_at, next_at, next, queued_at, last_job, last (a run)`

const runKeysHelp = `schedule, occurrence, at, outcome (started, skipped, missed, merged, failed),
job, reason, count, by`

func (a *app) scheduleListCommand() *cobra.Command {
	var out outputFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "schedules, and when each runs next",
		Long: `Lists the schedules with their next run and what became of the last one.

` + jsonHelp("rows", "row", scheduleKeysHelp) + `

` + readExits(),
		Args: cobra.NoArgs,
	}
	out.register(cmd)
	cmd.RunE = a.with(func(ctx context.Context, f fleet, _ []string) error {
		if _, err := out.format(); err != nil {
			return err
		}
		list, err := f.Schedules(ctx)
		if err != nil {
			return err
		}
		return a.printSchedules(&out, list)
	})
	return cmd
}

func (a *app) scheduleRunCommand() *cobra.Command {
	var flags jobFlags
	cmd := &cobra.Command{
		Use:   "run SCHEDULE",
		Short: "run a schedule now",
		Long: `Runs a schedule once, now, beside its times and whatever its --overlap says,
and prints the result. It is delivered as that of any other run.

` + waitHelp + `

JSON: one object with job, rows, failures and warnings; the keys of a row are
those of the operation's own command.
` + failureKeysHelp + `

` + workExits(),
		Args:              oneArg,
		ValidArgsFunction: a.completeSchedules,
	}
	flags.register(cmd)
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		if _, err := flags.format(); err != nil {
			return err
		}
		job, err := f.RunSchedule(ctx, args[0])
		if err != nil {
			return err
		}
		return a.attendOrLeave(ctx, f, &flags, job)
	})
	return cmd
}

func (a *app) scheduleApproveCommand() *cobra.Command {
	return a.scheduleActCommand("approve SCHEDULE", "let a schedule that changes devices run",
		`Approves a schedule that changes devices. Until another user than the one who
added it has done so, none of its runs starts. What is approved is the request
as schedule show prints it; a changed one is a new schedule.`, fleet.ApproveSchedule)
}

func (a *app) scheduleRemoveCommand() *cobra.Command {
	cmd := a.scheduleActCommand("remove SCHEDULE", "forget a schedule",
		`Forgets a schedule. Jobs that it started go on, and their results are still
delivered.`, fleet.RemoveSchedule)
	cmd.Aliases = []string{"rm"}
	return cmd
}

// scheduleActCommand makes a command that does something with one schedule and
// prints it.
func (a *app) scheduleActCommand(use, short, long string, act func(fleet, context.Context, string) (api.Schedule, error)) *cobra.Command {
	var out outputFlags
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Long: long + `

` + jsonHelp("rows (the schedule)", "row", scheduleKeysHelp) + `

` + readExits(),
		Args:              oneArg,
		ValidArgsFunction: a.completeSchedules,
	}
	out.register(cmd)
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		if _, err := out.format(); err != nil {
			return err
		}
		s, err := act(f, ctx, args[0])
		if err != nil {
			return err
		}
		return a.printSchedules(&out, []api.Schedule{s})
	})
	return cmd
}

// scheduleLine is a schedule as a line of a table.
type scheduleLine struct {
	Name      string  `json:"name"`
	Title     string  `json:"title"`
	When      string  `json:"when"`
	Next      *string `json:"next_at"`
	Last      string  `json:"last"`
	LastAt    *string `json:"last_at"`
	Job       string  `json:"last_job"`
	Policy    string  `json:"policy"`
	CreatedBy string  `json:"created_by"`
}

func scheduleTitle(req api.JobRequest) string {
	return jobTitle(api.Job{Operation: req.Operation, Spec: req.Spec})
}

func (a *app) printSchedules(o *outputFlags, list []api.Schedule) error {
	if list == nil {
		list = []api.Schedule{}
	}
	rows, err := output.Rows(list)
	if err != nil {
		return fault.Wrap(fault.Internal, "print the schedules", err)
	}
	lines := make([]scheduleLine, len(list))
	for i, s := range list {
		l := scheduleLine{Name: s.Name, Title: scheduleTitle(s.Request), When: s.Cron + " " + s.TimeZone, Job: s.LastJob,
			Policy: schedulePolicy(s), CreatedBy: s.CreatedBy, Last: "never"}
		if s.NextAt != nil {
			next := showTime(s.NextAt)
			l.Next = &next
		}
		if s.Last != nil {
			at := showTime(&s.Last.At)
			l.Last, l.LastAt = s.Last.Outcome, &at
		}
		if s.Access == "change" && s.ApprovedBy == "" {
			l.Last = "not approved"
		}
		lines[i] = l
	}
	tableLines, err := output.Rows(lines)
	if err != nil {
		return fault.Wrap(fault.Internal, "print the schedules", err)
	}
	view := output.View{Table: []output.Column{
		{Key: "name", Head: "SCHEDULE", Fixed: true},
		{Key: "title", Head: "WHAT"},
		{Key: "when", Head: "WHEN"},
		{Key: "next_at", Head: "NEXT", Kind: output.Age, Fixed: true},
		{Key: "last", Head: "LAST"},
		{Key: "last_at", Head: "LAST AT", Kind: output.Time, Wide: true},
		{Key: "last_job", Head: "JOB"},
		{Key: "policy", Head: "POLICY", Wide: true},
		{Key: "created_by", Head: "BY", Wide: true},
	}}
	return a.print(o, answer{view: view, rows: rows, lines: tableLines, doc: rowsDocument{rows}, empty: "there are no schedules"})
}

func schedulePolicy(s api.Schedule) string {
	text := "overlap " + s.Overlap + ", missed " + s.Missed
	if s.JitterSeconds > 0 {
		text += ", jitter " + output.Short(time.Duration(s.JitterSeconds)*time.Second)
	}
	return text
}

// completeSchedules completes names of schedules.
func (a *app) completeSchedules(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	f, err := a.fleet()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := completionContext(cmd)
	defer cancel()
	list, err := f.Schedules(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := make([]string, 0, len(list))
	for _, s := range list {
		names = append(names, cobra.CompletionWithDesc(s.Name, fmt.Sprintf("%s %s", scheduleTitle(s.Request), s.Cron)))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
