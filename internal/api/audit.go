package api

import (
	"context"
	"time"
)

// AuditService answers for who changed what.
type AuditService interface {
	// Audit gives entries, newest first.
	Audit(ctx context.Context, q AuditQuery) (AuditList, error)
}

// AuditEntry is one change that somebody asked for.
type AuditEntry struct {
	ID       uint64    `json:"id" doc:"ascending"`
	Time     time.Time `json:"time"`
	By       string    `json:"by" doc:"the user at the other end of the socket"`
	Action   string    `json:"action" doc:"job.submit, job.cancel, job.retry, job.pause, job.resume, job.stop, host_key.pin, artifact.add, artifact.remove"`
	Result   string    `json:"result" doc:"done; for what changes more than the ledger also begun, and then done or failed"`
	Job      string    `json:"job"`
	Device   string    `json:"device"`
	Artifact string    `json:"artifact" doc:"SHA-256"`
	Detail   string    `json:"detail"`
}

// AuditList is the body of GET /v1/audit.
type AuditList struct {
	Rows []AuditEntry `json:"rows" doc:"newest first"`
	Next uint64       `json:"next,omitempty" doc:"pass as before= to go on; there can be more even when fewer rows than the limit came"`
}

// AuditQuery limits GET /v1/audit; what is empty chooses all.
type AuditQuery struct {
	Before uint64 `query:"before" doc:"only entries older than this id"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	By     string `query:"by" maxLength:"256" doc:"only what this user asked for"`
	Action string `query:"action" maxLength:"64" doc:"only this action"`
	Job    string `query:"job" maxLength:"64" doc:"only what concerns this job"`
	Device string `query:"device" maxLength:"256" doc:"only what names this device; a job's devices are in the job"`
}

func (s *Server) auditRoutes() []route {
	return []route{handle(s, "GET", "/v1/audit", "list-audit", "Who changed what, newest first", s.audit)}
}

func (s *Server) audit(ctx context.Context, in *AuditQuery) (*answer[AuditList], error) {
	l, err := s.service.Audit(ctx, *in)
	l.Rows = notNil(l.Rows)
	return answered(l, err)
}
