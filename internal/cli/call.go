package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/fault"
)

// with makes a cobra run function of a command that needs fleetd.
func (a *app) with(fn func(ctx context.Context, f fleet, args []string) error) func(*cobra.Command, []string) error {
	return a.local(func(ctx context.Context, args []string) error {
		f, err := a.fleet()
		if err != nil {
			return err
		}
		return fn(ctx, f, args)
	})
}

// local makes a cobra run function of a command that works without fleetd.
func (a *app) local(fn func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.running = true
		return fn(cmd.Context(), args)
	}
}

// group makes a command that only holds others. Alone it shows them; with a word
// that is none of them it is wrong usage, which cobra would let pass.
func (a *app) group(name, short string) *cobra.Command {
	return &cobra.Command{
		Use:   name,
		Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			err := fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				err = fmt.Errorf("%w; did you mean %s?", err, strings.Join(near, " or "))
			}
			return err
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		// Cobra suggests names within this many edits of what was typed.
		SuggestionsMinimumDistance: 2,
	}
}

// oneArg is cobra's ExactArgs(1), with the command's own usage in the error.
func oneArg(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return &fault.Error{Kind: fault.Invalid, Act: "wrong number of arguments", Next: "usage: " + cmd.UseLine()}
	}
	return nil
}
