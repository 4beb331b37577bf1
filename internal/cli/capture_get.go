package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
	"capfleet/internal/pcap/merge"
)

func (a *app) captureGetCommand() *cobra.Command {
	var dir, merged string
	cmd := &cobra.Command{
		Use:   "get JOB [DEVICE...]",
		Short: "fetch the files of a capture",
		Long: `Writes the captures of a job, of all its devices or of those named, into a
folder, with each device's manifest. A file that is there complete is not
fetched again, and one that was cut is gone on with; each is compared with its
digest.

--merge writes one pcapng of all of them in order of time, with an interface for
each device and interface.

` + readExits(),
		Example:           "  fleetctl capture get 12 -d ticket-4711\n  fleetctl capture get 12 --merge all.pcapng",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeJobs,
	}
	cmd.Flags().StringVarP(&dir, "directory", "d", ".", "`folder` to write to; it is made")
	cmd.Flags().StringVar(&merged, "merge", "", "write one pcapng `file` of all captures, in order of time")
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		return a.getCapture(ctx, f, args[0], args[1:], dir, merged)
	})
	return cmd
}

func (a *app) getCapture(ctx context.Context, f fleet, id string, devices []string, dir, merged string) error {
	if err := ringJob(ctx, f, id); err != nil {
		return err
	}
	list, err := f.Artifacts(ctx, id)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(art api.Artifact) bool {
		return len(devices) > 0 && !slices.Contains(devices, art.Device)
	})
	if len(list) == 0 {
		return &fault.Error{Kind: fault.NotFound, Act: "capture " + id + " has no files", Next: "it may not be collected yet: fleetctl job show " + id}
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fault.Wrap(fault.Storage, "make "+dir, err)
	}
	var files []string
	for _, art := range list {
		// fleetd gives plain names; another program in its place may not.
		file := filepath.Join(dir, filepath.Base(filepath.FromSlash(art.Name)))
		if err := a.fetchArtifact(ctx, f, art, file); err != nil {
			return err
		}
		if strings.HasSuffix(file, ".pcapng") {
			files = append(files, file)
		}
	}
	if merged == "" {
		return nil
	}
	return a.mergeCaptures(ctx, files, merged)
}

// mergeCaptures makes one file of several.
func (a *app) mergeCaptures(ctx context.Context, files []string, name string) error {
	var sources []merge.Source
	for _, file := range files {
		part, err := os.Open(file)
		if err != nil {
			return fault.Wrap(fault.Storage, "read "+file, err)
		}
		defer func() { _ = part.Close() }()
		source := strings.TrimSuffix(filepath.Base(file), ".pcapng")
		sources = append(sources, merge.Source{Name: source, Parts: []merge.Part{{Name: file, Capture: part}}})
	}
	var res merge.Result
	err := output.WriteWith(name, func(w io.Writer) error {
		ng, err := a.ngWriter(w)
		if err != nil {
			return err
		}
		if res, err = merge.Merge(ctx, sources, ng); err != nil {
			return err
		}
		return ng.Flush()
	})
	var known *fault.Error
	switch {
	case ctx.Err() != nil:
		return fault.Wrap(fault.Canceled, "write "+name, context.Cause(ctx))
	case err != nil && !errors.As(err, &known):
		return fault.Wrap(fault.Storage, "write "+name, err)
	case err != nil:
		return err
	}
	a.remark("wrote %s, %d packets of %s", name, res.Packets, count(len(files), "capture"))
	return nil
}
