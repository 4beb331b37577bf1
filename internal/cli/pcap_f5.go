package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
	"capfleet/internal/pcap"
	"capfleet/internal/pcap/f5"
	"capfleet/internal/pcap/layers"
)

type pcapF5Options struct {
	outputFlags
	strip captureOut
}

// f5Row is a row of pcap f5: a capture.
type f5Row struct {
	File string `json:"file"`
	f5.Summary
	Stripped string `json:"stripped,omitempty"`
	Complete bool   `json:"complete"`
	Error    string `json:"error,omitempty"`
}

// f5Line is what tables and CSV show: a TMM, virtual server, port or reset cause.
type f5Line struct {
	File string `json:"file"`
	Kind string `json:"kind"`
	f5.Share
}

func (a *app) pcapF5Command() *cobra.Command {
	var opts pcapF5Options
	cmd := &cobra.Command{
		Use:   "f5 FILE...",
		Short: "what a BIG-IP adds to captures: TMMs, virtual servers, causes",
		Long: `Reads the trailers that the tcpdump of a BIG-IP puts behind packets (both
formats, noise levels n to nnn) and the description before the first one:
packets and share of each traffic processor as slot/TMM, virtual servers, ports,
causes of resets, and the command line and version of the capture.

--strip OUT writes the packets without trailers, the frame check sequences that
are before them and the description, as they were on the wire: before a replay,
and where byte counts matter.

Trailers of "--f5 ssl" hold secrets of TLS sessions; the file is key material
then. "pcap keylog" gives them to Wireshark, --strip takes them out.

` + jsonHelp("rows", "row", `file, file_info (command_line, version, host, platform, product), packets,
trailers, legacy_trailers, cut_packets, trailer_bytes, noise, tls_secrets, tmms,
virtual_servers, ports, reset_causes (name, packets, percent each), stripped,
complete, error`) + `

` + csvHelp + `

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitUsage, fault.ExitInterrupted),
		Example: `  fleetctl pcap f5 bigip.pcap
  fleetctl pcap f5 --strip clean.pcap bigip.pcap`,
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
		Args:              cobra.MinimumNArgs(1),
	}
	opts.register(cmd)
	cmd.Flags().StringVar(&opts.strip.file, "strip", "", "write the packets of the one FILE without trailers to `file`; - is stdout")
	cmd.RunE = a.local(func(ctx context.Context, args []string) error { return a.pcapF5(ctx, &opts, args) })
	return cmd
}

func (a *app) pcapF5(ctx context.Context, opts *pcapF5Options, files []string) error {
	if _, err := opts.format(); err != nil {
		return err
	}
	strip := opts.strip.file != ""
	if strip && (len(files) > 1 || same(files[0], opts.strip.file)) {
		return &fault.Error{Kind: fault.Invalid, Act: "--strip makes one capture of another", Next: "give one FILE, and another name for the result"}
	}
	var rows []f5Row
	var lines []f5Line
	var failed error
	for _, name := range files {
		counter := f5.NewCounter()
		var err error
		if strip {
			if err = a.stripF5(ctx, &opts.strip, name, counter); !captureWritten(err) {
				return err
			}
		} else {
			err = a.readPackets(ctx, name, counter.Packet)
		}
		if ctx.Err() != nil {
			return captureFault(name, context.Cause(ctx))
		}
		row := f5Row{File: name, Summary: counter.Summary(), Complete: err == nil}
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				return err
			}
			failed = errors.Join(failed, err)
			row.Error = err.Error()
			if row.Packets == 0 {
				continue
			}
		}
		if strip {
			row.Stripped = opts.strip.file
		}
		rows = append(rows, row)
		for _, part := range row.parts() {
			for _, share := range part.shares {
				lines = append(lines, f5Line{name, part.kind, share})
			}
		}
	}
	encoded, err := output.Rows(rows)
	if err != nil {
		return fault.Wrap(fault.Internal, "print the result", err)
	}
	columns, err := output.Rows(lines)
	if err != nil {
		return fault.Wrap(fault.Internal, "print the result", err)
	}
	ans := answer{view: f5View(), rows: encoded, lines: columns, doc: rowsDocument{encoded},
		people: func(w io.Writer, _ bool, screen output.Screen) error { return writeF5(w, rows, screen) }}
	return errors.Join(a.reportWritten(&opts.strip, &opts.outputFlags, ans, "trailers are taken off"), failed)
}

// stripF5 counts a capture and writes it without trailers.
func (a *app) stripF5(ctx context.Context, out *captureOut, name string, counter *f5.Counter) error {
	file, err := a.openCapture(ctx, name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	var frame layers.Frame
	return a.writeCaptureTo(ctx, out, func(w io.Writer) error {
		return a.copyCapture(ctx, file, w, func(p *pcap.Packet) bool {
			_ = counter.Packet(p) // without a Trailer function it gives no error
			return f5.Strip(p, &frame)
		})
	})
}

type f5Part struct {
	kind, head string
	shares     []f5.Share
}

func (r *f5Row) parts() []f5Part {
	return []f5Part{
		{"tmm", "Slot/TMM", r.TMMs},
		{"virtual_server", "Virtual server", r.VirtualServers},
		{"port", "Port", r.Ports},
		{"reset_cause", "Reset cause", r.ResetCauses},
	}
}

// writeF5 prints captures for people.
func writeF5(w io.Writer, rows []f5Row, screen output.Screen) error {
	var b strings.Builder
	for i := range rows {
		row := &rows[i]
		line := func(head, format string, args ...any) {
			b.WriteString(factLine(head, fmt.Sprintf(format, args...), screen))
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		line("File", "%s", row.File)
		if info := row.FileInfo; info != nil {
			line("Captured on", "%s, %s %s", info.Host, info.Product, info.Platform)
			line("Version", "%s", info.Version)
			line("Command line", "tcpdump %s", info.CommandLine)
		}
		line("Packets", "%d, %d with a trailer (%d bytes), %d cut", row.Packets, row.Trailers, row.TrailerBytes, row.Cut)
		line("Noise level", "%d", row.Noise)
		if row.Secrets {
			line("TLS secrets", "yes: the file is key material")
		}
		for _, part := range row.parts() {
			if len(part.shares) == 0 {
				continue
			}
			fmt.Fprintf(&b, "\n%10s %7s  %s\n", "PACKETS", "SHARE", strings.ToUpper(part.head))
			for _, s := range part.shares {
				fmt.Fprintf(&b, "%10d %6.1f%%  %s\n", s.Packets, s.Percent, output.Clean(s.Name))
			}
		}
		if row.Error != "" {
			line("Error", "%s", row.Error)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func f5View() output.View {
	return output.View{Table: []output.Column{
		{Key: "file", Head: "FILE", Fixed: true},
		{Key: "kind", Head: "KIND"},
		{Key: "name", Head: "NAME"},
		{Key: "packets", Head: "PACKETS", Kind: output.Number},
		{Key: "percent", Head: "PERCENT", Kind: output.Number},
	}}
}
