package artifact

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"capfleet/internal/fault"
)

// File is an open artifact to be read at any place, from several goroutines.
type File struct {
	*os.File
	a Artifact
}

// Size is in bytes.
func (f *File) Size() int64 { return f.a.Size }

// Name is the artifact's name, not a path.
func (f *File) Name() string { return f.a.Name }

// checked is a stored file whose content had its digest: what it was when it was
// read to the end.
type checked struct {
	size int64
	mod  time.Time
}

// OpenAt gives a file for reading at any place. Its content is checked against the
// digest the first time in this process, and again when the file on the disk is
// another; a damaged one is fault.Storage. So a file that goes to hundreds of
// devices is hashed once.
func (s *Store) OpenAt(ctx context.Context, sha256 string) (*File, error) {
	r, a, err := s.Open(ctx, sha256)
	if err != nil {
		return nil, err
	}
	f := r.(*verified).f
	if err := s.check(ctx, r, f, a); err != nil {
		_ = f.Close()
		return nil, err
	}
	return &File{f, a}, nil
}

// check reads a file to its end unless that was done. One goroutine reads; the
// others wait for what it finds.
func (s *Store) check(ctx context.Context, r io.Reader, f *os.File, a Artifact) error {
	st, err := f.Stat()
	if err != nil {
		return storage("open artifact "+a.SHA256, err)
	}
	select {
	case s.checking <- struct{}{}:
		defer func() { <-s.checking }()
	case <-ctx.Done():
		return fault.Wrap(fault.KindOf(ctx.Err()), "open artifact "+a.SHA256, context.Cause(ctx))
	}
	now := checked{st.Size(), st.ModTime()}
	if s.checked[a.SHA256] == now {
		return nil
	}
	buf := make([]byte, 1<<20)
	for {
		if ctx.Err() != nil {
			return fault.Wrap(fault.KindOf(ctx.Err()), "check artifact "+a.SHA256, context.Cause(ctx))
		}
		switch _, err := r.Read(buf); {
		case errors.Is(err, io.EOF):
			s.checked[a.SHA256] = now
			return nil
		case err != nil:
			return err
		}
	}
}
