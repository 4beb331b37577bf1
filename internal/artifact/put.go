package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"capfleet/internal/fault"
)

// Put keeps what r gives until its end. It returns once file and entry are
// durable; on an error, also one of r and of ctx, nothing is kept. The same
// content under the same name from the same job and device is the same entry. An
// r that blocks must be ended by its owner when ctx ends.
func (s *Store) Put(ctx context.Context, meta Meta, r io.Reader) (Artifact, error) {
	if strings.ContainsRune(meta.Job, 0) {
		return Artifact{}, fault.New(fault.Invalid, "a job's id holds a zero byte")
	}
	a := Artifact{
		Name:      cleanName(meta.Name),
		MediaType: cleanMediaType(meta.MediaType),
		Job:       meta.Job,
		Device:    meta.Device,
		CreatedBy: meta.CreatedBy,
		CreatedAt: s.now().UTC(),
	}
	act := "keep artifact " + a.Name
	f, err := s.create(s.tmp())
	if err != nil {
		return Artifact{}, storage(act, err)
	}
	written := f.Name()
	room := &reservation{store: s}
	defer room.release()
	a.SHA256, a.Size, err = s.write(ctx, act, f, r, room)
	if cerr := f.Close(); err == nil && cerr != nil {
		err = storage(act, cerr)
	}
	if err != nil {
		_ = os.Remove(written)
		return Artifact{}, err
	}
	room.release() // its place counts from now on
	return s.enter(ctx, act, written, a)
}

// write copies r into f, hashing it, and makes it durable.
func (s *Store) write(ctx context.Context, act string, f tempFile, r io.Reader, room *reservation) (sha string, size int64, err error) {
	digest := sha256.New()
	buf := make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return "", 0, fault.Wrap(fault.KindOf(err), act, context.Cause(ctx))
		}
		n, rerr := r.Read(buf)
		size += int64(n)
		if s.maxSize > 0 && size > s.maxSize {
			return "", 0, &fault.Error{Kind: fault.TooLarge, Act: act, Stage: "artifact",
				Err: fmt.Errorf("it is larger than %d bytes", s.maxSize)}
		}
		if err := room.grow(act, int64(n)); err != nil {
			return "", 0, err
		}
		digest.Write(buf[:n])
		if _, err := f.Write(buf[:n]); err != nil {
			return "", 0, storage(act, err)
		}
		if errors.Is(rerr, io.EOF) {
			break
		}
		if rerr != nil {
			return "", 0, fault.Wrap(fault.KindOf(rerr), act, rerr)
		}
	}
	if err := f.Sync(); err != nil {
		return "", 0, storage(act, err)
	}
	return hex.EncodeToString(digest.Sum(nil)), size, nil
}

// enter brings a complete file and its entry in.
func (s *Store) enter(ctx context.Context, act, written string, a Artifact) (Artifact, error) {
	named := filepath.Join(s.tmp(), a.SHA256+"."+strings.TrimPrefix(filepath.Base(written), "put-"))
	if err := os.Rename(written, named); err != nil {
		_ = os.Remove(written)
		return Artifact{}, storage(act, err)
	}
	if err := syncDir(s.tmp()); err != nil {
		_ = os.Remove(named)
		return Artifact{}, storage(act, err)
	}
	s.moving.RLock()
	defer s.moving.RUnlock()
	entry, added, err := s.record(ctx, a)
	if err != nil {
		_ = os.Remove(named)
		return Artifact{}, storage(act, err)
	}
	if err := s.bringIn(named, a.SHA256); err != nil {
		if added == 0 {
			return Artifact{}, storage(act, err)
		}
		// Not with ctx: the entry must go even when the caller has gone.
		undo := s.withdraw(context.WithoutCancel(ctx), added, a)
		if undo == nil {
			_ = os.Remove(named)
		}
		return Artifact{}, storage(act, errors.Join(err, undo))
	}
	return entry, nil
}
