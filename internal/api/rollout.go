package api

import "time"

// Rollout says how a change goes over many units (devices, or HA pairs as one). A
// field that is left out has its default.
type Rollout struct {
	Canary          *int       `json:"canary,omitempty" minimum:"0" doc:"units that are changed first; any failure among them stops the rollout; default 1, 0 is none"`
	Wave            string     `json:"wave,omitempty" maxLength:"16" doc:"units of each wave after that, a number or a percentage as 10%; default 10%"`
	MaxFailures     string     `json:"max_failures,omitempty" maxLength:"16" doc:"failed units that stop the rollout, a number or a percentage, at least 1; default the size of a wave"`
	SoakSeconds     int64      `json:"soak_seconds,omitempty" minimum:"0" doc:"pause after each wave in which something changed"`
	PauseAfter      string     `json:"pause_after,omitempty" enum:"canary" doc:"pause the job after the canary"`
	Approve         bool       `json:"approve,omitempty" doc:"nothing is done before another user has approved"`
	Window          []string   `json:"window,omitempty" maxItems:"16" doc:"when units may be begun, as Sat 22:00+4h, in each site's time zone"`
	Start           *time.Time `json:"start,omitempty" doc:"nothing is begun before"`
	End             *time.Time `json:"end,omitempty" doc:"nothing is begun that might not be done by then"`
	ResumeWindow    bool       `json:"resume_window,omitempty" doc:"what did not fit into a window waits for the next; otherwise it is skipped"`
	RequireCoverage bool       `json:"require_coverage,omitempty" doc:"refuse to leave a link without cover that a single device covers"`
}
