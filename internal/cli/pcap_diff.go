package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
	"capfleet/internal/pcap/path"
)

type pcapDiffOptions struct {
	outputFlags
	only   []string
	failOn string
}

func (a *app) pcapDiffCommand() *cobra.Command {
	var opts pcapDiffOptions
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "what became of each packet of A in B: forwarded, changed, dropped",
		Long: `Compares two captures of the same traffic packet by packet, such as before and
behind a device, or what was replayed and what arrived. Each packet of A was
forwarded as it was, changed (MAC addresses, VLAN, TTL, addresses, ports,
numbers of TCP, payload), recut (its bytes are in packets of another size), or
dropped. Packets that are in B alone are counted as added.

Delays are by the clocks as they are; "pcap path" finds how far they differ.
-o jsonl prints packet after packet and keeps nothing in memory.

` + jsonHelp("summary, rows", "row", `packet, time, source, destination, protocol, flags, bytes, outcome,
other_packet (in B), delay_seconds, changes (field, from, to)`) + `

` + csvHelp + `

` + exitHelp(fault.ExitDone, fault.ExitUsage, fault.ExitFound, fault.ExitInterrupted),
		Example: `  fleetctl pcap diff before.pcap behind.pcap
  fleetctl pcap diff sent.pcap arrived.pcap --only dropped,changed -o csv
  fleetctl pcap diff sent.pcap arrived.pcap --fail-on dropped`,
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
		Args:              cobra.ExactArgs(2),
	}
	opts.register(cmd)
	fl := cmd.Flags()
	fl.StringSliceVar(&opts.only, "only", nil, "only packets with these `outcomes`")
	fl.StringVar(&opts.failOn, "fail-on", "", "exit with 6 where this `outcome` is found: dropped, or changed for both")
	outcomes := cobra.FixedCompletions([]string{"forwarded", "changed", "recut", "dropped"}, cobra.ShellCompDirectiveNoFileComp)
	_ = cmd.RegisterFlagCompletionFunc("only", outcomes)
	_ = cmd.RegisterFlagCompletionFunc("fail-on", cobra.FixedCompletions([]string{"dropped", "changed"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = a.local(func(ctx context.Context, args []string) error { return a.pcapDiff(ctx, &opts, args) })
	return cmd
}

// diffDocument is the JSON of pcap diff.
type diffDocument struct {
	Summary path.DiffSummary  `json:"summary"`
	Rows    []json.RawMessage `json:"rows"`
}

// diffLine is what tables and CSV show of a packet.
type diffLine struct {
	*path.Fate
	Changes string `json:"changes"`
}

func (a *app) pcapDiff(ctx context.Context, opts *pcapDiffOptions, args []string) error {
	format, err := opts.format()
	if err != nil {
		return err
	}
	if err := opts.check(); err != nil {
		return err
	}
	captures := make([]path.Capture, 0, len(args))
	for _, name := range args {
		file, err := a.openCapture(ctx, name)
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		captures = append(captures, path.Capture{Name: name, Reader: file})
	}
	var rows, lines []json.RawMessage
	stream := format == output.JSONL && opts.file == ""
	out := bufio.NewWriter(a.streams.Out)
	sum, failed := path.Diff(ctx, captures[0], captures[1], func(f *path.Fate) error {
		if len(opts.only) > 0 && !slices.Contains(opts.only, string(f.Outcome)) {
			return nil
		}
		row, err := json.Marshal(f)
		if err != nil {
			return fault.Wrap(fault.Internal, "print a packet", err)
		}
		if stream {
			_, err := out.Write(append(row, '\n'))
			return fault.Wrap(fault.Internal, "print a packet", err)
		}
		line, err := json.Marshal(diffLine{f, changesText(f.Changes)})
		rows, lines = append(rows, row), append(lines, line)
		return err
	})
	if ctx.Err() != nil {
		return fault.Wrap(fault.Canceled, "read the captures", context.Cause(ctx))
	}
	var ours *fault.Error
	if errors.As(failed, &ours) {
		return failed // it could not be printed
	}
	failed = fault.Wrap(fault.Invalid, "read the captures", failed)
	if stream {
		err = fault.Wrap(fault.Internal, "print the result", out.Flush())
	} else {
		err = a.print(&opts.outputFlags, answer{view: diffView(), rows: rows, lines: lines, doc: diffDocument{sum, rows}})
	}
	if err != nil {
		return err
	}
	a.remark("%s", diffRemark(sum))
	switch {
	case failed != nil:
		return failed
	case opts.failOn != "" && sum.Dropped > 0, opts.failOn == "changed" && sum.Changed > 0:
		return statusOf(fault.ExitFound)
	}
	return nil
}

func (o *pcapDiffOptions) check() error {
	for _, name := range o.only {
		if !slices.Contains([]string{"forwarded", "changed", "recut", "dropped"}, name) {
			return &fault.Error{Kind: fault.Invalid, Act: fmt.Sprintf("--only %q is no outcome", name), Next: "write forwarded, changed, recut or dropped"}
		}
	}
	if o.failOn != "" && o.failOn != "dropped" && o.failOn != "changed" {
		return &fault.Error{Kind: fault.Invalid, Act: fmt.Sprintf("--fail-on %q is no outcome", o.failOn), Next: "write dropped or changed"}
	}
	return nil
}

func changesText(changes []path.Change) string {
	parts := make([]string, 0, len(changes))
	for _, c := range changes {
		text := c.Field
		if c.From != "" || c.To != "" {
			text += " " + c.From + ">" + c.To
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, " ")
}

func diffRemark(s path.DiffSummary) string {
	text := fmt.Sprintf("%d packets: %d forwarded, %d changed, %d recut, %d dropped; %d added", s.Packets, s.Forwarded, s.Changed, s.Recut, s.Dropped, s.Added)
	for _, field := range slices.Sorted(maps.Keys(s.Fields)) {
		text += fmt.Sprintf("\n%9d %s", s.Fields[field], field)
	}
	return text
}

func diffView() output.View {
	return output.View{Table: []output.Column{
		{Key: "packet", Head: "PACKET", Kind: output.Number},
		{Key: "outcome", Head: "OUTCOME"},
		{Key: "source", Head: "SOURCE"},
		{Key: "destination", Head: "DESTINATION"},
		{Key: "protocol", Head: "PROTOCOL", Wide: true},
		{Key: "bytes", Head: "BYTES", Kind: output.Number},
		{Key: "other_packet", Head: "IN B", Kind: output.Number},
		{Key: "delay_seconds", Head: "DELAY S", Kind: output.Number, Wide: true},
		{Key: "time", Head: "TIME", Kind: output.Time, Wide: true},
		{Key: "changes", Head: "CHANGES"},
	}}
}
