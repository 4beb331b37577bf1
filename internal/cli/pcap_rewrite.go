package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
	"capfleet/internal/pcap"
	"capfleet/internal/pcap/rewrite"
)

type pcapRewriteOptions struct {
	outputFlags
	captureOut
	maps, mapSources, mapDestinations    []string
	ports, portSources, portDestinations []string
	macs                                 []string
	sourceMAC, destinationMAC            string
	vlan                                 int
	stripVLAN                            bool
}

func (a *app) pcapRewriteCommand() *cobra.Command {
	var opts pcapRewriteOptions
	cmd := &cobra.Command{
		Use:   "rewrite --out OUT [rules] FILE",
		Short: "change addresses, ports, MACs and VLANs; checksums stay right",
		Long: `Changes packets by rules and puts their checksums right; what no rule names
stays as it was, byte for byte. Of several rules for a field the first that fits
is taken. Addresses are also changed in ARP, and in the packets that ICMP errors
quote. Addresses inside payloads and tunnels are not.

A checksum over bytes that were not captured cannot be made anew; it is moved by
the difference, so that it is right after if it was right before. Without rules
the command makes the checksums of captures with offloading right.

The result has the format of FILE. A damaged file gives what was before the
damage, and the exit code is 4. FILE - is stdin.

` + jsonHelp("rows", "row", `file, packets, changed, repaired_checksums (were wrong, are right),
unproven_checksums (right if they were), cut_packets, complete, error`) + `

` + csvHelp + `

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitUsage, fault.ExitInterrupted),
		Example: `  fleetctl pcap rewrite -w lab.pcap --map 10.1.0.0/16=192.168.0.0/16 trace.pcap
  fleetctl pcap rewrite -w lab.pcap --map-dst 10.1.1.5=10.9.9.9 --dst-mac 02:00:5e:10:00:01 flows.pcap
  fleetctl pcap rewrite -w fixed.pcap offloaded.pcap`,
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
		Args:              oneArg,
	}
	opts.outputFlags.register(cmd)
	opts.captureOut.register(cmd)
	fl := cmd.Flags()
	fl.StringArrayVar(&opts.maps, "map", nil, "`FROM=TO`: addresses or prefixes, at both ends (repeatable)")
	fl.StringArrayVar(&opts.mapSources, "map-src", nil, "`FROM=TO` for source addresses alone")
	fl.StringArrayVar(&opts.mapDestinations, "map-dst", nil, "`FROM=TO` for destination addresses alone")
	fl.StringArrayVar(&opts.ports, "port", nil, "`FROM=TO`: TCP and UDP ports, at both ends")
	fl.StringArrayVar(&opts.portSources, "port-src", nil, "`FROM=TO` for source ports alone")
	fl.StringArrayVar(&opts.portDestinations, "port-dst", nil, "`FROM=TO` for destination ports alone")
	fl.StringArrayVar(&opts.macs, "mac", nil, "`FROM=TO`: MAC addresses, at both ends and in ARP")
	fl.StringVar(&opts.sourceMAC, "src-mac", "", "set every source `MAC` address")
	fl.StringVar(&opts.destinationMAC, "dst-mac", "", "set every destination `MAC` address")
	fl.IntVar(&opts.vlan, "vlan", -1, "set the outermost VLAN `identifier`, with a tag where there is none")
	fl.BoolVar(&opts.stripVLAN, "strip-vlan", false, "remove all VLAN tags")
	cmd.RunE = a.local(func(ctx context.Context, args []string) error { return a.pcapRewrite(ctx, &opts, args[0]) })
	return cmd
}

// rewrittenRow is a row of pcap rewrite.
type rewrittenRow struct {
	File string `json:"file"`
	rewrite.Result
	Complete bool   `json:"complete"`
	Error    string `json:"error,omitempty"`
}

func (a *app) pcapRewrite(ctx context.Context, opts *pcapRewriteOptions, name string) error {
	if _, err := opts.format(); err != nil {
		return err
	}
	rules, err := opts.rules()
	if err != nil {
		return err
	}
	rw, err := rewrite.New(rules)
	if err != nil {
		return fault.Wrap(fault.Invalid, "read the rules", err)
	}
	if same(name, opts.captureOut.file) {
		return fault.New(fault.Invalid, "%s would be read and written at once: choose another --out", name)
	}
	file, err := a.openCapture(ctx, name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	failed := a.writeCaptureTo(ctx, &opts.captureOut, func(w io.Writer) error {
		return a.copyCapture(ctx, file, w, func(p *pcap.Packet) bool { rw.Packet(p); return true })
	})
	if !captureWritten(failed) {
		return failed
	}
	row := rewrittenRow{File: name, Result: rw.Result(), Complete: failed == nil}
	if failed != nil {
		row.Error = errors.Unwrap(failed).Error()
	}
	encoded, err := output.Rows([]rewrittenRow{row})
	if err != nil {
		return fault.Wrap(fault.Internal, "print the result", err)
	}
	ans := answer{view: rewriteView(), rows: encoded, doc: rowsDocument{encoded}}
	summary := fmt.Sprintf("rewrote %d of %d packets", row.Changed, row.Packets)
	return errors.Join(a.reportWritten(&opts.captureOut, &opts.outputFlags, ans, summary), failed)
}

// rules reads the flags.
func (o *pcapRewriteOptions) rules() (r rewrite.Rules, err error) {
	r.StripVLAN = o.stripVLAN
	if o.vlan >= 0 {
		if o.vlan > 4094 {
			return r, fault.New(fault.Invalid, "--vlan %d: identifiers are 0 to 4094", o.vlan)
		}
		id := uint16(o.vlan)
		r.SetVLAN = &id
	}
	for _, flag := range []struct {
		name string
		args []string
		add  func(arg string) error
	}{
		{"map", o.maps, addresses(&r, rewrite.Both)},
		{"map-src", o.mapSources, addresses(&r, rewrite.Source)},
		{"map-dst", o.mapDestinations, addresses(&r, rewrite.Destination)},
		{"port", o.ports, ports(&r, rewrite.Both)},
		{"port-src", o.portSources, ports(&r, rewrite.Source)},
		{"port-dst", o.portDestinations, ports(&r, rewrite.Destination)},
		{"mac", o.macs, macs(&r, rewrite.Both)},
		{"src-mac", given(o.sourceMAC), macs(&r, rewrite.Source)},
		{"dst-mac", given(o.destinationMAC), macs(&r, rewrite.Destination)},
	} {
		for _, arg := range flag.args {
			if err := flag.add(arg); err != nil {
				return r, fault.Wrap(fault.Invalid, "--"+flag.name, err)
			}
		}
	}
	return r, nil
}

func given(arg string) []string {
	if arg == "" {
		return nil
	}
	return []string{arg}
}

func addresses(r *rewrite.Rules, side rewrite.Side) func(string) error {
	return func(arg string) error {
		rule, err := rewrite.ParseAddressRule(side, arg)
		r.Addresses = append(r.Addresses, rule)
		return err
	}
}

func ports(r *rewrite.Rules, side rewrite.Side) func(string) error {
	return func(arg string) error {
		rule, err := rewrite.ParsePortRule(side, arg)
		r.Ports = append(r.Ports, rule)
		return err
	}
}

func macs(r *rewrite.Rules, side rewrite.Side) func(string) error {
	return func(arg string) error {
		rule, err := rewrite.ParseMACRule(side, arg)
		r.MACs = append(r.MACs, rule)
		return err
	}
}

func rewriteView() output.View {
	return output.View{Table: []output.Column{
		{Key: "file", Head: "FILE", Fixed: true},
		{Key: "packets", Head: "PACKETS", Kind: output.Number},
		{Key: "changed", Head: "CHANGED", Kind: output.Number},
		{Key: "repaired_checksums", Head: "REPAIRED", Kind: output.Number},
		{Key: "unproven_checksums", Head: "UNPROVEN", Kind: output.Number},
		{Key: "cut_packets", Head: "CUT", Kind: output.Number},
		{Key: "complete", Head: "COMPLETE"},
	}}
}
