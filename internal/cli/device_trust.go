package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

// hostKeyRow is a row of the operation "hostkeys".
type hostKeyRow struct {
	api.HostKey
	// Status compares the key with known_hosts: pinned, unknown or changed.
	Status string `json:"status"`
}

// Statuses of a host key.
const (
	keyPinned  = "pinned"
	keyUnknown = "unknown"
	keyChanged = "changed"
)

// trustDoc is the JSON of `device trust`.
type trustDoc struct {
	Job      api.Job           `json:"job"`
	Rows     []json.RawMessage `json:"rows"`
	Failures []api.Failure     `json:"failures"`
	Warnings []string          `json:"warnings"`
	Added    []api.HostKey     `json:"added"`
}

type trustOptions struct {
	selectionFlags
	outputFlags
	replace bool
	yes     bool
	bmc     bool
}

// operation is what shows the keys, or the certificates.
func (o *trustOptions) operation() string {
	if o.bmc {
		return "bmccerts"
	}
	return "hostkeys"
}

// noun is what is pinned.
func (o *trustOptions) noun() string {
	if o.bmc {
		return "certificate"
	}
	return "host key"
}

func (a *app) deviceTrustCommand() *cobra.Command {
	var opts trustOptions
	cmd := &cobra.Command{
		Use:   "trust [DEVICE...]",
		Short: "show host keys and pin them in known_hosts; the same for BMCs",
		Long: `Reads the host keys of the selected devices without logging in, compares them
with known_hosts, shows them, and after a yes pins exactly the keys it has
shown. Compare the fingerprints with the devices' own consoles first: whoever
pins a key trusts whoever answered.

A changed key is shown and never pinned without --replace; until then no
credential is sent to that device. Nothing is pinned for devices that failed.

With --bmc it is the certificates that the devices' BMCs show, and they are
pinned in known_bmcs beside known_hosts. BMCs sign their certificates
themselves, so until one is pinned, there or in the inventory (tls_pins), no
password is sent to it.

` + selectionHelp + defaultNoneHelp + `

` + jsonHelp("job, rows, failures, warnings and added (keys pinned now)", "row", "device, host, type, sha256, public_key, status (pinned, unknown or changed\nbefore this command); with --bmc also subject, issuer, not_before, not_after") + `
` + failureKeysHelp + `

` + workExits(),
		Example: `  fleetctl device trust lon-probe-01
  fleetctl device trust -l site=lon --yes
  fleetctl device trust --bmc lon-probe-01`,
		ValidArgsFunction: a.completeDevices,
	}
	opts.selectionFlags.register(a, cmd)
	opts.outputFlags.register(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&opts.replace, "replace", false, "let a changed key take the place of the pinned one")
	fl.BoolVar(&opts.bmc, "bmc", false, "the certificates of the devices' BMCs")
	fl.BoolVarP(&opts.yes, "yes", "y", false, "pin without asking")
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error { return a.trust(ctx, f, &opts, args) })
	return cmd
}

func (a *app) trust(ctx context.Context, f fleet, opts *trustOptions, args []string) error {
	sel, err := opts.selection(args, noneIsError)
	if err != nil {
		return err
	}
	format, err := opts.format()
	if err != nil {
		return err
	}
	job, err := a.start(ctx, f, opts.operation(), struct{}{}, sel)
	if err != nil {
		return err
	}
	res, err := a.await(ctx, f, job)
	if err != nil {
		return err
	}
	keys, err := hostKeyRows(res.Rows)
	if err != nil {
		return err
	}
	ans, err := resultAnswer(res)
	if err != nil {
		return err
	}

	// On a terminal the table is shown before the question and is the result too.
	// Where the result goes somewhere else, the question brings its own copy.
	shown := format.ForPeople() && a.streams.OutTerminal && opts.file == ""
	if shown {
		if err := a.print(&opts.outputFlags, ans); err != nil {
			return err
		}
	}
	wanted, refused := sortKeys(keys, opts.replace)
	added := []api.HostKey{}
	if len(wanted) > 0 {
		if !shown && !opts.yes && a.streams.ErrTerminal {
			if err := output.Write(a.streams.Err, output.Wide, ans.view, res.Rows, nil, a.screenErr()); err != nil {
				return fault.Wrap(fault.Internal, "show the host keys", err)
			}
		}
		if err := a.confirm(ctx, opts.yes, trustQuestion(wanted, opts.bmc)); err != nil {
			return err
		}
		pinned, err := f.PinHostKeys(ctx, api.PinRequest{Keys: wanted, Replace: opts.replace})
		if err != nil {
			return err
		}
		added = append(added, pinned.Added...)
	}
	if !shown {
		res = complete(res)
		ans.doc = trustDoc{Job: res.Job, Rows: res.Rows, Failures: res.Failures, Warnings: res.Warnings, Added: added}
		if err := a.print(&opts.outputFlags, ans); err != nil {
			return err
		}
	}
	a.remark("%s pinned, %d pinned before", count(len(added), opts.noun()), len(keys)-len(wanted)-refused.keys)
	a.reportFailures(res)
	code := jobCode(res.Job)
	if len(refused.devices) > 0 {
		flag := ""
		if opts.bmc {
			flag = "--bmc "
		}
		a.say("changed %ss were not pinned: %s", opts.noun(), strings.Join(refused.devices, ", "))
		a.say("next: find out why they changed; then fleetctl device trust %s--replace %s", flag, few(refused.devices))
		code = strongest(code, refused.code(res.Job))
	}
	return statusOf(code)
}

// refusal is what was not pinned because a key has changed.
type refusal struct {
	keys    int
	devices []string
}

func (r refusal) code(job api.Job) int {
	if len(r.devices) == job.Devices {
		return fault.ExitFailed
	}
	return fault.ExitSomeFailed
}

// sortKeys gives the keys to pin, and what is refused. A device with a changed
// key gets none of its keys pinned without replace.
func sortKeys(keys []hostKeyRow, replace bool) (wanted []api.HostKey, refused refusal) {
	if !replace {
		for _, k := range keys {
			if k.Status == keyChanged && !slices.Contains(refused.devices, k.Device) {
				refused.devices = append(refused.devices, k.Device)
			}
		}
	}
	for _, k := range keys {
		switch {
		case k.Status == keyPinned:
		case slices.Contains(refused.devices, k.Device):
			refused.keys++
		default:
			wanted = append(wanted, k.HostKey)
		}
	}
	return wanted, refused
}

func trustQuestion(keys []api.HostKey, bmc bool) string {
	var devices []string
	for _, k := range keys {
		if !slices.Contains(devices, k.Device) {
			devices = append(devices, k.Device)
		}
	}
	if bmc && len(keys) == 1 {
		return fmt.Sprintf("Trust this certificate of the BMC of %s from now on?", devices[0])
	}
	if bmc {
		return fmt.Sprintf("Trust these certificates of the BMCs of %s from now on?", count(len(devices), "device"))
	}
	if len(keys) == 1 {
		return fmt.Sprintf("Trust this key of %s from now on?", devices[0])
	}
	return fmt.Sprintf("Trust these %d keys of %s from now on?", len(keys), count(len(devices), "device"))
}

func hostKeyRows(raw []json.RawMessage) ([]hostKeyRow, error) {
	rows := make([]hostKeyRow, len(raw))
	for i, r := range raw {
		if err := json.Unmarshal(r, &rows[i]); err != nil {
			return nil, fault.Wrap(fault.Internal, "read the host keys", err)
		}
	}
	return rows, nil
}

func hostKeyView() output.View {
	return output.View{Table: []output.Column{
		{Key: "device", Head: "DEVICE", Fixed: true},
		{Key: "status", Head: "STATUS", Kind: output.State, Fixed: true},
		{Key: "type", Head: "TYPE", Wide: true},
		{Key: "sha256", Head: "FINGERPRINT", Fixed: true},
		{Key: "host", Head: "HOST", Wide: true},
		{Key: "public_key", Head: "PUBLIC KEY", Wide: true},
	}}
}

func certificateView() output.View {
	return output.View{Table: []output.Column{
		{Key: "device", Head: "DEVICE", Fixed: true},
		{Key: "status", Head: "STATUS", Kind: output.State, Fixed: true},
		{Key: "sha256", Head: "SHA-256 OF THE CERTIFICATE", Fixed: true},
		{Key: "subject", Head: "SUBJECT", Wide: true},
		{Key: "issuer", Head: "ISSUER", Wide: true},
		{Key: "not_before", Head: "NOT BEFORE", Kind: output.Time, Wide: true},
		{Key: "not_after", Head: "NOT AFTER", Kind: output.Time, Wide: true},
		{Key: "host", Head: "HOST", Wide: true},
	}}
}
