package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"

	"capfleet/internal/fault"
)

// Artifact opens an artifact's content. The reader checks the digest: instead of
// io.EOF it ends with fault.Storage when the bytes are not those asked for.
func (c *Client) Artifact(ctx context.Context, sha string) (io.ReadCloser, error) {
	resp, err := c.do(ctx, http.MethodGet, path(nil, "artifacts", sha), nil, nil)
	if err != nil {
		return nil, err
	}
	return &verified{ReadCloser: resp.Body, want: sha, sum: sha256.New(),
		broken: func(err error) error { return c.broken(ctx, err) }}, nil
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
