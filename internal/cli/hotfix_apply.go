package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
)

const hotfixApplyKeysHelp = `device, action, result (installed, rolled back, unchanged), file_name,
install_name, installed_as, version, sha256, size_bytes, version_before,
version_after, listed_before, listed_after, proofs (name, answer, how, detail,
accepted), outage_from, outage_to, outage_seconds, differences (item, line,
gone, new, matters), snapshot_before, snapshot_after, diff, detail`

func (a *app) hotfixStageCommand() *cobra.Command {
	var opts hotfixOptions
	var job jobFlags
	yes := false
	cmd := &cobra.Command{
		Use:   "stage FILE [DEVICE...]",
		Short: "put a hotfix on devices and verify it there, days ahead",
		Long: `Uploads FILE to the selected devices and compares its whole content there.
Nothing else is changed: it can be done outside of any window. A device that has
the file already is left as it is.

` + hotfixFileHelp + `

` + selectionHelp + defaultNoneHelp + `

` + jsonHelp("job, rows, failures and warnings", "row", `device, action, result (staged, unchanged), file_name, install_name,
installed_as, version, sha256, size_bytes, path, verified, verified_at`) + `
` + failureKeysHelp + `

` + waitHelp + `

` + workExits(),
		Example:           "  fleetctl hotfix stage OSm6.4.x-CumulativeHotfix-v2.end -l group=probes",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeFileThenDevices,
	}
	opts.register(a, cmd)
	job.register(cmd)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		sel, err := opts.selection(args[1:], noneIsError)
		if err != nil {
			return err
		}
		if sel, err = a.confirmDevices(ctx, f, sel, yes, "Put "+args[0]+" on"); err != nil {
			return err
		}
		spec, err := opts.spec(ctx, a, f, "stage", args[0], sel, nil)
		if err != nil {
			return err
		}
		return a.submit(ctx, f, &job, "hotfix", spec, sel)
	})
	return cmd
}

func (a *app) hotfixApplyCommand() *cobra.Command {
	var opts hotfixOptions
	var job jobFlags
	yes := false
	cmd := &cobra.Command{
		Use:   "apply FILE [DEVICE...]",
		Short: "install a hotfix, wave by wave",
		Long: `Installs FILE on the selected devices. Every step looks first and does only what
is missing: a second apply changes nothing. A wave is begun when the one before
it is through, but for devices that are still being uploaded to, which delay
nobody; the first is the canary, and any failure in it stops the rollout.

On an Endace probe: preflight, upload, verify, snapshot, maintenance mode,
install, confirm, save, reload, proven return, post-check against the snapshot.
From maintenance mode to the proven return a cancel is held back. On a BIG-IP:
gates, backup, install to a volume that is not running, the standby member,
failover, the other member; never both at once.

A device is passed when it shows that the hotfix is installed, that it has
rebooted, is in normal mode and captures. What a device cannot show is seen
before anything is done to it and stops there, unless --accept-unobserved names
the proof. A device that does not come back as it should needs attention: its
message says what was seen, and it counts as failed.

fleetd goes on by itself after it was killed. "fleetctl hotfix report JOB" is
the change record.

` + hotfixFileHelp + `

` + selectionHelp + defaultNoneHelp + `

` + jsonHelp("job, rows, failures and warnings", "row", hotfixApplyKeysHelp) + `
` + failureKeysHelp + `

` + waitHelp + `

` + workExits(),
		Example: `  fleetctl hotfix apply OSm6.4.x-CumulativeHotfix-v2.end -l group=probes \
      --window 'Sat 22:00+4h'
  fleetctl hotfix apply OSm6.4.x-CumulativeHotfix-v2.end lon-probe-01 --yes`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeFileThenDevices,
	}
	opts.register(a, cmd)
	opts.registerChange(cmd)
	rollout := addRolloutFlags(cmd)
	job.register(cmd)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		sel, err := opts.selection(args[1:], noneIsError)
		if err != nil {
			return err
		}
		policy, err := rollout.policy()
		if err != nil {
			return err
		}
		if sel, err = a.confirmDevices(ctx, f, sel, yes, "Install "+args[0]+" on"); err != nil {
			return err
		}
		spec, err := opts.spec(ctx, a, f, "apply", args[0], sel, policy)
		if err != nil {
			return err
		}
		return a.changeDevices(ctx, f, &job, spec, sel, policy)
	})
	return cmd
}

func (a *app) hotfixRollbackCommand() *cobra.Command {
	var opts hotfixOptions
	var job jobFlags
	yes := false
	cmd := &cobra.Command{
		Use:   "rollback [DEVICE...]",
		Short: "boot the volume that ran before (BIG-IP)",
		Long: `Boots the selected BIG-IPs from the volume that ran before the last apply, as
carefully as apply does: the standby member first, one failover, the other
member. Platforms that install in place have no way back, and are refused.

` + selectionHelp + defaultNoneHelp + `

` + jsonHelp("job, rows, failures and warnings", "row", hotfixApplyKeysHelp) + `
` + failureKeysHelp + `

` + waitHelp + `

` + workExits(),
		Example:           "  fleetctl hotfix rollback lon-ltm-01 lon-ltm-02",
		ValidArgsFunction: a.completeDevices,
	}
	opts.selectionFlags.register(a, cmd)
	opts.registerChange(cmd)
	cmd.Flags().StringVar(&opts.volume, "volume", "", "the `volume` to boot (default: the one that ran before)")
	rollout := addRolloutFlags(cmd)
	job.register(cmd)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		sel, err := opts.selection(args, noneIsError)
		if err != nil {
			return err
		}
		policy, err := rollout.policy()
		if err != nil {
			return err
		}
		if sel, err = a.confirmDevices(ctx, f, sel, yes, "Roll back"); err != nil {
			return err
		}
		spec := hotfixSpec{Action: "rollback", Volume: opts.volume, Takeover: opts.takeover, AcceptUnobserved: opts.accept}
		return a.changeDevices(ctx, f, &job, spec, sel, policy)
	})
	return cmd
}

// changeDevices starts a rollout and, once it was waited for, says where its change
// record is.
func (a *app) changeDevices(ctx context.Context, f fleet, j *jobFlags, spec hotfixSpec, sel api.Selection, policy *api.Rollout) error {
	if _, err := j.format(); err != nil {
		return err
	}
	job, err := a.startRollout(ctx, f, "hotfix", spec, sel, policy)
	if err != nil {
		return err
	}
	if j.detach {
		return a.printDetached(&j.outputFlags, job)
	}
	err = a.attend(ctx, f, &j.outputFlags, job)
	if ctx.Err() == nil {
		a.remark("change record: fleetctl hotfix report %s", job.ID)
	}
	return err
}

// confirmDevices asks whether something may be done to what a selection stands for
// now, and gives exactly those devices: what the answer is about is what runs.
func (a *app) confirmDevices(ctx context.Context, f fleet, sel api.Selection, yes bool, what string) (api.Selection, error) {
	devices, err := f.Devices(ctx, sel)
	if err != nil {
		return sel, err
	}
	names := make([]string, len(devices))
	for i, d := range devices {
		names[i] = d.Name
	}
	if err := a.confirm(ctx, yes, fmt.Sprintf("%s %s (%s)?", what, count(len(names), "device"), strings.Join(names, ", "))); err != nil {
		return sel, err
	}
	return api.Selection{Names: names}, nil
}

// completeFileThenDevices completes a file and then device names.
func (a *app) completeFileThenDevices(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.completeDevices(cmd, args[1:], typed)
}
