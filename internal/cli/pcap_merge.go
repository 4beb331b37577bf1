package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
	"capfleet/internal/pcap/merge"
)

type pcapMergeOptions struct {
	outputFlags
	captureOut
	offsets []string
}

// mergedRow is a row of pcap merge: what became of one file.
type mergedRow struct {
	merge.PartResult
	OffsetSeconds float64 `json:"offset_seconds"`
}

// mergedDocument is the JSON of pcap merge.
type mergedDocument struct {
	Packets uint64      `json:"packets"`
	First   *time.Time  `json:"first_time"`
	Last    *time.Time  `json:"last_time"`
	Rows    []mergedRow `json:"rows"`
}

func (a *app) pcapMergeCommand() *cobra.Command {
	var opts pcapMergeOptions
	cmd := &cobra.Command{
		Use:   "merge --out OUT [NAME=]FILE...",
		Short: "one pcapng of several captures, in order of time",
		Long: `Merges captures into one pcapng file in order of time, with an interface for
each place that captured, by its NAME. Without NAME= a file is called by its own
name, without folder and ending.

Files with the same NAME are parts of one ring. What two of them hold both,
because the next file was begun before the last was ended, is written once.

Where a clock was off, --offset NAME=DURATION is added to its times, such as
-1.5ms; "fleetctl pcap path" finds the offsets.

A damaged file gives what was before the damage; the rest is merged, and the
exit code is 4. One FILE may be -, which is stdin.

` + jsonHelp("packets, first_time, last_time, rows", "row", `source, file, packets, repeated (written once, from another part), untimed (left
out: they have no time), disorder (older than the packet before), error,
offset_seconds`) + `

` + csvHelp + `

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitUsage, fault.ExitInterrupted),
		Example: `  fleetctl pcap merge -w all.pcapng client=a.pcap server=b.pcap
  fleetctl pcap merge -w - --offset server=-2ms client=a.pcap server=b.pcap | tshark -r -
  fleetctl pcap merge -w ring.pcapng eth0=ring.pcap0 eth0=ring.pcap1`,
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
		Args:              cobra.MinimumNArgs(1),
	}
	opts.outputFlags.register(cmd)
	opts.captureOut.register(cmd)
	cmd.Flags().StringArrayVar(&opts.offsets, "offset", nil, "`NAME=DURATION` to add to the times of a place (repeatable)")
	cmd.RunE = a.local(func(ctx context.Context, args []string) error { return a.pcapMerge(ctx, &opts, args) })
	return cmd
}

func (a *app) pcapMerge(ctx context.Context, opts *pcapMergeOptions, args []string) (err error) {
	if _, err := opts.format(); err != nil {
		return err
	}
	places, offsets, err := mergePlaces(args, opts.offsets)
	if err != nil {
		return err
	}
	sources := make([]merge.Source, 0, len(places))
	for _, p := range places {
		src := merge.Source{Name: p.name, Offset: offsets[p.name]}
		for _, name := range p.files {
			if same(name, opts.captureOut.file) {
				return fault.New(fault.Invalid, "%s would be read and written at once: choose another --out", name)
			}
			file, err := a.openCapture(ctx, name)
			if err != nil {
				return err
			}
			defer func() { _ = file.Close() }()
			src.Parts = append(src.Parts, merge.Part{Name: name, Capture: file})
		}
		sources = append(sources, src)
	}
	var result merge.Result
	failed := a.writeCaptureTo(ctx, &opts.captureOut, func(w io.Writer) error {
		out, err := a.ngWriter(w)
		if err != nil {
			return err
		}
		var read error
		result, read = merge.Merge(ctx, sources, out)
		if err := out.Flush(); err != nil {
			return err
		}
		if read != nil {
			return damagedInput{read}
		}
		return nil
	})
	if !captureWritten(failed) {
		return failed
	}
	rows := make([]mergedRow, 0, len(result.Parts))
	for _, part := range result.Parts {
		rows = append(rows, mergedRow{PartResult: part, OffsetSeconds: offsets[part.Source].Seconds()})
	}
	encoded, err := output.Rows(rows)
	if err != nil {
		return fault.Wrap(fault.Internal, "print the result", err)
	}
	ans := answer{view: mergeView(), rows: encoded, doc: mergedDocument{Packets: result.Packets, First: result.First, Last: result.Last, Rows: rows}}
	summary := fmt.Sprintf("merged %d packets of %d files", result.Packets, len(rows))
	return errors.Join(a.reportWritten(&opts.captureOut, &opts.outputFlags, ans, summary), failed)
}

// place is a NAME with its files.
type place struct {
	name  string
	files []string
}

// mergePlaces reads the arguments and the offsets.
func mergePlaces(args, offsets []string) ([]place, map[string]time.Duration, error) {
	var places []place
	seen := map[string]bool{}
	for _, arg := range args {
		name, file := namedFile(arg)
		if seen[file] {
			return nil, nil, fault.New(fault.Invalid, "%s is given twice", file)
		}
		seen[file] = true
		i := slices.IndexFunc(places, func(p place) bool { return p.name == name })
		if i < 0 {
			i = len(places)
			places = append(places, place{name: name})
		}
		places[i].files = append(places[i].files, file)
	}
	clocks := map[string]time.Duration{}
	for _, arg := range offsets {
		name, value, ok := strings.Cut(arg, "=")
		if !ok || !slices.ContainsFunc(places, func(p place) bool { return p.name == name }) {
			return nil, nil, &fault.Error{Kind: fault.Invalid, Act: fmt.Sprintf("--offset %q names no place", arg), Next: "write NAME=DURATION, with the NAME of a file"}
		}
		d, err := time.ParseDuration(value)
		if err != nil {
			return nil, nil, &fault.Error{Kind: fault.Invalid, Act: fmt.Sprintf("--offset %q has no duration", arg), Next: "write it as 1.5ms, -20us or 2s"}
		}
		clocks[name] = d
	}
	return places, clocks, nil
}

// namedFile splits NAME=FILE. A file that is there under the whole text is meant.
func namedFile(arg string) (name, file string) {
	if name, file, ok := strings.Cut(arg, "="); ok && name != "" && !strings.ContainsRune(name, filepath.Separator) {
		if _, err := os.Stat(arg); err != nil {
			return name, file
		}
	}
	base := filepath.Base(arg)
	if trimmed := strings.TrimSuffix(base, filepath.Ext(base)); trimmed != "" {
		base = trimmed
	}
	return base, arg
}

// same reports whether two names are one file.
func same(a, b string) bool {
	if a == "-" || b == "-" {
		return false
	}
	x, errx := os.Stat(a)
	y, erry := os.Stat(b)
	return errx == nil && erry == nil && os.SameFile(x, y)
}

func mergeView() output.View {
	return output.View{Table: []output.Column{
		{Key: "source", Head: "NAME", Fixed: true},
		{Key: "file", Head: "FILE", Fixed: true},
		{Key: "packets", Head: "PACKETS", Kind: output.Number},
		{Key: "repeated", Head: "REPEATED", Kind: output.Number},
		{Key: "offset_seconds", Head: "OFFSET S", Kind: output.Number},
		{Key: "disorder", Head: "DISORDER", Kind: output.Number, Wide: true},
		{Key: "untimed", Head: "UNTIMED", Kind: output.Number, Wide: true},
		{Key: "error", Head: "ERROR"},
	}}
}
