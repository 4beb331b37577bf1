package cli

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
	"capfleet/internal/pcap"
	"capfleet/internal/pcap/tlsaudit"
	"capfleet/internal/pcap/tlshello"
)

type tlsAuditOptions struct {
	outputFlags
	weak   string
	failOn string
	limit  int
}

// failOnWeak is the one finding that tls-audit can fail on.
const failOnWeak = "weak"

// tlsClient sums the sessions of a client up.
type tlsClient struct {
	ClientIP   string            `json:"client_ip"`
	Sessions   uint64            `json:"sessions"`
	Weak       uint64            `json:"weak_sessions"`
	Refused    uint64            `json:"refused_sessions"`
	Unknown    uint64            `json:"unknown_sessions"`
	Lowest     *string           `json:"lowest_version"`
	Highest    *string           `json:"highest_offered"`
	Negotiated map[string]uint64 `json:"negotiated"`
}

// tlsSession is a session and its capture.
type tlsSession struct {
	*tlsaudit.Session
	file string
}

// tlsDocument is the JSON of tls-audit.
type tlsDocument struct {
	Rows    []json.RawMessage `json:"rows"`
	Clients []tlsClient       `json:"clients"`
	Files   []captureRead     `json:"files"`
	// LeftOut is how many sessions are not among the rows, for the limit.
	LeftOut uint64 `json:"left_out"`
}

func (a *app) pcapTLSAuditCommand() *cobra.Command {
	opts := tlsAuditOptions{}
	cmd := &cobra.Command{
		Use:   "tls-audit FILE...",
		Short: "TLS versions in captures: offered and negotiated, by client",
		Long: `Finds the TLS sessions in captures, on any port, and which version each client
offered and each server chose: who would be locked out if old versions were
switched off. Versions are ssl2, ssl3, tls1.0, tls1.1, tls1.2 and tls1.3.

Offered is the highest version of the ClientHello; negotiated is what the
ServerHello chose, with the extension supported_versions. Hellos are put
together over segments that are split, out of order or repeated. A hello of
which a part was cut off by the snap length makes its session truncated, one of
which packets are missing gives it a gap; a version that could hang on what is
missing is null.

A session is weak when it was negotiated at the version of --weak or an older
one, or, without an answer, when the client offers none that is newer; where the
capture does not tell, weak is null. The clients' summary follows the table and
counts all sessions; -o csv begins with the columns Source IP, Destination IP,
Source Port, Destination Port, TLS Version.

` + jsonHelp("rows", "row", `time, client_ip, client_port, server_ip, server_port, offered, negotiated, sni,
truncated, file, packet (in which the first hello begins), gap, retried (the
server asked for another ClientHello), alert (that ended the handshake, such as
protocol_version), alert_by (client, server), weak`) + `
The answer also has "clients" (client_ip, sessions, weak_sessions,
refused_sessions, unknown_sessions, lowest_version, highest_offered,
negotiated), "files" (file, packets, complete, error, error_offset) and
"left_out", the number of sessions beyond --limit. With -o jsonl each session is
printed as soon as its connection ends, and there is no limit.

` + csvHelp + `

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitUsage, fault.ExitFound, fault.ExitInterrupted),
		Example: `  fleetctl pcap tls-audit trace.pcap
  fleetctl pcap tls-audit -o csv *.pcap > versions.csv
  fleetctl pcap tls-audit --weak tls1.1 --fail-on weak trace.pcapng
  zcat trace.pcap.gz | fleetctl pcap tls-audit -o jsonl -`,
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
		Args:              cobra.MinimumNArgs(1),
	}
	opts.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&opts.weak, "weak", "tls1.1", "the newest `version` that is weak")
	fl.StringVar(&opts.failOn, "fail-on", "", "exit with 6 when there are such sessions: weak")
	fl.IntVar(&opts.limit, "limit", 100_000, "print at most this `number` of sessions; the summary counts all")
	_ = cmd.RegisterFlagCompletionFunc("weak", cobra.FixedCompletions(weakVersions(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("fail-on", cobra.FixedCompletions([]string{failOnWeak}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = a.local(func(ctx context.Context, args []string) error { return a.pcapTLSAudit(ctx, &opts, args) })
	return cmd
}

func weakVersions() []string {
	var names []string
	for _, v := range tlshello.Versions() {
		names = append(names, v.String())
	}
	return names
}

func (a *app) pcapTLSAudit(ctx context.Context, opts *tlsAuditOptions, files []string) error {
	format, err := opts.format()
	if err != nil {
		return err
	}
	weak, ok := tlshello.ParseVersion(opts.weak)
	if !ok {
		return &fault.Error{Kind: fault.Invalid, Act: fmt.Sprintf("--weak %q is no version", opts.weak), Next: "one of " + strings.Join(weakVersions(), ", ")}
	}
	if opts.failOn != "" && opts.failOn != failOnWeak {
		return &fault.Error{Kind: fault.Invalid, Act: fmt.Sprintf("--fail-on %q is not known", opts.failOn), Next: "write --fail-on weak"}
	}
	if opts.limit < 0 {
		return &fault.Error{Kind: fault.Invalid, Act: "--limit is below 0"}
	}
	report := &tlsReport{weak: weak, limit: opts.limit, clients: map[netip.Addr]*tlsTally{}}
	flush := a.streamTLS(report, format == output.JSONL && opts.file == "", slices.Contains(files, "-"))
	reads, failed := a.scanCaptures(ctx, files, func(name string) (pcap.Analysis, func()) {
		first := len(report.sessions)
		audit := tlsaudit.New(func(s *tlsaudit.Session) { report.add(tlsSession{s, name}) })
		return audit, func() {
			audit.Close()
			report.sort(first)
		}
	})
	if ctx.Err() != nil {
		return failed
	}
	if err := flush(); err != nil {
		return fault.Wrap(fault.Internal, "print the result", err)
	}
	if report.stream == nil {
		if err := a.printTLS(opts, format, report, reads); err != nil {
			return err
		}
	}
	a.remark("%s", report.conclusion())
	if failed != nil {
		return failed
	}
	if opts.failOn == failOnWeak && report.all.weak > 0 {
		return statusOf(fault.ExitFound)
	}
	return nil
}

// streamTLS makes the report print sessions as they come, where it is asked to: of a
// capture that is still made, at once. Flush gives the error of all that.
func (a *app) streamTLS(report *tlsReport, stream, live bool) (flush func() error) {
	if !stream {
		return func() error { return nil }
	}
	out := bufio.NewWriterSize(a.streams.Out, 64<<10)
	enc := json.NewEncoder(out)
	report.stream = func(s tlsSession) error {
		if err := enc.Encode(report.row(s)); err != nil || !live {
			return err
		}
		return out.Flush()
	}
	return func() error { return cmp.Or(report.failed, out.Flush()) }
}

func (a *app) printTLS(opts *tlsAuditOptions, format output.Format, report *tlsReport, reads []captureRead) error {
	ans := answer{view: tlsView(), csv: report.writeCSV}
	if format != output.CSV {
		list := make([]tlsaudit.Row, 0, len(report.sessions))
		for i := range report.sessions {
			list = append(list, report.row(report.sessions[i]))
		}
		rows, err := output.Rows(list)
		if err != nil {
			return fault.Wrap(fault.Internal, "print the result", err)
		}
		clients := report.summary()
		lines, err := output.Rows(clients)
		if err != nil {
			return fault.Wrap(fault.Internal, "print the result", err)
		}
		ans.rows, ans.doc = rows, tlsDocument{rows, clients, reads, report.leftOut()}
		ans.people = func(w io.Writer, wide bool, screen output.Screen) error {
			if len(rows) == 0 {
				return nil
			}
			format := output.Table
			if wide {
				format = output.Wide
			}
			if err := output.Write(w, format, tlsView(), rows, nil, screen); err != nil {
				return err
			}
			if _, err := io.WriteString(w, "\n"); err != nil {
				return err
			}
			return output.Write(w, format, tlsClientView(), lines, nil, screen)
		}
	}
	return a.print(&opts.outputFlags, ans)
}

// negotiatedOrRefused says what became of a handshake: the version, or that an alert
// ended it without one.
func negotiatedOrRefused(row map[string]any) string {
	version, _ := row["negotiated"].(string)
	if alert, _ := row["alert"].(string); version == "" && alert != "" {
		return "refused"
	}
	return version
}

func tlsView() output.View {
	return output.View{
		Table: []output.Column{
			{Key: "time", Head: "TIME", Kind: output.Time, Wide: true},
			{Key: "client_ip", Head: "CLIENT", Fixed: true},
			{Key: "client_port", Head: "PORT", Kind: output.Number, Wide: true},
			endpointColumn("SERVER", "server_ip", "server_port"),
			{Key: "offered", Head: "OFFERED"},
			{Key: "negotiated", Head: "NEGOTIATED", Says: negotiatedOrRefused},
			{Key: "weak", Head: "WEAK"},
			{Key: "alert", Head: "ALERT", Wide: true},
			{Key: "sni", Head: "SNI"},
			{Key: "truncated", Head: "TRUNCATED", Wide: true},
			{Key: "gap", Head: "GAP", Wide: true},
			{Key: "packet", Head: "PACKET", Kind: output.Number, Wide: true},
			{Key: "file", Head: "FILE", Wide: true},
		},
		CSV: []output.Column{
			{Key: "client_ip", Head: "Source IP"},
			{Key: "server_ip", Head: "Destination IP"},
			{Key: "client_port", Head: "Source Port", Kind: output.Number},
			{Key: "server_port", Head: "Destination Port", Kind: output.Number},
			{Key: "negotiated", Head: "TLS Version"},
			{Key: "offered", Head: "Offered Version"},
			{Key: "sni", Head: "Server Name"},
			{Key: "time", Head: "Time", Kind: output.Time},
			{Key: "truncated", Head: "Truncated"},
			{Key: "gap", Head: "Gap"},
			{Key: "alert", Head: "Alert"},
			{Key: "weak", Head: "Weak"},
			{Key: "packet", Head: "Packet", Kind: output.Number},
			{Key: "file", Head: "File"},
		},
	}
}

func tlsClientView() output.View {
	return output.View{Table: []output.Column{
		{Key: "client_ip", Head: "CLIENT", Fixed: true},
		{Key: "sessions", Head: "SESSIONS", Kind: output.Number},
		{Key: "weak_sessions", Head: "WEAK", Kind: output.Number},
		{Key: "refused_sessions", Head: "REFUSED", Kind: output.Number},
		{Key: "unknown_sessions", Head: "UNKNOWN", Kind: output.Number},
		{Key: "lowest_version", Head: "LOWEST"},
		{Key: "highest_offered", Head: "OFFERS UP TO"},
	}}
}
