package cli

import (
	"context"
	"encoding/json"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

func (a *app) deviceListCommand() *cobra.Command {
	var sel selectionFlags
	var out outputFlags
	cmd := &cobra.Command{
		Use:   "list [DEVICE...]",
		Short: "devices with what was last seen of them",
		Long: `Lists the devices of the inventory with the facts that jobs last saw. No device
is contacted.

` + selectionHelp + defaultAllHelp + `

` + jsonHelp("rows", "row", deviceKeysHelp) + `

` + readExits(),
		ValidArgsFunction: a.completeDevices,
	}
	sel.register(a, cmd)
	out.register(cmd)
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		s, err := sel.selection(args, noneIsAll)
		if err != nil {
			return err
		}
		if _, err := out.format(); err != nil {
			return err
		}
		devices, err := f.Devices(ctx, s)
		if err != nil {
			return err
		}
		return a.printDevices(&out, devices, nil)
	})
	return cmd
}

// printDevices prints devices; people, when set, takes the place of the table.
func (a *app) printDevices(o *outputFlags, devices []api.Device, people peopleFunc) error {
	format, err := o.format()
	if err != nil {
		return err
	}
	// Of a large fleet only what is printed is made.
	var rows []json.RawMessage
	if format.Columns() {
		rows, err = output.Rows(deviceLines(devices))
	} else {
		rows, err = output.Rows(devices)
	}
	if err != nil {
		return fault.Wrap(fault.Internal, "print the devices", err)
	}
	return a.print(o, answer{view: deviceView(), rows: rows, doc: rowsDocument{rows}, people: people})
}
