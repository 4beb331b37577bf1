package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

// rolloutFlags say how a change goes over many devices. fleetd checks them; here
// they are only read.
type rolloutFlags struct {
	cmd *cobra.Command

	canary          int
	wave            string
	maxFailures     string
	soak            time.Duration
	pauseAfter      string
	approve         bool
	windows         []string
	start, end      string
	resumeWindow    bool
	requireCoverage bool
}

// rolloutNames are the flags' names.
var rolloutNames = [...]string{"canary", "wave", "max-failures", "soak", "pause-after", "approve", "window", "start", "end", "resume-window", "require-coverage"}

// addRolloutFlags adds the flags of a rollout to a command that changes devices.
func addRolloutFlags(cmd *cobra.Command) *rolloutFlags {
	r := &rolloutFlags{cmd: cmd}
	fl := cmd.Flags()
	fl.IntVar(&r.canary, "canary", 1, "change `N` units first; any failure among them stops the rollout; 0 is no canary")
	fl.StringVar(&r.wave, "wave", "", "`N or N%` of the units in each wave after that (default 10%)")
	fl.StringVar(&r.maxFailures, "max-failures", "", "stop when `N or N%` of the units have failed, at least 1 (default: the size of a wave)")
	fl.DurationVar(&r.soak, "soak", 0, "`time` to wait after each wave in which something changed")
	fl.StringVar(&r.pauseAfter, "pause-after", "", "pause the job after the `canary`, until job resume")
	fl.BoolVar(&r.approve, "approve", false, "do nothing before another user has approved it (job approve)")
	fl.StringArrayVar(&r.windows, "window", nil, `begin units only within this `+"`window`"+`, as "Sat 22:00+4h" or "daily 22:00+4h", in each site's time zone; can be repeated`)
	fl.StringVar(&r.start, "start", "", "begin nothing before this `time`: 2026-11-21T22:00:00Z, or \"2026-11-21 22:00\" as this machine's clock shows it")
	fl.StringVar(&r.end, "end", "", "begin nothing that might not be done by this `time`")
	fl.BoolVar(&r.resumeWindow, "resume-window", false, "what did not fit into a window waits for the next one; otherwise it is skipped")
	fl.BoolVar(&r.requireCoverage, "require-coverage", false, "refuse to take out the only device that covers a link")
	_ = cmd.RegisterFlagCompletionFunc("pause-after", cobra.FixedCompletions([]string{"canary"}, cobra.ShellCompDirectiveNoFileComp))
	return r
}

// rolloutHelp explains the flags of a rollout, for a command's help.
const rolloutHelp = `A rollout goes over the units (devices, or HA pairs as one) in waves: first the
canary, then waves of --wave units. A wave begins when the one before it is
through and --soak is over. Units run only while their failing could not exceed
--max-failures; when that many have failed, when a canary fails, or when one
needs attention, nothing more begins and the rest is skipped. At most all but
one of the devices that cover a link are out at once. A unit begins only if the
longest that it may take fits into its window.`

// given reports whether any flag of the rollout was set.
func (r *rolloutFlags) given() bool {
	return slices.ContainsFunc(rolloutNames[:], r.cmd.Flags().Changed)
}

// optional gives the rollout where any of its flags was set, and nil otherwise.
func (r *rolloutFlags) optional() (*api.Rollout, error) {
	if !r.given() {
		return nil, nil //nolint:nilnil // there is none, which is no error
	}
	return r.policy()
}

// policy gives what the flags say, with defaults for those that were not set.
func (r *rolloutFlags) policy() (*api.Rollout, error) {
	switch {
	case r.canary < 0:
		return nil, fault.New(fault.Invalid, "--canary must not be negative")
	case r.soak < 0 || r.soak%time.Second != 0:
		return nil, fault.New(fault.Invalid, "--soak has to be whole seconds, and not negative")
	case r.pauseAfter != "" && r.pauseAfter != "canary":
		return nil, fault.New(fault.Invalid, "--pause-after %s: a job can pause after the canary only", fault.Clip(r.pauseAfter, 40))
	}
	out := &api.Rollout{Canary: &r.canary, Wave: r.wave, MaxFailures: r.maxFailures, SoakSeconds: int64(r.soak / time.Second),
		PauseAfter: r.pauseAfter, Approve: r.approve, Window: r.windows, ResumeWindow: r.resumeWindow, RequireCoverage: r.requireCoverage}
	var err error
	if out.Start, err = parseMoment("--start", r.start); err != nil {
		return nil, err
	}
	out.End, err = parseMoment("--end", r.end)
	return out, err
}

// parseMoment reads a time with its zone, or one by this machine's clock.
func parseMoment(flag, s string) (*time.Time, error) {
	if s == "" {
		return nil, nil //nolint:nilnil // there is none, which is no error
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04", "2006-01-02T15:04"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			t = t.UTC()
			return &t, nil
		}
	}
	return nil, fault.New(fault.Invalid, "%s %q is no time: 2026-11-21T22:00:00Z or \"2026-11-21 22:00\" is expected", flag, fault.Clip(s, 40))
}

// rolloutText says in one line what a rollout was asked to be.
func rolloutText(r *api.Rollout) string {
	var parts []string
	add := func(given bool, format string, args ...any) {
		if given {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	canary := 1
	if r.Canary != nil {
		canary = *r.Canary
	}
	add(canary > 0, "canary %d", canary)
	add(true, "waves of %s", orDefault(r.Wave, "10%"))
	add(true, "stops at %s failed", orDefault(r.MaxFailures, orDefault(r.Wave, "10%")))
	add(r.SoakSeconds > 0, "soak %s", output.Short(time.Duration(r.SoakSeconds)*time.Second))
	add(r.PauseAfter != "", "pause after the %s", r.PauseAfter)
	for _, w := range r.Window {
		add(true, "window %s", w)
	}
	add(r.ResumeWindow, "resumed in the next window")
	add(r.Start != nil, "from %s", showTime(r.Start))
	add(r.End != nil, "done by %s", showTime(r.End))
	add(r.RequireCoverage, "coverage required")
	return strings.Join(parts, ", ")
}

func orDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// waveLines tells how far each wave is. Neighbours in the same states are one line.
func waveLines(tasks []api.Task, canary bool) (lines []string) {
	waves := make(map[int]map[string]int)
	last := 0
	for _, t := range tasks {
		if waves[t.Wave] == nil {
			waves[t.Wave] = make(map[string]int)
		}
		waves[t.Wave][t.State]++
		last = max(last, t.Wave)
	}
	alike := func(a, b map[string]int) bool {
		if len(a) != len(b) {
			return false
		}
		for state := range a {
			if b[state] == 0 {
				return false
			}
		}
		return true
	}
	for first := 0; first <= last; {
		counts := waves[first]
		next := first + 1
		for next <= last && !(canary && first == 0) && alike(counts, waves[next]) {
			for state, n := range waves[next] {
				counts[state] += n
			}
			next++
		}
		name := strconv.Itoa(first)
		switch {
		case canary && first == 0:
			name = "canary"
		case next-1 > first:
			name += "-" + strconv.Itoa(next-1)
		}
		lines = append(lines, fmt.Sprintf("%s: %s", name, countsText(counts)))
		first = next
	}
	return lines
}
