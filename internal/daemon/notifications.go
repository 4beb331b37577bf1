package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"slices"
	"time"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
	"capfleet/internal/history"
	"capfleet/internal/jobs"
	"capfleet/internal/notify"
	"capfleet/internal/report"
	"capfleet/internal/schedule"
)

// openDerived opens what is made of events, once the engine is there.
func (d *Daemon) openDerived() error {
	host, err := os.Hostname()
	if err != nil {
		d.log.Warn("this host has no name; syslog messages will not carry one", "err", err)
	}
	d.notify, err = notify.New(notify.Options{Ledger: d.ledger, Config: d.opts.Notifications, Result: d.resultOf, Host: host, Logger: d.log, Now: d.now})
	if err != nil {
		return err
	}
	d.schedules = schedule.New(schedule.Options{Ledger: d.ledger, Jobs: scheduled{d}, Decided: d.decided, Committed: d.notify.Wake, LookEvery: d.opts.LookEvery, Logger: d.log, Now: d.now})
	return nil
}

// resultOf makes the files that are delivered of a job: its rows with the headings
// that people's spreadsheets have, and the devices that could not be read.
func (d *Daemon) resultOf(ctx context.Context, id string) (notify.Result, error) {
	job, _, err := d.engine.Job(ctx, id)
	if err != nil {
		return notify.Result{}, err
	}
	var rows []json.RawMessage
	if err := d.engine.Rows(ctx, id, func(_ string, of []json.RawMessage) error {
		rows = append(rows, of...)
		return nil
	}); err != nil {
		return notify.Result{}, err
	}
	var b bytes.Buffer
	if err := output.Write(&b, output.CSV, resultView(job, rows), rows, nil, output.Screen{}); err != nil {
		return notify.Result{}, fault.Wrap(fault.Internal, "write the rows of job "+id, err)
	}
	r := notify.Result{CSV: slices.Clone(b.Bytes())}
	tasks, err := d.engine.Tasks(ctx, id)
	if err != nil {
		return r, err
	}
	var failures []jobs.Failure
	for _, t := range tasks {
		if t.Failure != nil {
			failures = append(failures, *t.Failure)
		}
	}
	if r.Failed = len(failures); r.Failed == 0 {
		return r, nil
	}
	lines, err := output.Rows(failures)
	if err != nil {
		return r, fault.Wrap(fault.Internal, "write the failures of job "+id, err)
	}
	b.Reset()
	err = output.Write(&b, output.CSV, output.View{Table: []output.Column{{Key: "device", Head: "Device"}, {Key: "stage", Head: "Stage"},
		{Key: "kind", Head: "Kind"}, {Key: "message", Head: "Message"}}}, lines, nil, output.Screen{})
	r.Failures = b.Bytes()
	return r, fault.Wrap(fault.Internal, "write the failures of job "+id, err)
}

// resultView is how a job's rows are laid out: as fleetctl does for reports, and with
// the rows' own keys for anything else.
func resultView(job jobs.Job, rows []json.RawMessage) output.View {
	name := job.Operation
	if name == "report" {
		var spec report.Spec
		if json.Unmarshal(job.Spec, &spec) == nil && !spec.Record {
			name = spec.Report
		}
	}
	if view := output.ReportView(name); view.Table != nil {
		return view
	}
	return output.ViewOfKeys(rows)
}

func (s service) Receivers(ctx context.Context) ([]api.Receiver, error) {
	all, err := s.d.notify.List(ctx)
	if err != nil {
		return nil, err
	}
	rows := make([]api.Receiver, 0, len(all))
	for _, r := range all {
		rows = append(rows, api.Receiver{Name: r.Name, Kind: r.Kind, Target: r.Target, Conditions: list(r.Conditions), Waiting: r.Waiting,
			OldestAt: someTime(r.Oldest), LastSentAt: someTime(r.LastSent), LastError: r.LastError})
	}
	return rows, nil
}

func (s service) TestReceiver(ctx context.Context, name, by string) (api.Notification, error) {
	m, err := s.d.notify.SendTest(ctx, name, by)
	if err != nil {
		return api.Notification{}, err
	}
	s.d.log.Info("test message sent", "receiver", name, "by", by, "id", m.ID)
	return api.Notification{ID: m.ID, Condition: string(m.Condition), Receiver: name, Time: m.Time, Summary: m.Summary}, nil
}

// someTime is a time as a body has it; zero is null.
func someTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.Truncate(time.Second)
	return utc(&t)
}

func (s service) History(ctx context.Context, name string, since time.Time) ([]api.HistorySeries, error) {
	if _, err := s.d.inventory.Load().Device(name); err != nil {
		return nil, err
	}
	if err := s.d.caughtUp(ctx); err != nil {
		return nil, err
	}
	var rows []api.HistorySeries
	for _, kind := range []history.Kind{history.Ring, history.Filesystem} {
		all, err := s.d.history.All(ctx, kind, name)
		if err != nil {
			return nil, err
		}
		for _, of := range all {
			points, err := s.d.history.Points(ctx, of, since)
			if err != nil {
				return nil, err
			}
			row := api.HistorySeries{Device: of.Device, Name: of.Name, Kind: string(of.Kind), Points: make([]api.HistoryPoint, 0, len(points))}
			for _, p := range points {
				row.Points = append(row.Points, api.HistoryPoint{Time: p.Time, UsedBytes: figure(p.Used), LimitBytes: figure(p.Limit),
					RetentionSeconds: figure(p.Retention), VisionBytes: figure(p.Vision)})
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func figure(n int64) *int64 {
	if n == history.None {
		return nil
	}
	return &n
}

// pruneDerived removes what the history and the outbox do not keep.
func (d *Daemon) pruneDerived(ctx context.Context) {
	if n, err := d.history.Prune(ctx, d.now()); err != nil && ctx.Err() == nil {
		d.log.Error("old history could not be removed; trying again", "err", err)
	} else if n > 0 {
		d.log.Info("history removed that no report has added to", "series", n)
	}
	if _, err := d.notify.Prune(ctx); err != nil && ctx.Err() == nil {
		d.log.Error("old notifications could not be forgotten; trying again", "err", err)
	}
}
