package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
	"capfleet/internal/pcap/path"
)

type pcapPathOptions struct {
	outputFlags
	maps   []string
	drops  []string
	ladder int
	list   int
	whole  bool
	failOn string
}

func (a *app) pcapPathCommand() *cobra.Command {
	var opts pcapPathOptions
	cmd := &cobra.Command{
		Use:   "path NAME=FILE NAME=FILE...",
		Short: "where on a path packets were lost, from a capture at each place",
		Long: `Follows packets through captures that were taken at several places at the same
time, and says at which place they were seen last and where they were missing.
Give the places in the order of the path, from the client's side to the
server's; several FILEs of one NAME are parts of one capture.

Clocks may differ: their offsets are found from packets in both directions. TCP
is followed by the bytes of the stream, so that offloading, which cuts it
otherwise, is no loss. Translations of addresses and proxies are looked for;
--map NAME:FROM=TO tells one that is in force from that place on.

A missing packet proves nothing where the capture lost packets itself, or may
not have run: the verdict is then inconclusive. pcapng files tell what they
lost, of others --drops NAME=N tells; --whole says that every capture ran all
the time.

With -o json "verdict" has status (lost, complete, unanswered, refused,
inconclusive, nothing), sentence, direction, last_hop, missing_hop, lost_packets
and notes; "hops" offset_seconds, drift_ppm, drops and ARP questions of each
place; "links" what happened between two places in each direction (sent, seen,
lost, outside the time of the capture, appeared, recut, reordered, duplicated,
delay_seconds); "lost" the packets; "mappings" translations and proxies that
were found.
CSV and jsonl have the links.

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitUsage, fault.ExitFound, fault.ExitInterrupted),
		Example: `  fleetctl pcap path client=a.pcap firewall=b.pcap server=c.pcap
  fleetctl pcap path in=a.pcap out=b.pcap --map out:10.1.1.1=192.0.2.5
  fleetctl pcap path client=a.pcap server=b.pcap --fail-on lost -o json`,
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
		Args:              cobra.MinimumNArgs(2),
	}
	opts.register(cmd)
	fl := cmd.Flags()
	fl.StringArrayVar(&opts.maps, "map", nil, "`NAME:FROM=TO`: an address that is another from this place on (repeatable)")
	fl.StringArrayVar(&opts.drops, "drops", nil, "`NAME=N`: packets that the capture there lost itself (repeatable)")
	fl.IntVar(&opts.ladder, "ladder", 0, "draw so many `packets` of the first conversation with a loss")
	fl.IntVar(&opts.list, "list", 100, "list at most so many lost `packets`")
	fl.BoolVar(&opts.whole, "whole", false, "every capture ran all the time, also where it has no packet")
	fl.StringVar(&opts.failOn, "fail-on", "", "exit with 6 on this `finding`: lost, or problem for everything but complete")
	_ = cmd.RegisterFlagCompletionFunc("fail-on", cobra.FixedCompletions([]string{"lost", "problem"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = a.local(func(ctx context.Context, args []string) error { return a.pcapPath(ctx, &opts, args) })
	return cmd
}

func (a *app) pcapPath(ctx context.Context, opts *pcapPathOptions, args []string) error {
	if _, err := opts.format(); err != nil {
		return err
	}
	if err := checkFailOn(opts.failOn); err != nil {
		return err
	}
	hops, err := opts.hops(args)
	if err != nil {
		return err
	}
	if opts.ladder < 0 || opts.list < 1 {
		return fault.New(fault.Invalid, "--ladder and --list are numbers of packets")
	}
	for i := range hops {
		for j := range hops[i].Captures {
			file, err := a.openCapture(ctx, hops[i].Captures[j].Name)
			if err != nil {
				return err
			}
			defer func() { _ = file.Close() }()
			hops[i].Captures[j].Reader = file
		}
	}
	result, failed := path.Analyze(ctx, hops, path.Options{Lost: opts.list, Ladder: opts.ladder, Whole: opts.whole})
	if ctx.Err() != nil {
		return fault.Wrap(fault.Canceled, "read the captures", context.Cause(ctx))
	}
	if result == nil {
		return fault.Wrap(fault.Invalid, "follow the packets", failed)
	}
	if err := a.printPath(&opts.outputFlags, result, result); err != nil {
		return err
	}
	if failed != nil {
		return fault.Wrap(fault.Invalid, "read the captures", failed)
	}
	return foundOnPath(result, opts.failOn)
}

func checkFailOn(what string) error {
	if what != "" && what != "lost" && what != "problem" {
		return &fault.Error{Kind: fault.Invalid, Act: fmt.Sprintf("--fail-on %q is no finding", what), Next: "write lost or problem"}
	}
	return nil
}

// foundOnPath gives the error that ends the command with 6.
func foundOnPath(r *path.Result, failOn string) error {
	s := r.Verdict.Status
	if failOn == "lost" && s == path.Lost || failOn == "problem" && s != path.Complete {
		return statusOf(fault.ExitFound)
	}
	return nil
}

// hops reads the arguments.
func (o *pcapPathOptions) hops(args []string) ([]path.Hop, error) {
	var hops []path.Hop
	for _, arg := range args {
		name, file := namedFile(arg)
		i := slices.IndexFunc(hops, func(h path.Hop) bool { return h.Name == name })
		if i < 0 {
			i = len(hops)
			hops = append(hops, path.Hop{Name: name, DropsUnknown: true})
		}
		hops[i].Captures = append(hops[i].Captures, path.Capture{Name: file})
	}
	if len(hops) < 2 {
		return nil, &fault.Error{Kind: fault.Invalid, Act: "a path has at least two places", Next: "write client=a.pcap server=b.pcap"}
	}
	find := func(flag, arg, name string) (*path.Hop, error) {
		for i := range hops {
			if hops[i].Name == name {
				return &hops[i], nil
			}
		}
		return nil, &fault.Error{Kind: fault.Invalid, Act: fmt.Sprintf("--%s %q names no place", flag, arg), Next: "write one of the NAMEs before it"}
	}
	for _, arg := range o.maps {
		name, rule, _ := strings.Cut(arg, ":")
		h, err := find("map", arg, name)
		if err != nil {
			return nil, err
		}
		m, err := readMap(rule)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, fmt.Sprintf("--map %q", arg), err)
		}
		h.Maps = append(h.Maps, m)
	}
	for _, arg := range o.drops {
		name, number, _ := strings.Cut(arg, "=")
		h, err := find("drops", arg, name)
		if err != nil {
			return nil, err
		}
		if h.Drops, err = strconv.ParseUint(number, 10, 64); err != nil {
			return nil, fault.New(fault.Invalid, "--drops %q has no number of packets", arg)
		}
		h.DropsUnknown = false
	}
	return hops, nil
}

// readMap reads FROM=TO.
func readMap(rule string) (m path.Map, err error) {
	from, to, ok := strings.Cut(rule, "=")
	if !ok {
		return m, errors.New("write it as NAME:FROM=TO")
	}
	if m.From, err = netip.ParseAddr(from); err != nil {
		return m, err
	}
	m.To, err = netip.ParseAddr(to)
	return m, err
}

// printPath prints what a path showed; doc is the JSON of it.
func (a *app) printPath(flags *outputFlags, r *path.Result, doc any) error {
	links, err := output.Rows(r.Links)
	if err != nil {
		return fault.Wrap(fault.Internal, "print the result", err)
	}
	return a.print(flags, answer{view: pathView(), rows: links, doc: doc,
		people: func(w io.Writer, _ bool, screen output.Screen) error { return writePath(w, r, screen) }})
}

func pathView() output.View {
	return output.View{Table: []output.Column{
		{Key: "from", Head: "FROM", Fixed: true},
		{Key: "to", Head: "TO", Fixed: true},
		{Key: "direction", Head: "DIRECTION"},
		{Key: "sent", Head: "SENT", Kind: output.Number},
		{Key: "seen", Head: "SEEN", Kind: output.Number},
		{Key: "lost", Head: "LOST", Kind: output.Number},
		{Key: "outside", Head: "OUTSIDE", Kind: output.Number},
		{Key: "appeared", Head: "APPEARED", Kind: output.Number},
		{Key: "recut", Head: "RECUT", Kind: output.Number},
		{Key: "reordered", Head: "REORDERED", Kind: output.Number},
		{Key: "duplicated", Head: "DUPLICATED", Kind: output.Number},
	}}
}

// writePath prints the verdict first, then what it rests on.
func writePath(w io.Writer, r *path.Result, screen output.Screen) error {
	var b strings.Builder
	say := func(format string, args ...any) {
		b.WriteString(output.Wrap(output.Clean(fmt.Sprintf(format, args...)), screen.Width, "  "))
		b.WriteByte('\n')
	}
	say("%s", r.Verdict.Sentence)
	for _, note := range r.Verdict.Notes {
		say("- %s", note)
	}
	fmt.Fprintf(&b, "\n%-16s %9s %13s %7s %6s\n", "PLACE", "PACKETS", "CLOCK", "DROPS", "OTHER")
	for _, h := range r.Hops {
		clock, drops := "unknown", "unknown"
		if h.Offset != nil {
			clock = fmt.Sprintf("%+.6f s", *h.Offset)
		}
		if h.Drops != nil {
			drops = strconv.FormatUint(*h.Drops, 10)
		}
		fmt.Fprintf(&b, "%-16s %9d %13s %7s %6d\n", output.Clean(h.Name), h.Packets, clock, drops, h.Other)
	}
	fmt.Fprintf(&b, "\n%-26s %8s %8s %8s %8s %11s\n", "WAY", "SENT", "LOST", "OUTSIDE", "REORDER", "DELAY MS")
	for _, l := range r.Links {
		delay := ""
		if l.Delay != nil {
			delay = fmt.Sprintf("%.3f", 1000*l.Delay.Median)
		}
		fmt.Fprintf(&b, "%-26s %8d %8d %8d %8d %11s\n", output.Clean(l.From+" > "+l.To), l.Sent, l.Lost, l.Outside, l.Reordered, delay)
	}
	if len(r.Mappings) > 0 {
		b.WriteByte('\n')
		for _, m := range r.Mappings {
			say("%s between %s and %s: %s becomes %s (%d flows)", strings.ReplaceAll(m.Kind, "_", " "), m.Between[0], m.Between[1], m.From, m.To, m.Flows)
		}
	}
	if len(r.Lost) > 0 {
		const most = 10
		b.WriteString("\nLOST\n")
		for i, p := range r.Lost {
			if i == most {
				fmt.Fprintf(&b, "... and more; -o json lists them\n")
				break
			}
			fmt.Fprintf(&b, "%s %s > %s %s %s %d bytes\n", p.Time.Format("15:04:05.000000"), p.Source, p.Destination, p.Protocol, p.Flags, p.Bytes)
		}
	}
	if r.Ladder != "" {
		b.WriteByte('\n')
		b.WriteString(output.CleanBlock(r.Ladder))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
