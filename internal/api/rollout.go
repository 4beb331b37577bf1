package api

import (
	"context"
	"net/http"
	"time"
)

// RolloutService answers for changes that go over many units.
type RolloutService interface {
	// Plan says how the rollout of a request would go, and starts nothing.
	Plan(ctx context.Context, by string, req JobRequest) (Plan, error)
	// Approve lets a rollout begin that waits for it. By has to be another user than
	// the one who asked for the job.
	Approve(ctx context.Context, id, by string) (Job, error)
}

// Rollout says how a change goes over many units (devices, or HA pairs as one). A
// field that is left out has its default.
type Rollout struct {
	Canary          *int       `json:"canary,omitempty" minimum:"0" doc:"units that are changed first; any failure among them stops the rollout; default 1, 0 is none"`
	Wave            string     `json:"wave,omitempty" maxLength:"16" doc:"units of each wave after that, a number or a percentage as 10%; default 10%"`
	MaxFailures     string     `json:"max_failures,omitempty" maxLength:"16" doc:"failed units that stop the rollout, a number or a percentage, at least 1; default the size of a wave"`
	SoakSeconds     int64      `json:"soak_seconds,omitempty" minimum:"0" maximum:"31536000" doc:"pause after each wave in which something changed"`
	PauseAfter      string     `json:"pause_after,omitempty" enum:"canary" doc:"pause the job after the canary"`
	Approve         bool       `json:"approve,omitempty" doc:"nothing is done before another user has approved"`
	Window          []string   `json:"window,omitempty" maxItems:"16" doc:"when units may be begun, as Sat 22:00+4h, in each site's time zone"`
	Start           *time.Time `json:"start,omitempty" doc:"nothing is begun before"`
	End             *time.Time `json:"end,omitempty" doc:"nothing is begun that might not be done by then"`
	ResumeWindow    bool       `json:"resume_window,omitempty" doc:"what did not fit into a window waits for the next; otherwise it is skipped"`
	RequireCoverage bool       `json:"require_coverage,omitempty" doc:"refuse to leave a link without cover that a single device covers"`
}

// Plan is the body of POST /v1/plan: a rollout laid out, with times as they would be
// if it was begun now and each unit took as long as it may.
type Plan struct {
	Operation   string        `json:"operation"`
	Canary      int           `json:"canary" doc:"units of the first wave for being the canary; 0 is none"`
	WaveSize    int           `json:"wave_size" doc:"units of the waves after it"`
	Waves       int           `json:"waves"`
	MaxFailures int           `json:"max_failures" doc:"failed units that stop it"`
	EndsAt      *time.Time    `json:"ends_at" doc:"when the last unit would be done at the latest; null when none would begin"`
	Rows        []PlannedUnit `json:"rows" doc:"the units in the order in which they are taken"`
	Warnings    []string      `json:"warnings"`
	Refusals    []string      `json:"refusals" doc:"why the request would be refused; none when it would not"`
}

// PlannedUnit is one unit of a plan.
type PlannedUnit struct {
	Unit             string     `json:"unit"`
	Devices          []string   `json:"devices"`
	Wave             int        `json:"wave" doc:"0 is the first"`
	Site             string     `json:"site"`
	TimeZone         string     `json:"time_zone" doc:"of its windows"`
	Covers           []string   `json:"covers" doc:"links that it watches"`
	WorstCaseSeconds int64      `json:"worst_case_seconds" doc:"the longest that it may take; 0 is not known"`
	BeginAt          *time.Time `json:"begin_at" doc:"at the latest, if nothing is in the way; null when it would be skipped"`
	EndAt            *time.Time `json:"end_at" doc:"its worst-case end"`
	LatestBeginAt    *time.Time `json:"latest_begin_at" doc:"by when it has to begin to fit into its window; null is any time"`
	Skipped          string     `json:"skipped,omitempty" doc:"why it would not be changed"`
}

func (s *Server) rolloutRoutes() []route {
	return []route{
		handle(s, "POST", "/v1/plan", "plan-rollout", "How the rollout of a request would go; starts nothing", s.plan),
		handle(s, "POST", "/v1/jobs/{id}/approve", "approve-job", "Let a rollout begin that waits for approval", s.approve,
			status(http.StatusAccepted)),
	}
}

func (s *Server) plan(ctx context.Context, in *struct{ Body JobRequest }) (*answer[Plan], error) {
	p, err := s.service.Plan(ctx, peer(ctx), in.Body)
	p.Rows, p.Warnings, p.Refusals = notNil(p.Rows), notNil(p.Warnings), notNil(p.Refusals)
	return answered(p, err)
}

func (s *Server) approve(ctx context.Context, in *idInput) (*jobReply, error) {
	return reply(s.service.Approve(ctx, in.ID, peer(ctx)))
}
