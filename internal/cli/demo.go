package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/demo"
	"capfleet/internal/fault"
	"capfleet/internal/sim"
)

type demoOptions struct {
	devices int
	dir     string
	keep    bool
}

func (a *app) demoCommand() *cobra.Command {
	var opts demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "see everything work on a simulated fleet",
		Long: `Starts a simulated fleet and a fleetd in this one process, runs the file-system
and the rotation-file report as jobs over SSH, prints both as tables and writes
both as CSV. One device is switched off beforehand, to show how a failure is
named. Then it brings the probes of one site to a hotfix, wave by wave, of which
one comes back without capturing: the rollout stops, says what was seen and
leaves a change record. At last the BMC of the device that is off tells of an
error on its PCI bus. Nothing has to be installed and nothing outside its
directory is touched.

Without --dir it works in a temporary directory and leaves only the CSV files
and the change record there. With --dir everything stays in that directory.
--keep leaves fleet and fleetd running until Ctrl-C and writes fleetctl.env,
which a second terminal sources so that every fleetctl command works with this
fleet.

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitUsage, fault.ExitInterrupted),
		Example: `  fleetctl demo
  fleetctl demo --keep --dir ./demo`,
		Args: cobra.NoArgs,
	}
	fl := cmd.Flags()
	fl.IntVar(&opts.devices, "devices", 0, fmt.Sprintf("how many devices (default as many as the directory held, or %d)", sim.DefaultDevices))
	fl.StringVar(&opts.dir, "dir", "", "`directory` to work in, kept afterwards (default a temporary one)")
	fl.BoolVar(&opts.keep, "keep", false, "leave everything running until Ctrl-C")
	_ = cmd.MarkFlagDirname("dir")
	cmd.RunE = a.local(func(ctx context.Context, _ []string) error { return a.runDemo(ctx, opts) })
	return cmd
}

func (a *app) runDemo(ctx context.Context, opts demoOptions) (err error) {
	a.terse = true
	dir, tidy, err := demoDir(opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tidy()) }()

	a.remark("Starting a simulated fleet and fleetd in %s", dir)
	env, err := demo.Start(ctx, demo.Options{Dir: dir, Devices: opts.devices})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, env.Close()) }() //nolint:contextcheck // closing is bounded and not for ctx to cut short
	f, err := a.connect(env.Socket())
	if err != nil {
		return err
	}
	seen, err := a.tourReports(ctx, env, f, dir)
	if err != nil {
		return err
	}
	if err := a.tourRollout(ctx, env, f, dir, &seen); err != nil {
		return err
	}
	if err := a.tourCapture(ctx, env, f, dir); err != nil {
		return err
	}
	if err := a.tourSEL(ctx, env, f, seen.off); err != nil {
		return err
	}
	if opts.keep {
		return a.keepDemo(ctx, env, dir, seen)
	}
	a.remark(`
Try next:
  fleetctl demo --keep --dir ./demo    leave it running for a second terminal
  fleetctl hotfix apply --help         windows, approval, waves: a change night
  fleetctl capture filter --help       filters from questions
  fleetctl extcap install              devices inside Wireshark
  fleetctl sel dossier --help          what is kept of a probe that died
  fleetctl sim --dir ./fleet           the simulated fleet alone
  fleetctl --help                      everything else`)
	return nil
}

// tour is what the demo has shown, for what to try next.
type tour struct {
	off string // the device that is switched off; "" for none
	job string // the first one

	rollout rolloutTour
}

// tourReports is the demo itself: what an operator would type, and what comes.
func (a *app) tourReports(ctx context.Context, env *demo.Env, f fleet, dir string) (tour, error) {
	devices := env.Fleet().Devices()
	a.remark("%s", fleetWords(devices))
	seen := tour{off: switchedOff(devices)}
	if off := seen.off; off != "" {
		if err := env.Fleet().Order(off, "down"); err != nil { //nolint:contextcheck // does not block; the fleet has its own context
			return seen, simError("switch off "+off, err)
		}
		a.remark("%s is switched off on purpose, to show how a failure is named", off)
	}

	start := a.streams.Now()
	var files []string
	for _, report := range []string{"filesystem", "rotation-file"} {
		a.remark("\n$ fleetctl report %s", report)
		file := filepath.Join(dir, report+".csv")
		job, err := a.demoReport(ctx, f, report, file)
		if err != nil {
			return seen, err
		}
		if seen.job == "" {
			seen.job = job
		}
		files = append(files, file)
	}
	a.remark("\nBoth reports took %s and are written as CSV:", output.Short(a.streams.Now().Sub(start)))
	for _, file := range files {
		a.remark("  %s", file)
	}
	return seen, nil
}

// demoReport runs one report as the report command would and writes it as CSV
// too. Devices that fail are shown and are no failure of the demo, as long as
// there is a row. It gives the job's id.
func (a *app) demoReport(ctx context.Context, f fleet, report, file string) (string, error) {
	job, err := a.start(ctx, f, "report", reportSpec{Report: report}, api.Selection{All: true})
	if err != nil {
		return job.ID, err
	}
	res, err := a.await(ctx, f, job)
	if err != nil {
		return job.ID, err
	}
	if err := a.printResults(&outputFlags{name: string(output.Table)}, res); err != nil {
		return job.ID, err
	}
	a.reportFailures(res)
	if len(res.Rows) == 0 {
		return job.ID, fault.New(fault.Internal, "the %s report has no rows", report)
	}
	var b bytes.Buffer
	if err := output.Write(&b, output.CSV, output.ReportView(report), res.Rows, nil, output.Screen{}); err != nil {
		return job.ID, fault.Wrap(fault.Internal, "write the CSV", err)
	}
	return job.ID, fault.Wrap(fault.Storage, "write the CSV", output.WriteFile(file, b.Bytes()))
}

// switchedOff chooses the device that the demo switches off: a probe, so that both
// reports show it, and one that is reached directly, so that its error is plain.
// The last probe of a fleet stays on.
func switchedOff(devices []sim.DeviceInfo) string {
	var direct []string
	probes := 0
	for _, d := range devices {
		if d.Platform != "endace_osm" {
			continue
		}
		probes++
		if d.Jump == "" {
			direct = append(direct, d.Name)
		}
	}
	if probes < 2 || len(direct) == 0 {
		return ""
	}
	return direct[len(direct)-1]
}

// demoDir gives the directory of a demo and what to do with it at the end.
func demoDir(opts demoOptions) (dir string, tidy func() error, err error) {
	if opts.dir != "" {
		dir, err := filepath.Abs(opts.dir)
		return dir, func() error { return nil }, fault.Wrap(fault.Invalid, "find the directory", err)
	}
	dir, err = os.MkdirTemp("", "capfleet-demo-")
	if err != nil {
		return "", nil, fault.Wrap(fault.Storage, "make a directory for the demo", err)
	}
	return dir, func() error { return fault.Wrap(fault.Storage, "tidy up", leaveResults(dir)) }, nil
}

// leaveResults empties the demo's temporary directory but for the CSV files and the
// change record, and removes it when there are none.
func leaveResults(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	left := 0
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext == ".csv" || ext == ".md" {
			left++
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	if left == 0 {
		return os.Remove(dir)
	}
	return nil
}
