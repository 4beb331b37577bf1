package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

// hotfixPlanRow is a row of the action plan, with what the rollout adds to it.
type hotfixPlanRow struct {
	Device             string          `json:"device"`
	Action             string          `json:"action"`
	FileName           string          `json:"file_name"`
	InstallName        string          `json:"install_name"`
	InstalledAs        string          `json:"installed_as"`
	HotfixVersion      string          `json:"version,omitempty"`
	SHA256             string          `json:"sha256"`
	Size               int64           `json:"size_bytes"`
	Software           *string         `json:"software"`
	Installed          []string        `json:"installed"`
	Missing            bool            `json:"missing"`
	Why                string          `json:"why"`
	Staged             bool            `json:"staged"`
	Steps              []hotfixStep    `json:"steps"`
	Proofs             json.RawMessage `json:"proofs"`
	OutageSeconds      float64         `json:"outage_seconds"`
	OutageWorstSeconds float64         `json:"outage_worst_seconds"`
	WorstCaseSeconds   float64         `json:"worst_case_seconds"`
	Forbids            []string        `json:"forbids"`
	// Of the rollout; null where there is none to tell.
	Wave          *int       `json:"wave"`
	BeginAt       *time.Time `json:"begin_at"`
	EndAt         *time.Time `json:"end_at"`
	LatestBeginAt *time.Time `json:"latest_begin_at"`
	Skipped       *string    `json:"skipped"`
}

type hotfixStep struct {
	Step    string `json:"step"`
	Command string `json:"command"`
	Proof   string `json:"proof"`
}

// hotfixPlanDoc is the JSON of `hotfix plan`.
type hotfixPlanDoc struct {
	Job      api.Job           `json:"job"`
	Rollout  *api.Plan         `json:"rollout"`
	Rows     []json.RawMessage `json:"rows"`
	Failures []api.Failure     `json:"failures"`
	Warnings []string          `json:"warnings"`
}

func (a *app) hotfixPlanCommand() *cobra.Command {
	var opts hotfixOptions
	var out outputFlags
	cmd := &cobra.Command{
		Use:   "plan FILE [DEVICE...]",
		Short: "what apply would do, device by device; nothing is done",
		Long: `Looks at the selected devices and prints what is installed, what is missing, the
exact commands that apply would send, how each result would be proven, for how
long nothing is captured, the wave, the worst-case end against the window, and
what forbids it. Give it the flags that apply will be given.

` + hotfixFileHelp + `

` + selectionHelp + defaultNoneHelp + `

` + jsonHelp("job, rollout, rows, failures and warnings", "row", `device, action, file_name, install_name, installed_as, version, sha256,
size_bytes, software, installed, missing, why, staged, steps (step, command,
proof), proofs (name, answer, how, detail, accepted), outage_seconds,
outage_worst_seconds, worst_case_seconds, forbids, wave, begin_at, end_at,
latest_begin_at, skipped`) + `
` + failureKeysHelp + `

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitSomeFailed, fault.ExitUsage, fault.ExitUnavailable, fault.ExitFound, fault.ExitInterrupted) + `
6 says that something forbids the change on some device.`,
		Example:           "  fleetctl hotfix plan OSm6.4.x-CumulativeHotfix-v2.end -l group=probes \\\n      --window 'Sat 22:00+4h'",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeFileThenDevices,
	}
	opts.register(a, cmd)
	opts.registerChange(cmd)
	rollout := addRolloutFlags(cmd)
	out.register(cmd)
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		sel, err := opts.selection(args[1:], noneIsError)
		if err != nil {
			return err
		}
		policy, err := rollout.policy()
		if err != nil {
			return err
		}
		if _, err := out.format(); err != nil {
			return err
		}
		spec, err := opts.spec(ctx, a, f, "plan", args[0], sel, policy)
		if err != nil {
			return err
		}
		return a.planHotfix(ctx, f, &out, spec, sel, policy)
	})
	return cmd
}

// planHotfix has the rollout laid out first, which refuses what would be refused,
// and then looks at the devices.
func (a *app) planHotfix(ctx context.Context, f fleet, out *outputFlags, spec hotfixSpec, sel api.Selection, policy *api.Rollout) error {
	apply := spec
	apply.Action = "apply"
	raw, err := json.Marshal(apply)
	if err != nil {
		return fault.Wrap(fault.Internal, "write the request", err)
	}
	laid, err := f.Plan(ctx, api.JobRequest{Operation: "hotfix", Spec: raw, Selection: sel, Rollout: policy})
	if err != nil {
		return err
	}
	job, err := a.start(ctx, f, "hotfix", spec, sel)
	if err != nil {
		return err
	}
	res, err := a.await(ctx, f, job)
	if err != nil {
		return a.detached(ctx, job, err)
	}
	res = complete(res)
	rows, err := planRows(res.Rows, &laid)
	if err != nil {
		return err
	}
	doc := hotfixPlanDoc{Job: res.Job, Rollout: &laid, Failures: res.Failures, Warnings: append(res.Warnings, laid.Warnings...)}
	if doc.Rows, err = output.Rows(rows); err != nil {
		return fault.Wrap(fault.Internal, "print the plan", err)
	}
	ans := answer{view: hotfixPlanView(), rows: doc.Rows, doc: doc}
	ans.people = func(w io.Writer, wide bool, screen output.Screen) error {
		return printHotfixPlan(w, wide, screen, rows, doc.Rows, &laid)
	}
	if err := a.print(out, ans); err != nil {
		return err
	}
	for _, w := range laid.Warnings {
		a.note(job.ID, w)
	}
	a.reportFailures(res)
	code := jobCode(res.Job)
	if len(laid.Refusals) > 0 || slices.ContainsFunc(rows, func(r hotfixPlanRow) bool { return len(r.Forbids) > 0 }) {
		code = strongest(code, fault.ExitFound)
	}
	return statusOf(code)
}

// planRows joins what the devices show with when they would be begun. The version
// of a device's software gets a key of its own: version is the hotfix's.
func planRows(raws []json.RawMessage, laid *api.Plan) ([]hotfixPlanRow, error) {
	rows := make([]hotfixPlanRow, 0, len(raws))
	for _, raw := range raws {
		var r hotfixPlanRow
		if err := json.Unmarshal(raw, &r); err != nil {
			return nil, fault.Wrap(fault.Internal, "read the plan", err)
		}
		for i := range laid.Rows {
			u := &laid.Rows[i]
			if !slices.Contains(u.Devices, r.Device) {
				continue
			}
			r.Wave, r.BeginAt, r.EndAt, r.LatestBeginAt = &u.Wave, u.BeginAt, u.EndAt, u.LatestBeginAt
			if u.Skipped != "" {
				r.Skipped = &u.Skipped
			}
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func hotfixPlanView() output.View {
	return output.View{Table: []output.Column{
		{Key: "device", Head: "DEVICE", Fixed: true},
		{Key: "software", Head: "SOFTWARE"},
		{Key: "missing", Head: "MISSING"},
		{Key: "staged", Head: "STAGED"},
		{Key: "wave", Head: "WAVE", Kind: output.Number},
		{Key: "outage_seconds", Head: "OUTAGE", Kind: output.Duration},
		{Key: "worst_case_seconds", Head: "AT MOST", Kind: output.Duration},
		{Key: "begin_at", Head: "BEGINS BY", Kind: output.Time, Wide: true},
		{Key: "end_at", Head: "ENDS BY", Kind: output.Time, Wide: true},
		{Key: "installed", Head: "INSTALLED", Kind: output.List, Wide: true},
		{Key: "why", Head: "WHY"},
	}}
}

// printHotfixPlan prints the table, then what would be done, once for all devices
// for which it is the same, then what forbids it.
func printHotfixPlan(w io.Writer, wide bool, screen output.Screen, rows []hotfixPlanRow, raws []json.RawMessage, laid *api.Plan) error {
	format := output.Table
	if wide {
		format = output.Wide
	}
	if err := output.Write(w, format, hotfixPlanView(), raws, nil, screen); err != nil {
		return err
	}
	var b strings.Builder
	line := func(hang, text string) { b.WriteString(output.Wrap(output.Clean(text), screen.Width, hang) + "\n") }
	var first []hotfixStep // what was spelt out already
	for _, g := range samePlans(rows) {
		r := g[0]
		if len(r.Steps) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s\n", screen.Emphasis(output.Wrap(output.Clean("What would be done on "+deviceNames(g)), screen.Width, "  ")))
		steps := r.Steps
		if first == nil {
			first = steps
		} else if other := slices.DeleteFunc(slices.Clone(steps), func(s hotfixStep) bool { return slices.Contains(first, s) }); len(other) < len(steps) {
			line("  ", "  the same, but for:")
			steps = other
		}
		for _, s := range steps {
			command := s.Command
			if command == "" {
				command = "(waits)"
			}
			line("                ", fmt.Sprintf("  %-13s %s", s.Step, command))
			line("                ", fmt.Sprintf("  %-13s shown by: %s", "", s.Proof))
		}
	}
	if len(laid.Rows) > 0 {
		fmt.Fprintf(&b, "\n%s\n", screen.Emphasis("Rollout"))
		line("  ", fmt.Sprintf("  %s: canary %d, then %d at a time; stops at %s", count(laid.Waves, "wave"), laid.Canary, laid.WaveSize, count(laid.MaxFailures, "failure")))
		if laid.EndsAt != nil {
			line("  ", "  done by "+laid.EndsAt.UTC().Format(time.RFC3339)+" if everything takes as long as it may")
		}
		for _, u := range laid.Rows {
			if u.Skipped != "" {
				line("    ", "  "+u.Unit+" would be skipped: "+u.Skipped)
			}
		}
	}
	forbidden := false
	for _, r := range rows {
		for _, why := range r.Forbids {
			if !forbidden {
				fmt.Fprintf(&b, "\n%s\n", screen.Emphasis("Forbidden"))
				forbidden = true
			}
			line("    ", "  "+r.Device+": "+why)
		}
	}
	for _, why := range laid.Refusals {
		if !forbidden {
			fmt.Fprintf(&b, "\n%s\n", screen.Emphasis("Forbidden"))
			forbidden = true
		}
		line("    ", "  "+why)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// samePlans groups devices for which the same would be done.
func samePlans(rows []hotfixPlanRow) [][]hotfixPlanRow {
	var groups [][]hotfixPlanRow
	for _, r := range rows {
		i := slices.IndexFunc(groups, func(g []hotfixPlanRow) bool { return slices.Equal(g[0].Steps, r.Steps) })
		if i < 0 {
			groups = append(groups, []hotfixPlanRow{r})
			continue
		}
		groups[i] = append(groups[i], r)
	}
	return groups
}

func deviceNames(rows []hotfixPlanRow) string {
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = r.Device
	}
	return strings.Join(names, ", ")
}

// hotfixAnswer fills in how the result of a hotfix job is shown.
func hotfixAnswer(ans *answer, res api.Results) error {
	var spec hotfixSpec
	if err := json.Unmarshal(res.Job.Spec, &spec); err != nil {
		return fault.Wrap(fault.Internal, "read job "+res.Job.ID, err)
	}
	switch spec.Action {
	case "plan":
		ans.view = hotfixPlanView()
	case "stage":
		ans.view = output.View{Table: []output.Column{
			{Key: "device", Head: "DEVICE", Fixed: true},
			{Key: "result", Head: "RESULT"},
			{Key: "size_bytes", Head: "BYTES", Kind: output.Number, Wide: true},
			{Key: "path", Head: "PATH", Wide: true},
			{Key: "verified_at", Head: "VERIFIED AT", Kind: output.Time},
			{Key: "verified", Head: "BY"},
		}}
	default:
		ans.view = output.View{Table: []output.Column{
			{Key: "device", Head: "DEVICE", Fixed: true},
			{Key: "result", Head: "RESULT"},
			{Key: "version_before", Head: "BEFORE"},
			{Key: "version_after", Head: "AFTER"},
			{Key: "listed_before", Head: "LISTED BEFORE", Wide: true},
			{Key: "listed_after", Head: "LISTED AFTER"},
			{Key: "outage_seconds", Head: "OUTAGE", Kind: output.Duration},
			{Key: "outage_from", Head: "FROM", Kind: output.Time, Wide: true},
			{Key: "detail", Head: "DETAIL"},
		}}
	}
	return nil
}
