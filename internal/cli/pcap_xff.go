package cli

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
	"capfleet/internal/pcap"
	"capfleet/internal/pcap/xff"
)

type xffOptions struct {
	outputFlags
	ip      string
	headers []string
	limit   int
}

// xffDocument is the JSON of xff.
type xffDocument struct {
	Rows    []json.RawMessage `json:"rows"`
	Files   []captureRead     `json:"files"`
	LeftOut uint64            `json:"left_out"`
}

func (a *app) pcapXFFCommand() *cobra.Command {
	opts := xffOptions{}
	cmd := &cobra.Command{
		Use:   "xff --ip ADDRESS FILE...",
		Short: "connections whose headers carry a client's address",
		Long: `Finds where a proxy or load balancer names a client in the headers of clear
HTTP: X-Forwarded-For and its kin, each with the connection and the packet, so
that the client's traffic behind the proxy is known.

The address is compared as an address, at any place of a list and in any
spelling, with a port or without; names of headers are compared without regard
to letter case. A header may be split over segments. A packet that is in the
capture twice is found twice. HTTP/2 and encrypted traffic cannot be searched.

Headers: ` + wrapList(xff.Headers(), 70) + `.
--header adds others whose value is an address or a list of them.

` + jsonHelp("rows", "row", `time, src_ip, src_port, dst_ip, dst_port, header, file, packet (in which the
header begins)`) + `
The answer also has "files" (file, packets, complete, error, error_offset) and
"left_out", the number of rows beyond --limit. With -o jsonl each row is printed
when it is found, and there is no limit.

` + csvHelp + `

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitUsage, fault.ExitInterrupted),
		Example: `  fleetctl pcap xff --ip 203.0.113.77 behind-the-proxy.pcap
  fleetctl pcap xff --ip 2001:db8::7 --header X-Customer-IP -o csv *.pcap`,
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
		Args:              cobra.MinimumNArgs(1),
	}
	opts.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&opts.ip, "ip", "", "the client's `address`, IPv4 or IPv6")
	fl.StringArrayVar(&opts.headers, "header", nil, "another `name` of a header to look at; may be repeated")
	fl.IntVar(&opts.limit, "limit", 100_000, "print at most this `number` of rows")
	_ = cmd.MarkFlagRequired("ip")
	cmd.RunE = a.local(func(ctx context.Context, args []string) error { return a.pcapXFF(ctx, &opts, args) })
	return cmd
}

// wrapList writes words with commas between, in lines of at most width.
func wrapList(words []string, width int) string {
	var b strings.Builder
	line := 0
	for i, w := range words {
		if i > 0 {
			b.WriteByte(',')
			if line += len(w) + 2; line > width {
				b.WriteByte('\n')
				line = len(w)
			} else {
				b.WriteByte(' ')
			}
		} else {
			line = len(w)
		}
		b.WriteString(w)
	}
	return b.String()
}

func (a *app) pcapXFF(ctx context.Context, opts *xffOptions, files []string) error {
	format, err := opts.format()
	if err != nil {
		return err
	}
	address, err := netip.ParseAddr(opts.ip)
	if err != nil {
		return &fault.Error{Kind: fault.Invalid, Act: "read --ip", Err: err, Next: "write an address such as 203.0.113.77 or 2001:db8::7"}
	}
	for _, name := range opts.headers {
		if !xff.ValidName(name) {
			return &fault.Error{Kind: fault.Invalid, Act: fmt.Sprintf("--header %q is no name of a header", name), Next: "letters, digits and hyphens, without the colon"}
		}
	}
	if opts.limit < 0 {
		return &fault.Error{Kind: fault.Invalid, Act: "--limit is below 0"}
	}
	var rows []xff.Row
	var left uint64
	var streamed error
	out := bufio.NewWriter(a.streams.Out)
	enc := json.NewEncoder(out)
	stream := format == output.JSONL && opts.file == ""
	add := func(row xff.Row) {
		switch {
		case stream && streamed == nil:
			if streamed = enc.Encode(row); streamed == nil {
				streamed = out.Flush()
			}
		case stream:
		case len(rows) < opts.limit:
			rows = append(rows, row)
		default:
			left++
		}
	}
	headers := append(xff.Headers(), opts.headers...)
	reads, failed := a.scanCaptures(ctx, files, func(name string) (pcap.Analysis, func()) {
		first := len(rows)
		search := xff.New(address, headers, func(h xff.Hit) {
			add(h.Row(name))
		})
		return search, func() {
			slices.SortStableFunc(rows[first:], func(x, y xff.Row) int { return cmp.Compare(x.Packet, y.Packet) })
		}
	})
	if ctx.Err() != nil {
		return failed
	}
	if streamed != nil {
		return fault.Wrap(fault.Internal, "print the result", streamed)
	}
	if !stream {
		encoded, err := output.Rows(rows)
		if err != nil {
			return fault.Wrap(fault.Internal, "print the result", err)
		}
		ans := answer{view: xffView(), rows: encoded, doc: xffDocument{encoded, reads, left}, empty: "no header names " + address.String()}
		if err := a.print(&opts.outputFlags, ans); err != nil {
			return err
		}
	}
	if left > 0 {
		a.remark("%d more rows are not printed: raise --limit, or use -o jsonl", left)
	}
	return failed
}

func xffView() output.View {
	return output.View{
		Table: []output.Column{
			{Key: "time", Head: "TIME", Kind: output.Time, Wide: true},
			endpointColumn("SOURCE", "src_ip", "src_port"),
			endpointColumn("DESTINATION", "dst_ip", "dst_port"),
			{Key: "header", Head: "HEADER"},
			{Key: "packet", Head: "PACKET", Kind: output.Number},
			{Key: "file", Head: "FILE"},
		},
		CSV: []output.Column{
			{Key: "time", Head: "TIME", Kind: output.Time},
			{Key: "src_ip", Head: "SOURCE"},
			{Key: "src_port", Head: "PORT", Kind: output.Number},
			{Key: "dst_ip", Head: "DESTINATION"},
			{Key: "dst_port", Head: "PORT", Kind: output.Number},
			{Key: "header", Head: "HEADER"},
			{Key: "packet", Head: "PACKET", Kind: output.Number},
			{Key: "file", Head: "FILE"},
		},
	}
}
