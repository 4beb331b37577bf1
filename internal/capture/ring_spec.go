package capture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"capfleet/internal/capture/capturejob"
	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

// RingSpec is a capturejob.Ring as this package checks it.
type RingSpec capturejob.Ring

// RingPoint is an interface with its filter, on one device or on each.
type RingPoint = capturejob.Point

// Defaults and bounds of a RingSpec.
const (
	defaultFiles     = 4
	defaultMegabytes = 15
	defaultDirectory = "/var/tmp"
	defaultLog       = "/var/log/messages"
	defaultMinFree   = 5
	defaultAfter     = 5
	defaultLimit     = 24 * time.Hour
	maxFiles         = 1000
	maxMegabytes     = 100_000
	maxPoints        = 32 // on one device
	maxLimit         = 31 * 24 * time.Hour
)

// UnmarshalJSON fills the defaults in first, so that a 0 that is given is one.
func (s *RingSpec) UnmarshalJSON(raw []byte) error {
	after := float64(defaultAfter)
	type plain RingSpec
	p := plain{Files: defaultFiles, Megabytes: defaultMegabytes, Directory: defaultDirectory, MinFreePercent: defaultMinFree,
		LimitSeconds: defaultLimit.Seconds(), AfterSeconds: &after}
	if err := operation.DecodeSpec(Name, raw, &p); err != nil {
		return err
	}
	*s = RingSpec(p)
	return nil
}

// prepareRing checks a request for rings.
func (o *capture) prepareRing(ctx context.Context, s Spec, devices []*device.Device) (operation.Prepared, error) {
	out := operation.Prepared{Access: operation.Read, Coordinated: true}
	if err := s.Ring.prepare(devices); err != nil {
		return out, err
	}
	if s.Ring.UntilSEL != "" {
		for _, d := range devices {
			if o.rings.Events == nil || d.BMC == nil {
				return out, invalid("--until-sel needs a BMC, and %s has none in the inventory", d.Name)
			}
		}
	}
	if s.Ring.UntilJob != "" {
		if o.rings.Job == nil {
			return out, invalid("--until-job is not known here")
		}
		news, err := o.rings.Job(ctx, s.Ring.UntilJob)
		if err != nil {
			return out, err
		}
		if news.Ended {
			return out, invalid("job %s has ended already: %s", s.Ring.UntilJob, news.Why)
		}
	}
	if s.Ring.DurationSeconds == 0 && s.Ring.UntilLog == "" && s.Ring.UntilSEL == "" && s.Ring.UntilJob == "" {
		out.Warnings = append(out.Warnings, fmt.Sprintf("nothing but fleetctl capture stop and the limit of %v ends these rings", duration(s.Ring.LimitSeconds)))
	}
	var err error
	if out.Spec, err = json.Marshal(s); err != nil {
		return out, fault.Wrap(fault.Internal, "keep the spec", err)
	}
	return out, nil
}

// prepare fills in what depends on the devices and checks all that can be checked
// without them.
func (s *RingSpec) prepare(devices []*device.Device) error {
	if s.UntilLog != "" && s.Log == "" {
		s.Log = defaultLog
	}
	for i, p := range s.Points {
		// DEVICE:INTERFACE is for one device. An interface may hold a colon, too.
		name, rest, ok := strings.Cut(p.Interface, ":")
		if p.Device == "" && ok && slices.ContainsFunc(devices, func(d *device.Device) bool { return d.Name == name }) {
			s.Points[i].Device, s.Points[i].Interface = name, rest
		}
		s.Points[i].Filter = strings.TrimSpace(p.Filter)
	}
	if err := s.check(); err != nil {
		return invalid("%w", err)
	}
	return s.checkPoints(devices)
}

// check refuses what cannot be; the devices see to the rest.
func (s *RingSpec) check() error {
	switch {
	case len(s.Points) == 0:
		return errors.New("no interface to capture on: give --on INTERFACE or --on INTERFACE=FILTER")
	case s.Files < 2 || s.Files > maxFiles:
		return fmt.Errorf("a ring of %d files: 2 to %d are possible", s.Files, maxFiles)
	case s.Megabytes < 1 || s.Megabytes > maxMegabytes:
		return fmt.Errorf("files of %d MB: 1 to %d are possible", s.Megabytes, maxMegabytes)
	case s.SnapLen < 0 || s.SnapLen > maxSnapLen:
		return fmt.Errorf("a snap length of %d bytes: 0 (all) to %d are possible", s.SnapLen, maxSnapLen)
	case !(s.MinFreePercent >= 0 && s.MinFreePercent < 100):
		return fmt.Errorf("%g per cent cannot be kept free", s.MinFreePercent)
	case s.AfterSeconds == nil || !(*s.AfterSeconds >= 0 && *s.AfterSeconds <= maxLimit.Seconds()):
		return errors.New("the time after a trigger must be 0 seconds or more")
	case !(s.DurationSeconds >= 0 && s.DurationSeconds <= maxLimit.Seconds()):
		return fmt.Errorf("a duration of %g seconds", s.DurationSeconds)
	case !(s.LimitSeconds > 0 && s.LimitSeconds <= maxLimit.Seconds()):
		return fmt.Errorf("a limit of %g seconds: every capture has one, up to %v", s.LimitSeconds, maxLimit)
	case s.DurationSeconds > s.LimitSeconds:
		return fmt.Errorf("the duration of %g s is over the limit of %g s", s.DurationSeconds, s.LimitSeconds)
	case s.Log != "" && s.UntilLog == "":
		return errors.New("a log file without something to look for in it: give --until-log")
	}
	for _, f := range []struct{ what, path string }{{"directory", s.Directory}, {"log", s.Log}} {
		if f.path != "" && (!path.IsAbs(f.path) || path.Clean(f.path) != f.path || !printed(f.path)) {
			return fmt.Errorf("the %s %q is no plain absolute path", f.what, f.path)
		}
	}
	for _, e := range []string{s.UntilLog, s.UntilSEL} {
		if _, err := regexp.Compile(e); err != nil {
			return err
		}
	}
	return nil
}

func (s *RingSpec) checkPoints(devices []*device.Device) error {
	for i, p := range s.Points {
		if err := checkInterface(p.Interface); err != nil {
			return err
		}
		if err := checkFilter(p.Filter); err != nil {
			return err
		}
		switch {
		case p.Device != "" && !slices.ContainsFunc(devices, func(d *device.Device) bool { return d.Name == p.Device }):
			return invalid("device %q of --on %s:%s is not among those selected", p.Device, p.Device, p.Interface)
		case slices.ContainsFunc(s.Points[:i], func(o RingPoint) bool { return o.Interface == p.Interface && o.Device == p.Device }):
			return invalid("interface %s is given twice", p.Interface)
		}
	}
	for _, d := range devices {
		switch n := len(s.points(d.Name)); {
		case n == 0:
			return invalid("no interface to capture on is given for %s", d.Name)
		case n > maxPoints:
			return invalid("%d interfaces on %s: at most %d", n, d.Name, maxPoints)
		}
		for _, p := range s.points(d.Name) {
			if err := (&LiveSpec{Interface: p.Interface}).onPlatform(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// points are those of one device: its own stand in for those of all.
func (s *RingSpec) points(name string) []RingPoint {
	var out []RingPoint
	for _, p := range s.Points {
		own := func(o RingPoint) bool { return o.Device == name && o.Interface == p.Interface }
		if p.Device == name || p.Device == "" && !slices.ContainsFunc(s.Points, own) {
			out = append(out, p)
		}
	}
	return out
}

func printed(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func duration(seconds float64) time.Duration {
	return time.Duration(math.Min(seconds*float64(time.Second), math.MaxInt64/2))
}

// bytes is the most that the rings of a device take: each file may be over its
// size by a packet, and overlap more files a ring are there at a rotation.
func (s *RingSpec) bytes(points, overlap int) int64 {
	one := int64(s.Megabytes)*1_000_000 + maxSnapLen
	return int64(points) * int64(s.Files+overlap) * one
}
