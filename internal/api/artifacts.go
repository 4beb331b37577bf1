package api

import (
	"context"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// ArtifactStore answers for what operators do with kept files.
type ArtifactStore interface {
	// FindArtifacts lists the artifacts, of one job or with "" of all, whose digest
	// begins with a prefix of 1 to 64 hexadecimal digits.
	FindArtifacts(ctx context.Context, job, prefix string) ([]Artifact, error)
	// AddArtifact keeps what r gives until its end, or nothing when r fails. By is
	// who asked.
	AddArtifact(ctx context.Context, by, name, mediaType string, r io.Reader) (Artifact, error)
	// RemoveArtifact takes out a file with all its entries, and gives those.
	RemoveArtifact(ctx context.Context, by, sha256 string) ([]Artifact, error)
}

func (s *Server) artifactRoutes() []route {
	const artifacts = "/v1/artifacts"
	return []route{
		handle(s, "POST", artifacts, "add-artifact", "Keep a file; the same content is kept once", s.addArtifact,
			status(http.StatusCreated), content("application/octet-stream")),
		handle(s, "DELETE", artifacts+"/{sha256}", "remove-artifact", "Remove a kept file with all its entries", s.removeArtifact,
			status(http.StatusOK)),
	}
}

// content describes the body of a request that the handler reads itself.
func content(mediaType string) func(huma.API, *huma.Operation) {
	return func(_ huma.API, op *huma.Operation) {
		op.RequestBody = &huma.RequestBody{Required: true, Description: "the file's bytes, of any media type",
			Content: map[string]*huma.MediaType{mediaType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}}
	}
}

// addArtifactInput takes the body as a stream: a file may be larger than memory.
type addArtifactInput struct {
	Name      string `query:"name" required:"true" minLength:"1" maxLength:"1024" doc:"the file's name"`
	MediaType string `header:"Content-Type"`
	body      io.Reader
}

// Resolve implements huma.Resolver.
func (in *addArtifactInput) Resolve(hc huma.Context) []error {
	in.body = hc.BodyReader()
	return nil
}

func (s *Server) addArtifact(ctx context.Context, in *addArtifactInput) (*answer[Artifact], error) {
	return answered(s.service.AddArtifact(ctx, peer(ctx), in.Name, in.MediaType, in.body))
}

func (s *Server) removeArtifact(ctx context.Context, in *artifactInput) (*answer[ArtifactList], error) {
	rows, err := s.service.RemoveArtifact(ctx, peer(ctx), in.SHA256)
	return answered(ArtifactList{Rows: notNil(rows)}, err)
}
