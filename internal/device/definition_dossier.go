package device

import (
	"regexp"
	"slices"
	"strings"
)

// DossierItem is one command whose output goes into a dossier.
type DossierItem struct {
	Name string `yaml:"name"` // of the part: a file name without its ending
	Line string `yaml:"line"`
	Mode string `yaml:"mode"` // "" is the working mode
}

// maxDossierItems bounds what a device that is about to die is asked.
const maxDossierItems = 100

var dossierName = regexp.MustCompile(`\A[a-z0-9][a-z0-9._-]{0,63}\z`)

// dossier refuses what is no command or makes no file name.
func (c checker) dossier(d *Definition) error {
	if len(d.Dossier) > maxDossierItems {
		return c.errorf([]any{"dossier"}, "has %d commands; %d are possible", len(d.Dossier), maxDossierItems)
	}
	for i, item := range d.Dossier {
		here := []any{"dossier", i}
		switch {
		case !dossierName.MatchString(item.Name):
			return c.errorf(here, "a name has 1 to 64 lower-case letters, digits, dots, - and _")
		case slices.ContainsFunc(d.Dossier[:i], func(o DossierItem) bool { return o.Name == item.Name }):
			return c.errorf(with(here, "name"), "%q is there twice", item.Name)
		case strings.TrimSpace(item.Line) == "" || !printable(item.Line):
			return c.errorf(here, "line must be one line to type")
		case item.Mode != "" && d.Shell.modeIndex(item.Mode) < 0:
			return c.errorf(with(here, "mode"), "%q is not a mode", item.Mode)
		}
	}
	return nil
}
