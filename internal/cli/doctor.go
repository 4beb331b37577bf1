package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

// doctorFleet is what doctor needs of fleetd beside jobs.
type doctorFleet interface {
	Examine(ctx context.Context) (api.Examination, error)
}

// Severities of a finding.
const (
	severityOK      = "ok"
	severityWarning = "warning"
	severityError   = "error"
)

// skew is how far clocks may differ before captures of several devices are put
// into a wrong order.
const skew = 2 * time.Second

type doctorOptions struct {
	selectionFlags
	outputFlags
	deep      bool
	noDevices bool
	failOn    string
}

func (a *app) doctorCommand() *cobra.Command {
	var opts doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor [DEVICE...]",
		Short: "everything that would stop tomorrow's work",
		Long: `Looks for everything that would stop tomorrow's work and says what to do about
it: whether fleetd answers and is of this version; on its host the inventory
file, secrets, host keys, disk, clock and your own templates; and whether each
selected device can be worked on (reach, host key, login, prompt, SFTP, clock).
With --deep the reports are run as well, which tells templates that do not
match on this fleet. Nothing is changed.

` + selectionHelp + defaultAllHelp + `

One finding a line: ok, warning (works, and may not be what is wanted) or
error, and below it what to do. An error makes the exit code 1; with --fail-on
error, or --fail-on warning, what was found makes it 6.

` + jsonHelp("rows", "row", "area, subject, severity (ok, warning, error), message, next") + `

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitUsage, fault.ExitUnavailable, fault.ExitFound, fault.ExitInterrupted),
		Example: `  fleetctl doctor
  fleetctl doctor --deep -l site=lon
  fleetctl doctor --no-devices --fail-on warning -o jsonl`,
		ValidArgsFunction: a.completeDevices,
	}
	opts.selectionFlags.register(a, cmd)
	opts.outputFlags.register(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&opts.deep, "deep", false, "also run the reports, to try the templates")
	fl.BoolVar(&opts.noDevices, "no-devices", false, "look at fleetd and its host only")
	fl.StringVar(&opts.failOn, "fail-on", "", "exit with 6 for findings of this `severity` or worse: warning or error")
	_ = cmd.RegisterFlagCompletionFunc("fail-on", cobra.FixedCompletions([]string{severityWarning, severityError}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error { return a.doctor(ctx, f, &opts, args) })
	return cmd
}

func (a *app) doctor(ctx context.Context, f fleet, opts *doctorOptions, args []string) error {
	if _, err := opts.format(); err != nil {
		return err
	}
	sel, err := opts.selection(args, noneIsAll)
	if err != nil {
		return err
	}
	switch {
	case opts.failOn != "" && opts.failOn != severityWarning && opts.failOn != severityError:
		return fault.New(fault.Invalid, "--fail-on is %s or %s, not %q", severityWarning, severityError, opts.failOn)
	case opts.noDevices && (opts.deep || len(args) > 0 || opts.selector != "" || opts.all):
		return fault.New(fault.Invalid, "--no-devices cannot be combined with devices or --deep")
	}
	d := &diagnosis{app: a, fleet: f}
	if err := d.fleetd(ctx); err != nil {
		// Without a fleetd there is nothing more to ask.
		if ctx.Err() != nil || !fault.Is(err, fault.Unavailable) {
			return err
		}
		return a.printFindings(opts, d.findings, fault.ExitUnavailable)
	}
	a.terse = true // the findings tell the story
	if !opts.noDevices {
		if err := d.devices(ctx, sel); err != nil {
			return err
		}
	}
	if opts.deep {
		for _, report := range reportNames() {
			if err := d.report(ctx, sel, report); err != nil {
				return err
			}
		}
	}
	return a.printFindings(opts, d.findings, fault.ExitDone)
}

// diagnosis gathers findings.
type diagnosis struct {
	app      *app
	fleet    fleet
	findings []api.Finding
}

func (d *diagnosis) add(area, subject, severity, message, next string) {
	d.findings = append(d.findings, api.Finding{Area: area, Subject: subject, Severity: severity, Message: message, Next: next})
}

// fleetd looks at fleetd itself and has it look at its host.
func (d *diagnosis) fleetd(ctx context.Context) error {
	const area = "fleetd"
	server, err := d.fleet.Version(ctx)
	if err != nil {
		failed := api.Finding{Area: area, Subject: "connection", Severity: severityError, Message: err.Error()}
		var have *fault.Error
		if errors.As(err, &have) {
			failed.Next = have.Next
			failed.Message = strings.TrimSuffix(failed.Message, " ("+have.Next+")")
		}
		d.findings = append(d.findings, failed)
		return err
	}
	ours := d.app.build
	if server.Version != ours.Version || server.Commit != ours.Commit {
		d.add(area, "version", severityWarning, fmt.Sprintf("fleetd is %s, fleetctl is %s", buildName(server.Version, server.Commit), buildName(ours.Version, ours.Commit)),
			"install both from one build")
	} else {
		d.add(area, "version", severityOK, buildName(server.Version, server.Commit)+", as fleetctl; running since "+showTime(&server.StartedAt), "")
	}
	began := d.app.streams.Now()
	seen, err := d.fleet.Examine(ctx)
	if err != nil {
		return err
	}
	ended := d.app.streams.Now()
	d.findings = append(d.findings, seen.Rows...)
	// fleetd read its clock somewhere between our two looks at ours.
	if off := max(began.Sub(seen.Now), seen.Now.Sub(ended)); off > skew {
		d.add("clock", "this machine", severityWarning, fmt.Sprintf("its clock and that of fleetd's host differ by %s", output.Short(off)), "have both kept by NTP")
	}
	return nil
}

func buildName(version, commit string) string {
	if version == "" {
		version = "unnamed"
	}
	if commit != "" {
		version += " (" + commit[:min(len(commit), digestLength)] + ")"
	}
	return version
}

// run runs a job and gives its results; ok is false where no selected device has
// anything to do with it.
func (d *diagnosis) run(ctx context.Context, operation string, spec any, sel api.Selection) (res api.Results, ok bool, err error) {
	job, err := d.app.start(ctx, d.fleet, operation, spec, sel)
	if fault.Is(err, fault.Unsupported) {
		return res, false, nil
	}
	if err != nil {
		return res, false, err
	}
	res, err = d.app.await(ctx, d.fleet, job)
	if err != nil {
		return res, false, d.app.detached(ctx, job, err)
	}
	return res, true, nil
}

// devices tries every device.
func (d *diagnosis) devices(ctx context.Context, sel api.Selection) error {
	const area = "devices"
	res, ok, err := d.run(ctx, "check", struct{}{}, sel)
	if err != nil || !ok {
		return err
	}
	d.failures(area, res)
	for _, raw := range res.Rows {
		var row struct {
			Device string   `json:"device"`
			Offset *float64 `json:"clock_offset_seconds"`
		}
		if err := json.Unmarshal(raw, &row); err != nil {
			return fault.Wrap(fault.Internal, "read the result", err)
		}
		if row.Offset != nil && math.Abs(*row.Offset) > skew.Seconds() {
			d.add(area, row.Device, severityWarning, fmt.Sprintf("its clock is %+.1f s from that of fleetd's host", *row.Offset), "have both kept by NTP")
		}
	}
	if good := len(res.Rows); good > 0 {
		d.add(area, fmt.Sprintf("%d of %s", good, count(res.Job.Devices, "device")), severityOK, "can be worked on", "")
	}
	return nil
}

// report tries the templates of a report on what devices print now.
func (d *diagnosis) report(ctx context.Context, sel api.Selection, name string) error {
	res, ok, err := d.run(ctx, "report", reportSpec{Report: name}, sel)
	if err != nil || !ok {
		return err
	}
	area := "report " + name
	// A device that cannot be worked on has been told. What a template does not know
	// is news in any case.
	told := map[string]bool{}
	for _, f := range d.findings {
		told[f.Subject] = told[f.Subject] || f.Area == "devices" && f.Severity == severityError
	}
	all := len(res.Failures)
	res.Failures = slices.DeleteFunc(res.Failures, func(f api.Failure) bool { return told[f.Device] && fault.Kind(f.Kind) != fault.Unparsed })
	d.failures(area, res)
	if good := res.Job.Devices - all; good > 0 {
		d.add(area, fmt.Sprintf("%d of %s", good, count(res.Job.Devices, "device")), severityOK, "understood", "")
	}
	return nil
}

// failures makes findings of failed devices.
func (d *diagnosis) failures(area string, res api.Results) {
	for _, f := range res.Failures {
		one := res
		one.Failures = []api.Failure{f}
		next := strings.Join(strings.Fields(nextSteps(one)[0]), " ")
		if fault.Kind(f.Kind) == fault.Unreachable || fault.Kind(f.Kind) == fault.Timeout {
			next = "is it up, is the address right, is a firewall between"
		}
		d.add(area, f.Device, severityError, failureText(f), next)
	}
}

// printFindings prints findings and gives the exit code that they deserve, with
// the one that is deserved anyway.
func (a *app) printFindings(opts *doctorOptions, findings []api.Finding, code int) error {
	rows, err := output.Rows(findings)
	if err != nil {
		return fault.Wrap(fault.Internal, "print the findings", err)
	}
	ans := answer{rows: rows, doc: rowsDocument{rows}, view: findingsView(), people: func(w io.Writer, _ bool, screen output.Screen) error {
		return showFindings(w, findings, screen)
	}}
	if err := a.print(&opts.outputFlags, ans); err != nil {
		return err
	}
	worst := severities(findings)
	switch {
	case opts.failOn != "":
		if worst[severityError] > 0 || opts.failOn == severityWarning && worst[severityWarning] > 0 {
			code = strongest(code, fault.ExitFound)
		}
	case worst[severityError] > 0:
		code = strongest(code, fault.ExitFailed)
	}
	a.remark("%s, %s", count(worst[severityError], "error"), count(worst[severityWarning], "warning"))
	return statusOf(code)
}

func severities(findings []api.Finding) map[string]int {
	n := map[string]int{}
	for _, f := range findings {
		n[f.Severity]++
	}
	return n
}

// showFindings prints a finding a line, and below it what to do.
func showFindings(w io.Writer, findings []api.Finding, screen output.Screen) error {
	areas := 0
	for _, f := range findings {
		areas = max(areas, len(f.Area))
	}
	var b strings.Builder
	hang := strings.Repeat(" ", len(severityWarning)+areas+4)
	for _, f := range findings {
		text := fmt.Sprintf("%-*s  %-*s  %s", len(severityWarning), f.Severity, areas, f.Area, output.Clean(strings.TrimSuffix(f.Subject+": "+f.Message, ": ")))
		text = output.Wrap(text, screen.Width, hang)
		if f.Severity != severityOK {
			text = strings.Replace(text, f.Severity, screen.State(f.Severity), 1)
		}
		b.WriteString(text + "\n")
		if f.Next != "" {
			b.WriteString(output.Wrap(hang+"next: "+output.Clean(f.Next), screen.Width, hang+"      ") + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func findingsView() output.View {
	return output.View{Table: []output.Column{
		{Key: "severity", Head: "SEVERITY", Kind: output.State, Fixed: true},
		{Key: "area", Head: "AREA", Fixed: true},
		{Key: "subject", Head: "SUBJECT"},
		{Key: "message", Head: "MESSAGE"},
		{Key: "next", Head: "NEXT"},
	}}
}
