package cli

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/capture/capturejob"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
	"capfleet/internal/pcap/tlshello"
	"capfleet/internal/pcap/xff"
)

// analysisOptions are the flags of capture start for an analysis.
type analysisOptions struct {
	kind    string
	ip      string
	headers []string
	weak    string
	failOn  string
	maxRows int
}

func (o *analysisOptions) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&o.kind, "analyze", "", "keep findings and no packets, of this `analysis`: tls-audit, xff or info; rows as those of fleetctl pcap, with device and interface")
	fl.StringVar(&o.ip, "ip", "", "with --analyze xff: the client's `address`")
	fl.StringArrayVar(&o.headers, "header", nil, "with --analyze xff: another `name` of a header; may be repeated")
	fl.StringVar(&o.weak, "weak", "tls1.1", "with --analyze tls-audit: the newest `version` that is weak")
	fl.StringVar(&o.failOn, "fail-on", "", "with --analyze tls-audit: exit with 6 when there are such sessions: weak")
	fl.IntVar(&o.maxRows, "max-rows", 20_000, "with --analyze: rows that are kept of each device; the others are counted")
	_ = cmd.RegisterFlagCompletionFunc("analyze", cobra.FixedCompletions(capturejob.Analyses(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("fail-on", cobra.FixedCompletions([]string{failOnWeak}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("weak", cobra.FixedCompletions(weakVersions(), cobra.ShellCompDirectiveNoFileComp))
}

// spec gives the analysis that was asked for, nil for none. Flags of the other kind
// are refused: they would do nothing.
func (o *analysisOptions) spec(cmd *cobra.Command, ring *capturejob.Ring) (*capturejob.Analyze, error) {
	refuse := func(why string, names ...string) error {
		for _, name := range names {
			if cmd.Flags().Changed(name) {
				return fault.New(fault.Invalid, "--%s %s", name, why)
			}
		}
		return nil
	}
	if !cmd.Flags().Changed("analyze") {
		return nil, refuse("is for --analyze", "ip", "header", "weak", "fail-on", "max-rows")
	}
	if !slices.Contains(capturejob.Analyses(), o.kind) {
		return nil, &fault.Error{Kind: fault.Invalid, Act: "--analyze " + o.kind + " is not known", Next: "write tls-audit, xff or info"}
	}
	if err := refuse("is for rings, and --analyze keeps no packets", "ring", "dir", "min-free", "log", "until-log", "until-sel", "until-job", "after", "all-or-none"); err != nil {
		return nil, err
	}
	if o.maxRows < 1 {
		return nil, fault.New(fault.Invalid, "--max-rows %d: at least 1", o.maxRows)
	}
	s := &capturejob.Analyze{Analysis: o.kind, Points: ring.Points, SnapLen: ring.SnapLen, MaxRows: o.maxRows,
		DurationSeconds: ring.DurationSeconds, LimitSeconds: ring.LimitSeconds, Sudo: ring.Sudo}
	switch o.kind {
	case capturejob.TLSAudit:
		if _, ok := tlshello.ParseVersion(o.weak); !ok {
			return nil, &fault.Error{Kind: fault.Invalid, Act: "--weak " + o.weak + " is no version", Next: "one of " + strings.Join(weakVersions(), ", ")}
		}
		if o.failOn != "" && o.failOn != failOnWeak {
			return nil, &fault.Error{Kind: fault.Invalid, Act: fmt.Sprintf("--fail-on %q is not known", o.failOn), Next: "write --fail-on weak"}
		}
		s.Weak = o.weak
		return s, refuse("is for --analyze xff", "ip", "header")
	case capturejob.XFF:
		if _, err := netip.ParseAddr(o.ip); err != nil {
			return nil, &fault.Error{Kind: fault.Invalid, Act: "read --ip", Err: err, Next: "write an address such as 203.0.113.77 or 2001:db8::7"}
		}
		for _, name := range o.headers {
			if !xff.ValidName(name) {
				return nil, fault.New(fault.Invalid, "--header %q is no name of a header", name)
			}
		}
		s.IP, s.Headers = o.ip, o.headers
		return s, refuse("is for --analyze tls-audit", "weak", "fail-on")
	}
	return s, refuse("is for another analysis", "ip", "header", "weak", "fail-on")
}

// analyzeView is the table of an analysis: that of the command for files, and where.
func analyzeView(kind string) output.View {
	view := captureView()
	switch kind {
	case capturejob.TLSAudit:
		view = tlsView()
	case capturejob.XFF:
		view = xffView()
	}
	// There is no file.
	drop := func(c output.Column) bool { return slices.Contains([]string{"file", "complete", "sha256"}, c.Key) }
	if len(view.CSV) > 0 {
		// Spreadsheets know the first columns.
		view.CSV = append(slices.DeleteFunc(slices.Clone(view.CSV), drop), output.Column{Key: "device", Head: "Device"}, output.Column{Key: "interface", Head: "Interface"})
	}
	columns := []output.Column{{Key: "device", Head: "DEVICE"}, {Key: "interface", Head: "ON", Wide: true}}
	for _, c := range slices.DeleteFunc(slices.Clone(view.Table), drop) {
		// A terminal has no room for all of it beside the place.
		c.Wide = c.Wide || slices.Contains([]string{"client_port", "src_port", "packet", "sni", "alert", "format", "encapsulation", "strict_time_order"}, c.Key)
		if c.Kind == output.Time {
			c.Kind, c.Wide = output.Instant, false
		}
		columns = append(columns, c)
	}
	view.Table = columns
	return view
}
