package capture

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"capfleet/internal/capture/capturejob"
	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
	"capfleet/internal/pcap/tlshello"
	"capfleet/internal/pcap/xff"
)

// AnalyzeSpec is a capturejob.Analyze as this package checks it.
type AnalyzeSpec capturejob.Analyze

const (
	defaultWeak = "tls1.1"
	// Rows of a device are one value in the ledger.
	defaultMaxRows = 20_000
	mostRows       = 100_000
	// maxStreams on one device: as many as OpenSSH allows of one connection, less those
	// that are for others.
	maxStreams = 6
)

// prepareAnalyze checks a request for analyses.
func (o *capture) prepareAnalyze(s Spec, devices []*device.Device) (operation.Prepared, error) {
	out := operation.Prepared{Access: operation.Read, Coordinated: true}
	if err := s.Analyze.prepare(devices); err != nil {
		return out, err
	}
	if s.Analyze.DurationSeconds == 0 {
		out.Warnings = append(out.Warnings, fmt.Sprintf("nothing but fleetctl capture stop and the limit of %v ends these captures", duration(s.Analyze.LimitSeconds)))
	}
	var err error
	if out.Spec, err = json.Marshal(s); err != nil {
		return out, fault.Wrap(fault.Internal, "keep the spec", err)
	}
	return out, nil
}

// prepare fills in what is left out, and checks all that can be checked without the
// devices.
func (s *AnalyzeSpec) prepare(devices []*device.Device) error {
	if s.LimitSeconds == 0 {
		s.LimitSeconds = max(defaultLimit.Seconds(), s.DurationSeconds)
	}
	if s.MaxRows == 0 {
		s.MaxRows = defaultMaxRows
	}
	if s.Weak == "" && s.Analysis == capturejob.TLSAudit {
		s.Weak = defaultWeak
	}
	if err := s.check(); err != nil {
		return invalid("%w", err)
	}
	// Interfaces, filters and times are those of rings.
	none := 0.0
	ring := RingSpec{Points: s.Points, Files: defaultFiles, Megabytes: defaultMegabytes, Directory: defaultDirectory, SnapLen: s.SnapLen,
		DurationSeconds: s.DurationSeconds, LimitSeconds: s.LimitSeconds, AfterSeconds: &none}
	if err := ring.prepare(devices); err != nil {
		return err
	}
	s.Points = ring.Points
	for _, d := range devices {
		if n := len(s.points(d.Name)); n > maxStreams {
			return invalid("%d interfaces on %s: at most %d can be analysed at once", n, d.Name, maxStreams)
		}
	}
	return nil
}

func (s *AnalyzeSpec) check() error {
	switch s.Analysis {
	case capturejob.TLSAudit:
		if _, ok := tlshello.ParseVersion(s.Weak); !ok {
			return fmt.Errorf("%q is no version of TLS", clip(s.Weak))
		}
	case capturejob.XFF:
		if _, err := netip.ParseAddr(s.IP); err != nil {
			return fmt.Errorf("%s looks for a client's address: %w", capturejob.XFF, err)
		}
		if i := slices.IndexFunc(s.Headers, func(h string) bool { return !xff.ValidName(h) }); i >= 0 {
			return fmt.Errorf("%q is no name of a header", clip(s.Headers[i]))
		}
	case capturejob.Info:
	default:
		return fmt.Errorf("there is no analysis %q; there are: %s", clip(s.Analysis), strings.Join(capturejob.Analyses(), ", "))
	}
	switch {
	case s.Analysis != capturejob.XFF && (s.IP != "" || len(s.Headers) > 0):
		return fmt.Errorf("an address and headers are for %s alone", capturejob.XFF)
	case s.Analysis != capturejob.TLSAudit && s.Weak != "":
		return fmt.Errorf("weak versions are for %s alone", capturejob.TLSAudit)
	case s.MaxRows < 1 || s.MaxRows > mostRows:
		return fmt.Errorf("%d rows of a device: 1 to %d are possible", s.MaxRows, mostRows)
	}
	return nil
}

// points are those of one device.
func (s *AnalyzeSpec) points(name string) []RingPoint {
	return (&RingSpec{Points: s.Points}).points(name)
}

// analyzeSteps are the steps of one device.
func analyzeSteps(spool string, spec *AnalyzeSpec, dev *device.Device) []operation.Step {
	a := &analyze{spool: spool, spec: spec, dev: dev}
	return []operation.Step{
		{Name: "reap", Observe: a.reap},
		{Name: "check", Observe: a.check},
		{Name: "analyze", Observe: a.run},
		{Name: "report", Observe: func(_ context.Context, env operation.Env) (operation.Observation, error) { return a.report(env) }},
	}
}
