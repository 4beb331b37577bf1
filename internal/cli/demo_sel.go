package cli

import (
	"context"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/demo"
	"capfleet/internal/fault"
)

// tourSEL shows what is left of a probe that died: its BMC, with an error of the
// PCI bus in its event log. The probe is the one that is switched off.
func (a *app) tourSEL(ctx context.Context, env *demo.Env, f fleet, off string) error {
	if off == "" {
		return nil // too small a fleet for a probe that can be spared
	}
	a.remark("\n$ fleetctl sel check --all")
	res, err := a.demoCheck(ctx, f, selSpec{})
	if err != nil {
		return err
	}
	a.remark("%s of %s, all of them new at the first check; from\nnow on only what comes is",
		count(len(res.Rows), "record"), count(res.Job.Devices, "BMC"))

	a.remark("\n%s, which is switched off, now has a PCI error in the event\nlog of its BMC", off)
	if err := env.Fleet().Order(off, "sel_pci"); err != nil { //nolint:contextcheck // does not block; the fleet has its own context
		return simError("put an error into the event log of "+off, err)
	}
	a.remark("$ fleetctl sel check --all --new --fail-on critical")
	if res, err = a.demoCheck(ctx, f, selSpec{NewOnly: true}); err != nil {
		return err
	}
	rows, err := selRows(res.Rows)
	if err != nil {
		return err
	}
	if err := a.printResults(&outputFlags{name: string(output.Table)}, res); err != nil {
		return err
	}
	found := selFound(rows, []string{"critical"})
	if len(found) != 1 {
		return fault.New(fault.Internal, "%d new critical records instead of one", len(found))
	}
	a.remark("ALARM: %s; the command ends with %d, and a schedule with a notifier\ntells whoever is on duty", found[0], fault.ExitFound)
	return nil
}

// demoCheck makes a check of all BMCs.
func (a *app) demoCheck(ctx context.Context, f fleet, spec selSpec) (api.Results, error) {
	job, err := a.start(ctx, f, "sel", spec, api.Selection{All: true})
	if err != nil {
		return api.Results{}, err
	}
	return a.await(ctx, f, job)
}
