package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// liveInstall is an installation to a volume, going on behind the command that
// asked for it. Its volume's row shows the old content for a while, then the base
// image's progress and, for a hotfix, the base image as complete before the
// progress runs a second time.
type liveInstall struct {
	volume  string
	base    *image // nil where the image itself is one
	image   image
	started time.Time // zero while it waits for its base image
	took    time.Duration
	fails   bool
}

// Of an installation's time, the row lags that long, and a base image shows
// complete for that long.
const (
	lagShare  = 0.1
	restShare = 0.05
)

// overlay puts the volume's row as it shows at a time into the list.
func (l *liveInstall) overlay(list []volume, now time.Time) []volume {
	row := volume{Name: l.volume, Product: "BIG-IP", Version: l.image.version, Build: l.image.build}
	percent := func(from, to, at float64) string {
		return fmt.Sprintf("installing %.3f pct", min(1, max(0, (at-from)/(to-from)))*100)
	}
	half := lagShare + (1-lagShare)/2
	switch at := float64(now.Sub(l.started)) / float64(max(l.took, 1)); {
	case l.started.IsZero():
		row.Status = "waiting for image BIGIP-" + l.image.version
	case at < lagShare:
		return list
	case l.base == nil:
		row.Status = percent(lagShare, 1, at)
	case at < half:
		row.Version, row.Build, row.Status = l.base.version, l.base.build, percent(lagShare, half, at)
	case at < half+restShare:
		row.Version, row.Build, row.Status = l.base.version, l.base.build, "complete"
	default:
		row.Status = percent(half+restShare, 1, at)
	}
	return putVolume(list, row)
}

func putVolume(list []volume, row volume) []volume {
	if i := findVolume(list, row.Name); i >= 0 {
		list[i] = row
		return list
	}
	return append(list, row)
}

// installImage starts an installation. What is wrong with it is an error in the
// words of tmsh, but for the full stop.
func (d *device) installImage(file string, hotfix bool, target string, create, reboot bool, user string) error {
	images := imagesOf(d, hotfix)
	i := slices.IndexFunc(images, func(i image) bool { return i.file == file })
	list := volumesOf(d)
	known := findVolume(list, target) >= 0
	switch {
	case i < 0:
		return fmt.Errorf("01020036:3: The requested software image (%s) was not found", file)
	case !volumeName.MatchString(target):
		return fmt.Errorf("01071001:3: Invalid volume name (%s)", target)
	case target == activeVolume(d):
		return fmt.Errorf("01071003:3: Cannot install to the running volume (%s)", target)
	case !known && !create:
		return fmt.Errorf("01020036:3: The requested volume (%s) was not found", target)
	case known && create:
		return fmt.Errorf("01020066:3: The requested volume (%s) already exists", target)
	}
	f := d.ordered.Load()
	l := &liveInstall{volume: target, image: images[i], took: f.installTime, fails: f.change.installFail}
	_, ok := d.startInstall(func(power context.Context) error {
		err := d.runLiveInstall(power, l, user)
		if err == nil && reboot {
			d.fleet.store.change(func() { d.st.NextVolume = target })
			return d.reboot("user=" + user)
		}
		return err
	})
	if !ok {
		d.noteInstall(l, user, "refused")
		return errors.New("01071004:3: Another installation is in progress")
	}
	return nil
}

func (d *device) noteInstall(l *liveInstall, user, result string) {
	d.note(eventInstall, "volume=%s image=%s version=%s build=%s user=%s result=%s", l.volume, l.image.file, l.image.version, l.image.build, user, result)
}

// runLiveInstall is the installation itself.
func (d *device) runLiveInstall(power context.Context, l *liveInstall, user string) error {
	show := func(l *liveInstall) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.live = l
	}
	show(l)
	defer show(nil)
	end := func(row volume, result string) {
		row.Name = l.volume
		d.changeVolumes(func(list []volume) []volume { return putVolume(list, row) })
		d.noteInstall(l, user, result)
	}
	row := volume{Product: "BIG-IP", Version: l.image.version, Build: l.image.build, Edition: l.image.edition,
		Date: time.Now().UTC().Format("Mon Jan _2 15:04:05 MST 2006"), Status: "complete"}
	var err error
	if l.image.hotfix {
		l, err = d.awaitBase(power, l)
	}
	if err == nil {
		started := *l
		started.started = time.Now()
		show(&started)
		took := l.took
		if l.fails {
			took = took * 3 / 4
		}
		err = pause(power, took)
	}
	switch {
	case err != nil:
		end(volume{Product: "none", Version: "none", Build: "none", Status: "failed (interrupted)"}, "interrupted")
		return err
	case l.fails:
		row.Status = "failed (Disk full (volume group))"
		end(row, "failed")
		return errHalfWay
	}
	d.fleet.store.read(func() { row.Config = maps.Clone(d.st.Saved) })
	if row.Config == nil {
		row.Config = map[string]string{}
	}
	end(row, "ok")
	return nil
}

// awaitBase waits until a base image of the hotfix's version is there.
func (d *device) awaitBase(power context.Context, l *liveInstall) (*liveInstall, error) {
	for {
		for _, i := range imagesOf(d, false) {
			if i.version == l.image.version {
				with := *l
				with.base = &i
				return &with, nil
			}
		}
		if err := pause(power, 10*time.Millisecond); err != nil {
			return l, err
		}
	}
}
