package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"capfleet/internal/api"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
	"capfleet/internal/schedule"
)

// scheduled is the engine as schedules see it.
type scheduled struct{ d *Daemon }

// Start implements schedule.Jobs: the same way in as everybody's.
func (s scheduled) Start(ctx context.Context, by, requestID string, request json.RawMessage) (string, error) {
	req, err := jobRequest(request)
	if err != nil {
		return "", err
	}
	req.RequestID = requestID
	job, err := s.d.Start(ctx, by, req)
	return job.ID, err
}

// Finished implements schedule.Jobs.
func (s scheduled) Finished(ctx context.Context, id string) (bool, error) {
	job, _, err := s.d.engine.Job(ctx, id)
	if fault.Is(err, fault.NotFound) { // retention took it, which takes finished ones alone
		return true, nil
	}
	return job.FinishedAt != nil, err
}

// jobRequest reads a request as a schedule keeps it.
func jobRequest(raw json.RawMessage) (req api.JobRequest, err error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		return req, &fault.Error{Kind: fault.Invalid, Act: "read the schedule's request", Err: err}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return req, fault.New(fault.Invalid, "the schedule's request is followed by something else")
	}
	return req, nil
}

func (s service) Schedules(ctx context.Context) ([]api.Schedule, error) {
	list, err := s.d.schedules.List(ctx)
	if err != nil {
		return nil, err
	}
	rows := make([]api.Schedule, 0, len(list))
	for _, l := range list {
		row, err := scheduleOut(l)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (s service) Schedule(ctx context.Context, name string, next int) (api.Schedule, error) {
	l, err := s.d.schedules.Get(ctx, name)
	if err != nil {
		return api.Schedule{}, err
	}
	out, err := scheduleOut(l)
	if err != nil {
		return out, err
	}
	out.Next, err = nextTimes(l, next)
	return out, err
}

// AddSchedule lets the operation check the request on the devices that it stands
// for now: what would be refused at its first run is refused here.
func (s service) AddSchedule(ctx context.Context, by string, req api.ScheduleRequest) (api.Schedule, error) {
	if req.Request.RequestID != "" {
		return api.Schedule{}, fault.New(fault.Invalid, "a schedule's request has no request id: each run has one of its own")
	}
	if err := s.d.notify.CheckDelivery(req.Deliver); err != nil {
		return api.Schedule{}, err
	}
	access, err := s.d.tryRequest(ctx, by, req.Request)
	if err != nil {
		return api.Schedule{}, err
	}
	raw, err := json.Marshal(req.Request)
	if err != nil {
		return api.Schedule{}, fault.Wrap(fault.Internal, "keep the request", err)
	}
	l, err := s.d.schedules.Add(ctx, schedule.Schedule{
		Name: req.Name, Cron: req.Cron, TimeZone: req.TimeZone, Request: raw, Change: access == operation.Change,
		Overlap: schedule.Overlap(req.Overlap), Missed: schedule.Missed(req.Missed),
		Jitter: time.Duration(req.JitterSeconds) * time.Second, Deliver: req.Deliver, CreatedBy: by,
	})
	if err != nil {
		return api.Schedule{}, err
	}
	s.d.log.Info("schedule added", "schedule", l.Name, "by", by, "cron", l.Cron, "zone", l.TimeZone, "next", l.Next)
	out, err := scheduleOut(l)
	if err != nil {
		return out, err
	}
	const shown = 3
	out.Next, err = nextTimes(l, shown)
	return out, err
}

// tryRequest checks a request as Start does, starting nothing, and gives what it
// does to devices. A change by the clock needs a window that it stays in.
func (d *Daemon) tryRequest(ctx context.Context, by string, req api.JobRequest) (operation.Access, error) {
	request, err := d.request(ctx, by, req)
	if err != nil {
		return "", err
	}
	access := operation.Access(request.Access)
	if r := req.Rollout; access == operation.Change && (r == nil || len(r.Window) == 0) {
		return "", &fault.Error{Kind: fault.Invalid, Act: "put a change on a schedule", Err: errors.New("it names no window"),
			Next: "add --window, such as --window 'Sat 22:00+4h', to the command"}
	}
	return access, nil
}

func (s service) ApproveSchedule(ctx context.Context, name, by string) (api.Schedule, error) {
	l, err := s.d.schedules.Approve(ctx, name, by)
	if err != nil {
		return api.Schedule{}, err
	}
	s.d.log.Info("schedule approved", "schedule", name, "by", by)
	return scheduleOut(l)
}

func (s service) RemoveSchedule(ctx context.Context, name, by string) error {
	err := s.d.schedules.Remove(ctx, name, by)
	if err == nil {
		s.d.log.Info("schedule removed", "schedule", name, "by", by)
	}
	return err
}

func (s service) RunSchedule(ctx context.Context, name, by, token string) (api.Job, error) {
	id, err := s.d.schedules.RunNow(ctx, name, by, token)
	if err != nil {
		return api.Job{}, err
	}
	return s.Job(ctx, id)
}

func (s service) ScheduleRuns(ctx context.Context, name string, limit int) ([]api.ScheduleRun, error) {
	runs, err := s.d.schedules.Runs(ctx, name, limit)
	if err != nil {
		return nil, err
	}
	rows := make([]api.ScheduleRun, 0, len(runs))
	for _, run := range runs {
		rows = append(rows, runOut(run))
	}
	return rows, nil
}

func scheduleOut(l schedule.Listed) (api.Schedule, error) {
	req, err := jobRequest(l.Request)
	if err != nil {
		return api.Schedule{}, err
	}
	o := api.Schedule{
		Name: l.Name, Cron: l.Cron, TimeZone: l.TimeZone, Request: req, Access: string(operation.Read),
		Overlap: string(l.Overlap), Missed: string(l.Missed), JitterSeconds: int(l.Jitter / time.Second), Deliver: list(l.Deliver),
		CreatedBy: l.CreatedBy, CreatedAt: l.CreatedAt.UTC(), ApprovedBy: l.ApprovedBy, ApprovedAt: utc(l.ApprovedAt),
		QueuedAt: utc(l.State.Queued), LastJob: l.State.Job,
	}
	if l.Change {
		o.Access = string(operation.Change)
	}
	if !l.Next.IsZero() {
		o.NextAt = utc(&l.Next)
	}
	if l.State.Last != nil {
		run := runOut(*l.State.Last)
		o.Last = &run
	}
	return o, nil
}

func runOut(run schedule.Run) api.ScheduleRun {
	return api.ScheduleRun{Schedule: run.Schedule, Occurrence: run.Occurrence.UTC().Truncate(time.Second), At: run.At.UTC().Truncate(time.Second), Outcome: string(run.Outcome),
		Job: run.Job, Reason: run.Reason, Count: max(run.Count, 1), By: run.By}
}

// nextTimes gives the next times of a schedule that are not decided yet.
func nextTimes(l schedule.Listed, n int) ([]time.Time, error) {
	e, err := l.Expression()
	if err != nil {
		return nil, err
	}
	times := make([]time.Time, 0, n)
	for at := e.Next(l.State.Decided); len(times) < n && !at.IsZero(); at = e.Next(at) {
		times = append(times, at)
	}
	return times, nil
}
