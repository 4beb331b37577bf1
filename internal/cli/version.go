package cli

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

// versionDoc is the JSON of `version`.
type versionDoc struct {
	Client clientVersion `json:"client"`
	// Server is null when no fleetd could be reached; ServerError then says why.
	Server      *api.Version `json:"server"`
	ServerError string       `json:"server_error,omitempty"`
}

type clientVersion struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (a *app) versionCommand() *cobra.Command {
	var out outputFlags
	cmd := &cobra.Command{
		Use:   "version",
		Short: "versions of fleetctl and of the fleetd it reaches",
		Long: `Prints the version of fleetctl and, when one can be reached, of fleetd.

JSON: one object with client (version, commit, go, platform), server (version,
commit, go, started_at, socket, inventory, devices, state; null without a
fleetd) and server_error.

` + exitHelp(fault.ExitDone, fault.ExitUsage),
		Args: cobra.NoArgs,
	}
	out.register(cmd)
	cmd.RunE = a.with(func(ctx context.Context, f fleet, _ []string) error {
		doc := versionDoc{Client: clientVersion{a.build.Version, a.build.Commit, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}}
		server, err := f.Version(ctx)
		switch {
		case ctx.Err() != nil:
			return err
		case err != nil:
			doc.ServerError = err.Error()
		default:
			doc.Server = &server
		}
		rows, err := output.Rows(versionRows(doc))
		if err != nil {
			return fault.Wrap(fault.Internal, "print the version", err)
		}
		return a.print(&out, answer{view: viewOfKeys(rows), rows: rows, doc: doc, people: func(w io.Writer, _ bool, _ output.Screen) error {
			return printVersion(w, doc)
		}})
	})
	return cmd
}

// versionRow is a line of `version -o jsonl` and csv.
type versionRow struct {
	Program string `json:"program"`
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
}

func versionRows(doc versionDoc) []versionRow {
	rows := []versionRow{{"fleetctl", doc.Client.Version, doc.Client.Commit, doc.Client.Go}}
	if s := doc.Server; s != nil {
		rows = append(rows, versionRow{"fleetd", s.Version, s.Commit, s.Go})
	}
	return rows
}

func printVersion(w io.Writer, doc versionDoc) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range versionRows(doc) {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", row.Program, output.Clean(row.Version), output.Clean(row.Commit), output.Clean(row.Go))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if s := doc.Server; s != nil {
		_, err := fmt.Fprintf(w, "\nserver     %s\ninventory  %s (%s)\nstate      %s\n", output.Clean(s.Socket), output.Clean(s.Inventory), count(s.Devices, "device"), output.Clean(s.State))
		return err
	}
	_, err := fmt.Fprintf(w, "fleetd    none: %s\n", output.Clean(doc.ServerError))
	return err
}
