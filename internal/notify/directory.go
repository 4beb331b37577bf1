package notify

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"capfleet/internal/config"
	"capfleet/internal/fault"
)

// directory writes results as files: SCHEDULE_TIME_jobN.csv, complete or not there,
// and beside it SCHEDULE_TIME_jobN.failures.csv when devices could not be read. A
// file that is written again, after a crash, takes its own place.
type directory struct{ config.Directory }

func (d *directory) target() string { return d.Path }

func (d *directory) close() {}

func fileName(v Delivery) string {
	return v.Schedule + "_" + v.Time.UTC().Format("20060102T150405Z") + "_job" + v.Job + ".csv"
}

const failuresExt = ".failures.csv"

func (d *directory) send(_ context.Context, batch []outgoing) (taken int, err error) {
	act := "write into " + d.Path
	if err := os.MkdirAll(d.Path, 0o755); err != nil { //nolint:gosec // reports are for others to read
		return 0, fault.Wrap(fault.Unreachable, act, err)
	}
	for _, o := range batch {
		if o.Delivery == nil { // a test: can it be written?
			name := filepath.Join(d.Path, ".fleetd-test")
			if err := write(name, []byte(o.Message.Summary+"\n")); err != nil {
				return taken, fault.Wrap(fault.Unreachable, act, err)
			}
			if err := os.Remove(name); err != nil {
				return taken, fault.Wrap(fault.Unreachable, act, err)
			}
			taken++
			continue
		}
		name := filepath.Join(d.Path, fileName(*o.Delivery))
		if len(o.result.Failures) > 0 {
			if err := write(strings.TrimSuffix(name, ".csv")+failuresExt, o.result.Failures); err != nil {
				return taken, fault.Wrap(fault.Unreachable, act, err)
			}
		}
		if err := write(name, o.result.CSV); err != nil {
			return taken, fault.Wrap(fault.Unreachable, act, err)
		}
		if err := d.prune(o.Delivery.Schedule, o.Delivery.Time); err != nil {
			return taken, fault.Wrap(fault.Unreachable, act, err)
		}
		taken++
	}
	return taken, nil
}

// write puts a file in its place when it is complete and on the disk.
func write(name string, data []byte) (err error) {
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, ".fleetd-*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	held, err := os.Open(dir)
	if err != nil {
		return nil // it is there; whether its name is on the disk is the kernel's business
	}
	_ = held.Sync()
	return held.Close()
}

var written = regexp.MustCompile(`^(.+)_([0-9]{8}T[0-9]{6}Z)_job[0-9]+\.(failures\.)?csv$`)

// prune removes the files of a schedule that are not kept, and what a crash left
// half-written. Files that are not ours stay.
func (d *directory) prune(schedule string, now time.Time) error {
	entries, err := os.ReadDir(d.Path)
	if err != nil {
		return err
	}
	type file struct{ name, run, at string }
	var files []file
	for _, e := range entries {
		if m := written.FindStringSubmatch(e.Name()); m != nil && m[1] == schedule && e.Type().IsRegular() {
			run := strings.TrimSuffix(strings.TrimSuffix(e.Name(), failuresExt), ".csv")
			files = append(files, file{e.Name(), run, m[2]})
		}
		if info, err := e.Info(); err == nil && strings.HasPrefix(e.Name(), ".fleetd-") && strings.HasSuffix(e.Name(), ".tmp") && time.Since(info.ModTime()) > time.Hour {
			_ = os.Remove(filepath.Join(d.Path, e.Name()))
		}
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(b.at+b.run, a.at+a.run) }) // newest first
	runs := 0
	last := ""
	for _, f := range files {
		if f.run != last {
			runs, last = runs+1, f.run
		}
		at, err := time.Parse("20060102T150405Z", f.at)
		old := err == nil && d.Age > 0 && now.Sub(at) > d.Age
		if !old && (d.Keep == 0 || runs <= d.Keep) {
			continue
		}
		if err := os.Remove(filepath.Join(d.Path, f.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
