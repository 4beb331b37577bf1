package hotfix

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

// PlanRow is what plan says of a device.
type PlanRow struct {
	Device string `json:"device"`
	Action Action `json:"action"`
	Names
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size_bytes"`
	// Software is the version that the device runs; null where it shows none.
	Software *string `json:"software"`
	// Installed are the hotfixes that the device lists, as it spells them.
	Installed []string `json:"installed"`
	// Missing is false where nothing would be done, for the reason in Why.
	Missing bool   `json:"missing"`
	Why     string `json:"why"`
	// Staged says that a file of this name and size is on the device.
	Staged bool `json:"staged"`
	// Steps are what would be done, in order, with the lines that would be typed.
	Steps  []PlanStep `json:"steps"`
	Proofs []Proof    `json:"proofs"`
	// Outage is how long nothing is captured, in seconds: usually, and at most.
	OutageSeconds      float64 `json:"outage_seconds"`
	OutageWorstSeconds float64 `json:"outage_worst_seconds"`
	// WorstCaseSeconds is the longest that the change may take, for the window.
	WorstCaseSeconds float64  `json:"worst_case_seconds"`
	Forbids          []string `json:"forbids"`
}

// PlanStep is a step of a plan.
type PlanStep struct {
	Step    string `json:"step"`
	Command string `json:"command"` // the exact line, or what is done over SFTP
	Proof   string `json:"proof"`   // how its result is seen
}

func (c *change) planRow(f findings, staged bool) PlanRow {
	r := PlanRow{Device: c.dev.Name, Action: Plan, Names: c.spec.Names, SHA256: c.spec.File, Size: c.spec.Size, Software: text(f.version),
		Installed: []string{}, Missing: f.nothing == "", Why: f.nothing, Staged: staged, Steps: []PlanStep{}, Proofs: f.proofs, Forbids: []string{}}
	for _, e := range f.list {
		r.Installed = append(r.Installed, e.String())
	}
	if !r.Missing {
		return r
	}
	r.Forbids = append(r.Forbids, f.forbids...)
	r.Steps = c.planSteps(f, staged)
	r.OutageSeconds, r.OutageWorstSeconds = c.outage().Typical.Seconds(), c.outage().Worst.Seconds()
	r.WorstCaseSeconds = c.worstCase(Apply).Seconds()
	if r.Why = c.spec.Installed + " is not listed"; f.listed.Entry != "" {
		r.Why = "it lists " + quote(f.listed.Entry)
	}
	return r
}

// planSteps spells out what would be done.
func (c *change) planSteps(f findings, staged bool) []PlanStep {
	how := func(name string) string {
		for _, p := range f.proofs {
			if p.Name != name {
				continue
			}
			prompt := func(r device.Reading) bool { return r.Kind == device.ReadPrompt && r.Line == p.How }
			switch {
			case p.Answer == NotObservable:
				return "not observable: " + p.Detail
			case name == ProofNormalMode && slices.ContainsFunc(c.def.Proofs.NormalMode, prompt):
				return "the prompt"
			}
			return p.How
		}
		return "not observable"
	}
	size := fmt.Sprintf("SFTP %s, %d bytes", c.target(c.spec), c.spec.Size)
	if staged {
		size += " (a file of that size is there)"
	}
	hash := "read back over SFTP"
	if len(c.def.Files.Hash) > 0 {
		hash = strings.Join(c.def.Files.Hash[0].Command, " ") + " on the device, else read back"
	}
	lines := make([]string, len(c.how.Snapshot))
	for i, item := range c.how.Snapshot {
		lines[i] = item.Line
	}
	installed := how(ProofInstalled)
	if f.listed.Answer == Disproven && f.listed.Entry == "" {
		installed += ", where it is not listed now"
	}
	snapshot := strings.Join(lines, "; ")
	return []PlanStep{
		{stepUpload, size, "size and SHA-256"},
		{stepVerify, hash, "SHA-256 of the whole file"},
		{stepSnapshot, snapshot, "kept as an artifact"},
		{stepMaintenance, c.mode.Enter.Line, how(ProofNormalMode)},
		{stepInstall, lineOf(c.mode.Install, c.spec.Names), installed},
		{stepSave, c.mode.Save.Line, "the device's answer"},
		{stepReload, c.mode.Reload.Line, how(ProofRebooted)},
		{stepReturn, "", fmt.Sprintf("rebooted: %s; normal mode: %s; capturing: %s", how(ProofRebooted), how(ProofNormalMode), how(ProofCapturing))},
		{stepPostCheck, snapshot, "compared with the snapshot"},
	}
}

// stageRow is what stage says of a device.
type stageRow struct {
	Device string `json:"device"`
	Action Action `json:"action"`
	Result string `json:"result"` // staged or unchanged
	Names
	SHA256   string    `json:"sha256"`
	Size     int64     `json:"size_bytes"`
	Path     string    `json:"path"`
	Verified string    `json:"verified"` // how its content was compared
	At       time.Time `json:"verified_at"`
}

// applyRow is what apply says of a device.
type applyRow struct {
	Device string `json:"device"`
	Action Action `json:"action"`
	Result string `json:"result"` // installed or unchanged
	Names
	SHA256        string       `json:"sha256"`
	Size          int64        `json:"size_bytes"`
	VersionBefore *string      `json:"version_before"`
	VersionAfter  *string      `json:"version_after"`
	ListedBefore  *string      `json:"listed_before"` // the hotfix's line in the list, some version of it
	ListedAfter   *string      `json:"listed_after"`
	Proofs        []Proof      `json:"proofs"`
	OutageFrom    *time.Time   `json:"outage_from"`
	OutageTo      *time.Time   `json:"outage_to"`
	OutageSeconds *float64     `json:"outage_seconds"`
	Differences   []Difference `json:"differences"`
	Before        string       `json:"snapshot_before"` // SHA-256 of the artifacts
	After         string       `json:"snapshot_after"`
	Diff          string       `json:"diff"`
	Detail        string       `json:"detail"`
}

// keepRecord keeps what is known of a device that has no row: rows are of devices
// that are done.
func keepRecord(ctx context.Context, env operation.Env, dev *device.Device, row applyRow) error {
	raw, err := json.MarshalIndent(row, "", "  ")
	if err != nil {
		return fault.Wrap(fault.Internal, "write the record of "+dev.Name, err)
	}
	_, err = env.Keep(ctx, dev, dev.Name+"_hotfix.json", "application/json", bytes.NewReader(append(raw, '\n')))
	return err
}

// row is the result of a device on which nothing was missing.
func (c *change) row(env operation.Env, f findings) {
	if c.spec.Action == Stage {
		env.Row(c.dev, stageRow{Device: c.dev.Name, Action: Stage, Result: "unchanged", Names: c.spec.Names, SHA256: c.spec.File, Size: c.spec.Size,
			Path: c.target(c.spec), Verified: f.nothing, At: env.Now().UTC().Truncate(time.Second)})
		return
	}
	env.Row(c.dev, applyRow{Device: c.dev.Name, Action: Apply, Result: "unchanged", Names: c.spec.Names, SHA256: c.spec.File, Size: c.spec.Size,
		VersionBefore: text(f.version), VersionAfter: text(f.version), ListedBefore: text(f.listed.Entry), ListedAfter: text(f.listed.Entry),
		Proofs: slices.Clone(f.proofs), Differences: []Difference{}, Detail: f.nothing})
}

// text is null where there is none.
func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
