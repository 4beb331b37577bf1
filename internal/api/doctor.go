package api

import (
	"context"
	"net/http"
	"time"
)

// Finding is what one look at fleetd's host gave.
type Finding struct {
	Area     string `json:"area" doc:"inventory, secrets, host keys, disk, clock, templates"`
	Subject  string `json:"subject"`
	Severity string `json:"severity" doc:"ok, warning or error"`
	Message  string `json:"message"`
	Next     string `json:"next" doc:"what to do; empty where nothing is to be done"`
}

// Examination is the body of POST /v1/examine.
type Examination struct {
	Rows []Finding `json:"rows" doc:"at least one for each area"`
	Now  time.Time `json:"now" doc:"fleetd's clock"`
}

// DoctorService looks at fleetd's own host.
type DoctorService interface {
	// Examine looks for what would stop work. It calls no device and changes nothing;
	// secrets are read, and commands that give them are run.
	Examine(ctx context.Context, by string) (Examination, error)
}

func (s *Server) doctorRoutes() []route {
	return []route{
		// Not a GET: it runs commands, and what looks may not do that.
		handle(s, "POST", "/v1/examine", "examine", "Look on fleetd's host for what would stop work", s.examine, status(http.StatusOK)),
	}
}

func (s *Server) examine(ctx context.Context, _ *nothing) (*answer[Examination], error) {
	e, err := s.service.Examine(ctx, peer(ctx))
	e.Rows = notNil(e.Rows)
	return answered(e, err)
}
