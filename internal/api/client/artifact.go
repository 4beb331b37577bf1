package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

// Artifact opens an artifact's content. The reader checks the digest: instead of
// io.EOF it ends with fault.Storage when the bytes are not those asked for.
func (c *Client) Artifact(ctx context.Context, sha string) (io.ReadCloser, error) {
	resp, err := c.do(ctx, http.MethodGet, path(nil, "artifacts", sha), nil, nil) //nolint:bodyclose // the reader that is given out closes it
	if err != nil {
		return nil, err
	}
	return &verified{ReadCloser: resp.Body, want: sha, sum: sha256.New(),
		broken: func(err error) error { return c.broken(ctx, err) }}, nil
}

// ArtifactFrom opens an artifact's content from an offset on, to go on with what
// was cut. Nothing is compared with the digest: the caller has the beginning.
func (c *Client) ArtifactFrom(ctx context.Context, sha string, offset int64) (io.ReadCloser, error) {
	resp, err := c.do(ctx, http.MethodGet, path(url.Values{"offset": {strconv.FormatInt(offset, 10)}}, "artifacts", sha), nil, nil) //nolint:bodyclose // the reader that is given out closes it
	if err != nil {
		return nil, err
	}
	return &remainder{ReadCloser: resp.Body, broken: func(err error) error { return c.broken(ctx, err) }}, nil
}

// remainder gives errors of the connection their kind.
type remainder struct {
	io.ReadCloser
	broken func(error) error
}

func (r *remainder) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.broken(err)
	}
	return n, err
}

type verified struct {
	io.ReadCloser
	want   string
	sum    hash.Hash
	broken func(error) error
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.ReadCloser.Read(p)
	v.sum.Write(p[:n])
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		if got := hex.EncodeToString(v.sum.Sum(nil)); got != v.want {
			return n, fault.New(fault.Storage, "artifact %s: the content has SHA-256 %s", v.want, got)
		}
	default:
		err = v.broken(err)
	}
	return n, err
}

// FindArtifacts lists the artifacts whose digest begins with prefix, of one job
// or with "" of all.
func (c *Client) FindArtifacts(ctx context.Context, job, prefix string) ([]api.Artifact, error) {
	q := url.Values{"digest": {prefix}}
	if job != "" {
		q.Set("job", job)
	}
	l, err := get[api.ArtifactList](ctx, c, path(q, "artifacts"))
	return l.Rows, err
}

// AddArtifact sends a file of size bytes, -1 where that is not known, and gives
// the entry that fleetd made of it. What fleetd keeps is checked against what was
// read here.
func (c *Client) AddArtifact(ctx context.Context, name, mediaType string, r io.Reader, size int64) (api.Artifact, error) {
	in := &source{r: r, sum: sha256.New()}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+path(url.Values{"name": {name}}, "artifacts"), io.NopCloser(in))
	if err != nil {
		return api.Artifact{}, fault.Wrap(fault.Invalid, "write the request", err)
	}
	req.ContentLength = size
	req.Header.Set("Content-Type", mediaType)
	resp, err := c.http.Do(req)
	if err != nil {
		if _, cause := in.ended(); cause != nil {
			// The connection was cut because of it.
			return api.Artifact{}, fault.Wrap(fault.Invalid, "read "+name, cause)
		}
		return api.Artifact{}, c.broken(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusCreated {
		return api.Artifact{}, problem(resp)
	}
	var a api.Artifact
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return api.Artifact{}, c.broken(ctx, fmt.Errorf("read the answer: %w", err))
	}
	if got, _ := in.ended(); got != a.SHA256 {
		return api.Artifact{}, fault.New(fault.Storage, "fleetd kept %s with SHA-256 %s, the file has %s", name, a.SHA256, got)
	}
	return a, nil
}

// source hashes what is read of a file and remembers why it could not be read to
// its end. The transport reads it in a goroutine of its own.
type source struct {
	r io.Reader

	mu  sync.Mutex
	sum hash.Hash
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum.Write(p[:n])
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

func (s *source) ended() (sha string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return hex.EncodeToString(s.sum.Sum(nil)), s.err
}

// RemoveArtifact removes a file by its full digest and gives the entries that it
// had.
func (c *Client) RemoveArtifact(ctx context.Context, sha string) ([]api.Artifact, error) {
	l, err := exchange[api.ArtifactList](ctx, c, http.MethodDelete, path(nil, "artifacts", sha), nil)
	return l.Rows, err
}
