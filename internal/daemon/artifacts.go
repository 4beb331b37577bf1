package daemon

import (
	"context"
	"io"
	"slices"

	"capfleet/internal/api"
	"capfleet/internal/artifact"
)

// maxFound bounds an answer about a prefix; one digit fits every sixteenth file.
const maxFound = 1000

func (s service) FindArtifacts(ctx context.Context, job, prefix string) ([]api.Artifact, error) {
	limit := maxFound
	if job != "" {
		limit = 0 // it is the job's that are counted
	}
	list, err := s.d.artifacts.Find(ctx, prefix, limit)
	if err != nil {
		return nil, err
	}
	if job != "" {
		list = slices.DeleteFunc(list, func(a artifact.Artifact) bool { return a.Job != job })
	}
	return artifactsOut(list), nil
}

func (s service) AddArtifact(ctx context.Context, by, name, mediaType string, r io.Reader) (api.Artifact, error) {
	if err := s.d.ledger.Room(); err != nil {
		return api.Artifact{}, err
	}
	a, err := s.d.artifacts.Put(ctx, artifact.Meta{Name: name, MediaType: mediaType, CreatedBy: by}, &roomy{from: r, room: s.d.ledger.Room})
	if err != nil {
		return api.Artifact{}, err
	}
	s.d.log.Info("artifact added", "sha256", a.SHA256, "name", a.Name, "bytes", a.Size, "by", by)
	return artifactOut(a), nil
}

// roomEvery is after how many bytes it is asked again whether there is room.
const roomEvery = 4 << 20

// roomy reads until there is no room for what is read: an upload must not take the
// space that results of running work are written to.
type roomy struct {
	from io.Reader
	room func() error
	left int // bytes until it is asked again
}

func (r *roomy) Read(p []byte) (int, error) {
	if r.left <= 0 {
		if err := r.room(); err != nil {
			return 0, err
		}
		r.left = roomEvery
	}
	n, err := r.from.Read(p[:min(len(p), r.left)])
	r.left -= n
	return n, err
}

func (s service) RemoveArtifact(ctx context.Context, by, sha string) ([]api.Artifact, error) {
	list, err := s.d.artifacts.Find(ctx, sha, 0)
	if err != nil {
		return nil, err
	}
	if err := s.d.artifacts.RemoveFor(ctx, sha, by); err != nil {
		return nil, err
	}
	for _, a := range list {
		s.d.log.Info("artifact removed", "sha256", a.SHA256, "name", a.Name, "bytes", a.Size, "job", a.Job, "device", a.Device, "by", by)
	}
	return artifactsOut(list), nil
}

func artifactsOut(list []artifact.Artifact) []api.Artifact {
	out := make([]api.Artifact, 0, len(list))
	for _, a := range list {
		out = append(out, artifactOut(a))
	}
	return out
}
