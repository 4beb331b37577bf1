package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"capfleet/internal/cli/output"
	"capfleet/internal/config"
	"capfleet/internal/fault"
)

// Environment variables that say which fleetd is meant.
const (
	serverEnv  = "FLEET_SERVER"
	contextEnv = "FLEET_CONTEXT"
)

// currentContext is the source of a server when only the configuration file says
// something.
const currentContext = "current context"

// target is the fleetd that a command line means, and who says so.
type target struct {
	Context string // "" when none is in force
	Server  string
	Output  string // the context's format; "" when it names none
	Source  string // what names the server
}

// target finds the fleetd that is meant: what the command line says, then what the
// environment says, then the configuration file, then the default socket. In each
// a server wins over a context, which then still gives the output format.
func (a *app) target() (target, error) {
	contexts, err := a.contexts()
	if err != nil {
		return target{}, err
	}
	name, from := contexts.Current, currentContext
	if env := a.streams.Getenv(contextEnv); env != "" {
		name, from = env, contextEnv
	}
	if a.global.context != "" {
		name, from = a.global.context, "--context"
	}
	var t target
	if name != "" {
		c, err := contexts.Get(name)
		if err != nil {
			return target{}, &fault.Error{Kind: fault.Invalid, Act: from, Err: err}
		}
		t = target{Context: name, Server: c.Server, Output: c.Output, Source: from}
		if c.Output != "" {
			if _, err := output.ParseFormat(c.Output); err != nil {
				return target{}, &fault.Error{Kind: fault.Invalid, Act: fmt.Sprintf("context %q in %s", name, contexts.Path()), Err: err}
			}
		}
	}
	switch env := a.streams.Getenv(serverEnv); {
	case a.global.server != "":
		t.Server, t.Source = a.global.server, "--server"
	case env != "" && a.global.context == "":
		t.Server, t.Source = env, serverEnv
	case t.Server == "":
		t.Source = "default"
		if t.Server, err = config.DefaultSocket(); err != nil {
			return target{}, err
		}
	}
	return t, nil
}

// contexts reads the configuration file. A user without a place for one has no
// contexts.
func (a *app) contexts() (*config.Contexts, error) {
	path, err := a.contextsFile()
	if err != nil {
		path = ""
	}
	return config.LoadContexts(path)
}

func (a *app) contextsFile() (string, error) {
	system := config.Here()
	system.Getenv, system.Home = a.streams.Getenv, a.streams.Getenv("HOME")
	return system.ContextsFile()
}

// chooseOutput gives the commands that print a result the context's format, where
// the command line names none.
func (a *app) chooseOutput(cmd *cobra.Command, _ []string) error {
	flag := cmd.Flags().Lookup("output")
	if flag == nil || flag.Changed || cmd.Annotations[ownOutput] != "" {
		return nil
	}
	t, err := a.target()
	if err != nil || t.Output == "" {
		return err
	}
	return flag.Value.Set(t.Output)
}

// ownOutput marks a command whose --output does not say how to print its result,
// or which has to work while the configuration file is wrong.
const ownOutput = "own-output"

func (a *app) server() (string, error) {
	t, err := a.target()
	return t.Server, err
}

// completeContexts completes names of contexts.
func (a *app) completeContexts(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	contexts, err := a.contexts()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, name := range contexts.Names() {
		c, _ := contexts.Get(name)
		names = append(names, cobra.CompletionWithDesc(name, c.Server))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
