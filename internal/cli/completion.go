package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

// completionPatience bounds what a press of the tab key may take.
const completionPatience = time.Second

func (a *app) completionCommand(root *cobra.Command) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	cmd := &cobra.Command{
		Use:   "completion " + strings.Join(shells, "|"),
		Short: "print a completion script for a shell",
		Long: `Prints a script that teaches a shell to complete commands, flags, and the names
of devices and jobs, which it asks fleetd for.

  bash       source <(fleetctl completion bash)
  zsh        fleetctl completion zsh > "${fpath[1]}/_fleetctl"
  fish       fleetctl completion fish > ~/.config/fish/completions/fleetctl.fish
  powershell fleetctl completion powershell | Out-String | Invoke-Expression

` + exitHelp(fault.ExitDone, fault.ExitUsage),
		Args:      cobra.MatchAll(oneArg, cobra.OnlyValidArgs),
		ValidArgs: shells,
	}
	cmd.RunE = a.local(func(_ context.Context, args []string) error {
		var err error
		switch args[0] {
		case "bash":
			err = root.GenBashCompletionV2(a.streams.Out, true)
		case "zsh":
			err = root.GenZshCompletion(a.streams.Out)
		case "fish":
			err = root.GenFishCompletion(a.streams.Out, true)
		case "powershell":
			err = root.GenPowerShellCompletionWithDesc(a.streams.Out)
		}
		return fault.Wrap(fault.Internal, "print the completion script", err)
	})
	return cmd
}

// completeDevices completes names of devices. Without a fleetd there are none.
func (a *app) completeDevices(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, d := range a.devicesToComplete(cmd) {
		if !slices.Contains(args, d.Name) {
			names = append(names, cobra.CompletionWithDesc(d.Name, strings.TrimSpace(d.Platform+" "+d.Site)))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeSelector completes the last requirement of a label selector: keys
// first, then the values that devices have.
func (a *app) completeSelector(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	done, last := "", typed
	if i := strings.LastIndexByte(typed, ','); i >= 0 {
		done, last = typed[:i+1], typed[i+1:]
	}
	values := map[string]map[string]bool{}
	add := func(key string, list ...string) {
		for _, v := range list {
			if values[key] == nil {
				values[key] = map[string]bool{}
			}
			if v != "" {
				values[key][v] = true
			}
		}
	}
	for _, d := range a.devicesToComplete(cmd) {
		add("site", d.Site)
		add("platform", d.Platform)
		add("group", d.Groups...)
		for k, v := range d.Labels {
			add(k, v)
		}
	}
	var out []string
	key, _, hasValue := strings.Cut(last, "=")
	for k, vs := range values {
		if !hasValue {
			out = append(out, done+k+"=")
			continue
		}
		if k != strings.TrimSuffix(key, "!") {
			continue
		}
		for v := range vs {
			out = append(out, done+key+"="+v)
		}
	}
	slices.Sort(out)
	directive := cobra.ShellCompDirectiveNoFileComp
	if !hasValue {
		directive |= cobra.ShellCompDirectiveNoSpace
	}
	return out, directive
}

// completeJobs completes ids of jobs, the newest first.
func (a *app) completeJobs(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	const most = 50
	directive := cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	f, err := a.fleet()
	if err != nil || len(args) > 0 {
		return nil, directive
	}
	ctx, cancel := completionContext(cmd)
	defer cancel()
	jobs, err := f.Jobs(ctx, api.JobQuery{Limit: most})
	if err != nil {
		return nil, directive
	}
	var ids []string
	for _, j := range jobs.Rows {
		ids = append(ids, cobra.CompletionWithDesc(j.ID, jobTitle(j)+" "+j.State))
	}
	return ids, directive
}

func (a *app) devicesToComplete(cmd *cobra.Command) []api.Device {
	f, err := a.fleet()
	if err != nil {
		return nil
	}
	ctx, cancel := completionContext(cmd)
	defer cancel()
	devices, err := f.Devices(ctx, api.Selection{All: true})
	if err != nil {
		return nil
	}
	return devices
}

// completionContext bounds a completion; cobra gives its hidden command the
// context of the run, except in tests of the functions alone.
func completionContext(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	return context.WithTimeout(ctx, completionPatience)
}
