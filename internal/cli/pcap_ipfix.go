package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
	"capfleet/internal/pcap"
	"capfleet/internal/pcap/ipfix"
	"capfleet/internal/pcap/layers"
)

type pcapIPFIXOptions struct {
	outputFlags
	port uint16
}

func (a *app) pcapIPFIXCommand() *cobra.Command {
	var opts pcapIPFIXOptions
	cmd := &cobra.Command{
		Use:   "ipfix FILE...",
		Short: "flow records of IPFIX messages in captures",
		Long: `Reads the data records of IPFIX messages over UDP. Templates are learned across
packets and files; what comes before its template is told once that is there.
Fields have the names of IANA's registry; those of enterprises are named
enterprise/number and those not known by their number, with their bytes in
hexadecimal. A field that a record has more than once has a list of values.

Without --port every datagram that is an IPFIX message by its version and length
is read. -o jsonl prints while it reads and keeps nothing in memory.

The counts are told on stderr: messages that did not add up, records that the
sequence numbers say were sent and are not there, sets without a template.

` + jsonHelp("rows, summary", "row", `file, packet, time, export_time, exporter, collector, observation_domain,
sequence, template, scope (of options records), fields`) + `

` + csvHelp + `

` + exitHelp(fault.ExitDone, fault.ExitUsage, fault.ExitInterrupted),
		Example: `  fleetctl pcap ipfix flows.pcap
  fleetctl pcap ipfix -o jsonl flows.pcap | jq .fields.octetDeltaCount`,
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
		Args:              cobra.MinimumNArgs(1),
	}
	opts.register(cmd)
	cmd.Flags().Uint16Var(&opts.port, "port", 0, "only datagrams to this UDP `port`")
	cmd.RunE = a.local(func(ctx context.Context, args []string) error { return a.pcapIPFIX(ctx, &opts, args) })
	return cmd
}

// flowRow is a row of pcap ipfix.
type flowRow struct {
	File string `json:"file"`
	*ipfix.Record
}

// flowLine is what tables and CSV show of a row.
type flowLine struct {
	File     string  `json:"file"`
	Packet   uint64  `json:"packet"`
	Time     *string `json:"time"`
	Exporter string  `json:"exporter"`
	Domain   uint32  `json:"observation_domain"`
	Template uint16  `json:"template"`
	Fields   string  `json:"fields"`
}

// ipfixDocument is the JSON of pcap ipfix.
type ipfixDocument struct {
	Rows    []json.RawMessage `json:"rows"`
	Summary ipfix.Summary     `json:"summary"`
}

func (a *app) pcapIPFIX(ctx context.Context, opts *pcapIPFIXOptions, files []string) error {
	format, err := opts.format()
	if err != nil {
		return err
	}
	name := ""
	var rows, lines []json.RawMessage
	stream := format == output.JSONL && opts.file == ""
	out := bufio.NewWriter(a.streams.Out)
	decoder := ipfix.New(func(r *ipfix.Record) error {
		row, err := json.Marshal(flowRow{File: name, Record: r})
		if err != nil {
			return fault.Wrap(fault.Internal, "print a record", err)
		}
		if stream {
			_, err := out.Write(append(row, '\n'))
			return fault.Wrap(fault.Internal, "print a record", err)
		}
		rows = append(rows, row)
		line, err := json.Marshal(lineOf(name, r))
		lines = append(lines, line)
		return err
	})
	decoder.Port = opts.port
	var failed error
	for _, name = range files {
		err := a.readPackets(ctx, name, decoder.Packet)
		if ctx.Err() != nil {
			return captureFault(name, context.Cause(ctx))
		}
		if err != nil && fault.KindOf(err) == fault.Internal {
			return err
		}
		failed = errors.Join(failed, err)
	}
	s := decoder.Summary()
	if stream {
		err = fault.Wrap(fault.Internal, "print the result", out.Flush())
	} else {
		err = a.print(&opts.outputFlags, answer{view: ipfixView(), rows: rows, lines: lines, doc: ipfixDocument{rows, s}, empty: "no IPFIX records"})
	}
	if err != nil {
		return err
	}
	a.remark("%s", ipfixRemark(s))
	return failed
}

// readPackets calls fn for each packet of a file. What could not be read is an
// error of the command.
func (a *app) readPackets(ctx context.Context, name string, fn func(*pcap.Packet) error) error {
	file, err := a.openCapture(ctx, name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	r, err := pcap.NewReader(file, pcap.ReaderOptions{})
	if err != nil {
		return captureFault(name, err)
	}
	var p pcap.Packet
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return captureFault(name, context.Cause(ctx))
		}
		if err := r.Next(&p); errors.Is(err, io.EOF) {
			return captureFault(name, layers.Unknown(r))
		} else if err != nil {
			return captureFault(name, err)
		}
		if err := fn(&p); err != nil {
			return err
		}
	}
}

func ipfixRemark(s ipfix.Summary) string {
	text := fmt.Sprintf("%d records in %d messages", s.Records, s.Messages)
	for _, c := range []struct {
		n    uint64
		what string
	}{
		{s.Missing, "records missing by the sequence numbers"},
		{s.Untold, "sets without a template"},
		{s.Malformed, "malformed messages"},
		{s.Cut, "messages cut or in fragments"},
	} {
		if c.n > 0 {
			text += fmt.Sprintf(", %d %s", c.n, c.what)
		}
	}
	return text
}

// lineOf gives a record as a line: what most people look for first.
func lineOf(file string, r *ipfix.Record) flowLine {
	l := flowLine{File: file, Packet: r.Packet, Exporter: r.Exporter, Domain: r.Domain, Template: r.Template}
	if r.Time != nil {
		t := r.Time.Format(timeNanos)
		l.Time = &t
	}
	fields := r.Fields
	if r.Scope != nil {
		fields = maps.Clone(r.Scope)
		maps.Copy(fields, r.Fields)
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value, err := json.Marshal(fields[name])
		if err != nil {
			continue // decoded values are always JSON; see the decoder's fuzz test
		}
		parts = append(parts, name+"="+strings.Trim(string(value), `"`))
	}
	l.Fields = strings.Join(parts, " ")
	return l
}

func ipfixView() output.View {
	return output.View{Table: []output.Column{
		{Key: "time", Head: "TIME", Kind: output.Time, Fixed: true},
		{Key: "exporter", Head: "EXPORTER", Fixed: true},
		{Key: "template", Head: "TEMPLATE", Kind: output.Number},
		{Key: "observation_domain", Head: "DOMAIN", Kind: output.Number, Wide: true},
		{Key: "packet", Head: "PACKET", Kind: output.Number, Wide: true},
		{Key: "file", Head: "FILE", Wide: true},
		{Key: "fields", Head: "FIELDS"},
	}}
}
