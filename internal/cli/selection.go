package cli

import (
	"slices"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

// selectionHelp explains a selection in a command's help.
const selectionHelp = `Devices are chosen by names or globs ('lon-*'), by a label selector
(-l 'site=lon,platform in (endace_osm,linux),tier!=lab'; site, platform, group
and name are selectable like labels), by both, or with --all. A selection that
matches nothing is an error.`

// Endings of selectionHelp.
const (
	defaultAllHelp  = "\nWithout a selection every device is taken."
	defaultNoneHelp = "\nThere is no default: without a selection nothing is done."
)

// selectionFlags choose devices; names and globs are arguments.
type selectionFlags struct {
	selector string
	all      bool
}

func (s *selectionFlags) register(a *app, cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVarP(&s.selector, "selector", "l", "", "label `selector`, such as 'site=lon,tier!=lab'")
	fl.BoolVar(&s.all, "all", false, "every device of the inventory")
	_ = cmd.RegisterFlagCompletionFunc("selector", a.completeSelector)
}

// whenNone says what no selection at all means.
type whenNone bool

const (
	noneIsAll   whenNone = true  // for what only reads
	noneIsError whenNone = false // for what changes something or runs what was typed
)

// selection gives the selection for the API.
func (s *selectionFlags) selection(names []string, none whenNone) (api.Selection, error) {
	for _, n := range names {
		if n == "" {
			return api.Selection{}, fault.New(fault.Invalid, "an empty device name was given")
		}
	}
	switch {
	case s.all && (len(names) > 0 || s.selector != ""):
		return api.Selection{}, fault.New(fault.Invalid, "--all cannot be combined with names or a selector")
	case s.all:
		return api.Selection{All: true}, nil
	case len(names) == 0 && s.selector == "":
		if none == noneIsAll {
			return api.Selection{All: true}, nil
		}
		return api.Selection{}, &fault.Error{Kind: fault.Invalid, Act: "no devices were chosen",
			Next: "name them, or use -l SELECTOR or --all; see fleetctl device list"}
	}
	return api.Selection{Names: slices.Clone(names), Selector: s.selector}, nil
}
