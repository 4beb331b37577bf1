package cli

import (
	"context"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

// auditFleet is what the audit commands need of fleetd.
type auditFleet interface {
	Audit(ctx context.Context, q api.AuditQuery) (api.AuditList, error)
}

func (a *app) auditCommand() *cobra.Command {
	cmd := a.group("audit", "who changed what, and when")
	cmd.AddCommand(a.auditListCommand())
	return cmd
}

// auditDoc is the JSON of `audit list`.
type auditDoc struct {
	Rows []api.AuditEntry `json:"rows"`
	Next uint64           `json:"next,omitempty"`
}

func (a *app) auditListCommand() *cobra.Command {
	var out outputFlags
	var query api.AuditQuery
	cmd := &cobra.Command{
		Use:   "list",
		Short: "changes that were asked for, newest first",
		Long: `Lists what was asked of fleetd that changes something, and by whom: jobs that
were submitted, canceled, retried, paused and resumed, host keys that were
pinned, files that were added and removed. BY is the user that the kernel of
fleetd's host names for the other end of the socket, not what a client says.

A host key has an entry "begun" before it is trusted, and one of how that ended.

` + jsonHelp("rows, and next where there are older ones (for --before)", "row",
			`id, time, by, action, result, job, device, artifact, detail`) + `

` + readExits(),
		Example: `  fleetctl audit list --by alice
  fleetctl audit list --job 12 -o json`,
		Args: cobra.NoArgs,
	}
	out.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&query.By, "by", "", "only what this `user` asked for")
	fl.StringVar(&query.Action, "action", "", "only this `action`, such as job.submit")
	fl.StringVar(&query.Job, "job", "", "only what concerns this job's `id`")
	fl.StringVar(&query.Device, "device", "", "only what names this `device`")
	fl.IntVar(&query.Limit, "limit", 50, "list at most `n` entries")
	fl.Uint64Var(&query.Before, "before", 0, "only entries older than this `id`")
	_ = cmd.RegisterFlagCompletionFunc("device", a.completeDevices)
	cmd.RunE = a.with(func(ctx context.Context, f fleet, _ []string) error {
		if query.Limit < 1 {
			return fault.New(fault.Invalid, "--limit must be at least 1")
		}
		if _, err := out.format(); err != nil {
			return err
		}
		doc, err := readAudit(ctx, f, query)
		if err != nil {
			return err
		}
		rows, err := output.Rows(doc.Rows)
		if err != nil {
			return fault.Wrap(fault.Internal, "print the audit", err)
		}
		if err := a.print(&out, answer{view: auditView(), rows: rows, doc: doc, empty: "there are no entries"}); err != nil {
			return err
		}
		if doc.Next != 0 {
			a.remark("older entries: --before %d", doc.Next)
		}
		return nil
	})
	return cmd
}

// readAudit asks until it has as many entries as wanted: fleetd bounds how much
// it reads for one answer.
func readAudit(ctx context.Context, f fleet, query api.AuditQuery) (auditDoc, error) {
	const page = 1000 // as many as fleetd gives at once
	doc := auditDoc{Rows: []api.AuditEntry{}}
	for want := query.Limit; ; {
		query.Limit = min(want-len(doc.Rows), page)
		l, err := f.Audit(ctx, query)
		if err != nil {
			return auditDoc{}, err
		}
		doc.Rows, doc.Next = append(doc.Rows, l.Rows...), l.Next
		if doc.Next == 0 || len(doc.Rows) >= want {
			return doc, nil
		}
		query.Before = doc.Next
	}
}

func auditView() output.View {
	return output.View{Table: []output.Column{
		{Key: "id", Head: "ID", Kind: output.Number, Wide: true},
		{Key: "time", Head: "TIME", Kind: output.Time, Fixed: true},
		{Key: "by", Head: "BY"},
		{Key: "action", Head: "ACTION", Fixed: true},
		{Key: "result", Head: "RESULT", Kind: output.State},
		{Key: "job", Head: "JOB"},
		{Key: "device", Head: "DEVICE"},
		{Key: "artifact", Head: "ARTIFACT", Wide: true},
		{Key: "detail", Head: "DETAIL"},
	}}
}
