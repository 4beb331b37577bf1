package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"capfleet/internal/fault"
)

// Open gives a file for reading, with its first entry. The reader checks the
// content against the digest as it goes: a file that is damaged ends with
// fault.Storage in place of its last piece, so that it is never read to the end
// as if it were whole.
func (s *Store) Open(ctx context.Context, sha256 string) (io.ReadCloser, Artifact, error) {
	if err := checkDigest(sha256); err != nil {
		return nil, Artifact{}, err
	}
	if err := ctx.Err(); err != nil {
		return nil, Artifact{}, fault.Wrap(fault.KindOf(err), "open artifact "+sha256, context.Cause(ctx))
	}
	r, a, err := s.open(sha256)
	if errors.Is(err, fs.ErrNotExist) {
		// On its way in or out, or gone: those on their way are waited for.
		s.moving.Lock()
		defer s.moving.Unlock()
		r, a, err = s.open(sha256)
	}
	if err != nil {
		return nil, Artifact{}, storage("open artifact "+sha256, err)
	}
	return r, a, nil
}

func (s *Store) open(sha string) (io.ReadCloser, Artifact, error) {
	a, err := s.first(sha)
	if err != nil {
		return nil, Artifact{}, err
	}
	f, err := os.Open(s.object(sha))
	if err != nil {
		return nil, Artifact{}, err
	}
	if st, err := f.Stat(); err != nil || st.Size() != a.Size {
		_ = f.Close()
		if err == nil {
			err = damaged(a)
		}
		return nil, Artifact{}, err
	}
	return &verified{f: f, a: a, digest: sha256.New(), left: a.Size}, a, nil
}

// verified is a file that is read against its digest.
type verified struct {
	f      *os.File
	a      Artifact
	digest hash.Hash
	left   int64 // bytes to come, by the entry
	err    error // once there is nothing more to read
}

func (v *verified) Read(p []byte) (int, error) {
	if v.err != nil || len(p) == 0 {
		return 0, v.err
	}
	n, err := v.f.Read(p)
	v.digest.Write(p[:n])
	v.left -= int64(n)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		v.err = storage("read artifact "+v.a.SHA256, err)
		return n, v.err
	case v.left > 0 && err == nil:
		return n, nil
	case v.left != 0 || hex.EncodeToString(v.digest.Sum(nil)) != v.a.SHA256:
		v.err = damaged(v.a)
		return 0, v.err
	}
	v.err = io.EOF
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func damaged(a Artifact) error {
	return &fault.Error{Kind: fault.Storage, Act: "read artifact " + a.SHA256, Stage: "artifact",
		Err: fmt.Errorf("the stored file of %d bytes is damaged: it does not have its digest", a.Size)}
}

func (v *verified) Close() error { return v.f.Close() }
