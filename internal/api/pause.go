package api

import (
	"context"
	"net/http"
)

// JobPauser holds jobs back and lets them go on. By is who asked.
type JobPauser interface {
	// Pause has a job hand out nothing new; what runs goes on to its end.
	Pause(ctx context.Context, id, by string) (Job, error)
	// Resume lets a paused job go on.
	Resume(ctx context.Context, id, by string) (Job, error)
	// Stop has the devices of a coordinated job end what they do together and bring
	// it to its end.
	Stop(ctx context.Context, id, by string) (Job, error)
}

func (s *Server) pauseRoutes() []route {
	const job = "/v1/jobs/{id}"
	return []route{
		handle(s, "POST", job+"/pause", "pause-job", "Hand out nothing new of a job; what runs goes on to its end", s.pause,
			status(http.StatusAccepted)),
		handle(s, "POST", job+"/resume", "resume-job", "Let a paused job go on", s.resume, status(http.StatusAccepted)),
		handle(s, "POST", job+"/stop", "stop-job", "Have the devices of a coordinated job (a ring capture) stop together and finish", s.stop,
			status(http.StatusAccepted)),
	}
}

func (s *Server) pause(ctx context.Context, in *idInput) (*jobReply, error) {
	return reply(s.service.Pause(ctx, in.ID, peer(ctx)))
}

func (s *Server) resume(ctx context.Context, in *idInput) (*jobReply, error) {
	return reply(s.service.Resume(ctx, in.ID, peer(ctx)))
}

func (s *Server) stop(ctx context.Context, in *idInput) (*jobReply, error) {
	return reply(s.service.Stop(ctx, in.ID, peer(ctx)))
}
