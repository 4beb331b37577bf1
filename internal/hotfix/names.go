package hotfix

import (
	"fmt"
	"strings"

	"capfleet/internal/device"
)

// Names are the spellings of one hotfix.
type Names struct {
	// File is the name on the device's disk, Install what is typed, Installed what
	// the device lists, Version what the device may list behind it; "" is none.
	File      string `json:"file_name"`
	Install   string `json:"install_name"`
	Installed string `json:"installed_as"`
	Version   string `json:"version,omitempty"`
}

// namesOf derives the spellings from the file's name. What the operator gave wins.
func namesOf(def *device.Hotfix, file, install, installed string) (Names, error) {
	n := Names{File: file, Install: install, Installed: installed}
	whole, err := device.PromptExpr(def.File)
	if err != nil || !whole.MatchString(file) || strings.Contains(file, "/") {
		return n, fmt.Errorf("%s is no name of a hotfix file for this platform (%s)", quote(file), def.File)
	}
	if n.Install == "" {
		var ok bool
		if n.Install, ok = def.InstallName.Apply(file); !ok {
			return n, fmt.Errorf("no install name follows from %s: give it with --install-name", quote(file))
		}
	}
	n.Version, _ = def.Version.Apply(n.Install)
	if n.Installed == "" {
		var ok bool
		if n.Installed, ok = def.InstalledAs.Apply(n.Install); !ok {
			return n, fmt.Errorf("no installed name follows from %s: give it with --installed-as", quote(n.Install))
		}
	}
	return n, nil
}

// listing is what a list says about a hotfix.
type listing struct {
	// Answer is proven for exactly this version, disproven where the hotfix is not
	// listed or another version of it is, and not observable where it is listed and
	// no version is shown.
	Answer Answer
	// Entry is the line that decided, "" where the hotfix is not listed at all.
	Entry string
}

// find looks a hotfix up in a list.
func (n Names) find(def *device.Hotfix, list []entry) listing {
	other := ""
	for _, e := range list {
		switch n.compare(def, e) {
		case same:
			return listing{Proven, e.String()}
		case unversioned:
			other = e.String()
			return listing{NotObservable, other}
		case otherVersion:
			other = e.String()
		case unrelated:
		}
	}
	return listing{Disproven, other}
}

type relation int

const (
	unrelated relation = iota
	same
	unversioned
	otherVersion
)

// compare says what a listed entry is to the hotfix. Two versions are the same only
// when they are written alike.
func (n Names) compare(def *device.Hotfix, e entry) relation {
	if e.version != "" {
		switch {
		case e.name != n.Installed:
			return unrelated
		case e.version == n.Version:
			return same
		case n.Version == "":
			return unversioned // which version was meant is not known
		default:
			return otherVersion
		}
	}
	switch {
	case e.name == n.Install:
		return same
	case e.name == n.Installed && (n.Version == "" || strings.Contains(n.Installed, n.Version)):
		return same
	case e.name == n.Installed:
		return unversioned
	}
	if base, ok := def.InstalledAs.Apply(e.name); ok && base == n.Installed {
		return otherVersion
	}
	return unrelated
}

// related reports whether a listed entry is some version of the hotfix.
func (n Names) related(def *device.Hotfix, e entry) bool { return n.compare(def, e) != unrelated }
