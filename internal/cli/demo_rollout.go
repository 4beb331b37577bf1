package cli

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/demo"
	"capfleet/internal/fault"
	"capfleet/internal/sim"
)

// The hotfix of the demo. Nothing looks into the file: its format is nobody's
// business but the device's.
const (
	demoHotfix     = "OSm6.4.x-CumulativeHotfix-v2.end"
	demoHotfixSize = 256 << 10
)

// rolloutTour is what the rollout of the demo has shown.
type rolloutTour struct {
	job    string
	faulty string // the probe that comes back without capturing; "" for none
}

// tourRollout brings the probes of a site to a hotfix, the canary first. One of them
// comes back wrong on purpose: it shows what an operator sees then, and that nothing
// more is begun.
func (a *app) tourRollout(ctx context.Context, env *demo.Env, f fleet, dir string, seen *tour) error {
	probes := rolloutProbes(env.Fleet().Devices(), seen.off)
	if len(probes) == 0 {
		return nil
	}
	if err := a.prepareRollout(env, probes, seen); err != nil { //nolint:contextcheck // does not block; the fleet has its own context
		return err
	}
	file := filepath.Join(dir, demoHotfix)
	if err := writeHotfix(file); err != nil {
		return err
	}
	a.remark("\n$ fleetctl hotfix apply %s %s --wave 2 --max-failures 2 --yes", demoHotfix, strings.Join(probes, " "))
	canary := 1
	sel, policy := api.Selection{Names: probes}, &api.Rollout{Canary: &canary, Wave: "2", MaxFailures: "2"}
	spec, err := new(hotfixOptions).spec(ctx, a, f, "apply", file, sel, policy)
	if err != nil {
		return err
	}
	job, err := a.startRollout(ctx, f, "hotfix", spec, sel, policy)
	if err != nil {
		return err
	}
	seen.rollout.job = job.ID
	res, err := a.await(ctx, f, job)
	if err != nil {
		return err
	}
	if err := a.printResults(&outputFlags{name: string(output.Table)}, res); err != nil {
		return err
	}
	a.reportFailures(res)
	switch {
	case res.Job.Counts["attention"] == 0 && res.Job.Counts["failed"] == 0:
		if seen.rollout.faulty != "" {
			a.remark("an earlier demo in this directory has brought them there: what is installed is not installed again")
		}
		seen.rollout.faulty = ""
	case seen.rollout.faulty == "":
		return fault.New(fault.Internal, "the rollout of the demo ended in %s", res.Job.State)
	}
	a.remark("\n$ fleetctl job show %s", job.ID)
	if err := a.showRollout(ctx, f, res.Job); err != nil {
		return err
	}
	record := filepath.Join(dir, "change-"+job.ID+".md")
	a.remark("\n$ fleetctl hotfix report %s --write %s", job.ID, record)
	return a.writeChangeRecord(ctx, f, res, record)
}

// rolloutProbes gives the probes of the first site that has some, without the one
// that is off.
func rolloutProbes(devices []sim.DeviceInfo, off string) []string {
	site := ""
	var probes []string
	for _, d := range devices {
		if d.Role != "probe" || d.Jump != "" || d.Name == off || site != "" && d.Site != site {
			continue
		}
		site = d.Site
		probes = append(probes, d.Name)
	}
	return probes
}

// prepareRollout makes the probes quick, and one of them faulty: not the canary,
// and not one of the last, so that there is something left to stop.
func (a *app) prepareRollout(env *demo.Env, probes []string, seen *tour) error {
	orders := make([][2]string, 0, 2*len(probes)+1)
	for _, name := range probes {
		orders = append(orders, [2]string{name, "install_time=500ms"}, [2]string{name, "boot_time=500ms"})
	}
	if len(probes) >= 3 {
		seen.rollout.faulty = probes[2]
		orders = append(orders, [2]string{seen.rollout.faulty, "back_without_capture"})
	}
	for _, o := range orders {
		if err := env.Fleet().Order(o[0], o[1]); err != nil {
			return simError(fmt.Sprintf("order %s for %s", o[1], o[0]), err)
		}
	}
	if seen.rollout.faulty != "" {
		a.remark("\nNow a hotfix for %d probes, a canary first. %s will come back from\nits reboot without capturing, on purpose", len(probes), seen.rollout.faulty)
	}
	return nil
}

// writeHotfix makes the file that is installed, unless an earlier demo has left one.
func writeHotfix(file string) error {
	if info, err := os.Stat(file); err == nil && info.Size() == demoHotfixSize {
		return nil
	}
	content := make([]byte, demoHotfixSize)
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // content for a file, nothing to guess
	for i := range content {
		content[i] = byte(r.Uint32())
	}
	return fault.Wrap(fault.Storage, "write "+demoHotfix, output.WriteFile(file, content))
}

// showRollout prints a job with its waves, as job show does.
func (a *app) showRollout(ctx context.Context, f fleet, job api.Job) error {
	tasks, err := f.Tasks(ctx, job.ID)
	if err != nil {
		return err
	}
	rows, err := output.Rows(tasks)
	if err != nil {
		return fault.Wrap(fault.Internal, "print the job", err)
	}
	if err := printJobHead(a.streams.Out, job, tasks, a.screen()); err != nil {
		return fault.Wrap(fault.Internal, "print the job", err)
	}
	return fault.Wrap(fault.Internal, "print the job", output.Write(a.streams.Out, output.Table, rolloutTaskView(), rows, nil, a.screen()))
}

// writeChangeRecord writes what would be attached to the ticket.
func (a *app) writeChangeRecord(ctx context.Context, f fleet, res api.Results, file string) error {
	rows, err := changeRows(ctx, f, complete(res))
	if err != nil {
		return err
	}
	text, err := changeRecord(res.Job, rows)
	if err != nil {
		return err
	}
	if err := output.WriteFile(file, []byte(text)); err != nil {
		return fault.Wrap(fault.Storage, "write the change record", err)
	}
	a.remark("wrote %s,\nthe change record: timeline, proofs, versions and differences of each device", file)
	return nil
}
