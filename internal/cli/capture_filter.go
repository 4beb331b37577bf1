package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/capture/filter"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

// filterRow is the row of capture filter.
type filterRow struct {
	Filter   string           `json:"filter"`
	Commands []filter.Command `json:"commands"`
}

func (a *app) captureFilterCommand() *cobra.Command {
	var out outputFlags
	var q filter.Question
	var iface string
	var topics strings.Builder
	for _, t := range filter.Topics() {
		fmt.Fprintf(&topics, "  %-15s %s\n", t.Name, t.Text)
	}
	cmd := &cobra.Command{
		Use:   "filter [TOPIC...]",
		Short: "write a capture filter, and the command line of each platform",
		Long: `Writes the filter for what you want to see and prints it with the tcpdump
command line of each platform. Topics and values of one flag are alternatives;
different flags must all hold. It needs no fleetd.

Topics:
` + topics.String() + `
` + jsonHelp("rows", "row", "filter, commands (platform, args, line)") + `

` + exitHelp(fault.ExitDone, fault.ExitUsage),
		Example: `  fleetctl capture filter resets --host 192.0.2.10 --port 443
  fleetctl capture filter handshakes --vlan 12
  fleetctl capture live lon-cap-01 -i eth0 -f "$(fleetctl capture filter -o csv ike | tail -1)" -w x.pcap`,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, t := range filter.Topics() {
				names = append(names, cobra.CompletionWithDesc(t.Name, t.Text))
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
	out.register(cmd)
	fl := cmd.Flags()
	fl.StringSliceVar(&q.Hosts, "host", nil, "`address` that packets come from or go to")
	fl.StringSliceVar(&q.Peers, "peer", nil, "`address` at the other side of --host or --net")
	fl.StringSliceVar(&q.Nets, "net", nil, "`network` that packets come from or go to, such as 192.0.2.0/24")
	fl.StringSliceVar(&q.Ports, "port", nil, "`port` or range, such as 8000-8100")
	fl.StringVar(&q.Protocol, "proto", "", "`protocol`: tcp, udp, sctp, icmp, esp, ah")
	fl.StringSliceVar(&q.Flags, "flags", nil, "TCP `flags` that are all set: fin, syn, rst, psh, ack, urg")
	fl.StringVar(&q.VLAN, "vlan", "", "VLAN `tag`, or any")
	fl.StringSliceVar(&q.Without, "without", nil, "`address` whose packets are left out")
	fl.StringVarP(&iface, "interface", "i", "", "`interface` for the command lines (default eth0, on a BIG-IP 0.0:nnnp)")
	cmd.RunE = a.local(func(_ context.Context, args []string) error {
		q.Topics = args
		expression, err := filter.Build(q)
		if err != nil {
			return err
		}
		if expression == "" {
			return &fault.Error{Kind: fault.Invalid, Act: "nothing is asked for", Next: "name a topic or give a flag; see " + cmd.CommandPath() + " --help"}
		}
		row := filterRow{Filter: expression, Commands: filter.Commands(expression, iface)}
		rows, err := output.Rows([]filterRow{row})
		if err != nil {
			return fault.Wrap(fault.Internal, "print the result", err)
		}
		ans := answer{view: output.View{Table: []output.Column{{Key: "filter", Head: "Filter"}}}, rows: rows, doc: rowsDocument{rows}}
		ans.people = func(w io.Writer, _ bool, _ output.Screen) error {
			var b strings.Builder
			fmt.Fprintf(&b, "%s\n\n", row.Filter)
			for _, c := range row.Commands {
				fmt.Fprintf(&b, "%-9s %s\n", c.Platform, c.Line)
			}
			_, err := io.WriteString(w, b.String())
			return err
		}
		return a.print(&out, ans)
	})
	return cmd
}
