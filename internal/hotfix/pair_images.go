package hotfix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
	"capfleet/internal/transfer"
)

// imageFile is a file that has to be on the devices.
type imageFile struct {
	name   string
	sha256 string
	size   int64
	hotfix bool
}

// files are those of the request: the image, and its base where it was given.
func (p *pair) files() []imageFile {
	list := []imageFile{{p.spec.Names.File, p.spec.File, p.spec.Size, p.isHotfix(p.spec.Names.File)}}
	if p.spec.Base != "" {
		list = append(list, imageFile{p.spec.BaseName, p.spec.Base, p.spec.BaseSize, false})
	}
	return list
}

func imageKey(dev *device.Device, f imageFile) string { return keyImage + dev.Name + "/" + f.name }

// pastInstall reports whether the images are no longer needed on a device: its
// volume was seen to hold the software.
func (p *pair) pastInstall(env operation.Env, dev *device.Device) bool {
	var at time.Time
	ok, err := env.Recall(keyComplete+dev.Name, &at)
	return err == nil && ok
}

func (p *pair) observeUpload(ctx context.Context, env operation.Env) (operation.Observation, error) {
	if p.nothing != "" {
		return done("%s", p.nothing)
	}
	missing := make([]string, len(p.devices))
	err := p.each(func(i int, dev *device.Device) error {
		if p.pastInstall(env, dev) {
			return nil
		}
		for _, f := range p.files() {
			there, err := p.uploaded(ctx, env, dev, f)
			if err != nil {
				return err
			}
			if !there {
				missing[i] = fmt.Sprintf("%s is not on %s with the right content", p.target(f.name), dev.Name)
			}
		}
		return nil
	})
	if err != nil {
		return failed(err)
	}
	if why := strings.Trim(strings.Join(missing, "; "), "; "); why != "" {
		return needed("%s", why)
	}
	return done("the images are on the device, with the right content")
}

// uploaded reports whether a device has the file: as it was verified before, or by
// a hash of all of it.
func (p *pair) uploaded(ctx context.Context, env operation.Env, dev *device.Device, f imageFile) (there bool, err error) {
	if ok, err := p.known(ctx, env, dev, f); err != nil || ok {
		return ok, err
	}
	how := ""
	err = p.withImage(ctx, env, dev, f, func(u transfer.Upload) error {
		conn, err := env.Conn(ctx, dev)
		if err != nil {
			return err
		}
		there, how, err = transfer.Check(ctx, conn, u)
		return err
	})
	if err != nil || !there {
		return false, err
	}
	return true, p.rememberImage(ctx, env, dev, f, how)
}

// known reports whether the file is the one whose content was compared before.
func (p *pair) known(ctx context.Context, env operation.Env, dev *device.Device, f imageFile) (bool, error) {
	var r fileRecord
	if ok, err := env.Recall(imageKey(dev, f), &r); err != nil || !ok {
		return false, err
	}
	size, modified, err := p.stat(ctx, env, dev, f)
	return err == nil && size == f.size && r.Size == f.size && modified.Equal(r.Modified), err
}

// stat gives size and time of a file on a device; -1 where there is none.
func (p *pair) stat(ctx context.Context, env operation.Env, dev *device.Device, f imageFile) (int64, time.Time, error) {
	conn, err := env.Conn(ctx, dev)
	if err != nil {
		return 0, time.Time{}, err
	}
	files, err := conn.Files(ctx)
	if err != nil {
		return 0, time.Time{}, err
	}
	defer func() { _ = files.Close() }()
	info, err := files.Stat(p.target(f.name))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return -1, time.Time{}, nil
	case err != nil:
		return 0, time.Time{}, fault.Wrap(fault.Internal, "look at "+p.target(f.name), err)
	}
	return info.Size(), info.ModTime(), nil
}

func (p *pair) rememberImage(ctx context.Context, env operation.Env, dev *device.Device, f imageFile, how string) error {
	size, modified, err := p.stat(ctx, env, dev, f)
	if err != nil {
		return err
	}
	return env.Remember(ctx, imageKey(dev, f), fileRecord{Size: size, Modified: modified, How: how, At: stamp(env)})
}

func (p *pair) withImage(ctx context.Context, env operation.Env, dev *device.Device, f imageFile, fn func(transfer.Upload) error) (err error) {
	a, err := env.Artifact(ctx, f.sha256)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	if a.Size() != f.size {
		return fault.New(fault.Storage, "the artifact of %s has %d bytes, and had %d when the job was made", f.name, a.Size(), f.size)
	}
	return fn(transfer.Upload{Source: a, Size: f.size, SHA256: f.sha256, Path: p.target(f.name), Tools: p.def.Files, Buffers: p.buffers,
		Progress: func(done, total int64) { env.Progress(dev, done, total, "bytes") }})
}

// upload puts the images on all devices at once: it interrupts nothing.
func (p *pair) upload(ctx context.Context, env operation.Env) error {
	return p.each(func(_ int, dev *device.Device) error {
		if p.pastInstall(env, dev) {
			return nil
		}
		for _, f := range p.files() {
			there, err := p.known(ctx, env, dev, f)
			if err != nil {
				return err
			}
			if there {
				continue
			}
			if err := p.send(ctx, env, dev, f); err != nil {
				return err
			}
		}
		return nil
	})
}

func (p *pair) send(ctx context.Context, env operation.Env, dev *device.Device, f imageFile) error {
	return p.withImage(ctx, env, dev, f, func(u transfer.Upload) error {
		res, err := transfer.Deliver(ctx, func(ctx context.Context) (device.Conn, error) { return env.Conn(ctx, dev) }, u)
		if err != nil {
			return err
		}
		if res.SpaceUnknown {
			env.Warn(dev, "the device does not tell how much space is free")
		}
		return p.rememberImage(ctx, env, dev, f, res.Verified)
	})
}

// listedImage is an image that the device knows.
type listedImage struct {
	File string
	software
}

var imageBlock = regexp.MustCompile(`(?ms)^sys software (?:image|hotfix) (\S+) \{\n(.*?)^\}`)

var (
	imageVersion = regexp.MustCompile(`(?m)^ +version (\S+)`)
	imageBuild   = regexp.MustCompile(`(?m)^ +build (\S+)`)
)

// listed reads the images that the device has hashed and knows.
func (p *pair) listed(ctx context.Context, env operation.Env, dev *device.Device, hotfix bool) ([]listedImage, error) {
	out, err := p.tmsh(ctx, env, dev, "list sys software "+kindOf(hotfix), 0)
	if err != nil {
		return nil, err
	}
	var list []listedImage
	for _, m := range imageBlock.FindAllStringSubmatch(out.Text, -1) {
		list = append(list, listedImage{File: m[1], software: software{first(imageVersion, m[2]), first(imageBuild, m[2])}})
	}
	return list, nil
}

// kindOf is what tmsh calls an image.
func kindOf(hotfix bool) string {
	if hotfix {
		return "hotfix"
	}
	return "image"
}

// observeListed waits until the devices list the images, which they hash first, and
// sees that they take them for what their names say.
func (p *pair) observeListed(ctx context.Context, env operation.Env) (operation.Observation, error) {
	if p.nothing != "" {
		return done("%s", p.nothing)
	}
	err := p.each(func(_ int, dev *device.Device) error {
		if p.pastInstall(env, dev) {
			return nil
		}
		for _, f := range p.files() {
			if err := p.awaitListed(ctx, env, dev, f); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return failed(err)
	}
	return done("the devices list the images")
}

func (p *pair) awaitListed(ctx context.Context, env operation.Env, dev *device.Device, f imageFile) error {
	end := env.Now().Add(p.vol.Listed)
	return p.until(ctx, env, dev, end, func() (bool, error) {
		list, err := p.listed(ctx, env, dev, f.hotfix)
		if err != nil {
			return false, err
		}
		for _, i := range list {
			if i.File != f.name {
				continue
			}
			if want, ok := p.namedSoftware(f.name); ok && i.software != want {
				return true, &fault.Error{Kind: fault.Conflict, Act: "verify " + f.name, Device: dev.Name, Stage: stepVerify,
					Err: fmt.Errorf("the device takes it for %s", i.software), Next: "see whether the file has the right name, or give --installed-as"}
			}
			return true, nil
		}
		if env.Now().After(end) {
			return true, &fault.Error{Kind: fault.Conflict, Act: "verify " + f.name, Device: dev.Name, Stage: stepVerify,
				Err:  fmt.Errorf("it is on the disk, and after %s list sys software %s does not show it", p.vol.Listed, kindOf(f.hotfix)),
				Next: "the device may take it for damaged: see its log, then retry the job"}
		}
		return false, nil
	})
}

// namedSoftware is what the name of an image says that it is.
func (p *pair) namedSoftware(file string) (software, bool) {
	if file == p.spec.Names.File {
		return softwareOf(p.spec.Installed)
	}
	names, err := namesOf(p.how, file, "", "")
	if err != nil {
		return software{}, false
	}
	return softwareOf(names.Installed)
}

// observeStaged ends the action stage with its rows.
func (p *pair) observeStaged(_ context.Context, env operation.Env) (operation.Observation, error) {
	if p.nothing != "" {
		return done("%s", p.nothing)
	}
	for _, dev := range p.devices {
		f := p.files()[0]
		var r fileRecord
		if _, err := env.Recall(imageKey(dev, f), &r); err != nil {
			return failed(err)
		}
		env.Row(dev, stageRow{Device: dev.Name, Action: Stage, Result: "staged", Names: p.spec.Names, SHA256: f.sha256, Size: f.size,
			Path: p.target(f.name), Verified: r.How, At: r.At})
	}
	return done("the images are on the devices and listed")
}

// archiveRecord is an archive of the configuration that was fetched.
type archiveRecord struct {
	SHA256 string    `json:"sha256"` // of the artifact
	Size   int64     `json:"size"`
	At     time.Time `json:"at"`
}

// archiveName is the archive's name on the device. It is written anew by each change.
const archiveName = "capfleet-before-hotfix"

// archiveMedia says that the artifact holds secrets: private keys and the hashes of
// passwords.
const archiveMedia = "application/x-f5-ucs; secret=yes"

func (p *pair) observeBackup(_ context.Context, env operation.Env) (operation.Observation, error) {
	if p.nothing != "" {
		return done("%s", p.nothing)
	}
	var have []string
	for _, dev := range p.devices {
		var r archiveRecord
		ok, err := env.Recall(keyArchive+dev.Name, &r)
		if err != nil {
			return failed(err)
		}
		if !ok {
			return needed("the configuration of %s is not archived yet", dev.Name)
		}
		have = append(have, fmt.Sprintf("%s: %d bytes, artifact %.12s", dev.Name, r.Size, r.SHA256))
	}
	return done("%s", strings.Join(have, "; "))
}

// backup has each device archive its configuration and fetches the archive.
func (p *pair) backup(ctx context.Context, env operation.Env) error {
	return p.each(func(_ int, dev *device.Device) error {
		var r archiveRecord
		if ok, err := env.Recall(keyArchive+dev.Name, &r); err != nil || ok {
			return err
		}
		line := "save sys ucs " + archiveName
		out, err := p.tmsh(ctx, env, dev, line, p.vol.Save.Worst)
		name := "/var/local/ucs/" + archiveName + ".ucs"
		switch {
		case fault.Is(err, fault.Refused):
			return &fault.Error{Kind: fault.Refused, Act: line, Device: dev.Name, Stage: stepBackup,
				Err: fmt.Errorf("the device says: %s", quote(refusal(err, out.Text))), Next: "nothing was changed; see why, then retry the job"}
		case err != nil:
			return err
		case !strings.Contains(out.Text, name+" is saved"):
			return &fault.Error{Kind: fault.Unparsed, Act: line, Device: dev.Name, Stage: stepBackup, Err: fmt.Errorf("the device answered %s", clipLine(out.Text))}
		}
		return p.fetch(ctx, env, dev, name)
	})
}

// fetch keeps an archive. In between it is in a file that has no name any more.
func (p *pair) fetch(ctx context.Context, env operation.Env, dev *device.Device, name string) (err error) {
	tmp, err := os.CreateTemp("", "capfleet-archive-*")
	if err != nil {
		return fault.Wrap(fault.Storage, "fetch the archive of "+dev.Name, err)
	}
	named := os.Remove(tmp.Name()) != nil // not every system lets go of an open file's name
	defer func() {
		err = errors.Join(err, tmp.Close())
		if named {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	got, err := transfer.Receive(ctx, func(ctx context.Context) (device.Conn, error) { return env.Conn(ctx, dev) },
		transfer.Download{Path: name, Into: tmp, Tools: p.def.Files, Buffers: p.buffers,
			Progress: func(done, total int64) { env.Progress(dev, done, total, "bytes") }})
	if err != nil {
		return err
	}
	if got.Size == 0 {
		return &fault.Error{Kind: fault.Conflict, Act: "fetch " + name, Device: dev.Name, Stage: stepBackup, Err: errors.New("it is empty")}
	}
	sha, err := env.Keep(ctx, dev, dev.Name+"_before.ucs", archiveMedia, io.NewSectionReader(tmp, 0, got.Size))
	if err != nil {
		return err
	}
	return env.Remember(ctx, keyArchive+dev.Name, archiveRecord{SHA256: sha, Size: got.Size, At: stamp(env)})
}
