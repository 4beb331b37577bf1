package cli

import (
	"context"
	"encoding/json"
	"errors"
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

// changeRow is a device in a change record.
type changeRow struct {
	Device        string             `json:"device"`
	Unit          string             `json:"unit"`
	Wave          int                `json:"wave"`
	State         string             `json:"state"`
	Reason        string             `json:"reason"`
	StartedAt     *time.Time         `json:"started_at"`
	FinishedAt    *time.Time         `json:"finished_at"`
	VersionBefore *string            `json:"version_before"`
	VersionAfter  *string            `json:"version_after"`
	ListedBefore  *string            `json:"listed_before"`
	ListedAfter   *string            `json:"listed_after"`
	OutageFrom    *time.Time         `json:"outage_from"`
	OutageTo      *time.Time         `json:"outage_to"`
	OutageSeconds *float64           `json:"outage_seconds"`
	Proofs        []changeProof      `json:"proofs"`
	Warnings      []string           `json:"warnings"`
	Timeline      []api.JournalEntry `json:"timeline"`
	Diff          *string            `json:"diff"` // the text
	Artifacts     []api.Artifact     `json:"artifacts"`
}

type changeProof struct {
	Name     string `json:"name"`
	Answer   string `json:"answer"`
	How      string `json:"how"`
	Detail   string `json:"detail"`
	Accepted bool   `json:"accepted"`
}

// changeDoc is the JSON of `hotfix report`.
type changeDoc struct {
	Job      api.Job           `json:"job"`
	Rows     []json.RawMessage `json:"rows"`
	Failures []api.Failure     `json:"failures"`
}

func (a *app) hotfixReportCommand() *cobra.Command {
	var out outputFlags
	cmd := &cobra.Command{
		Use:   "report JOB",
		Short: "the change record of a rollout, to attach to the ticket",
		Long: `Prints the change record of a hotfix job as Markdown: what was asked for and by
whom, what became of each device, versions and lists before and after, for how
long nothing was captured, every proof with what was seen, the timeline from the
journal, and the difference between the snapshots. It can be made at any time,
while the job runs too.

` + jsonHelp("job, rows and failures", "row", `device, unit, wave, state, reason, started_at, finished_at, version_before,
version_after, listed_before, listed_after, outage_from, outage_to,
outage_seconds, proofs, warnings, timeline, diff, artifacts`) + `

` + readExits(),
		Example:           "  fleetctl hotfix report 12 --write change-12.md",
		Args:              oneArg,
		ValidArgsFunction: a.completeJobs,
	}
	out.register(cmd)
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		res, err := f.Results(ctx, args[0])
		if err != nil {
			return err
		}
		if res.Job.Operation != "hotfix" {
			return fault.New(fault.Invalid, "job %s is a %s and no hotfix", args[0], res.Job.Operation)
		}
		res = complete(res)
		rows, err := changeRows(ctx, f, res)
		if err != nil {
			return err
		}
		doc := changeDoc{Job: res.Job, Failures: res.Failures}
		if doc.Rows, err = output.Rows(rows); err != nil {
			return fault.Wrap(fault.Internal, "print the change record", err)
		}
		ans := answer{view: changeView(), rows: doc.Rows, doc: doc}
		ans.people = func(w io.Writer, _ bool, _ output.Screen) error {
			text, err := changeRecord(res.Job, rows)
			if err != nil {
				return err
			}
			_, err = io.WriteString(w, text)
			return err
		}
		return a.print(&out, ans)
	})
	return cmd
}

func changeView() output.View {
	return output.View{Table: []output.Column{
		{Key: "device", Head: "Device"},
		{Key: "wave", Head: "Wave", Kind: output.Number},
		{Key: "state", Head: "State"},
		{Key: "version_before", Head: "Version Before"},
		{Key: "version_after", Head: "Version After"},
		{Key: "listed_before", Head: "Listed Before"},
		{Key: "listed_after", Head: "Listed After"},
		{Key: "outage_from", Head: "Out of Use From", Kind: output.Time},
		{Key: "outage_to", Head: "Out of Use To", Kind: output.Time},
		{Key: "outage_seconds", Head: "Out of Use (s)", Kind: output.Number},
		{Key: "reason", Head: "Reason"},
	}}
}

// changeRows gathers what is known of each device: its task, its row where it has
// one, its journal and the files that were kept. Of a device that failed there is no
// row, and the rest tells what happened.
func changeRows(ctx context.Context, f fleet, res api.Results) ([]changeRow, error) {
	tasks, err := f.Tasks(ctx, res.Job.ID)
	if err != nil {
		return nil, err
	}
	kept, err := f.Artifacts(ctx, res.Job.ID)
	if err != nil {
		return nil, err
	}
	results := map[string]json.RawMessage{}
	for _, raw := range res.Rows {
		var r struct {
			Device string `json:"device"`
		}
		if json.Unmarshal(raw, &r) == nil {
			results[r.Device] = raw
		}
	}
	rows := make([]changeRow, 0, len(tasks))
	for _, t := range tasks {
		r := changeRow{Proofs: []changeProof{}, Artifacts: []api.Artifact{}}
		if raw, ok := results[t.Device]; ok {
			if err := json.Unmarshal(raw, &r); err != nil {
				return nil, fault.Wrap(fault.Internal, "read the result of "+t.Device, err)
			}
		}
		r.Device, r.Unit, r.Wave, r.State, r.Reason = t.Device, t.Unit, t.Wave, t.State, t.Reason
		r.StartedAt, r.FinishedAt, r.Warnings, r.Diff = t.StartedAt, t.FinishedAt, t.Warnings, nil
		if r.Timeline, err = f.Journal(ctx, res.Job.ID, t.Device); err != nil {
			return nil, err
		}
		for _, a := range kept {
			if a.Device != t.Device {
				continue
			}
			r.Artifacts = append(r.Artifacts, a)
			switch {
			case strings.HasSuffix(a.Name, ".diff"):
				if r.Diff, err = smallText(ctx, f, a); err != nil {
					return nil, err
				}
			case strings.HasSuffix(a.Name, "_hotfix.json") && results[t.Device] == nil:
				if err := r.recall(ctx, f, a); err != nil {
					return nil, err
				}
			}
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// recall fills in what was kept of a device that has no row: the newest record wins.
func (r *changeRow) recall(ctx context.Context, f fleet, a api.Artifact) error {
	text, err := smallText(ctx, f, a)
	if err != nil || text == nil {
		return err
	}
	now := *r
	if err := json.Unmarshal([]byte(*text), r); err != nil {
		*r = now
		return nil //nolint:nilerr // it was cut, and the record can do without
	}
	r.Device, r.State, r.Diff, r.Artifacts = now.Device, now.State, now.Diff, now.Artifacts
	return nil
}

// maxDiff bounds what of a difference is put into a record, in bytes.
const maxDiff = 256 << 10

// smallText reads a kept text; nil when it is there no more.
func smallText(ctx context.Context, f fleet, a api.Artifact) (*string, error) {
	in, err := f.Artifact(ctx, a.SHA256)
	if fault.Is(err, fault.NotFound) {
		return nil, nil //nolint:nilnil // removed meanwhile, which the record can do without
	}
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxDiff+1))
	if err = errors.Join(err, in.Close()); err != nil && len(raw) <= maxDiff {
		return nil, err
	}
	text := string(raw)
	if len(raw) > maxDiff {
		text = text[:maxDiff] + fmt.Sprintf("\n... cut; artifact %s has all of it\n", a.SHA256)
	}
	return &text, nil
}

// changeRecord writes the record.
func changeRecord(job api.Job, rows []changeRow) (string, error) {
	var spec hotfixSpec
	if err := json.Unmarshal(job.Spec, &spec); err != nil {
		return "", fault.Wrap(fault.Internal, "read job "+job.ID, err)
	}
	var b strings.Builder
	what := spec.FileName
	if what == "" {
		what = spec.Action
	}
	fmt.Fprintf(&b, "# Change record: %s\n\n| | |\n| --- | --- |\n", md(what))
	fact := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "| %s | %s |\n", name, value)
		}
	}
	fact("Job", md(job.ID)+" ("+md(spec.Action)+")")
	fact("State", md(job.State)+": "+md(countsText(job.Counts)))
	fact("Requested", "by "+md(job.CreatedBy)+" at "+stamp(&job.CreatedAt))
	if job.Rollout != nil {
		fact("Rollout", md(rolloutText(job.Rollout)))
	}
	if job.ApprovedBy != "" {
		fact("Approved", "by "+md(job.ApprovedBy)+" at "+stamp(job.ApprovedAt))
	}
	if job.CanceledBy != "" {
		fact("Canceled", "by "+md(job.CanceledBy))
	}
	fact("Began", stamp(job.StartedAt))
	fact("Ended", stamp(job.FinishedAt))
	if spec.File != "" {
		fact("File", fmt.Sprintf("%s, %d bytes, SHA-256 `%s`", md(spec.FileName), spec.Size, spec.File))
		fact("Installed as", strings.TrimSpace(md(spec.InstallName)+", listed as "+md(spec.InstalledAs)+" "+md(spec.Version)))
	}
	if spec.Base != "" {
		fact("Base image", fmt.Sprintf("%s, SHA-256 `%s`", md(spec.BaseName), spec.Base))
	}
	if len(spec.AcceptUnobserved) > 0 {
		fact("Accepted unobserved", md(strings.Join(spec.AcceptUnobserved, ", ")))
	}
	if spec.Takeover {
		fact("Takeover", "others were pushed out of configuration mode")
	}
	for _, w := range job.Warnings {
		fact("Note", md(w))
	}
	b.WriteString("\n## Devices\n\n| Device | Wave | Result | Software before | after | Listed before | after | Out of use |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s | %s | %s | %s |\n", md(r.Device), r.Wave, md(r.State), orDash(r.VersionBefore), orDash(r.VersionAfter),
			orDash(r.ListedBefore), orDash(r.ListedAfter), outageText(r))
	}
	if slices.ContainsFunc(rows, func(r changeRow) bool { return r.Reason != "" }) {
		b.WriteString("\n## What needs a look\n\n")
		for _, r := range rows {
			if r.Reason != "" {
				fmt.Fprintf(&b, "- **%s** (%s): %s\n", md(r.Device), md(r.State), md(r.Reason))
			}
		}
	}
	for _, r := range rows {
		changeSection(&b, r)
	}
	return b.String(), nil
}

// changeSection writes one device's part.
func changeSection(b *strings.Builder, r changeRow) {
	fmt.Fprintf(b, "\n## %s\n\n", md(r.Device))
	if len(r.Timeline) == 0 {
		b.WriteString("Nothing was done.\n")
		return
	}
	if len(r.Proofs) > 0 {
		b.WriteString("| Proof | Answer | Shown by | Seen |\n| --- | --- | --- | --- |\n")
		for _, p := range r.Proofs {
			answer := strings.ReplaceAll(p.Answer, "_", " ")
			if p.Accepted {
				answer += ", accepted beforehand"
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s |\n", md(p.Name), md(answer), code(p.How), md(p.Detail))
		}
		b.WriteByte('\n')
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(b, "- note: %s\n", md(w))
	}
	if len(r.Warnings) > 0 {
		b.WriteByte('\n')
	}
	b.WriteString("| Time | Step | What |\n| --- | --- | --- |\n")
	for _, e := range timelineOf(r.Timeline) {
		fmt.Fprintf(b, "| %s | %s | %s |\n", stamp(&e.Time), md(e.Step), md(timelineText(e)))
	}
	for _, a := range r.Artifacts {
		fmt.Fprintf(b, "\n%s: artifact `%s`\n", md(a.Name), a.SHA256)
	}
	if r.Diff != nil {
		text := output.CleanBlock(*r.Diff)
		fence := "```"
		for strings.Contains(text, fence) {
			fence += "`"
		}
		fmt.Fprintf(b, "\n%sdiff\n%s%s\n", fence, strings.TrimSuffix(text, "\n")+"\n", fence)
	}
}

// timelineOf leaves out that a step began, where something else tells more of it.
func timelineOf(all []api.JournalEntry) []api.JournalEntry {
	var out []api.JournalEntry
	for i, e := range all {
		if e.Kind == "step" && i+1 < len(all) && all[i+1].Step == e.Step && all[i+1].Kind != "step" {
			continue
		}
		out = append(out, e)
	}
	return out
}

func timelineText(e api.JournalEntry) string {
	text := e.Detail
	switch e.Kind {
	case "step":
		text = "looked"
	case "intent":
		text = "about to act, once"
	case "outcome":
		text = "acted: " + e.Detail
	case "hold":
		text = "from here a cancel is held back"
	case "release":
		text = "back in use, as proven"
	}
	if e.Error != "" {
		text += ": " + e.Error
	}
	return text
}

func outageText(r changeRow) string {
	switch {
	case r.OutageFrom == nil:
		return "-"
	case r.OutageTo == nil:
		return "since " + stamp(r.OutageFrom)
	default:
		return fmt.Sprintf("%s, %s", stamp(r.OutageFrom), output.Short(r.OutageTo.Sub(*r.OutageFrom)))
	}
}

func stamp(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func orDash(s *string) string {
	if s == nil || *s == "" {
		return "-"
	}
	return md(*s)
}

// md makes text of a device or a request part of a line of Markdown: what would be
// markup there is shown as it is.
func md(s string) string {
	var b strings.Builder
	for _, r := range strings.Join(strings.Fields(output.Clean(s)), " ") {
		if strings.ContainsRune("\\`*_[]<>|#", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// code makes text a span of code in a cell of a table.
func code(s string) string {
	if s == "" {
		return "-"
	}
	return "`" + strings.NewReplacer("`", "'", "|", `\|`).Replace(output.Clean(s)) + "`"
}
