package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

// reportFailures says on the error stream which devices failed, at which stage,
// how, and what to do next. Warnings come before them.
func (a *app) reportFailures(res api.Results) {
	for _, w := range res.Warnings {
		a.note(res.Job.ID, w)
	}
	if len(res.Failures) == 0 {
		return
	}
	screen := a.screenErr()
	var b strings.Builder
	line := func(hang, text string) {
		b.WriteString(output.Wrap(output.Clean(text), screen.Width, hang) + "\n")
	}
	fmt.Fprintf(&b, "%s\n", screen.Emphasis(fmt.Sprintf("job %s: %d of %s failed:", res.Job.ID, len(res.Failures), count(res.Job.Devices, "device"))))
	for _, f := range res.Failures {
		line("    ", "  "+f.Device+": "+failureText(f))
	}
	for _, next := range nextSteps(res) {
		line("      ", "next: "+next)
	}
	_, _ = fmt.Fprint(a.streams.Err, b.String())
}

// failureText gives stage, kind and message, without saying a word twice.
func failureText(f api.Failure) string {
	var at []string
	for _, word := range []string{f.Stage, f.Kind} {
		if word != "" && !slices.Contains(at, word) {
			at = append(at, word)
		}
	}
	return strings.Join(at, ", ") + ": " + f.Message
}

// nextSteps gives a line for each kind of failure that a command of ours helps
// with, naming the devices where they are few.
func nextSteps(res api.Results) []string {
	byKind := map[fault.Kind][]string{}
	for _, f := range res.Failures {
		byKind[fault.Kind(f.Kind)] = append(byKind[fault.Kind(f.Kind)], f.Device)
	}
	var steps []string
	ofBMC := res.Job.Operation == "sel" || res.Job.Operation == "bmccerts"
	if names := byKind[fault.HostKey]; names != nil && ofBMC {
		steps = append(steps, "fleetctl device trust --bmc "+few(names)+"   (compare the fingerprints first; --replace where a certificate has changed)")
	} else if names != nil {
		steps = append(steps, "fleetctl device trust "+few(names)+"   (compare the fingerprints first; --replace where a key has changed)")
	}
	reach := slices.Concat(byKind[fault.Unreachable], byKind[fault.Timeout], byKind[fault.Disconnected])
	if reach != nil && res.Job.Operation != "check" && !ofBMC {
		steps = append(steps, "fleetctl device check "+few(reach))
	}
	if byKind[fault.Auth] != nil {
		steps = append(steps, "correct the credentials in the inventory; a refused login is never tried again by itself")
	}
	if byKind[fault.Unparsed] != nil && !ofBMC {
		steps = append(steps, mendStep(res, byKind[fault.Unparsed]))
	}
	if isLive(res.Job) {
		if len(byKind[fault.Canceled]) == len(res.Failures) {
			return steps
		}
		return append(steps, "start it again once that is mended; a live capture has nothing to retry, its reader is gone")
	}
	// A change that is taken up again looks first and does what is missing then.
	if len(byKind[fault.Refused])+len(byKind[fault.TooLarge]) == len(res.Failures) && res.Job.Operation != "hotfix" {
		return append(steps, "fleetctl job show "+res.Job.ID+"   (what was answered; the same again would end the same way)")
	}
	return append(steps, "fleetctl job retry "+res.Job.ID+"   (takes the failed devices up again)")
}

// mendStep says how to go on from output that no template matches.
func mendStep(res api.Results, devices []string) string {
	if res.Job.Operation == "check" {
		return "correct the pattern in a copy of the platform's definition, in fleetd's --overrides directory under platforms/"
	}
	var spec reportSpec
	if res.Job.Operation != "report" || json.Unmarshal(res.Job.Spec, &spec) != nil {
		return "the raw text is kept with the job; correct the template until it matches: fleetctl parse --template FILE RAW"
	}
	return "fleetctl device record " + devices[0] + " --report " + spec.Report + " --fix   (leads to a template that matches)"
}

// few names devices for a command line, or stands for them where they are many.
func few(names []string) string {
	const most = 4
	if len(names) > most {
		return "DEVICE..."
	}
	return strings.Join(names, " ")
}

// count gives a number with its noun: "1 device", "24 devices".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
