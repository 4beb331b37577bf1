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

// artifactFleet is what the artifact commands need of fleetd.
type artifactFleet interface {
	Artifacts(ctx context.Context, job string) ([]api.Artifact, error)
	FindArtifacts(ctx context.Context, job, prefix string) ([]api.Artifact, error)
	// Artifact's reader ends with an error instead of io.EOF when the bytes are not
	// those of the digest.
	Artifact(ctx context.Context, sha256 string) (io.ReadCloser, error)
	// ArtifactFrom gives the content from an offset on, compared with nothing.
	ArtifactFrom(ctx context.Context, sha256 string, offset int64) (io.ReadCloser, error)
	AddArtifact(ctx context.Context, name, mediaType string, r io.Reader, size int64) (api.Artifact, error)
	RemoveArtifact(ctx context.Context, sha256 string) ([]api.Artifact, error)
}

// digestLength is how many digits of a digest are shown where it has to fit a
// line. fleetd's messages have as many.
const digestLength = 12

const digestHelp = `DIGEST is a SHA-256 digest or its first digits, as many as tell it apart.`

func (a *app) artifactCommand() *cobra.Command {
	cmd := a.group("artifact", "files that jobs made or need")
	cmd.AddCommand(a.artifactListCommand(), a.artifactGetCommand(), a.artifactAddCommand(), a.artifactRemoveCommand())
	return cmd
}

const artifactKeysHelp = `sha256, name, media_type, size, job, device, created_by, created_at, secret`

func (a *app) artifactListCommand() *cobra.Command {
	var out outputFlags
	var job string
	cmd := &cobra.Command{
		Use:   "list [DIGEST...]",
		Short: "kept files, oldest first",
		Long: `Lists the files that fleetd keeps, the oldest first: what jobs made (captures,
raw text that no template matched) and what operators added. A file that
several jobs made is stored once and listed for each.

With digests, or their first digits, only those.

` + jsonHelp("rows", "row", artifactKeysHelp) + `
size is in bytes.

` + readExits(),
		Example: `  fleetctl artifact list --job 12
  fleetctl artifact list -o json | jq '.rows[].sha256'`,
		ValidArgsFunction: a.completeArtifacts,
	}
	out.register(cmd)
	cmd.Flags().StringVar(&job, "job", "", "only files of this job's `id`")
	_ = cmd.RegisterFlagCompletionFunc("job", func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return a.completeJobs(cmd, nil, typed)
	})
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		if _, err := out.format(); err != nil {
			return err
		}
		list, err := listArtifacts(ctx, f, job, args)
		if err != nil {
			return err
		}
		return a.printArtifacts(&out, list, "there are no artifacts")
	})
	return cmd
}

func listArtifacts(ctx context.Context, f fleet, job string, digests []string) ([]api.Artifact, error) {
	if job != "" {
		// A job that does not exist is an error; one that kept nothing is not.
		if _, err := f.Job(ctx, job); err != nil {
			return nil, err
		}
	}
	if len(digests) == 0 {
		return f.Artifacts(ctx, job)
	}
	var all []api.Artifact
	for _, d := range digests {
		prefix, err := digestPrefix(d)
		if err != nil {
			return nil, err
		}
		list, err := f.FindArtifacts(ctx, job, prefix)
		if err != nil {
			return nil, err
		}
		if len(list) == 0 {
			return nil, noArtifact(d)
		}
		for _, found := range list {
			if !slices.Contains(all, found) {
				all = append(all, found)
			}
		}
	}
	return all, nil
}

// printArtifacts prints artifacts; empty is said where there are none.
func (a *app) printArtifacts(o *outputFlags, list []api.Artifact, empty string) error {
	rows, err := output.Rows(list)
	if err != nil {
		return fault.Wrap(fault.Internal, "print the artifacts", err)
	}
	short := slices.Clone(list)
	for i := range short {
		short[i].SHA256 = shortDigest(short[i].SHA256)
	}
	lines, err := output.Rows(short)
	if err != nil {
		return fault.Wrap(fault.Internal, "print the artifacts", err)
	}
	ans := answer{view: artifactView(), rows: rows, doc: rowsDocument{rows}, empty: empty}
	if format, _ := o.format(); format == output.Table {
		ans.lines = lines // CSV and the wide table have the whole digest
	}
	return a.print(o, ans)
}

func artifactView() output.View {
	return output.View{Table: []output.Column{
		{Key: "sha256", Head: "DIGEST", Fixed: true},
		{Key: "size", Head: "BYTES", Kind: output.Number},
		{Key: "name", Head: "NAME"},
		{Key: "job", Head: "JOB"},
		{Key: "device", Head: "DEVICE"},
		{Key: "created_at", Head: "CREATED", Kind: output.Age, Fixed: true},
		{Key: "created_by", Head: "BY", Wide: true},
		{Key: "media_type", Head: "TYPE", Wide: true},
	}}
}

func shortDigest(sha string) string { return sha[:min(len(sha), digestLength)] }

// digestPrefix reads a digest, whole or in part, as people copy it.
func digestPrefix(typed string) (string, error) {
	prefix := strings.ToLower(strings.TrimPrefix(strings.TrimSpace(typed), "sha256:"))
	if prefix == "" || len(prefix) > 64 || strings.Trim(prefix, "0123456789abcdef") != "" {
		return "", &fault.Error{Kind: fault.Invalid, Act: fmt.Sprintf("%q is no digest and not the beginning of one", typed),
			Next: "see fleetctl artifact list"}
	}
	return prefix, nil
}

func noArtifact(digest string) error {
	return &fault.Error{Kind: fault.NotFound, Act: "no artifact has a digest that begins with " + digest, Next: "see fleetctl artifact list"}
}

// findArtifact gives the entries of the one file whose digest begins as typed.
func findArtifact(ctx context.Context, f fleet, typed string) ([]api.Artifact, error) {
	prefix, err := digestPrefix(typed)
	if err != nil {
		return nil, err
	}
	list, err := f.FindArtifacts(ctx, "", prefix)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, noArtifact(typed)
	}
	if slices.ContainsFunc(list, func(other api.Artifact) bool { return other.SHA256 != list[0].SHA256 }) {
		return nil, ambiguous(typed, list)
	}
	return list, nil
}

// ambiguous names the candidates, each with as many digits as tell them apart.
func ambiguous(typed string, list []api.Artifact) error {
	const shown = 10
	var digests []string
	var names []string
	for _, a := range list {
		if !slices.Contains(digests, a.SHA256) {
			digests, names = append(digests, a.SHA256), append(names, a.Name)
		}
	}
	digits := min(len(typed)+1, 64)
	for i := 1; i < len(digests); i++ { // they are in order, so neighbours have most in common
		same := 0
		for same < 64 && digests[i][same] == digests[i-1][same] {
			same++
		}
		digits = max(digits, same+1)
	}
	var b strings.Builder
	for i := range digests[:min(len(digests), shown)] {
		fmt.Fprintf(&b, "\n  %s  %s", digests[i][:max(digits, digestLength)], names[i])
	}
	if more := len(digests) - shown; more > 0 {
		fmt.Fprintf(&b, "\n  and %d more", more)
	}
	return fault.New(fault.Invalid, "%d artifacts have a digest that begins with %s:%s", len(digests), typed, b.String())
}

// completeArtifacts completes digests, the newest last.
func (a *app) completeArtifacts(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	const most = 200
	directive := cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	f, err := a.fleet()
	if err != nil {
		return nil, directive
	}
	ctx, cancel := completionContext(cmd)
	defer cancel()
	list, err := f.Artifacts(ctx, "")
	if err != nil {
		return nil, directive
	}
	var out []string
	for _, art := range list[max(0, len(list)-most):] {
		if digest := shortDigest(art.SHA256); !slices.Contains(args, digest) {
			out = append(out, cobra.CompletionWithDesc(digest, output.Clean(art.Name)))
		}
	}
	return out, directive
}
