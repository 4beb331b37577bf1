package cli

import (
	"context"
	"fmt"
	"io"
	"mime"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

type artifactAddOptions struct {
	outputFlags
	name string
	kind string
}

func (a *app) artifactAddCommand() *cobra.Command {
	var opts artifactAddOptions
	cmd := &cobra.Command{
		Use:   "add FILE",
		Short: "have fleetd keep a file",
		Long: `Sends a file to fleetd, which keeps it whole or not at all, and prints its
digest. With - the file is read from stdin; give it a --name then. The same
content is stored once, however often it is added.

` + jsonHelp("rows", "row", artifactKeysHelp) + `

` + readExits(),
		Example: `  fleetctl artifact add OSm6.4.x-CumulativeHotfix-v1.end
  digest=$(fleetctl artifact add -q hotfix.end)`,
		Args:              oneArg,
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
	}
	opts.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&opts.name, "name", "", "keep it under this `name` (default: the file's own)")
	fl.StringVar(&opts.kind, "type", "", "media `type`, such as text/plain (default: by the name's ending)")
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error { return a.addArtifact(ctx, f, &opts, args[0]) })
	return cmd
}

func (a *app) addArtifact(ctx context.Context, f fleet, opts *artifactAddOptions, file string) error {
	format, err := opts.format()
	if err != nil {
		return err
	}
	name, in, size := opts.name, a.streams.In, int64(-1)
	if file != "-" {
		if name == "" {
			name = filepath.Base(file)
		}
		opened, err := os.Open(file)
		if err != nil {
			return fault.Wrap(fault.Invalid, "read the file", err)
		}
		defer func() { _ = opened.Close() }()
		info, err := opened.Stat()
		switch {
		case err != nil:
			return fault.Wrap(fault.Invalid, "read the file", err)
		case info.IsDir():
			return fault.New(fault.Invalid, "%s is a directory", file)
		case info.Mode().IsRegular():
			size = info.Size()
		}
		in = opened
	}
	if name == "" {
		return &fault.Error{Kind: fault.Invalid, Act: "what is read from stdin has no name", Next: "add --name NAME"}
	}
	added, err := a.sendArtifact(ctx, f, name, opts.mediaType(name), in, size)
	if err != nil {
		return err
	}
	if !format.ForPeople() {
		return a.printArtifacts(&opts.outputFlags, []api.Artifact{added}, "")
	}
	a.remark("kept %s, %d bytes", added.Name, added.Size)
	return a.print(&opts.outputFlags, answer{people: func(w io.Writer, _ bool, _ output.Screen) error {
		_, err := fmt.Fprintln(w, added.SHA256)
		return err
	}})
}

func (a *app) sendArtifact(ctx context.Context, f fleet, name, mediaType string, in io.Reader, size int64) (api.Artifact, error) {
	p := a.newTransfer("add "+name, size)
	defer p.Close()
	return f.AddArtifact(ctx, name, mediaType, p.Reader(in), size)
}

func (o *artifactAddOptions) mediaType(name string) string {
	if o.kind != "" {
		return o.kind
	}
	if byName := mime.TypeByExtension(filepath.Ext(name)); byName != "" {
		return byName
	}
	return "application/octet-stream"
}
