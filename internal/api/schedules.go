package api

import (
	"context"
	"net/http"
	"time"
)

// ScheduleService answers for what starts by the clock. A schedule that does not
// exist is fault.NotFound. By is who asked.
type ScheduleService interface {
	// Schedules gives all of them in order of name.
	Schedules(ctx context.Context) ([]Schedule, error)
	// Schedule gives one with its next times, at most so many.
	Schedule(ctx context.Context, name string, next int) (Schedule, error)
	// AddSchedule checks a request as Start would and keeps it with its times.
	AddSchedule(ctx context.Context, by string, req ScheduleRequest) (Schedule, error)
	// ApproveSchedule lets one that changes devices run; by is another than its maker.
	ApproveSchedule(ctx context.Context, name, by string) (Schedule, error)
	RemoveSchedule(ctx context.Context, name, by string) error
	// RunSchedule runs one now, beside its times. The same token is the same run.
	RunSchedule(ctx context.Context, name, by, token string) (Job, error)
	// ScheduleRuns gives what became of its occurrences, newest first.
	ScheduleRuns(ctx context.Context, name string, limit int) ([]ScheduleRun, error)
}

// ScheduleRequest is the body of POST /v1/schedules.
type ScheduleRequest struct {
	Name     string     `json:"name" pattern:"^[a-z0-9][a-z0-9._-]{0,62}$" doc:"how it is called from now on"`
	Cron     string     `json:"cron" maxLength:"200" doc:"minute, hour, day of month, month, day of week; or @hourly, @daily, @weekly, @monthly, @yearly"`
	TimeZone string     `json:"time_zone,omitempty" maxLength:"64" doc:"IANA name; UTC when absent"`
	Request  JobRequest `json:"request" doc:"what is started; without a request id"`
	Overlap  string     `json:"overlap,omitempty" doc:"while the job before has not finished: skip (default), queue or allow"`
	Missed   string     `json:"missed,omitempty" doc:"when its time passed while fleetd did not run: run once (default) or report"`
	// JitterSeconds spreads the starts of many schedules.
	JitterSeconds int      `json:"jitter_seconds,omitempty" minimum:"0" maximum:"86400" doc:"each start is put off by up to so much"`
	Deliver       []string `json:"deliver,omitempty" maxItems:"16" doc:"receivers of each run's result, as fleetd's configuration names them"`
}

// Schedule is a request with its times, and how far it has come.
type Schedule struct {
	Name          string       `json:"name"`
	Cron          string       `json:"cron"`
	TimeZone      string       `json:"time_zone"`
	Request       JobRequest   `json:"request"`
	Access        string       `json:"access" doc:"read or change; a change runs once another user has approved it"`
	Overlap       string       `json:"overlap" doc:"skip, queue or allow"`
	Missed        string       `json:"missed" doc:"run or report"`
	JitterSeconds int          `json:"jitter_seconds"`
	Deliver       []string     `json:"deliver"`
	CreatedBy     string       `json:"created_by"`
	CreatedAt     time.Time    `json:"created_at"`
	ApprovedBy    string       `json:"approved_by,omitempty"`
	ApprovedAt    *time.Time   `json:"approved_at,omitempty"`
	NextAt        *time.Time   `json:"next_at" doc:"when the next run is due, jitter included; null when none is"`
	Next          []time.Time  `json:"next,omitempty" doc:"the next times, without jitter"`
	QueuedAt      *time.Time   `json:"queued_at,omitempty" doc:"the occurrence that waits for the job before it"`
	LastJob       string       `json:"last_job,omitempty"`
	Last          *ScheduleRun `json:"last,omitempty" doc:"what became of the last occurrence"`
}

// ScheduleRun is what became of an occurrence, or of several together.
type ScheduleRun struct {
	Schedule   string    `json:"schedule"`
	Occurrence time.Time `json:"occurrence" doc:"the time that the schedule names"`
	At         time.Time `json:"at" doc:"when it was decided"`
	Outcome    string    `json:"outcome" doc:"started, skipped, missed, merged (a later one ran for it) or failed"`
	Job        string    `json:"job"`
	Reason     string    `json:"reason"`
	Count      int       `json:"count" doc:"how many occurrences this stands for; 1000 is that many or more"`
	By         string    `json:"by" doc:"who ran it by hand; empty is the clock"`
}

// ScheduleList is the answer of GET /v1/schedules.
type ScheduleList struct {
	Rows []Schedule `json:"rows"`
}

// ScheduleRunList is the answer of GET /v1/schedules/{name}/runs.
type ScheduleRunList struct {
	Rows []ScheduleRun `json:"rows"`
}

func (s *Server) scheduleRoutes() []route {
	const schedules, schedule = "/v1/schedules", "/v1/schedules/{name}"
	return []route{
		handle(s, "GET", schedules, "list-schedules", "What starts by the clock", s.schedules),
		handle(s, "POST", schedules, "add-schedule", "Start a request at the times of a cron expression", s.addSchedule,
			status(http.StatusCreated)),
		handle(s, "GET", schedule, "get-schedule", "One schedule with its next times", s.schedule),
		handle(s, "DELETE", schedule, "remove-schedule", "Forget a schedule; jobs that it started go on", s.removeSchedule,
			status(http.StatusOK)),
		handle(s, "POST", schedule+"/approve", "approve-schedule", "Let a schedule that changes devices run", s.approveSchedule,
			status(http.StatusOK)),
		handle(s, "POST", schedule+"/run", "run-schedule", "Run a schedule now, beside its times", s.runSchedule,
			status(http.StatusAccepted)),
		handle(s, "GET", schedule+"/runs", "list-schedule-runs", "What became of a schedule's occurrences, newest first", s.scheduleRuns),
	}
}

type scheduleInput struct {
	Name string `path:"name" maxLength:"64" doc:"the schedule's name"`
}

func (s *Server) schedules(ctx context.Context, _ *nothing) (*answer[ScheduleList], error) {
	rows, err := s.service.Schedules(ctx)
	return answered(ScheduleList{Rows: notNil(rows)}, err)
}

func (s *Server) addSchedule(ctx context.Context, in *struct{ Body ScheduleRequest }) (*answer[Schedule], error) {
	return answered(s.service.AddSchedule(ctx, peer(ctx), in.Body))
}

func (s *Server) schedule(ctx context.Context, in *struct {
	Name string `path:"name" maxLength:"64" doc:"the schedule's name"`
	Next int    `query:"next" minimum:"0" maximum:"100" default:"5" doc:"how many next times to give"`
}) (*answer[Schedule], error) {
	return answered(s.service.Schedule(ctx, in.Name, in.Next))
}

func (s *Server) removeSchedule(ctx context.Context, in *scheduleInput) (*answer[Schedule], error) {
	was, err := s.service.Schedule(ctx, in.Name, 0)
	if err != nil {
		return nil, err
	}
	return answered(was, s.service.RemoveSchedule(ctx, in.Name, peer(ctx)))
}

func (s *Server) approveSchedule(ctx context.Context, in *scheduleInput) (*answer[Schedule], error) {
	return answered(s.service.ApproveSchedule(ctx, in.Name, peer(ctx)))
}

func (s *Server) runSchedule(ctx context.Context, in *struct {
	Name  string `path:"name" maxLength:"64" doc:"the schedule's name"`
	Token string `query:"token" pattern:"^[A-Za-z0-9-]{0,64}$" doc:"the same token again gives the same job and starts nothing"`
}) (*jobReply, error) {
	return reply(s.service.RunSchedule(ctx, in.Name, peer(ctx), in.Token))
}

func (s *Server) scheduleRuns(ctx context.Context, in *struct {
	Name  string `path:"name" maxLength:"64" doc:"the schedule's name"`
	Limit int    `query:"limit" minimum:"1" maximum:"200" default:"20"`
}) (*answer[ScheduleRunList], error) {
	rows, err := s.service.ScheduleRuns(ctx, in.Name, in.Limit)
	return answered(ScheduleRunList{Rows: notNil(rows)}, err)
}
