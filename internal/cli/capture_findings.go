package cli

import (
	"context"
	"encoding/json"
	"io"
	"net/netip"

	"capfleet/internal/api"
	"capfleet/internal/capture/capturejob"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
	"capfleet/internal/pcap/tlsaudit"
	"capfleet/internal/pcap/tlshello"
)

// analyze has devices analysed, waits for the findings and prints them; with --fail-on
// weak sessions are what the exit code is about.
func (a *app) analyze(ctx context.Context, f fleet, j *jobFlags, spec *capturejob.Analyze, sel api.Selection, failOn string) error {
	if _, err := j.format(); err != nil {
		return err
	}
	if j.detach && failOn != "" {
		return fault.New(fault.Invalid, "--fail-on needs the findings, which --detach does not wait for")
	}
	job, err := a.start(ctx, f, capturejob.Operation, capturejob.Spec{Analyze: spec}, sel)
	if err != nil {
		return err
	}
	if j.detach {
		return a.printDetached(&j.outputFlags, job)
	}
	res, err := a.await(ctx, f, job)
	if err != nil {
		return a.detached(ctx, job, err)
	}
	if err := a.printResults(&j.outputFlags, res); err != nil {
		return err
	}
	a.reportFailures(res)
	code := jobCode(res.Job)
	if spec.Analysis == capturejob.TLSAudit {
		report, err := tlsFindings(res.Rows, spec.Weak)
		if err != nil {
			return err
		}
		a.remark("%s", report.conclusion())
		if failOn == failOnWeak && report.all.weak > 0 {
			code = strongest(code, fault.ExitFound)
		}
	}
	return statusOf(code)
}

// analyzeAnswer is the answer of an analysis: that of the command for files.
func analyzeAnswer(ans *answer, res api.Results, spec *capturejob.Analyze) error {
	ans.view = analyzeView(spec.Analysis)
	ans.empty = "nothing was found"
	if spec.Analysis != capturejob.TLSAudit {
		return nil
	}
	report, err := tlsFindings(res.Rows, spec.Weak)
	if err != nil {
		return err
	}
	clients := report.summary()
	lines, err := output.Rows(clients)
	if err != nil {
		return fault.Wrap(fault.Internal, "print the result", err)
	}
	ans.doc = struct {
		api.Results
		Clients []tlsClient `json:"clients"`
	}{res, clients}
	if len(res.Rows) == 0 {
		return nil
	}
	ans.people = func(w io.Writer, wide bool, screen output.Screen) error {
		format := output.Table
		if wide {
			format = output.Wide
		}
		if err := output.Write(w, format, ans.view, res.Rows, nil, screen); err != nil {
			return err
		}
		if _, err := io.WriteString(w, "\n"); err != nil {
			return err
		}
		return output.Write(w, format, tlsClientView(), lines, nil, screen)
	}
	return nil
}

// tlsFindings sums up the sessions that an analysis kept.
func tlsFindings(rows []json.RawMessage, newestWeak string) (*tlsReport, error) {
	weak, ok := tlshello.ParseVersion(newestWeak)
	if !ok {
		return nil, fault.New(fault.Internal, "%q is no version of TLS", newestWeak)
	}
	report := &tlsReport{weak: weak, limit: len(rows), clients: map[netip.Addr]*tlsTally{}}
	for _, raw := range rows {
		var row capturejob.TLSRow
		if err := json.Unmarshal(raw, &row); err != nil {
			return nil, fault.Wrap(fault.Internal, "read the findings", err)
		}
		report.add(tlsSession{foundSession(&row.Row), row.File})
	}
	return report, nil
}

// foundSession is a session as far as its row tells.
func foundSession(row *tlsaudit.Row) *tlsaudit.Session {
	s := &tlsaudit.Session{
		Packet: row.Packet, Client: netip.AddrPortFrom(row.ClientIP, row.ClientPort), Server: netip.AddrPortFrom(row.ServerIP, row.ServerPort),
		Truncated: row.Truncated, Gap: row.Gap, Retried: row.Retried,
		ServerHello: row.Weak == nil, // there is one, or its version would be judged
	}
	version := func(text *string) (tlshello.Version, bool) {
		if text == nil {
			return 0, false
		}
		return tlshello.ParseVersion(*text)
	}
	s.Offered, s.HasOffered = version(row.Offered)
	s.Negotiated, s.HasNegotiated = version(row.Negotiated)
	if row.Alert != nil {
		for code := range 256 {
			if tlsaudit.AlertName(uint8(code)) == *row.Alert {
				s.Alert, s.HasAlert = uint8(code), true
			}
		}
	}
	return s
}
