package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
	"capfleet/internal/pcap"
	"capfleet/internal/pcap/info"
)

type pcapInfoOptions struct {
	outputFlags
	noHash bool
}

// captureRow is a row of pcap info.
type captureRow struct {
	File string `json:"file"`
	*info.Summary
	// Complete is false when reading ended before the end of the capture.
	Complete    bool   `json:"complete"`
	Error       string `json:"error,omitempty"`
	ErrorOffset *int64 `json:"error_offset,omitempty"`

	// OddPackets sums the oddities of all kinds, for the table.
	OddPackets uint64 `json:"odd_packets"`
}

func (a *app) pcapInfoCommand() *cobra.Command {
	var opts pcapInfoOptions
	cmd := &cobra.Command{
		Use:   "info FILE...",
		Short: "figures of captures: packets, bytes, times, rates, order, SHA-256",
		Long: `Reads captures and gives the figures of capinfos: packets, bytes, first and
last time, duration, average rates and sizes, whether packets are in order of
time, interfaces and comments, and the file's SHA-256. It also counts what does
not add up below the transport layer, such as unknown ARP operations and frames
that are too short, each with the number of the first such packet.

A damaged file gives what was read up to the damage and an error with the
offset, and the exit code is 4. FILE - is stdin.

Rates need a time for every packet; without, they are null.

` + jsonHelp("rows", "row", `file, format (pcap, pcapng), compressed, encapsulation, file_bytes, sha256,
packets, data_bytes, captured_bytes, first_time, last_time, duration_seconds,
strict_time_order, packets_without_time, bytes_per_second, bits_per_second,
packets_per_second, average_packet_bytes, smallest_packet_bytes,
largest_packet_bytes, cut_packets, smallest_cut_bytes, largest_cut_bytes,
interfaces, sections, packet_comments, name_resolution_blocks, secrets_blocks,
custom_blocks, other_blocks, oddities (kind, packets, first_packet), complete,
error, error_offset, odd_packets (sum over the oddities)`) + `

` + csvHelp + `

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitUsage, fault.ExitInterrupted),
		Example: `  fleetctl pcap info trace.pcap
  fleetctl pcap info -o json *.pcapng
  zcat trace.pcap.gz | fleetctl pcap info -`,
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
		Args:              cobra.MinimumNArgs(1),
	}
	opts.register(cmd)
	cmd.Flags().BoolVar(&opts.noHash, "no-hash", false, "leave out the SHA-256, which takes longer than the rest")
	cmd.RunE = a.local(func(ctx context.Context, args []string) error { return a.pcapInfo(ctx, &opts, args) })
	return cmd
}

// pcapInfo gives a row for each file, whatever became of the others.
func (a *app) pcapInfo(ctx context.Context, opts *pcapInfoOptions, files []string) error {
	if _, err := opts.format(); err != nil {
		return err
	}
	var rows []captureRow
	var failed error
	for _, name := range files {
		row, err := a.captureInfo(ctx, name, opts)
		if ctx.Err() != nil {
			return captureFault(name, err)
		}
		if row != nil {
			rows = append(rows, *row)
		}
		failed = errors.Join(failed, captureFault(name, err))
	}
	encoded, err := output.Rows(rows)
	if err != nil {
		return fault.Wrap(fault.Internal, "print the result", err)
	}
	ans := answer{view: captureView(), rows: encoded, doc: rowsDocument{encoded}}
	if len(rows) == 1 {
		ans.people = func(w io.Writer, _ bool, screen output.Screen) error {
			return writeCapture(w, &rows[0], screen)
		}
	}
	if err := a.print(&opts.outputFlags, ans); err != nil {
		return err
	}
	return failed
}

// captureInfo reads one file. There is a row unless nothing could be read.
func (a *app) captureInfo(ctx context.Context, name string, opts *pcapInfoOptions) (*captureRow, error) {
	file, err := a.openCapture(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	summary, err := info.Read(ctx, file, info.Options{Hash: !opts.noHash})
	if err != nil && summary.Format == "" {
		return nil, err
	}
	row := &captureRow{File: name, Summary: summary, Complete: err == nil}
	for _, o := range summary.Oddities {
		row.OddPackets += o.Packets
	}
	if err != nil {
		row.Error = err.Error()
		var bad *pcap.Error
		if errors.As(err, &bad) {
			row.ErrorOffset = &bad.Offset
		}
		if plain, ok := file.(*os.File); ok {
			if stat, err := plain.Stat(); err == nil {
				summary.FileBytes = stat.Size()
			}
		}
	}
	return row, err
}

func captureView() output.View {
	return output.View{Table: []output.Column{
		{Key: "file", Head: "FILE", Fixed: true},
		{Key: "format", Head: "FORMAT", Wide: true},
		{Key: "encapsulation", Head: "LINK"},
		{Key: "packets", Head: "PACKETS", Kind: output.Number},
		{Key: "data_bytes", Head: "BYTES", Kind: output.Number},
		{Key: "first_time", Head: "FIRST", Kind: output.Time, Wide: true},
		{Key: "duration_seconds", Head: "SECONDS", Kind: output.Number},
		{Key: "bits_per_second", Head: "BIT/S", Kind: output.Number, Wide: true},
		{Key: "packets_per_second", Head: "PACKETS/S", Kind: output.Number, Wide: true},
		{Key: "average_packet_bytes", Head: "AVG SIZE", Kind: output.Number, Wide: true},
		{Key: "strict_time_order", Head: "IN ORDER", Wide: true},
		{Key: "cut_packets", Head: "CUT", Kind: output.Number},
		{Key: "odd_packets", Head: "ODD", Kind: output.Number},
		{Key: "complete", Head: "COMPLETE"},
		{Key: "sha256", Head: "SHA-256", Wide: true, Fixed: true},
	}}
}

// factLine is a heading with what there is to say, in lines that fit a terminal.
func factLine(head, text string, screen output.Screen) string {
	const width = 16
	return fmt.Sprintf("%-*s", width, head) + output.Wrap(output.Clean(text), max(screen.Width-width, 0), strings.Repeat(" ", width)) + "\n"
}

// writeCapture prints the figures of one capture for people, a line each.
func writeCapture(w io.Writer, row *captureRow, screen output.Screen) error {
	var b strings.Builder
	line := func(head, format string, args ...any) {
		b.WriteString(factLine(head, fmt.Sprintf(format, args...), screen))
	}
	s := row.Summary
	line("File", "%s", row.File)
	format := string(s.Format)
	if s.Compressed {
		format += ", gzip"
	}
	line("Format", "%s", format)
	line("Link layer", "%s", s.Encapsulation)
	line("File size", "%d bytes", s.FileBytes)
	line("Packets", "%d", s.Packets)
	line("Data", "%d bytes on the wire, %d captured", s.DataBytes, s.CapturedBytes)
	if s.First != nil {
		line("First packet", "%s", s.First.Format(timeNanos))
	}
	if s.Last != nil {
		line("Last packet", "%s", s.Last.Format(timeNanos))
	}
	if s.Duration != nil {
		line("Duration", "%s s", strconv.FormatFloat(*s.Duration, 'f', -1, 64))
	}
	if s.BytesPerSecond != nil {
		line("Average rate", "%.2f bytes/s, %.2f bit/s, %.2f packets/s", *s.BytesPerSecond, *s.BitsPerSecond, *s.PacketsPerSecond)
	}
	if s.AveragePacketBytes != nil {
		line("Packet size", "%d to %d bytes, average %.2f", *s.SmallestPacket, *s.LargestPacket, *s.AveragePacketBytes)
	}
	if s.CutPackets > 0 {
		line("Cut packets", "%d, to %d to %d bytes", s.CutPackets, *s.SmallestCut, *s.LargestCut)
	}
	order := "unknown: not every packet has a time"
	if s.StrictOrder != nil {
		order = map[bool]string{true: "yes", false: "no"}[*s.StrictOrder]
	}
	line("In time order", "%s", order)
	if s.SHA256 != "" {
		line("SHA-256", "%s", s.SHA256)
	}
	for n := range s.Sections {
		sec := &s.Sections[n]
		for _, part := range []struct{ head, text string }{{"Hardware", sec.Hardware}, {"System", sec.OS}, {"Application", sec.Application}} {
			if part.text != "" {
				line(part.head, "%s", part.text)
			}
		}
		for _, comment := range sec.Comments {
			line("Comment", "%s", comment)
		}
	}
	if s.PacketComments > 0 {
		line("Comments", "%d on packets", s.PacketComments)
	}
	for n := range s.Interfaces {
		line("Interface "+strconv.Itoa(n), "%s", interfaceText(&s.Interfaces[n]))
	}
	for _, o := range s.Oddities {
		line("Odd", "%s: %d packets, the first is number %d", strings.ReplaceAll(o.Kind, "_", " "), o.Packets, o.First)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// timeNanos is RFC 3339 with all the digits that a capture can have.
const timeNanos = "2006-01-02T15:04:05.999999999Z07:00"

func interfaceText(i *info.Interface) string {
	parts := []string{i.Encapsulation}
	if i.Name != "" {
		parts = append([]string{i.Name}, parts...)
	}
	if i.Filter != "" {
		parts = append(parts, "filter "+i.Filter)
	}
	limit := "no length limit"
	if i.SnapLength > 0 {
		limit = fmt.Sprintf("up to %d bytes a packet", i.SnapLength)
	}
	parts = append(parts, limit, fmt.Sprintf("%d packets", i.Packets))
	if i.Dropped != nil {
		parts = append(parts, fmt.Sprintf("%d dropped", *i.Dropped))
	}
	return strings.Join(append(parts, i.Comments...), ", ")
}
