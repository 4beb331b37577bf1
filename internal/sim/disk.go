package sim

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Disks that fill: disk_full leaves so much room from now on, disk_fills has something
// else take so much a second. What is written, over SFTP and by tcpdump, takes room
// too and gives it back when it is removed; df and statvfs tell what is left.

// fill is something that takes room on the disks of a device.
type fill struct {
	rate  int64 // bytes a second
	since time.Time
	taken atomic.Int64 // by what was written since then
}

// filled is what is left of so much room.
func (f *fill) filled(have int64, now time.Time) int64 {
	eaten := float64(f.rate) * now.Sub(f.since).Seconds()
	if eaten >= math.MaxInt64/2 {
		return 0
	}
	return max(0, have-int64(eaten)-f.taken.Load())
}

// free is how much room a device reports, of what its file system has.
func (c *changeFaults) free(have int64) int64 {
	if c.fills != nil {
		have = c.fills.filled(have, time.Now())
	}
	if c.space != nil {
		have = min(have, max(0, c.space.Load()))
	}
	return have
}

// takeSpace takes n bytes of the file system that a path is on, all or nothing; a
// negative n gives back.
func (d *device) takeSpace(name string, n int64) bool {
	c := &d.ordered.Load().change
	if c.fills != nil {
		if _, have := d.statfs(name); n > 0 && c.fills.filled(have, time.Now()) < n {
			return false
		}
		c.fills.taken.Add(n)
	}
	if c.space == nil {
		return true
	}
	for {
		left := c.space.Load()
		if n > 0 && n > left {
			return false
		}
		if c.space.CompareAndSwap(left, left-n) {
			return true
		}
	}
}

// mounts are the file systems of a device, as full as was ordered.
func (d *device) mounts() []mount {
	list := d.persona.(mounted).mounts(d)
	c := &d.ordered.Load().change
	for i := range list {
		m := &list[i]
		if strings.HasSuffix(m.fstype, "tmpfs") {
			continue // memory
		}
		gone := m.avail - c.free(m.avail<<10)>>10
		m.used, m.avail = m.used+gone, m.avail-gone
	}
	return list
}

// diskFile is a file that a program of the device writes from its beginning. A disk
// that becomes full takes the part of a write that fits.
type diskFile struct {
	file *os.File
	dev  *device
	name string
}

// create makes a file anew, or empties it.
func (t *tree) create(name string, perm fs.FileMode) (*diskFile, error) {
	before, err := t.stat(name, true)
	f, ferr := t.openFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, perm)
	if ferr != nil {
		return nil, ferr
	}
	if err == nil {
		t.dev.takeSpace(name, -before.Size())
	}
	return &diskFile{file: f, dev: t.dev, name: name}, nil
}

// Write implements io.Writer.
func (f *diskFile) Write(p []byte) (int, error) {
	if f.dev.takeSpace(f.name, int64(len(p))) {
		return f.file.Write(p)
	}
	_, have := f.dev.statfs(f.name)
	part := min(int64(len(p)), f.dev.ordered.Load().change.free(have))
	if !f.dev.takeSpace(f.name, part) {
		part = 0
	}
	n, err := f.file.Write(p[:part])
	return n, errors.Join(&fs.PathError{Op: "write", Path: f.name, Err: syscall.ENOSPC}, err)
}

// Close closes the file.
func (f *diskFile) Close() error { return f.file.Close() }

// removed gives back the room of files that are about to go.
func (d *device) removed(root *os.Root, name string) {
	_ = fs.WalkDir(root.FS(), strings.ReplaceAll(name, `\`, "/"), func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil //nolint:nilerr // what cannot be looked at takes no room
		}
		if info, err := e.Info(); err == nil {
			d.takeSpace("/"+name, -info.Size())
		}
		return nil
	})
}
