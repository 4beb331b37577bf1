package cli

import (
	"context"
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

// ringLine is what there is of one interface of a capture, or of one device while
// there is nothing yet.
type ringLine struct {
	Job       string     `json:"job"`
	State     string     `json:"state"` // of the device's task
	Device    string     `json:"device"`
	Interface *string    `json:"interface"`
	Filter    *string    `json:"filter"`
	File      *string    `json:"file"`
	SHA256    *string    `json:"sha256"`
	Bytes     *int64     `json:"bytes"`
	Packets   *int64     `json:"packets"`
	FirstTime *time.Time `json:"first_time"`
	LastTime  *time.Time `json:"last_time"`
	Dropped   *int64     `json:"dropped_by_kernel"`
	StoppedAt *time.Time `json:"stopped_at"`
	StoppedBy *string    `json:"stopped_by"`
}

func (a *app) captureListCommand() *cobra.Command {
	var out outputFlags
	limit := 20
	cmd := &cobra.Command{
		Use:   "list [JOB...]",
		Short: "captures into rings, with packets, drops, times and digests",
		Long: `Lists captures into rings, newest first: those that run, and what the others
gave. What a device has not given yet is null. -o wide adds bytes, SHA-256, file
and what stopped them.

` + jsonHelp("rows", "row", `job, state, device, interface, filter, file, sha256, bytes, packets,
first_time, last_time, dropped_by_kernel, stopped_at, stopped_by`) + `

` + readExits(),
		Example:           "  fleetctl capture list\n  fleetctl capture list 12 -o json | jq -r '.rows[].sha256'",
		ValidArgsFunction: a.completeJobs,
	}
	out.register(cmd)
	cmd.Flags().IntVar(&limit, "limit", limit, "list the captures among the newest `n` jobs")
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		if _, err := out.format(); err != nil {
			return err
		}
		if limit < 1 {
			return fault.New(fault.Invalid, "--limit must be at least 1")
		}
		list, err := captureJobs(ctx, f, args, limit)
		if err != nil {
			return err
		}
		lines := []ringLine{}
		for _, job := range list {
			of, err := ringLines(ctx, f, job)
			if err != nil {
				return err
			}
			lines = append(lines, of...)
		}
		rows, err := output.Rows(lines)
		if err != nil {
			return fault.Wrap(fault.Internal, "print the captures", err)
		}
		view := ringView(output.Column{Key: "job", Head: "JOB"}, output.Column{Key: "state", Head: "STATE", Kind: output.State})
		return a.print(&out, answer{view: view, rows: rows, doc: struct {
			Rows []ringLine `json:"rows"`
		}{lines}, empty: "there are no captures into rings"})
	})
	return cmd
}

// captureJobs gives the jobs that were named, or those among the newest.
func captureJobs(ctx context.Context, f fleet, ids []string, limit int) ([]api.Job, error) {
	var out []api.Job
	for _, id := range ids {
		if err := ringJob(ctx, f, id); err != nil {
			return nil, err
		}
		job, err := f.Job(ctx, id)
		if err != nil {
			return nil, err
		}
		out = append(out, job)
	}
	if len(ids) > 0 {
		return out, nil
	}
	list, err := f.Jobs(ctx, api.JobQuery{Limit: limit})
	if err != nil {
		return nil, err
	}
	for _, job := range list.Rows {
		if isRing(job) {
			out = append(out, job)
		}
	}
	return out, nil
}

// ringLines gives the lines of one job.
func ringLines(ctx context.Context, f fleet, job api.Job) ([]ringLine, error) {
	tasks, err := f.Tasks(ctx, job.ID)
	if err != nil {
		return nil, err
	}
	res, err := f.Results(ctx, job.ID)
	if err != nil {
		return nil, err
	}
	given := map[string][]ringLine{}
	for _, raw := range res.Rows {
		var l ringLine
		if err := json.Unmarshal(raw, &l); err != nil {
			return nil, fault.Wrap(fault.Internal, "read the rows of job "+job.ID, err)
		}
		given[l.Device] = append(given[l.Device], l)
	}
	var out []ringLine
	for _, t := range tasks {
		of := given[t.Device]
		if len(of) == 0 {
			of = []ringLine{{Device: t.Device}}
		}
		for _, l := range of {
			l.Job, l.State = job.ID, t.State
			out = append(out, l)
		}
	}
	return out, nil
}
