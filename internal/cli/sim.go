package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
	"capfleet/internal/sim"
)

type simOptions struct {
	outputFlags
	devices    int
	dir        string
	faults     []string
	listFaults bool
}

func (a *app) simCommand() *cobra.Command {
	var opts simOptions
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "run a simulated fleet to practise on",
		Long: `Runs a simulated fleet in the foreground until Ctrl-C: Endace probes, BIG-IPs
and Linux hosts behind real SSH and SFTP servers on 127.0.0.1, which any SSH
client can use. Its directory holds inventory.yaml, known_hosts and credentials
for fleetd, ssh_config for ssh, and journal.jsonl, the simulator's own record
of what truly happened. A directory that held a fleet before continues it.

--fault DEVICE:FAULT[=ARGUMENT] orders a fault, a variant or an event, for one
device or a glob; DEVICE:none clears all. When a fleet runs in the directory
already, the orders go to it and the command ends.

JSON (of --list-faults): one object with rows. Keys of a row: name, argument,
kind, platform, description.

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitUsage),
		Example: `  fleetctl sim --dir ./fleet
  fleetctl sim --dir ./fleet --fault lon-probe-01:down
  fleetctl sim --list-faults`,
		Args: cobra.NoArgs,
	}
	opts.register(cmd)
	fl := cmd.Flags()
	fl.IntVar(&opts.devices, "devices", 0, fmt.Sprintf("how many devices (default as many as the directory held, or %d)", sim.DefaultDevices))
	fl.StringVar(&opts.dir, "dir", "", "`directory` of the fleet (default "+simDirForHelp()+")")
	fl.StringArrayVar(&opts.faults, "fault", nil, "order `DEVICE:FAULT`[=ARGUMENT]; may be repeated")
	fl.BoolVar(&opts.listFaults, "list-faults", false, "list what can be ordered")
	_ = cmd.MarkFlagDirname("dir")
	_ = cmd.RegisterFlagCompletionFunc("fault", completeFaults)
	cmd.RunE = a.local(func(ctx context.Context, _ []string) error {
		if opts.listFaults {
			return a.listFaults(&opts.outputFlags)
		}
		return a.runSim(ctx, opts)
	})
	return cmd
}

func (a *app) runSim(ctx context.Context, opts simOptions) error {
	dir := opts.dir
	if dir == "" {
		var err error
		if dir, err = simDir(); err != nil {
			return err
		}
	}
	if len(opts.faults) > 0 {
		ordered, err := a.orderFaults(dir, opts.faults) //nolint:contextcheck // the simulator bounds it
		if ordered || err != nil {
			return err
		}
	}
	fleet, err := sim.New(sim.Options{Dir: dir, Devices: opts.devices, Faults: opts.faults})
	if err != nil {
		return simError("plan the simulated fleet", err)
	}
	if err := fleet.Start(ctx); err != nil {
		return simError("start the simulated fleet", err)
	}
	a.remark("%s", simGreeting(fleet))
	<-ctx.Done()
	a.remark("stopping")
	return simError("stop the simulated fleet", fleet.Close()) //nolint:contextcheck // ctx has ended
}

// orderFaults gives orders to a fleet that runs in dir. Without one it reports
// false.
func (a *app) orderFaults(dir string, faults []string) (bool, error) {
	for _, order := range faults {
		device, what, _ := strings.Cut(order, ":")
		err := sim.OrderRunning(dir, device, what)
		if errors.Is(err, sim.ErrNotRunning) {
			return false, nil
		}
		if err != nil {
			return false, simError("order "+order, err)
		}
		a.remark("ordered %s", order)
	}
	return true, nil
}

// simGreeting says what runs and what can be done with it.
func simGreeting(fleet *sim.Fleet) string {
	dir := fleet.Dir()
	device := fleet.Devices()[0].Name
	return fmt.Sprintf(`%s on 127.0.0.1, described in %s

Log in to one of them:
  ssh -F %s %s
Let fleetd work with them:
  fleetd --inventory %s --state %s
Break one:
  fleetctl sim --dir %s --fault %s:down

Ctrl-C ends the fleet; its state is kept.`,
		fleetWords(fleet.Devices()), fleet.Inventory(),
		shellQuote(filepath.Join(dir, "ssh_config")), device,
		shellQuote(fleet.Inventory()), shellQuote(filepath.Join(dir, "state")),
		shellQuote(dir), device)
}

// fleetWords counts devices by platform: "24 simulated devices (12 endace_osm, ...)".
func fleetWords(devices []sim.DeviceInfo) string {
	counts := map[string]int{}
	for _, d := range devices {
		counts[d.Platform]++
	}
	parts := make([]string, 0, len(counts))
	for _, platform := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[platform], platform))
	}
	return fmt.Sprintf("%s (%s)", count(len(devices), "simulated device"), strings.Join(parts, ", "))
}

// simDir is where a fleet lives when nobody says.
func simDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", &fault.Error{Kind: fault.Invalid, Act: "find a directory for the simulated fleet", Err: err, Next: "use --dir"}
	}
	return filepath.Join(cache, "capfleet", "sim"), nil
}

func simDirForHelp() string {
	dir, err := simDir()
	if err != nil {
		return "none here"
	}
	return dir
}

// simError gives an error of the simulator its kind.
func simError(act string, err error) error {
	if errors.Is(err, sim.ErrInvalid) {
		return &fault.Error{Kind: fault.Invalid, Act: act, Err: err, Next: "see fleetctl sim --list-faults"}
	}
	return fault.Wrap(fault.Internal, act, err)
}

// faultRow is a line of --list-faults.
type faultRow struct {
	Name        string `json:"name"`
	Argument    string `json:"argument"`
	Kind        string `json:"kind"`
	Platform    string `json:"platform"`
	Description string `json:"description"`
}

func (a *app) listFaults(o *outputFlags) error {
	orders := sim.Orders()
	list := make([]faultRow, 0, len(orders))
	for _, f := range orders {
		list = append(list, faultRow{f.Name, f.Argument, f.Kind, f.Platform, f.Description})
	}
	rows, err := output.Rows(list)
	if err != nil {
		return fault.Wrap(fault.Internal, "print the faults", err)
	}
	return a.print(o, answer{view: faultView(), rows: rows, doc: rowsDocument{rows}, people: func(w io.Writer, _ bool, screen output.Screen) error {
		return printFaults(w, list, screen)
	}})
}

// printFaults prints a line for how each order is written and one for what it
// does: a table of them would fit no terminal.
func printFaults(w io.Writer, list []faultRow, screen output.Screen) error {
	var b strings.Builder
	kind := ""
	for _, f := range list {
		if f.Kind != kind {
			if kind != "" {
				b.WriteByte('\n')
			}
			kind = f.Kind
			fmt.Fprintf(&b, "%s\n", screen.Emphasis(strings.ToUpper(kind)+"S"))
		}
		fmt.Fprintf(&b, "  %s%s", f.Name, f.Argument)
		if f.Platform != "" {
			fmt.Fprintf(&b, "   (%s)", f.Platform)
		}
		b.WriteString("\n" + output.Wrap("      "+f.Description, screen.Width, "      ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func faultView() output.View {
	return output.View{Table: []output.Column{
		{Key: "name", Head: "NAME", Fixed: true},
		{Key: "argument", Head: "ARGUMENT"},
		{Key: "kind", Head: "KIND"},
		{Key: "platform", Head: "PLATFORM"},
		{Key: "description", Head: "DESCRIPTION"},
	}}
}

// completeFaults completes the fault of DEVICE:FAULT.
func completeFaults(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	device, _, found := strings.Cut(typed, ":")
	if !found {
		return nil, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	var out []string
	for _, f := range sim.Orders() {
		out = append(out, cobra.CompletionWithDesc(device+":"+f.Name, f.Description))
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// shellQuote quotes a word for a POSIX shell, where it needs it.
func shellQuote(word string) string {
	safe := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@%", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !safe(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
