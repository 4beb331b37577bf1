package cli

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
	"path/filepath"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

// fetchTries is how often a broken connection is made anew while nothing comes.
const fetchTries = 3

// fetchArtifact writes an artifact to a file, which is there complete or not at
// all. What comes goes into a hidden file beside it, named by the digest, with
// which the next call goes on after a cut; the whole is compared with the digest.
func (a *app) fetchArtifact(ctx context.Context, f fleet, art api.Artifact, name string) error {
	target, err := filepath.EvalSymlinks(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		target = name
	case err != nil:
		return fault.Wrap(fault.Storage, "write "+name, err)
	}
	before, err := os.Stat(target)
	if err == nil && !before.Mode().IsRegular() {
		return fault.New(fault.Invalid, "%s is not a regular file", name)
	}
	existed := err == nil
	if existed && before.Size() == art.Size {
		if same, err := fileHas(ctx, target, art.SHA256); err != nil {
			return err
		} else if same {
			a.remark("%s is there already, %d bytes, SHA-256 as kept", name, art.Size)
			return nil
		}
	}
	mode := os.FileMode(0o666) // the usual one, less what the umask takes away
	if art.Secret {
		mode = 0o600
	}
	part := filepath.Join(filepath.Dir(target), fmt.Sprintf(".%s.%.16s.part", filepath.Base(target), art.SHA256))
	file, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, mode)
	if err != nil {
		return fault.Wrap(fault.Storage, "write "+name, err)
	}
	switch {
	case art.Secret:
		err = file.Chmod(mode) // it may be there from before
	case existed:
		err = file.Chmod(before.Mode().Perm())
	}
	if err == nil {
		err = a.fill(ctx, f, art, file)
	}
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	switch {
	case fault.Is(err, fault.Storage) && errors.Is(err, errOtherContent):
		return errors.Join(err, os.Remove(part))
	case err != nil:
		return transferError(ctx, "write "+name, err)
	}
	if err := os.Rename(part, target); err != nil {
		return fault.Wrap(fault.Storage, "write "+name, err)
	}
	a.remark("wrote %s, %d bytes, SHA-256 as kept", name, art.Size)
	return nil
}

var errOtherContent = errors.New("the content is not that of the digest")

// fill brings a part to its end.
func (a *app) fill(ctx context.Context, f fleet, art api.Artifact, file *os.File) error {
	sum := sha256.New()
	have, err := io.Copy(sum, file)
	if err != nil {
		return err
	}
	if have > art.Size {
		if err := file.Truncate(0); err != nil {
			return err
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		have, sum = 0, sha256.New()
	}
	if have > 0 {
		a.remark("going on behind %d of %d bytes", have, art.Size)
	}
	p := a.newTransfer("get "+art.Name, art.Size)
	defer p.Close()
	p.done.Store(have)
	for idle := 0; have < art.Size; {
		n, err := more(ctx, f, art, have, p, file, sum)
		have += n
		if n > 0 {
			idle = 0
		}
		if idle++; err != nil && (ctx.Err() != nil || !fault.KindOf(err).Retryable() || idle >= fetchTries) {
			return err
		}
	}
	if hex.EncodeToString(sum.Sum(nil)) != art.SHA256 {
		return &fault.Error{Kind: fault.Storage, Act: "artifact " + shortDigest(art.SHA256), Err: errOtherContent, Next: "get it again; it begins anew"}
	}
	return nil
}

// more appends what one connection gives.
func more(ctx context.Context, f fleet, art api.Artifact, from int64, p *transfer, file io.Writer, sum hash.Hash) (int64, error) {
	content, err := f.ArtifactFrom(ctx, art.SHA256, from)
	if err != nil {
		return 0, err
	}
	defer func() { _ = content.Close() }()
	n, err := io.Copy(io.MultiWriter(file, sum), p.Reader(io.LimitReader(content, art.Size-from)))
	if err == nil && n < art.Size-from {
		err = &fault.Error{Kind: fault.Unavailable, Act: "get artifact " + shortDigest(art.SHA256), Err: io.ErrUnexpectedEOF}
	}
	return n, err
}

// fileHas tells whether a file has a digest.
func fileHas(ctx context.Context, name, digest string) (bool, error) {
	f, err := os.Open(name)
	if err != nil {
		return false, fault.Wrap(fault.Storage, "read "+name, err)
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return false, fault.Wrap(fault.Storage, "read "+name, err)
	}
	return hex.EncodeToString(sum.Sum(nil)) == digest, ctx.Err()
}
