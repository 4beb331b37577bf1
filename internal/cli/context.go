package cli

import (
	"context"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"capfleet/internal/api/client"
	"capfleet/internal/cli/output"
	"capfleet/internal/config"
	"capfleet/internal/fault"
)

func (a *app) contextCommand() *cobra.Command {
	cmd := a.group("context", "which fleetd is meant, by name")
	cmd.Long = `A context is the name of a fleetd: its server, and the output format that you
want from it. They are kept in $XDG_CONFIG_HOME/fleetctl/config.yaml
(%APPDATA%\fleetctl on Windows; FLEET_CONFIG names another file):

  current: lab
  contexts:
    lab: {server: ssh://joe@lab-hub, output: json}
    production: {server: ssh://joe@hub}

What is meant by a command is said by, the first that says something: --server,
--context, FLEET_SERVER, FLEET_CONTEXT, the current context, and else it is the
default socket. "fleetctl context show" tells.`
	cmd.AddCommand(a.contextListCommand(), a.contextShowCommand(), a.contextUseCommand(), a.contextSetCommand(), a.contextRemoveCommand())
	return cmd
}

// contextRow is a row of `context list`.
type contextRow struct {
	Name    string `json:"name"`
	Current bool   `json:"current"`
	Server  string `json:"server"`
	Output  string `json:"output"`
}

func (a *app) contextListCommand() *cobra.Command {
	var out outputFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "contexts, with the current one marked",
		Long: `Lists the contexts of the configuration file.

` + jsonHelp("rows", "row", "name, current, server, output") + `

` + exitHelp(fault.ExitDone, fault.ExitUsage),
		Args: cobra.NoArgs,
	}
	out.register(cmd)
	cmd.RunE = a.local(func(context.Context, []string) error {
		contexts, err := a.contexts()
		if err != nil {
			return err
		}
		var all []contextRow
		var marked []map[string]string
		for _, name := range contexts.Names() {
			c, err := contexts.Get(name)
			if err != nil {
				return err
			}
			row := contextRow{Name: name, Current: name == contexts.Current, Server: c.Server, Output: c.Output}
			mark := ""
			if row.Current {
				mark = "*"
			}
			all = append(all, row)
			marked = append(marked, map[string]string{"name": name, "current": mark, "server": c.Server, "output": c.Output})
		}
		rows, err := output.Rows(all)
		if err != nil {
			return fault.Wrap(fault.Internal, "print the contexts", err)
		}
		ans := answer{view: contextView(), rows: rows, doc: rowsDocument{rows}, empty: "there are no contexts; make one with: fleetctl context set NAME --server SERVER"}
		if format, _ := out.format(); format.ForPeople() {
			if ans.lines, err = output.Rows(marked); err != nil {
				return fault.Wrap(fault.Internal, "print the contexts", err)
			}
		}
		return a.print(&out, ans)
	})
	return cmd
}

func contextView() output.View {
	return output.View{Table: []output.Column{
		{Key: "current", Head: "", Fixed: true},
		{Key: "name", Head: "NAME", Fixed: true},
		{Key: "server", Head: "SERVER"},
		{Key: "output", Head: "OUTPUT"},
	}}
}

// targetRow is the row of `context show`.
type targetRow struct {
	Context *string `json:"context"` // null when none is in force
	Server  string  `json:"server"`
	Source  string  `json:"source"`
	Output  *string `json:"output"` // null when the context names none
	File    string  `json:"file"`
}

func (a *app) contextShowCommand() *cobra.Command {
	var out outputFlags
	cmd := &cobra.Command{
		Use:   "show [NAME]",
		Short: "the fleetd that is meant, and what says so",
		Long: `Shows which fleetd a command would talk to now, or with NAME that of a context.
It does not connect.

` + jsonHelp("rows, with one row", "row", "context (null when none is in force), server, source, output, file") + `
source is what names the server: --server, --context, FLEET_SERVER,
FLEET_CONTEXT, current context, default, or argument.

` + exitHelp(fault.ExitDone, fault.ExitUsage),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeContexts,
	}
	out.register(cmd)
	cmd.RunE = a.local(func(_ context.Context, args []string) error {
		contexts, err := a.contexts()
		if err != nil {
			return err
		}
		var t target
		if len(args) == 1 {
			c, err := contexts.Get(args[0])
			if err != nil {
				return err
			}
			t = target{Context: args[0], Server: c.Server, Output: c.Output, Source: "argument"}
		} else if t, err = a.target(); err != nil {
			return err
		}
		row := targetRow{Server: t.Server, Source: t.Source, Context: orNull(t.Context), Output: orNull(t.Output), File: contexts.Path()}
		return list(a, &out, output.View{Table: []output.Column{
			{Key: "context", Head: "CONTEXT"},
			{Key: "server", Head: "SERVER"},
			{Key: "source", Head: "SAID BY"},
			{Key: "output", Head: "OUTPUT"},
			{Key: "file", Head: "FILE", Wide: true},
		}}, []targetRow{row})
	})
	return cmd
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (a *app) contextUseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "use NAME",
		Short: "make a context the current one",
		Long: `Makes a context the current one: it is meant where nothing names another.

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitUsage),
		Args:              oneArg,
		ValidArgsFunction: a.completeContexts,
		RunE: a.local(func(_ context.Context, args []string) error {
			if err := a.changeContexts(func(c *config.Contexts) error { return c.Use(args[0]) }); err != nil {
				return err
			}
			a.remark("context %s is the current one now", args[0])
			if t, err := a.target(); err == nil && t.Source != currentContext {
				a.remark("note: %s says otherwise and wins", t.Source)
			}
			return nil
		}),
	}
}

func (a *app) contextSetCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "set NAME --server SERVER [--output FORMAT]",
		Short: "make a context, or change one",
		Long: `Makes a context, or changes what is given of one that there is. It does not
connect.

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitUsage),
		Example: `  fleetctl context set production --server ssh://joe@hub
  fleetctl context set production --output json
  fleetctl context use production`,
		Args:              oneArg,
		ValidArgsFunction: a.completeContexts,
		Annotations:       map[string]string{ownOutput: "the context's"},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "", "`format` of results where no flag names one ("+output.FormatNames()+"); \"\" for the default")
	cmd.RunE = a.local(func(_ context.Context, args []string) error {
		name, found := args[0], false
		err := a.changeContexts(func(c *config.Contexts) error {
			made, err := c.Get(name)
			found = err == nil
			if a.global.server != "" {
				if made.Server, err = checkedServer(a.global.server); err != nil {
					return err
				}
			}
			if made.Server == "" {
				return &fault.Error{Kind: fault.Invalid, Act: "a context needs a server", Next: "fleetctl context set " + name + " --server ssh://user@host"}
			}
			if cmd.Flags().Changed("output") {
				if format != "" {
					if _, err := output.ParseFormat(format); err != nil {
						return fault.Wrap(fault.Invalid, "read --output", err)
					}
				}
				made.Output = format
			}
			return c.Set(name, made)
		})
		switch {
		case err != nil:
			return err
		case found:
			a.remark("changed context %s", name)
		default:
			a.remark("made context %s; to have it as the current one: fleetctl context use %s", name, name)
		}
		return nil
	})
	return cmd
}

// checkedServer gives a server as it is kept: a path is made absolute, since it is
// read from other directories later.
func checkedServer(server string) (string, error) {
	c, err := client.New(server)
	if err != nil {
		return "", err
	}
	return c.Server(), nil
}

func (a *app) contextRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME",
		Short: "take a context away",
		Long: `Takes a context away. The fleetd that it names is not touched.

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitUsage),
		Args:              oneArg,
		ValidArgsFunction: a.completeContexts,
		RunE: a.local(func(_ context.Context, args []string) error {
			wasCurrent := false
			err := a.changeContexts(func(c *config.Contexts) error {
				wasCurrent = c.Current == args[0]
				return c.Remove(args[0])
			})
			if err == nil && wasCurrent {
				a.remark("it was the current one; there is none now")
			}
			return err
		}),
	}
}

// changeContexts changes the configuration file; comments in it stay.
func (a *app) changeContexts(change func(*config.Contexts) error) error {
	path, err := a.contextsFile()
	if err != nil {
		return err
	}
	contexts, err := config.LoadContexts(path)
	if err != nil {
		return err
	}
	if err := change(contexts); err != nil {
		return err
	}
	text, err := contexts.Encode()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fault.Wrap(fault.Storage, "keep the contexts", err)
	}
	return fault.Wrap(fault.Storage, "keep the contexts", output.WriteFile(path, text))
}
