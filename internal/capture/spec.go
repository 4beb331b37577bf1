package capture

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"

	"capfleet/internal/capture/capturejob"
	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
	"capfleet/internal/stream"
)

// Name of the operation.
const Name = capturejob.Operation

// Platforms that the operation knows. Others have no shell to run tcpdump from.
const (
	platformLinux  = "linux"
	platformBigIP  = "f5_bigip"
	platformEndace = "endace_osm"
)

// Spec is capturejob.Spec as this package checks it.
type Spec struct {
	Live    *LiveSpec    `json:"live,omitempty"`
	Ring    *RingSpec    `json:"ring,omitempty"`
	Analyze *AnalyzeSpec `json:"analyze,omitempty"`
}

// LiveSpec is a capturejob.Live; Prepare gives it its stream.
type LiveSpec capturejob.Live

// Bounds of a spec.
const (
	defaultDuration = time.Hour
	maxDuration     = 24 * time.Hour
	maxSnapLen      = 262144
	maxFilter       = 8 << 10
)

func (s *LiveSpec) duration() time.Duration {
	return time.Duration(*s.DurationSeconds * float64(time.Second))
}

// secrets reports whether the capture will hold keys of TLS sessions.
func (s *LiveSpec) secrets() bool { return (*capturejob.Live)(s).HoldsKeys() }

func invalid(format string, args ...any) error {
	return &fault.Error{Kind: fault.Invalid, Act: Name, Stage: "spec", Err: fmt.Errorf(format, args...)}
}

// read decodes a spec and checks what does not depend on the device.
func read(raw json.RawMessage) (Spec, error) {
	var s Spec
	if err := operation.DecodeSpec(Name, raw, &s); err != nil {
		return s, err
	}
	kinds := 0
	for _, there := range []bool{s.Live != nil, s.Ring != nil, s.Analyze != nil} {
		if there {
			kinds++
		}
	}
	switch {
	case kinds == 0:
		return s, invalid("the spec says no kind of capture; there are: live, ring, analyze")
	case kinds > 1:
		return s, invalid("the spec says %d kinds of capture: live, ring and analyze exclude each other", kinds)
	case s.Live == nil:
		return s, nil // what there is to check depends on the devices
	}
	return s, s.Live.check()
}

func (s *LiveSpec) check() error {
	if err := checkInterface(s.Interface); err != nil {
		return err
	}
	if err := checkFilter(s.Filter); err != nil {
		return err
	}
	if s.DurationSeconds == nil {
		d := defaultDuration.Seconds()
		s.DurationSeconds = &d
	}
	switch {
	case s.SnapLen < 0 || s.SnapLen > maxSnapLen:
		return invalid("the snap length is from 1 to %d bytes; 0 is whole packets", maxSnapLen)
	case s.Packets != nil && *s.Packets <= 0:
		return invalid("a limit of %d packets: it is at least 1; leave it out for none", *s.Packets)
	case s.Bytes != nil && *s.Bytes < 24:
		return invalid("a limit of %d bytes: the header of a capture alone has 24; leave it out for none", *s.Bytes)
	case !(*s.DurationSeconds > 0) || *s.DurationSeconds > maxDuration.Seconds():
		return invalid("a duration of %g s: it is above 0 and at most %v, because every capture has a limit", *s.DurationSeconds, maxDuration)
	case s.F5 != "" && !f5Details.MatchString(s.F5):
		return invalid("--f5 takes a list such as n,ssl:v, not %q", clip(s.F5))
	}
	return nil
}

var (
	// interfaceName lets through what interfaces are called: Linux names, 1.1 and
	// 0.0:nnnp of a BIG-IP, its VLANs with their folder.
	interfaceName = regexp.MustCompile(`\A[A-Za-z0-9_/][A-Za-z0-9_.:/@%+~-]{0,127}\z`)
	// noise is a BIG-IP's addition to an interface: levels of detail, and p for the
	// other side of the flow.
	noise     = regexp.MustCompile(`\A(?:n{1,3}p?|p)\z`)
	f5Details = regexp.MustCompile(`\A[a-z]{1,8}(?::[a-z]{1,8})?(?:,[a-z]{1,8}(?::[a-z]{1,8})?){0,7}\z`)
)

func checkInterface(name string) error {
	switch {
	case name == "":
		return invalid("no interface is given (-i)")
	case !interfaceName.MatchString(name) || strings.Contains(name, "://"):
		return invalid("%q is no name of an interface", clip(name))
	}
	return nil
}

// checkFilter refuses what can be no filter, whatever the device.
func checkFilter(filter string) error {
	switch {
	case len(filter) > maxFilter:
		return invalid("the filter has %d bytes; at most %d are taken", len(filter), maxFilter)
	case strings.HasPrefix(strings.TrimSpace(filter), "-"):
		return invalid("the filter begins with - and would be taken for an option; put it in brackets")
	case strings.ContainsFunc(filter, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }):
		return invalid("the filter holds a control character; it is one line of plain text")
	}
	return nil
}

// onPlatform checks a spec against the platform of its device.
func (s *LiveSpec) onPlatform(dev *device.Device) error {
	refuse := func(next, format string, args ...any) error {
		return &fault.Error{Kind: fault.Unsupported, Act: "capture on " + dev.Name, Device: dev.Name, Stage: "spec", Err: fmt.Errorf(format, args...), Next: next}
	}
	_, level, leveled := strings.Cut(s.Interface, ":")
	switch dev.Platform {
	case platformLinux:
		if s.F5 != "" {
			return refuse("leave --f5 out", "--f5 is known to a BIG-IP's tcpdump alone")
		}
	case platformBigIP:
		if leveled && !noise.MatchString(level) {
			return refuse("write :n, :nn or :nnn, and p after it for the other side of the flow", "%q is no level of detail", clip(level))
		}
	case platformEndace:
		return refuse("take the packets out of its own capture", "an Endace probe's command line has no tcpdump")
	default:
		return refuse("", "captures are not known on platform %s", dev.Platform)
	}
	return nil
}

type capture struct {
	streams *stream.Hub
	rings   RingOptions
}

var _ operation.Operation = (*capture)(nil)

// New gives the operation. Streams is where live captures find their readers.
func New(streams *stream.Hub, rings RingOptions) operation.Operation {
	return &capture{streams: streams, rings: rings}
}

// Name implements operation.Operation.
func (o *capture) Name() string { return Name }

// Prepare checks the request. A live capture is of one device; the rings of several
// begin and stop together.
func (o *capture) Prepare(ctx context.Context, raw json.RawMessage, devices []*device.Device) (operation.Prepared, error) {
	s, err := read(raw)
	if err != nil {
		return operation.Prepared{}, err
	}
	switch {
	case s.Ring != nil:
		return o.prepareRing(ctx, s, devices)
	case s.Analyze != nil:
		return o.prepareAnalyze(s, devices)
	}
	out := operation.Prepared{Access: operation.Read}
	if len(devices) != 1 {
		return out, invalid("a live capture is of one device; %d are selected", len(devices))
	}
	if s.Live.Stream != "" {
		return out, invalid("stream is given by fleetd")
	}
	if err := s.Live.onPlatform(devices[0]); err != nil {
		return out, err
	}
	s.Live.Stream = rand.Text()
	if s.Live.secrets() {
		out.Access = operation.Change
		out.Warnings = append(out.Warnings, "the capture will hold keys of TLS sessions: whoever has the file can read them")
	}
	if out.Spec, err = json.Marshal(s); err != nil {
		return out, fault.Wrap(fault.Internal, "keep the spec", err)
	}
	return out, nil
}

// Stream gives the name under which the client of a live capture reads, from the
// spec of its job.
func Stream(raw json.RawMessage) (string, error) {
	s, err := read(raw)
	if err != nil {
		return "", err
	}
	if s.Analyze != nil {
		return "", fault.New(fault.Invalid, "an analysis is not read as it comes: fleetctl capture stop ends it and gives its findings")
	}
	if s.Live == nil {
		return "", fault.New(fault.Invalid, "a ring is not read as it comes: fleetctl capture get has its files once it has stopped")
	}
	if s.Live.Stream == "" {
		return "", fault.Wrap(fault.Internal, "find the stream", errors.New("the capture has none"))
	}
	return s.Live.Stream, nil
}

// Steps implements operation.Operation.
func (o *capture) Steps(raw json.RawMessage, unit operation.Unit) ([]operation.Step, error) {
	s, err := read(raw)
	if err != nil {
		return nil, err
	}
	if len(unit.Devices) != 1 {
		return nil, invalid("a unit of a capture is one device; it has %d", len(unit.Devices))
	}
	switch {
	case s.Ring != nil:
		return ringSteps(o.rings, s.Ring, unit.Devices[0]), nil
	case s.Analyze != nil:
		return analyzeSteps(o.rings.Spool, s.Analyze, unit.Devices[0]), nil
	}
	return liveSteps(o.streams, s.Live, unit.Devices[0]), nil
}
