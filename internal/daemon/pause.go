package daemon

import (
	"context"

	"capfleet/internal/api"
)

func (s service) Pause(ctx context.Context, id, by string) (api.Job, error) {
	j, err := s.d.engine.Pause(ctx, id, by)
	if err == nil {
		s.d.log.Info("job paused", "job", id, "by", by)
	}
	return out(j, err)
}

func (s service) Resume(ctx context.Context, id, by string) (api.Job, error) {
	j, err := s.d.engine.Resume(ctx, id, by)
	if err == nil {
		s.d.log.Info("job resumed", "job", id, "by", by)
	}
	return out(j, err)
}

func (s service) Stop(ctx context.Context, id, by string) (api.Job, error) {
	j, err := s.d.engine.Stop(ctx, id, by)
	if err == nil {
		s.d.log.Info("job asked to stop together", "job", id, "by", by)
	}
	return out(j, err)
}
