package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
	"capfleet/internal/pcap"
	"capfleet/internal/pcap/f5"
	"capfleet/internal/pcap/layers"
)

func (a *app) pcapKeylogCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "keylog FILE...",
		Short: "TLS secrets from captures of a BIG-IP, for Wireshark",
		Long: `Writes the secrets of TLS sessions that the tcpdump of a BIG-IP puts into
packets with "--f5 ssl", as the lines of an SSLKEYLOGFILE, each once. Wireshark
takes the file under Preferences, Protocols, TLS, and tshark with -o
tls.keylog_file:FILE; "editcap --inject-secrets tls,FILE" makes a capture that
decrypts itself.

Who has the lines can read the sessions: --out makes a file that only you can
read.

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitUsage, fault.ExitInterrupted),
		Example: `  fleetctl pcap keylog -w keys.log bigip.pcap
  tshark -r bigip.pcap -o tls.keylog_file:keys.log -Y http`,
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
		Args:              cobra.MinimumNArgs(1),
	}
	cmd.Flags().StringVarP(&out, "out", "w", "", "write to a `file` that only its owner can read, instead of stdout")
	cmd.RunE = a.local(func(ctx context.Context, args []string) error { return a.pcapKeylog(ctx, out, args) })
	return cmd
}

func (a *app) pcapKeylog(ctx context.Context, out string, files []string) error {
	var lines strings.Builder
	count := 0
	var failed error
	for _, name := range files {
		keys := f5.NewKeyLog()
		counter := f5.NewCounter()
		counter.Trailer = func(_ *pcap.Packet, f *layers.Frame, t *f5.Trailer) error {
			for _, line := range keys.Add(connection(f), t.TLS) {
				count++
				fmt.Fprintln(&lines, line)
			}
			return nil
		}
		err := a.readPackets(ctx, name, counter.Packet)
		if ctx.Err() != nil {
			return captureFault(name, context.Cause(ctx))
		}
		failed = errors.Join(failed, err)
	}
	var err error
	if out == "" {
		_, err = io.WriteString(a.streams.Out, lines.String())
	} else {
		err = output.WriteSecret(out, strings.NewReader(lines.String()))
	}
	if err != nil {
		return fault.Wrap(fault.Storage, "write the key log", err)
	}
	switch {
	case count > 0:
		a.remark("%d secrets", count)
	case failed == nil:
		a.remark("no secrets: was it captured with --f5 ssl?")
	}
	return failed
}

// connection names both directions of a conversation alike.
func connection(f *layers.Frame) string {
	a, b := netip.AddrPortFrom(f.Source(), f.SrcPort), netip.AddrPortFrom(f.Destination(), f.DstPort)
	if a.Compare(b) > 0 {
		a, b = b, a
	}
	return a.String() + " " + b.String()
}
