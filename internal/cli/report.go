package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/fault"
)

// reportSpec is the spec of the operation "report".
type reportSpec struct {
	Report string   `json:"report"`
	Record bool     `json:"record,omitempty"`
	Blank  []string `json:"blank,omitempty"`
}

// reportDoc is what distinguishes one report's command from another's.
type reportDoc struct {
	name, short, about, keys string
}

func (a *app) reportCommand() *cobra.Command {
	cmd := a.group("report", "capacity and software of the selected devices")
	for _, doc := range []reportDoc{
		{
			name:  "filesystem",
			short: "size and use of file systems",
			about: `Reads the file systems of the selected devices. Tables and CSV give sizes in GB
(10^9 bytes), JSON in bytes. Where a device prints no unit, the one that its
platform's definition names is used, and assumed_unit says which.`,
			keys: "device, filesystem, total_bytes, used_bytes, usable_bytes, free_bytes,\nused_percent, assumed_unit, collected_at",
		},
		{
			name:  "rotation-file",
			short: "limits, use and retention of rotation files on Endace probes",
			about: `Reads the rotation files of the selected Endace probes; other platforms have
none. Tables and CSV give sizes in GB (10^9 bytes), JSON in bytes.`,
			keys: "device, name, user_limit_bytes, actual_limit_bytes, disk_usage_bytes,\nvision_retention_seconds, vision_size_bytes, current_size_bytes, source,\nassumed_unit, collected_at",
		},
		{
			name:  "software",
			short: "versions, hotfixes and volumes",
			about: `Reads which software the selected devices run.`,
			keys:  "device, platform, version, build, hotfixes, active_volume, volumes,\nmaintenance, failover_state, collected_at",
		},
	} {
		cmd.AddCommand(a.reportOneCommand(doc))
	}
	cmd.AddCommand(a.reportCapacityCommand())
	return cmd
}

func (a *app) reportOneCommand(doc reportDoc) *cobra.Command {
	var sel selectionFlags
	var job jobFlags
	cmd := &cobra.Command{
		Use:   doc.name + " [DEVICE...]",
		Short: doc.short,
		Long: strings.Join([]string{
			doc.about,
			selectionHelp + defaultAllHelp,
			jsonHelp("job, rows, failures and warnings", "row", doc.keys) + "\n" + failureKeysHelp,
			csvHelp,
			waitHelp,
			workExits(),
		}, "\n\n"),
		Example: "  fleetctl report " + doc.name + "\n" +
			"  fleetctl report " + doc.name + " 'lon-*' -o csv --write " + doc.name + ".csv\n" +
			"  fleetctl report " + doc.name + " -l site=lon -o json | jq '.rows[]'",
		ValidArgsFunction: a.completeDevices,
		RunE: a.with(func(ctx context.Context, f fleet, args []string) error {
			s, err := sel.selection(args, noneIsAll)
			if err != nil {
				return err
			}
			return a.submit(ctx, f, &job, "report", reportSpec{Report: doc.name}, s)
		}),
	}
	sel.register(a, cmd)
	job.register(cmd)
	return cmd
}

// Pieces of help that several commands share.
const (
	failureKeysHelp = `Keys of a failure: device, stage, kind, message.
A missing figure is null, never 0.`

	csvHelp = `CSV: text that a spreadsheet would take for a formula (it begins with = + - or
@) has a ' put before it.`

	waitHelp = `The command waits for its job. Ctrl-C leaves it to go on in fleetd and says how
to come back; --detach does not wait.`
)

func jsonHelp(object, row, keys string) string {
	return "JSON: one object with " + object + ".\nKeys of a " + row + ":\n" + keys
}

// workExits is the help of the exit codes of commands that work on devices.
func workExits() string {
	return exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitSomeFailed, fault.ExitUsage, fault.ExitUnavailable, fault.ExitInterrupted)
}

// readExits is the help of the exit codes of commands that only ask fleetd.
func readExits() string {
	return exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitUsage, fault.ExitUnavailable, fault.ExitInterrupted)
}
