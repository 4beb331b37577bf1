package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

// selSpec is the spec of the operation "sel".
type selSpec struct {
	Peek       bool `json:"peek,omitempty"`
	NewOnly    bool `json:"new_only,omitempty"`
	TryRefused bool `json:"try_refused,omitempty"`
}

// selRow is what the commands look at of a row of the operation "sel".
type selRow struct {
	Device       string `json:"device"`
	RecordID     uint64 `json:"record_id"`
	Severity     string `json:"severity"`
	Kind         string `json:"kind"`
	Bus          *int   `json:"bus"`
	DeviceNumber *int   `json:"device_number"`
	Function     *int   `json:"function"`
	New          bool   `json:"new"`
}

func (a *app) selCommand() *cobra.Command {
	cmd := a.group("sel", "event logs of the devices' BMCs")
	cmd.AddCommand(a.selCheckCommand(), a.selListCommand(), a.selDossierCommand())
	return cmd
}

const selKeysHelp = `device, bmc, record_id, time, severity, kind, bus, device_number, function,
sensor_type, sensor_number, event, raw, new

Kinds:       pci_perr, pci_serr, pcie_correctable, pcie_nonfatal, pcie_fatal,
             pci_other, nmi, other
Severities:  ok, warning, critical; a state that ended (deasserted) is ok

time is by the BMC's own clock, and null where that was not set yet; bus,
device_number and function tell where on the PCI bus (80:02.2 is bus 128, device
2, function 2). raw is the record's 16 bytes in hexadecimal. Redfish has no
bytes: there raw and the place are null.`

type selOptions struct {
	selectionFlags
	jobFlags
	failOn     []string
	onlyNew    bool
	tryRefused bool
}

func (o *selOptions) register(a *app, cmd *cobra.Command) {
	o.selectionFlags.register(a, cmd)
	o.jobFlags.register(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&o.onlyNew, "new", false, "only the new records: for schedules, whose results are kept")
	fl.BoolVar(&o.tryRefused, "try-refused", false, "log in again where a BMC has refused the account")
}

func (a *app) selCheckCommand() *cobra.Command {
	var opts selOptions
	cmd := &cobra.Command{
		Use:   "check [DEVICE...]",
		Short: "read event logs and tell what is new since the last check",
		Long: `Reads the event logs (SEL) of the selected devices' BMCs and marks the records
that the last check of that BMC did not see; at the first check all are new. A
log that was cleared or written over, record ids that come again and clocks that
are set hide no record and report none twice.

The devices themselves are not asked: the BMC of a probe that died is read while
nothing answers on SSH. Devices without a BMC in the inventory are left out. A
BMC that refuses the account is left alone for an hour and then longer, so that
the account is not locked; a new password, or --try-refused, is tried at once.

--fail-on looks at the new records only: with critical, warning (or worse), pci
(any error of a PCI bus) or a kind. Several are separated by commas.

` + selectionHelp + defaultAllHelp + `

` + jsonHelp("job, rows, failures and warnings", "row", selKeysHelp) + `
` + failureKeysHelp + `

` + csvHelp + `

` + waitHelp + `

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitSomeFailed, fault.ExitUsage, fault.ExitUnavailable, fault.ExitFound, fault.ExitInterrupted),
		Example: `  fleetctl sel check --all --fail-on critical
  fleetctl sel check -l site=lon --new -o json`,
		ValidArgsFunction: a.completeDevices,
	}
	opts.register(a, cmd)
	cmd.Flags().StringSliceVar(&opts.failOn, "fail-on", nil, "exit with 6 on a new record of this `severity or kind`")
	_ = cmd.RegisterFlagCompletionFunc("fail-on", cobra.FixedCompletions(failOnWords(), cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		return a.sel(ctx, f, &opts, args, selSpec{NewOnly: opts.onlyNew, TryRefused: opts.tryRefused})
	})
	return cmd
}

func (a *app) selListCommand() *cobra.Command {
	var opts selOptions
	cmd := &cobra.Command{
		Use:   "list [DEVICE...]",
		Short: "read event logs without counting as a check",
		Long: `Reads the event logs (SEL) of the selected devices' BMCs as "sel check" does,
and remembers nothing: what is new stays new for the next check.

` + selectionHelp + defaultAllHelp + `

` + jsonHelp("job, rows, failures and warnings", "row", selKeysHelp) + `
` + failureKeysHelp + `

` + csvHelp + `

` + waitHelp + `

` + workExits(),
		Example: `  fleetctl sel list lon-probe-01
  fleetctl sel list --all -o csv --write sel.csv`,
		ValidArgsFunction: a.completeDevices,
	}
	opts.register(a, cmd)
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		return a.sel(ctx, f, &opts, args, selSpec{Peek: true, NewOnly: opts.onlyNew, TryRefused: opts.tryRefused})
	})
	return cmd
}

func (a *app) sel(ctx context.Context, f fleet, opts *selOptions, args []string, spec selSpec) error {
	chosen, err := opts.selection(args, noneIsAll)
	if err != nil {
		return err
	}
	for _, word := range opts.failOn {
		if !slices.Contains(failOnWords(), word) {
			return fault.New(fault.Invalid, "--fail-on takes %s, not %q", strings.Join(failOnWords(), ", "), word)
		}
	}
	if opts.detach || len(opts.failOn) == 0 {
		if len(opts.failOn) > 0 {
			return fault.New(fault.Invalid, "--fail-on needs the result, which --detach does not wait for")
		}
		return a.submit(ctx, f, &opts.jobFlags, "sel", spec, chosen)
	}
	if _, err := opts.format(); err != nil {
		return err
	}
	job, err := a.start(ctx, f, "sel", spec, chosen)
	if err != nil {
		return err
	}
	res, err := a.await(ctx, f, job)
	if err != nil {
		return a.detached(ctx, job, err)
	}
	rows, err := selRows(res.Rows)
	if err != nil {
		return err
	}
	if err := a.printResults(&opts.outputFlags, res); err != nil {
		return err
	}
	a.reportFailures(res)
	code := jobCode(res.Job)
	if found := selFound(rows, opts.failOn); len(found) > 0 {
		a.say("%s: %s", count(len(found), "new record"), few(found))
		code = strongest(code, fault.ExitFound)
	}
	return statusOf(code)
}

func selRows(raw []json.RawMessage) ([]selRow, error) {
	rows := make([]selRow, len(raw))
	for i := range raw {
		if err := json.Unmarshal(raw[i], &rows[i]); err != nil {
			return nil, fault.Wrap(fault.Internal, "read the records", err)
		}
	}
	return rows, nil
}

// failOnWords is what --fail-on takes.
func failOnWords() []string {
	return []string{"critical", "warning", "pci", "pci_perr", "pci_serr", "pcie_correctable", "pcie_nonfatal", "pcie_fatal", "pci_other", "nmi", "other"}
}

// selFound gives, record by record, the devices of the new records that --fail-on
// is about, each once.
func selFound(rows []selRow, failOn []string) []string {
	var found []string
	for _, row := range rows {
		if row.New && slices.ContainsFunc(failOn, row.is) {
			found = append(found, fmt.Sprintf("%s#%d", row.Device, row.RecordID))
		}
	}
	return found
}

// is tells whether a record is what a word of --fail-on means.
func (r *selRow) is(word string) bool {
	switch word {
	case "critical":
		return r.Severity == "critical"
	case "warning":
		return r.Severity == "critical" || r.Severity == "warning"
	case "pci":
		return strings.HasPrefix(r.Kind, "pci") && r.Severity != "ok"
	default:
		return r.Kind == word && r.Severity != "ok" || word == "other" && r.Kind == word
	}
}

// selAnswer fills in how records are shown: for people with the place on the PCI
// bus in its usual spelling.
func selAnswer(ans *answer, res api.Results) {
	ans.view = selView()
	ans.empty = "no records"
	var spec selSpec
	if json.Unmarshal(res.Job.Spec, &spec) == nil && spec.NewOnly {
		ans.empty = "no new records"
	}
	ans.makeLines = func() ([]json.RawMessage, error) {
		lines := make([]json.RawMessage, len(res.Rows))
		for i, raw := range res.Rows {
			line, err := selLine(raw)
			if err != nil {
				return nil, fault.Wrap(fault.Internal, "read the records", err)
			}
			lines[i] = line
		}
		return lines, nil
	}
}

func selLine(raw json.RawMessage) (json.RawMessage, error) {
	var row selRow
	fields := map[string]json.RawMessage{}
	if err := errors.Join(json.Unmarshal(raw, &row), json.Unmarshal(raw, &fields)); err != nil {
		return nil, err
	}
	if place := row.place(); place != "" {
		fields["place"] = json.RawMessage(`"` + place + `"`)
	}
	if row.New {
		fields["mark"] = json.RawMessage(`"new"`)
	}
	return json.Marshal(fields)
}

// place is bus, device and function as lspci prints them, with ? for what the
// record does not tell.
func (r *selRow) place() string {
	hex := func(n *int, digits int) string {
		if n == nil {
			return "?"
		}
		return fmt.Sprintf("%0*x", digits, *n)
	}
	if r.Bus == nil && r.DeviceNumber == nil {
		return ""
	}
	return hex(r.Bus, 2) + ":" + hex(r.DeviceNumber, 2) + "." + hex(r.Function, 1)
}

func selView() output.View {
	return output.View{
		Table: []output.Column{
			{Key: "device", Head: "DEVICE", Fixed: true},
			{Key: "record_id", Head: "ID", Kind: output.Number},
			{Key: "time", Head: "TIME", Kind: output.Time, Fixed: true},
			{Key: "severity", Head: "SEVERITY", Kind: output.State},
			{Key: "kind", Head: "KIND", Wide: true},
			{Key: "place", Head: "AT"},
			{Key: "mark", Head: "NEW"},
			{Key: "event", Head: "EVENT"},
			{Key: "sensor_type", Head: "SENSOR", Wide: true},
			{Key: "sensor_number", Head: "NUMBER", Kind: output.Number, Wide: true},
			{Key: "bmc", Head: "BMC", Wide: true},
			{Key: "raw", Head: "RAW", Wide: true},
		},
		CSV: []output.Column{
			{Key: "device", Head: "Device"},
			{Key: "bmc", Head: "BMC"},
			{Key: "record_id", Head: "Record"},
			{Key: "time", Head: "Time", Kind: output.Time},
			{Key: "severity", Head: "Severity"},
			{Key: "kind", Head: "Kind"},
			{Key: "place", Head: "PCI Address"},
			{Key: "bus", Head: "Bus", Kind: output.Number},
			{Key: "device_number", Head: "Device Number", Kind: output.Number},
			{Key: "function", Head: "Function", Kind: output.Number},
			{Key: "sensor_type", Head: "Sensor Type"},
			{Key: "sensor_number", Head: "Sensor Number", Kind: output.Number},
			{Key: "event", Head: "Event"},
			{Key: "raw", Head: "Raw"},
			{Key: "new", Head: "New"},
		},
	}
}
