package hotfix

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/operation"
)

// plan says what would be done. It is asked of each device by itself: a reader
// takes nobody else along.
func (p *pair) plan(ctx context.Context, env operation.Env) (operation.Observation, error) {
	dev := p.devices[0]
	o, err := p.survey(ctx, env)
	if err != nil {
		return failed(err)
	}
	m := o.members[dev.Name]
	r := PlanRow{Device: dev.Name, Action: Plan, Names: p.spec.Names, SHA256: p.spec.File, Size: p.spec.Size, Software: text(m.Running.String()),
		Installed: []string{}, Missing: o.nothing == "", Why: o.nothing, Steps: []PlanStep{}, Proofs: slices.Clone(o.proofs[dev.Name]), Forbids: []string{}}
	if r.Proofs == nil {
		r.Proofs = []Proof{}
	}
	for _, row := range m.Volumes {
		r.Installed = append(r.Installed, row.String())
	}
	if r.Missing {
		r.Forbids = append(r.Forbids, o.forbids[dev.Name]...)
		if dev.HAPeer != "" && m.Sync != inSync {
			r.Forbids = append(r.Forbids, fmt.Sprintf("its sync state is %s, and must be %s before a change", quote(m.Sync), inSync))
		}
		r.Why = fmt.Sprintf("it runs %s", m.Running)
		r.Steps = p.planSteps(dev, m, o.legs[dev.Name])
		r.WorstCaseSeconds = p.worstCase(Apply).Seconds()
		if dev.HAPeer == "" {
			r.OutageSeconds, r.OutageWorstSeconds = p.vol.Return.Typical.Seconds(), p.vol.Return.Worst.Seconds()
		}
		for _, f := range p.files() {
			size, _, err := p.stat(ctx, env, dev, f)
			if err != nil {
				return failed(err)
			}
			r.Staged = size == f.size
		}
	}
	env.Row(dev, r)
	return done("%s", m)
}

// planSteps spells out what would be done to a device.
func (p *pair) planSteps(dev *device.Device, m member, l leg) []PlanStep {
	if l.Volume == "" {
		return []PlanStep{}
	}
	lines := make([]string, len(p.how.Snapshot))
	for i, item := range p.how.Snapshot {
		lines[i] = item.Line
	}
	snapshot := strings.Join(lines, "; ")
	var steps []PlanStep
	for _, f := range p.files() {
		steps = append(steps, PlanStep{stepUpload, fmt.Sprintf("SFTP %s, %d bytes", p.target(f.name), f.size), "size and " + p.hashName()},
			PlanStep{stepVerify, "list sys software " + kindOf(f.hotfix), "the device lists it with its version and build"})
	}
	steps = append(steps,
		PlanStep{stepSnapshot, snapshot, "kept as an artifact"},
		PlanStep{stepBackup, "save sys ucs " + archiveName, "fetched and kept as a secret artifact"},
		PlanStep{stepInstall, p.installLine(l), fmt.Sprintf("show sys software status: %s, %s, complete", l.Volume, l.Software)})
	back := fmt.Sprintf("show sys version: %s; running from %s; rebooted: boot id; ", l.Software, l.Volume)
	reboot := "reboot volume " + l.Volume
	switch {
	case dev.HAPeer == "":
		steps = append(steps, PlanStep{stepAloneReboot, reboot, "it stops answering"}, PlanStep{stepAloneReturn, "", back + "active"})
	case m.Role == roleActive:
		steps = append(steps,
			PlanStep{stepFailover, failoverLine, "show cm failover-status on both, once " + dev.HAPeer + " is back"},
			PlanStep{stepSecondReboot, reboot, "it stops answering"}, PlanStep{stepSecondReturn, "", back + "one active, one standby"})
	default:
		steps = append(steps, PlanStep{stepFirstReboot, reboot, "it stops answering"}, PlanStep{stepFirstReturn, "", back + "one active, one standby"})
	}
	return append(steps, PlanStep{stepPostCheck, snapshot, "compared with the snapshot"})
}

func (p *pair) hashName() string {
	if len(p.def.Files.Hash) == 0 {
		return "content read back"
	}
	return strings.Join(p.def.Files.Hash[0].Command, " ")
}

// unchanged is the result of a unit on which nothing was missing.
func (p *pair) unchanged(env operation.Env, o *outlook) {
	for _, dev := range p.devices {
		m := o.members[dev.Name]
		if p.spec.Action == Stage {
			env.Row(dev, stageRow{Device: dev.Name, Action: Stage, Result: "unchanged", Names: p.spec.Names, SHA256: p.spec.File, Size: p.spec.Size,
				Path: p.target(p.spec.Names.File), Verified: o.nothing, At: stamp(env)})
			continue
		}
		env.Row(dev, applyRow{Device: dev.Name, Action: p.spec.Action, Result: "unchanged", Names: p.spec.Names, SHA256: p.spec.File, Size: p.spec.Size,
			VersionBefore: text(m.Running.String()), VersionAfter: text(m.Running.String()), Proofs: []Proof{}, Differences: []Difference{}, Detail: o.nothing})
	}
}

// observePostCheck compares both members with the snapshots and ends the work.
func (p *pair) observePostCheck(ctx context.Context, env operation.Env) (operation.Observation, error) {
	if p.nothing != "" {
		return done("%s", p.nothing)
	}
	var members map[string]member
	end := env.Now().Add(p.how.Reconnect)
	err := p.until(ctx, env, p.devices[0], end, func() (_ bool, err error) {
		members, err = p.seeAll(ctx, env)
		return err == nil, err
	})
	if err != nil {
		return failed(err)
	}
	var matter []string
	for _, dev := range p.devices {
		m := members[dev.Name]
		if l := p.course.Target[dev.Name]; !m.at(l) {
			return inconclusive("%s runs %s from %s, and was to run %s from %s", dev.Name, m.Running, m.Volume, l.Software, l.Volume)
		}
		diffs, err := p.compare(ctx, env, dev, m)
		if err != nil {
			return failed(err)
		}
		if what := matters(diffs); what != "" {
			matter = append(matter, dev.Name+": "+what)
		}
		if dev.HAPeer != "" && m.Sync != inSync {
			env.Warn(dev, "its sync state is %s: see which member has the right configuration before you sync", quote(m.Sync))
		}
	}
	if len(matter) > 0 {
		return inconclusive("the software is the right one, and the configuration is not as before: %s", strings.Join(matter, "; "))
	}
	words := make([]string, len(p.devices))
	for i, dev := range p.devices {
		m := members[dev.Name]
		words[i] = fmt.Sprintf("%s runs %s, %s, %s", dev.Name, m.Running, m.Role, m.Sync)
	}
	return done("%s", strings.Join(words, "; "))
}

// compare keeps what a member is like now, and how that differs from before.
func (p *pair) compare(ctx context.Context, env operation.Env, dev *device.Device, m member) ([]Difference, error) {
	before, err := openSnapshot(ctx, env, p.course.Shots[dev.Name])
	if err != nil {
		return nil, err
	}
	after, err := p.look(env, dev).snapshot(ctx, p.how.Snapshot)
	if err != nil {
		return nil, err
	}
	row := p.row(dev, m)
	if row.After, err = after.keep(ctx, env, dev, dev.Name+"_after.json"); err != nil {
		return nil, err
	}
	row.Differences = before.compare(after, p.how.Snapshot, func(string, string) bool { return false })
	row.Diff, err = env.Keep(ctx, dev, dev.Name+"_hotfix.diff", "text/x-diff; charset=utf-8", strings.NewReader(diffText(before, after, row.Differences)))
	if err != nil {
		return nil, err
	}
	if dev.HAPeer == "" {
		p.outage(env, dev, &row)
	}
	env.Row(dev, row)
	return row.Differences, nil
}

// row is what a member was before and is now.
func (p *pair) row(dev *device.Device, m member) applyRow {
	was := p.course.Before[dev.Name]
	row := applyRow{Device: dev.Name, Action: p.spec.Action, Result: "installed", Names: p.spec.Names, SHA256: p.spec.File, Size: p.spec.Size,
		VersionBefore: text(was.Running.String()), VersionAfter: text(m.Running.String()), ListedBefore: listedRow(was, was.Volume), ListedAfter: listedRow(m, m.Volume),
		Before: p.course.Shots[dev.Name], Proofs: []Proof{}, Differences: []Difference{}, Detail: fmt.Sprintf("%s, sync state %s", m.Role, m.Sync)}
	switch {
	case !slices.Contains(p.course.Order, dev.Name):
		row.Result = "unchanged"
	case p.spec.Action == Rollback:
		row.Result = "rolled back"
	}
	installed := Disproven
	if m.at(p.course.Target[dev.Name]) {
		installed = Proven
	}
	answer, detail := p.hasRebooted(dev, m)
	row.Proofs = append(row.Proofs,
		Proof{Name: ProofInstalled, Answer: installed, How: "show sys software status", Detail: fmt.Sprintf("%s from %s", m.Running, m.Volume)},
		Proof{Name: ProofRebooted, Answer: answer, How: m.Boot.Line, Detail: detail})
	return row
}

// keepMember keeps what is known of a member that has no row: one that a person has to
// look at, or that is back when a cancel comes through. One that does not answer is as
// it was seen last, before the change.
func (p *pair) keepMember(ctx context.Context, env operation.Env, dev *device.Device, result, detail string) error {
	m, err := p.see(ctx, env, dev)
	row := p.row(dev, m)
	if err != nil {
		row.VersionAfter, row.ListedAfter, row.Proofs = nil, nil, []Proof{}
	}
	row.Result, row.Detail = result, detail
	return keepRecord(ctx, env, dev, row)
}

// keepMembers is keepMember of all members when a person has to look.
func (p *pair) keepMembers(ctx context.Context, env operation.Env, detail string) error {
	for _, dev := range p.devices {
		if err := p.keepMember(ctx, env, dev, "attention", detail); err != nil {
			return err
		}
	}
	return nil
}

// outage says how long a device by itself was away.
func (p *pair) outage(env operation.Env, dev *device.Device, row *applyRow) {
	act, err := came(env, stepAloneReboot+"/"+dev.Name)
	if err != nil || act.At.IsZero() {
		return
	}
	from, to := act.At, stamp(env)
	seconds := to.Sub(from).Round(time.Second).Seconds()
	row.OutageFrom, row.OutageTo, row.OutageSeconds = &from, &to, &seconds
}

func listedRow(m member, volume string) *string {
	r, ok := m.row(volume)
	if !ok {
		return nil
	}
	return text(r.String())
}
