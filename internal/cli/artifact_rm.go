package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

func (a *app) artifactRemoveCommand() *cobra.Command {
	var out outputFlags
	var yes bool
	cmd := &cobra.Command{
		Use:     "rm DIGEST...",
		Aliases: []string{"remove"},
		Short:   "remove kept files",
		Long: `Removes files that fleetd keeps, for every job that has them, after a yes on a
terminal or with --yes. fleetd's log says who removed what. Jobs keep the
digest, so that they still tell what they made.

` + digestHelp + `

` + jsonHelp("rows (what was removed)", "row", artifactKeysHelp) + `

` + readExits(),
		Example: `  fleetctl artifact rm 52ea489b2093
  fleetctl artifact rm --yes 52ea489b2093 0fd1`,
		ValidArgsFunction: a.completeArtifacts,
	}
	out.register(cmd)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "remove without asking")
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		if len(args) == 0 {
			return &fault.Error{Kind: fault.Invalid, Act: "no artifacts were named", Next: "usage: " + cmd.UseLine()}
		}
		return a.removeArtifacts(ctx, f, &out, args, yes)
	})
	return cmd
}

// removeArtifacts finds all files before it removes the first: a digest that is
// wrong removes nothing.
func (a *app) removeArtifacts(ctx context.Context, f fleet, out *outputFlags, typed []string, yes bool) error {
	format, err := out.format()
	if err != nil {
		return err
	}
	var digests, names []string
	for _, d := range typed {
		entries, err := findArtifact(ctx, f, d)
		if err != nil {
			return err
		}
		if sha := entries[0].SHA256; !slices.Contains(digests, sha) {
			digests, names = append(digests, sha), append(names, entryText(entries))
		}
	}
	if err := a.confirm(ctx, yes, fmt.Sprintf("Remove %s?", strings.Join(names, ", "))); err != nil {
		return err
	}
	var removed []api.Artifact
	for i, sha := range digests {
		list, err := f.RemoveArtifact(ctx, sha)
		if err != nil {
			return err
		}
		removed = append(removed, list...)
		a.remark("removed %s", names[i])
	}
	if format.ForPeople() && out.file == "" {
		return nil // it has been said
	}
	return a.printArtifacts(out, removed, "")
}

// entryText names a file and whose it is.
func entryText(entries []api.Artifact) string {
	text := shortDigest(entries[0].SHA256) + " " + entries[0].Name
	var jobs []string
	for _, e := range entries {
		if e.Job != "" && !slices.Contains(jobs, e.Job) {
			jobs = append(jobs, e.Job)
		}
	}
	if len(jobs) > 0 {
		text += " (job " + strings.Join(jobs, ", ") + ")"
	}
	return text
}
