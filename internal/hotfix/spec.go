package hotfix

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

// Action is what is asked for.
type Action string

// The actions.
const (
	// Plan only looks.
	Plan Action = "plan"
	// Stage puts the file on the devices and verifies it.
	Stage Action = "stage"
	// Apply installs it.
	Apply Action = "apply"
	// Rollback boots the volume that ran before. It needs no file.
	Rollback Action = "rollback"
)

var actions = []Action{Plan, Stage, Apply, Rollback}

// Spec is what a request says. What is left out is derived when the job is made,
// and is there in the stored spec.
type Spec struct {
	Action Action `json:"action"`
	// File is the SHA-256 of the artifact that is the hotfix.
	File string `json:"file"`
	// Size of the file, in bytes. It is the artifact's.
	Size int64 `json:"size_bytes,omitempty"`
	Names
	// Base is the SHA-256 of the artifact that is the image which File is installed on
	// top of; BaseOnDevice says that it is on the devices already.
	Base         string `json:"base,omitempty"`
	BaseName     string `json:"base_name,omitempty"`
	BaseSize     int64  `json:"base_size_bytes,omitempty"`
	BaseOnDevice bool   `json:"base_on_device,omitempty"`
	// Volume is the one to install to or to roll back to; "" is chosen on the device.
	Volume string `json:"volume,omitempty"`
	// Takeover pushes somebody else out of configuration mode.
	Takeover bool `json:"takeover,omitempty"`
	// AcceptUnobserved names proofs that pass where the device does not show them.
	AcceptUnobserved []string `json:"accept_unobserved,omitempty"`
}

func (s Spec) accepts(proof string) bool { return slices.Contains(s.AcceptUnobserved, proof) }

// readSpec reads a spec and refuses what no platform knows.
func readSpec(raw json.RawMessage) (Spec, error) {
	var s Spec
	if err := operation.DecodeSpec(Name, raw, &s); err != nil {
		return s, err
	}
	invalid := func(format string, args ...any) (Spec, error) {
		return s, &fault.Error{Kind: fault.Invalid, Act: Name, Stage: "spec", Err: fmt.Errorf(format, args...)}
	}
	if !slices.Contains(actions, s.Action) {
		words := make([]string, len(actions))
		for i, a := range actions {
			words[i] = string(a)
		}
		return invalid("action is %q, and must be one of %s", s.Action, strings.Join(words, ", "))
	}
	switch {
	case s.Action == Rollback && (s.File != "" || s.Base != "" || s.BaseOnDevice):
		return invalid("rollback takes no file: it boots what was installed before")
	case s.Action != Rollback && s.File == "":
		return invalid("file is missing: the SHA-256 of the artifact to install")
	}
	for _, p := range s.AcceptUnobserved {
		if !slices.Contains(proofNames, p) {
			return invalid("%q is no proof (there are: %s)", p, strings.Join(proofNames, ", "))
		}
	}
	for _, n := range []struct{ key, name string }{{"install_name", s.Install}, {"installed_as", s.Installed}} {
		if strings.ContainsFunc(n.name, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune("/\\'\"`$;|&<>()?*{}[]!#%", r) }) {
			return invalid("%s is %q: a name is one word that a command line takes as it is", n.key, n.name)
		}
	}
	return s, nil
}
