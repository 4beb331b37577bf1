package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

// maxLogged bounds the units whose journals are fetched at once, a request each.
const maxLogged = 1000

func (a *app) jobLogsCommand() *cobra.Command {
	var out outputFlags
	cmd := &cobra.Command{
		Use:   "logs JOB [DEVICE...]",
		Short: "what a job did, step by step, from the journal",
		Long: `Shows the journal of a job in order of time, of all its devices or of those
named: the steps they entered, what was seen there, and for each act that must
not be done twice its intent and its outcome. Members of a pair share one
journal.

"job watch" follows a job that runs.

` + jsonHelp("rows", "row", "time, kind (step, note, intent, outcome), unit, step, attempt, detail, error") + `

` + csvHelp + `

` + readExits(),
		Example:           "  fleetctl job logs 12\n  fleetctl job logs 12 lon-probe-03 -o json",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeJobs,
	}
	out.register(cmd)
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		if _, err := out.format(); err != nil {
			return err
		}
		entries, err := jobLog(ctx, f, args[0], args[1:])
		if err != nil {
			return err
		}
		return list(a, &out, logView(), entries)
	})
	return cmd
}

// jobLog gives the journals of a job's units as one, in order of time.
func jobLog(ctx context.Context, f fleet, id string, devices []string) ([]api.JournalEntry, error) {
	tasks, err := f.Tasks(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, name := range devices {
		if !slices.ContainsFunc(tasks, func(t api.Task) bool { return t.Device == name }) {
			return nil, fault.New(fault.NotFound, "job %s has no device %q", id, name)
		}
	}
	units := map[string]string{} // a device of each unit
	for _, t := range tasks {
		if len(devices) == 0 || slices.Contains(devices, t.Device) {
			units[t.Unit] = t.Device
		}
	}
	if len(units) > maxLogged {
		return nil, &fault.Error{Kind: fault.Invalid, Act: fmt.Sprintf("job %s has %d devices", id, len(units)), Next: "name those whose journal is wanted"}
	}
	journals := make([][]api.JournalEntry, len(units))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	i := 0
	for _, device := range units {
		at := &journals[i]
		i++
		g.Go(func() (err error) {
			*at, err = f.Journal(gctx, id, device)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	all := slices.Concat(journals...)
	slices.SortStableFunc(all, func(x, y api.JournalEntry) int {
		return cmp.Or(x.Time.Compare(y.Time), cmp.Compare(x.Unit, y.Unit))
	})
	return all, nil
}

// logView is a journal's with the unit that it is of.
func logView() output.View {
	view := journalView()
	view.Table = slices.Insert(view.Table, 1, output.Column{Key: "unit", Head: "UNIT", Fixed: true})
	return view
}
