package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/ansible"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

func (a *app) deviceImportCommand() *cobra.Command {
	cmd := a.group("import", "make an inventory of another program's")
	cmd.AddCommand(a.importAnsibleCommand())
	return cmd
}

type importOptions struct {
	platforms []string
	user      string
	labels    []string
	site      string
	write     string
}

func (a *app) importAnsibleCommand() *cobra.Command {
	var opts importOptions
	cmd := &cobra.Command{
		Use:   "ansible FILE",
		Short: "print an inventory.yaml made of an Ansible inventory",
		Long: `Reads an Ansible inventory (INI, YAML, or what ansible-inventory --list prints;
- is stdin) and prints an inventory.yaml that fleetd takes as it is. It needs
no fleetd.

Names, ansible_host, ansible_port, ansible_user, private key files, groups with
their children and variables, ansible_network_os and jump hosts given to ssh
are taken over. What is not said is not guessed: a host without a known
platform or a user is left out unless --platform or --user says them. Secrets
are never copied; where one is needed, the inventory refers to an environment
variable of fleetd. Everything that was not taken over is listed on stderr with
the reason.

Values worked out by templates, plugins, and the folders group_vars and
host_vars are Ansible's business: let it resolve them first, as in the second
example.

` + exitHelp(fault.ExitDone, fault.ExitUsage, fault.ExitInterrupted),
		Example: `  fleetctl device import ansible hosts.ini --platform probes=endace_osm --write inventory.yaml
  ansible-inventory -i hosts --list | fleetctl device import ansible - --platform linux`,
		Args:              oneArg,
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&opts.platforms, "platform", nil, "`[group=]platform` of hosts that do not say theirs: "+strings.Join(ansible.Platforms(), ", "))
	fl.StringVar(&opts.user, "user", "", "`name` that logs in where none is given")
	fl.StringArrayVar(&opts.labels, "label", nil, "take this `variable` over as a label")
	fl.StringVar(&opts.site, "site", "", "take this `variable` over as the site")
	fl.StringVar(&opts.write, "write", "", "write the inventory to `file` instead of stdout; it is complete or not there")
	cmd.RunE = a.local(func(ctx context.Context, args []string) error { return a.importAnsible(ctx, &opts, args[0]) })
	return cmd
}

func (a *app) importAnsible(ctx context.Context, opts *importOptions, file string) error {
	how := ansible.Options{User: opts.user, Labels: opts.labels, Site: opts.site, Platforms: map[string]string{}}
	for _, p := range opts.platforms {
		group, platform, ok := strings.Cut(p, "=")
		if !ok {
			how.Platform = p
			continue
		}
		how.Platforms[group] = platform
	}
	in := a.streams.In
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return fault.Wrap(fault.Invalid, "read the Ansible inventory", err)
		}
		defer func() { _ = opened.Close() }()
		in = opened
	}
	const most = 64 << 20
	src, err := io.ReadAll(io.LimitReader(in, most+1))
	if err != nil {
		return fault.Wrap(fault.Invalid, "read the Ansible inventory", err)
	}
	if ctx.Err() != nil {
		return fault.Wrap(fault.Canceled, "read the Ansible inventory", ctx.Err())
	}
	inv, err := ansible.Read(file, src)
	if err != nil {
		return err
	}
	res, err := ansible.Convert(inv, how)
	a.tellNotTaken(file, res)
	if err != nil {
		return err
	}
	if opts.write == "" {
		_, err = a.streams.Out.Write(res.YAML)
		return fault.Wrap(fault.Internal, "print the inventory", err)
	}
	if err := writeNew(opts.write, res.YAML); err != nil {
		return err
	}
	a.remark("wrote %s; try it with: fleetd --check --inventory %s", opts.write, opts.write)
	return nil
}

// writeNew writes a file that must not be there: an inventory is somebody's work.
func writeNew(file string, text []byte) error {
	if _, err := os.Lstat(file); err == nil {
		return &fault.Error{Kind: fault.Conflict, Act: file + " is there already", Next: "name another file, or move it away"}
	}
	return fault.Wrap(fault.Storage, "write "+file, output.WriteFile(file, text))
}

// tellNotTaken lists what was not taken over.
func (a *app) tellNotTaken(file string, res ansible.Result) {
	line := func(text string) { a.say("%s", output.Wrap(text, a.screenErr().Width, "    ")) }
	a.say("%d of %s taken over", res.Devices, count(res.Hosts, "host"))
	notes := slices.Clone(res.Notes)
	if file != "-" {
		for _, folder := range []string{"group_vars", "host_vars"} {
			if info, err := os.Stat(filepath.Join(filepath.Dir(file), folder)); err == nil && info.IsDir() {
				notes = append(notes, ansible.Note{What: "folder " + folder, Reason: "not read: let ansible-inventory --list resolve it"})
			}
		}
	}
	for _, n := range notes {
		line(fmt.Sprintf("  %s: %s", n.What, n.Reason))
	}
}
