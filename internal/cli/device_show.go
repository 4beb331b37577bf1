package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

func (a *app) deviceShowCommand() *cobra.Command {
	var out outputFlags
	cmd := &cobra.Command{
		Use:   "show DEVICE...",
		Short: "everything known about devices",
		Long: `Shows the inventory's entry of each named device and the facts that jobs last
saw. No device is contacted.

` + jsonHelp("rows", "row", deviceKeysHelp) + `

` + readExits(),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &fault.Error{Kind: fault.Invalid, Act: "no device was named", Next: "usage: " + cmd.UseLine()}
			}
			return nil
		},
		ValidArgsFunction: a.completeDevices,
	}
	out.register(cmd)
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		devices := make([]api.Device, len(args))
		for i, name := range args {
			d, err := f.Device(ctx, name)
			if err != nil {
				return err
			}
			devices[i] = d
		}
		return a.printDevices(&out, devices, func(w io.Writer, _ bool, _ output.Screen) error {
			return printDeviceBlocks(w, devices)
		})
	})
	return cmd
}

func printDeviceBlocks(w io.Writer, devices []api.Device) error {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-24s %s\n", name, output.Clean(value))
		}
	}
	for i, d := range devices {
		if i > 0 {
			b.WriteByte('\n')
		}
		line("name", d.Name)
		line("platform", d.Platform)
		line("address", d.Address)
		line("username", d.Username)
		line("site", d.Site)
		line("groups", strings.Join(d.Groups, ", "))
		line("labels", pairs(d.Labels))
		line("covers", strings.Join(d.Covers, ", "))
		line("ha peer", d.HAPeer)
		line("jump", strings.Join(d.Jump, " > "))
		line("bmc", d.BMC)
		line("last seen", showTime(d.LastSeenAt))
		line("last error", d.LastError)
		keys := make([]string, 0, len(d.Facts))
		for k := range d.Facts {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		if len(keys) > 0 {
			b.WriteString("facts\n")
		}
		for _, k := range keys {
			line("  "+output.Clean(k), d.Facts[k])
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
