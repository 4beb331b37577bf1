package api

import (
	"context"
	"time"
)

// HistoryService answers for what reports said about storage over time.
type HistoryService interface {
	// History gives the points of a device's rings and file systems since a time.
	History(ctx context.Context, device string, since time.Time) ([]HistorySeries, error)
}

// HistorySeries is a ring or a file system with a point for each day.
type HistorySeries struct {
	Device string         `json:"device"`
	Name   string         `json:"name"`
	Kind   string         `json:"kind" doc:"rotation-file or filesystem"`
	Points []HistoryPoint `json:"points"`
}

// HistoryPoint is what the last report of a day said.
type HistoryPoint struct {
	Time             time.Time `json:"time"`
	UsedBytes        *int64    `json:"used_bytes"`
	LimitBytes       *int64    `json:"limit_bytes"`
	RetentionSeconds *int64    `json:"vision_retention_seconds"`
	VisionBytes      *int64    `json:"vision_size_bytes"`
}

// HistoryList is the answer of GET /v1/devices/{name}/history.
type HistoryList struct {
	Rows []HistorySeries `json:"rows"`
}

func (s *Server) historyRoutes() []route {
	return []route{
		handle(s, "GET", "/v1/devices/{name}/history", "get-history", "What reports said of a device's storage, a point a day", s.history),
	}
}

func (s *Server) history(ctx context.Context, in *struct {
	Name string `path:"name" maxLength:"256" doc:"exact name"`
	Days int    `query:"days" minimum:"1" maximum:"732" default:"365" doc:"how far back"`
}) (*answer[HistoryList], error) {
	rows, err := s.service.History(ctx, in.Name, time.Now().AddDate(0, 0, -in.Days))
	return answered(HistoryList{Rows: notNil(rows)}, err)
}
