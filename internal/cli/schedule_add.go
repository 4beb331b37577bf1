package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

type scheduleAddOptions struct {
	outputFlags
	req    api.ScheduleRequest
	jitter time.Duration
}

func (a *app) scheduleAddCommand() *cobra.Command {
	var opts scheduleAddOptions
	cmd := &cobra.Command{
		Use:   "add NAME --cron EXPRESSION -- COMMAND...",
		Short: "start a command's work at the times of a cron expression",
		Long: `Has fleetd start what a command of fleetctl would start, at the times of a cron
expression: minute, hour, day of month, month, day of week, or @hourly, @daily,
@weekly, @monthly, @yearly. Where both days are restricted either is enough; L
is the last day of the month, SAT#1 its first Saturday; a range may go past the
end (22-2, FRI-MON). The command is written after --, without fleetctl; it is
not run now, but checked as if it were.

Each time is one run and each run is an ordinary job. A time that the clocks
leave out in spring runs when they are set forward; one that comes twice in
autumn runs once, except in schedules of every hour. After a stop of fleetd,
however long, no run is done twice.

--overlap says what becomes of a run while the job of the one before has not
finished: it is skipped, waits (queue; one at most), or runs beside it (allow).
--missed says what becomes of runs whose time passed while fleetd did not run:
the last of them runs once for all (run), or they are reported as missed
(report), which a notification can tell of.

What changes devices runs only once another user has approved the schedule
(schedule approve). The selection is resolved anew for each run.

` + jsonHelp("rows (the schedule)", "row", scheduleKeysHelp) + `

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitUsage, fault.ExitUnavailable, fault.ExitInterrupted),
		Example: `  fleetctl schedule add capacity --cron '0 6 * * *' --time-zone Europe/London \
    --deliver reports -- report rotation-file -l platform=endace_osm
  fleetctl schedule add sel --cron '*/15 * * * *' --jitter 2m --missed report \
    -- sel check --all --new`,
	}
	opts.outputFlags.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&opts.req.Cron, "cron", "", "the times, as a cron `expression`")
	fl.StringVar(&opts.req.TimeZone, "time-zone", "UTC", "time `zone` of the expression, such as Europe/London")
	fl.StringVar(&opts.req.Overlap, "overlap", "skip", "`policy` while the job before has not finished: skip, queue or allow")
	fl.StringVar(&opts.req.Missed, "missed", "run", "`policy` for runs that were missed: run or report")
	fl.DurationVar(&opts.jitter, "jitter", 0, "put each start off by up to this `time`, to spread load")
	fl.StringSliceVar(&opts.req.Deliver, "deliver", nil, "`receivers` of each run's result (see notify list)")
	_ = cmd.RegisterFlagCompletionFunc("deliver", func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return a.completeReceivers(cmd, nil, typed)
	})
	_ = cmd.MarkFlagRequired("cron")
	for name, values := range map[string][]string{"overlap": {"skip", "queue", "allow"}, "missed": {"run", "report"}} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		if cmd.ArgsLenAtDash() != 1 || len(args) < 2 {
			return &fault.Error{Kind: fault.Invalid, Act: "a name and, after --, a command are expected", Next: "usage: " + cmd.UseLine()}
		}
		opts.req.Name = args[0]
		return a.addSchedule(ctx, f, &opts, args[1:])
	})
	return cmd
}

// scheduleName is what the API takes; its own message speaks of the body of a request.
var scheduleName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

func (a *app) addSchedule(ctx context.Context, f fleet, opts *scheduleAddOptions, line []string) error {
	format, err := opts.format()
	if err != nil {
		return err
	}
	if !scheduleName.MatchString(opts.req.Name) {
		return fault.New(fault.Invalid, "schedule name %q: 1 to 63 lower-case letters, digits, dots, - and _ are expected, beginning with a letter or a digit", output.Clean(opts.req.Name))
	}
	if opts.jitter < 0 || opts.jitter > 24*time.Hour || opts.jitter%time.Second != 0 {
		return fault.New(fault.Invalid, "--jitter %v: whole seconds, up to 24h, are expected", opts.jitter)
	}
	opts.req.JitterSeconds = int(opts.jitter / time.Second)
	if opts.req.Request, err = a.recordRequest(ctx, f, line); err != nil {
		return err
	}
	s, err := f.AddSchedule(ctx, opts.req)
	if err != nil {
		return err
	}
	if err := a.printSchedules(&opts.outputFlags, []api.Schedule{s}); err != nil {
		return err
	}
	if format.ForPeople() {
		times := make([]string, len(s.Next))
		for i, at := range s.Next {
			times[i] = showTime(&at)
		}
		a.remark("next times: %s", strings.Join(times, ", "))
	}
	if s.Access == "change" {
		a.remark("it changes devices: another user has to approve it with fleetctl schedule approve %s", s.Name)
	}
	return nil
}

// schedulable lists the commands whose work can be put on a schedule.
var schedulable = []string{"report", "command", "sel", "hotfix", "device check"}

// recordRequest runs a command line up to the point where it would start a job, and
// gives what it would start.
func (a *app) recordRequest(ctx context.Context, f fleet, line []string) (api.JobRequest, error) {
	if !slices.ContainsFunc(schedulable, func(s string) bool {
		words := strings.Fields(s)
		return len(line) >= len(words) && slices.Equal(line[:len(words)], words)
	}) {
		return api.JobRequest{}, &fault.Error{Kind: fault.Invalid, Act: fmt.Sprintf("%q cannot be put on a schedule", output.Clean(line[0])),
			Next: "commands that can: " + strings.Join(schedulable, ", ")}
	}
	rec := &recorder{fleet: f}
	inner := &app{streams: a.streams, build: a.build, connect: func(string) (fleet, error) { return rec, nil }, noted: a.noted,
		typed: a.typed, global: a.global}
	inner.streams.Out = io.Discard // the schedule is the result
	root := inner.root()           //nolint:contextcheck // cobra hands ctx to the commands
	root.SetArgs(line)
	cmd, err := root.ExecuteContextC(ctx)
	switch {
	case rec.request != nil:
		return *rec.request, nil
	case err != nil && !inner.running && !fault.Is(err, fault.Invalid):
		return api.JobRequest{}, &fault.Error{Kind: fault.Invalid, Err: err, Next: "see " + cmd.CommandPath() + " --help"}
	case err != nil:
		return api.JobRequest{}, err
	}
	return api.JobRequest{}, fault.New(fault.Invalid, "%q starts no work in fleetd: there is nothing to put on a schedule", strings.Join(line, " "))
}

// recorder is a fleet that keeps the first job that is asked for instead of
// starting it.
type recorder struct {
	fleet
	request *api.JobRequest
}

var errRecorded = errors.New("the request is recorded and not started")

// Submit implements fleet.
func (r *recorder) Submit(_ context.Context, req api.JobRequest) (api.Job, error) {
	if r.request == nil {
		req.RequestID = ""
		r.request = &req
	}
	return api.Job{}, errRecorded
}
