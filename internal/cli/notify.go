package cli

import (
	"context"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

// notifyFleet is what the notify commands need of fleetd.
type notifyFleet interface {
	Receivers(ctx context.Context) ([]api.Receiver, error)
	TestReceiver(ctx context.Context, name string) (api.Notification, error)
}

func (a *app) notifyCommand() *cobra.Command {
	cmd := a.group("notify", "who is told what happens")
	cmd.AddCommand(a.notifyListCommand(), a.notifyTestCommand())
	return cmd
}

func (a *app) notifyListCommand() *cobra.Command {
	var out outputFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "receivers, and how telling them goes",
		Long: `Lists the receivers that fleetd's configuration names: webhooks, syslogs, and
directories for the results of schedules. WAITING is what a receiver has not
taken yet; fleetd tries for a week, at longer and longer intervals.

` + jsonHelp("rows", "row", `name, kind, target, conditions, waiting, oldest_at, last_sent_at, last_error`) + `

` + readExits(),
		Args: cobra.NoArgs,
	}
	out.register(cmd)
	cmd.RunE = a.with(func(ctx context.Context, f fleet, _ []string) error {
		if _, err := out.format(); err != nil {
			return err
		}
		receivers, err := f.Receivers(ctx)
		if err != nil {
			return err
		}
		rows, err := output.Rows(receivers)
		if err != nil {
			return fault.Wrap(fault.Internal, "print the receivers", err)
		}
		return a.print(&out, answer{rows: rows, doc: rowsDocument{rows}, empty: "fleetd's configuration names no receivers", view: output.View{Table: []output.Column{
			{Key: "name", Head: "RECEIVER", Fixed: true},
			{Key: "kind", Head: "KIND"},
			{Key: "target", Head: "TARGET"},
			{Key: "conditions", Head: "TOLD OF", Kind: output.List},
			{Key: "waiting", Head: "WAITING", Kind: output.Number},
			{Key: "oldest_at", Head: "SINCE", Kind: output.Age},
			{Key: "last_sent_at", Head: "LAST SENT", Kind: output.Age, Wide: true},
			{Key: "last_error", Head: "LAST ERROR"},
		}}})
	})
	return cmd
}

func (a *app) notifyTestCommand() *cobra.Command {
	var out outputFlags
	cmd := &cobra.Command{
		Use:   "test RECEIVER",
		Short: "send a receiver a message now",
		Long: `Sends a receiver a message of the condition "test" at once, past everything that
waits, and says whether it was taken; what waits follows at once then. A
directory is tried by writing a file and removing it.

` + jsonHelp("rows (the message)", "row", `id, condition, receiver, time, summary`) + `

` + readExits(),
		Args:              oneArg,
		ValidArgsFunction: a.completeReceivers,
	}
	out.register(cmd)
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		if _, err := out.format(); err != nil {
			return err
		}
		m, err := f.TestReceiver(ctx, args[0])
		if err != nil {
			return err
		}
		return list(a, &out, output.View{Table: []output.Column{
			{Key: "receiver", Head: "RECEIVER", Fixed: true},
			{Key: "time", Head: "TAKEN", Kind: output.Time, Fixed: true},
			{Key: "summary", Head: "MESSAGE"},
			{Key: "id", Head: "ID", Wide: true},
		}}, []api.Notification{m})
	})
	return cmd
}

// completeReceivers completes names of receivers.
func (a *app) completeReceivers(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	f, err := a.fleet()
	if err != nil || len(args) > 0 && cmd.Name() == "test" {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := completionContext(cmd)
	defer cancel()
	receivers, err := f.Receivers(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := make([]string, 0, len(receivers))
	for _, r := range receivers {
		names = append(names, cobra.CompletionWithDesc(r.Name, r.Kind+" "+r.Target))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
