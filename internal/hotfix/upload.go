package hotfix

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
	"capfleet/internal/transfer"
)

// fileRecord is what is remembered of the file on the device once its content was
// verified, so that a gigabyte is read back once and not on each look.
type fileRecord struct {
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	How      string    `json:"how"`
	At       time.Time `json:"at"`
}

func (c *change) observeUpload(ctx context.Context, env operation.Env) (operation.Observation, error) {
	if c.nothing != "" {
		return done("%s", c.nothing)
	}
	if done, detail, err := c.pastInstall(env); err != nil || done {
		return operation.Observation{Verdict: operation.Done, Detail: detail}, err
	}
	known, detail, err := c.verified(ctx, env)
	if err != nil {
		return failed(err)
	}
	if known {
		return done("%s", detail)
	}
	there, how := false, ""
	err = c.withFile(ctx, env, func(u transfer.Upload) (err error) {
		conn, err := env.Conn(ctx, c.dev)
		if err != nil {
			return err
		}
		there, how, err = transfer.Check(ctx, conn, u)
		return err
	})
	if err != nil {
		return failed(err)
	}
	if !there {
		return needed("%s is not on the device with the right content", c.target(c.spec))
	}
	if err := c.rememberFile(ctx, env, how); err != nil {
		return failed(err)
	}
	return done("on the device already: %s", verifiedBy(how))
}

// pastInstall reports whether the install command has been answered: the file is
// not needed any more, and an installation may have taken it away.
func (c *change) pastInstall(env operation.Env) (bool, string, error) {
	r, err := came(env, stepInstall)
	if err != nil || !c.begun {
		return false, "", err
	}
	return r.Progress == answered || c.before.Installed == Proven, "no longer needed", nil
}

// verified reports whether the file on the device is the one whose content was
// compared before.
func (c *change) verified(ctx context.Context, env operation.Env) (bool, string, error) {
	var r fileRecord
	if ok, err := env.Recall(keyFile, &r); err != nil || !ok {
		return false, "", err
	}
	info, err := c.stat(ctx, env)
	if err != nil || info == nil {
		return false, "", err
	}
	if info.Size() != c.spec.Size || r.Size != c.spec.Size || !info.ModTime().Equal(r.Modified) {
		return false, "", nil
	}
	return true, fmt.Sprintf("%d bytes, %s at %s", r.Size, verifiedBy(r.How), r.At.Format(time.RFC3339)), nil
}

func verifiedBy(how string) string {
	if how == transfer.ReadBack {
		return "its content was read back and is right"
	}
	return "its content is right by " + how
}

// stat gives the file on the device, nil where there is none.
func (c *change) stat(ctx context.Context, env operation.Env) (fs.FileInfo, error) {
	conn, err := env.Conn(ctx, c.dev)
	if err != nil {
		return nil, err
	}
	files, err := conn.Files(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = files.Close() }()
	info, err := files.Stat(c.target(c.spec))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "look at "+c.target(c.spec), err)
	}
	return info, nil
}

func (c *change) rememberFile(ctx context.Context, env operation.Env, how string) error {
	info, err := c.stat(ctx, env)
	if err != nil {
		return err
	}
	if info == nil {
		return fault.New(fault.Conflict, "%s was on %s a moment ago and is gone", c.target(c.spec), c.dev.Name)
	}
	return env.Remember(ctx, keyFile, fileRecord{Size: info.Size(), Modified: info.ModTime(), How: how, At: env.Now().UTC().Truncate(time.Second)})
}

// withFile opens the artifact.
func (c *change) withFile(ctx context.Context, env operation.Env, fn func(transfer.Upload) error) (err error) {
	f, err := env.Artifact(ctx, c.spec.File)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if f.Size() != c.spec.Size {
		return fault.New(fault.Storage, "the artifact has %d bytes, and had %d when the job was made", f.Size(), c.spec.Size)
	}
	return fn(transfer.Upload{Source: f, Size: f.Size(), SHA256: c.spec.File, Path: c.target(c.spec), Tools: c.def.Files, Buffers: c.buffers,
		Progress: func(done, total int64) { env.Progress(c.dev, done, total, "bytes") }})
}

func (c *change) upload(ctx context.Context, env operation.Env) error {
	return c.withFile(ctx, env, func(u transfer.Upload) error {
		res, err := transfer.Deliver(ctx, func(ctx context.Context) (device.Conn, error) { return env.Conn(ctx, c.dev) }, u)
		if err != nil {
			return err
		}
		if res.SpaceUnknown {
			env.Warn(c.dev, "the device does not tell how much space is free")
		}
		return c.rememberFile(ctx, env, res.Verified)
	})
}

// observeVerify sees that what is on the device is what was asked for.
func (c *change) observeVerify(ctx context.Context, env operation.Env) (operation.Observation, error) {
	if c.nothing != "" {
		return done("%s", c.nothing)
	}
	if past, detail, err := c.pastInstall(env); err != nil || past {
		return operation.Observation{Verdict: operation.Done, Detail: detail}, err
	}
	ok, detail, err := c.verified(ctx, env)
	if err != nil {
		return failed(err)
	}
	if !ok {
		return failed(&fault.Error{Kind: fault.Conflict, Act: "verify " + c.target(c.spec), Device: c.dev.Name, Stage: stepVerify,
			Err: errors.New("somebody changed it after it was uploaded"), Next: "see who else writes there, then retry the job"})
	}
	return done("%s", detail)
}

// staged reports whether a file of the right name and size is on the device.
func (c *change) staged(ctx context.Context, env operation.Env) (bool, error) {
	info, err := c.stat(ctx, env)
	if err != nil || info == nil {
		return false, err
	}
	return info.Size() == c.spec.Size, nil
}

// observeStaged ends the action stage with its row.
func (c *change) observeStaged(_ context.Context, env operation.Env) (operation.Observation, error) {
	if c.nothing != "" {
		return done("%s", c.nothing)
	}
	var r fileRecord
	if _, err := env.Recall(keyFile, &r); err != nil {
		return failed(err)
	}
	env.Row(c.dev, stageRow{Device: c.dev.Name, Action: Stage, Result: "staged", Names: c.spec.Names, SHA256: c.spec.File, Size: c.spec.Size,
		Path: c.target(c.spec), Verified: r.How, At: r.At})
	return done("%s", verifiedBy(r.How))
}
