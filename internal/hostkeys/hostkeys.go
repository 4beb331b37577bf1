// Package hostkeys is the operation that reads the host keys of devices, so that
// a person can compare them and have them pinned.
//
// It sends no credential to the devices it looks at and pins nothing itself:
// what it shows is what the network showed. The known_hosts file is
// authoritative about which keys are trusted.
package hostkeys

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

// Name of the operation.
const Name = "hostkeys"

// Status compares a key with known_hosts.
type Status string

// Statuses.
const (
	Pinned Status = "pinned"
	// Unknown: nothing is pinned for the host, or this is a further type of key of
	// a host that proved itself with a pinned one.
	Unknown Status = "unknown"
	// Changed: another key of the same type is pinned, or other keys are and the
	// host has none of them. A new type of key alone does not make a host new:
	// that is how somebody in between would introduce himself.
	Changed Status = "changed"
)

// Pins says what known_hosts holds.
type Pins interface {
	// PinnedHostKeys gives the keys that are trusted for a device, by its own
	// known_hosts file; none where nothing is pinned or there is no file yet.
	PinnedHostKeys(dev *device.Device) ([]device.HostKey, error)
}

// Row is one host key of one device.
type Row struct {
	device.HostKey
	Status Status `json:"status"` // before anything is pinned
}

type scan struct {
	scanner device.KeyScanner
	pins    Pins
}

var _ operation.Operation = (*scan)(nil)

// New gives the operation. Its spec is empty.
func New(scanner device.KeyScanner, pins Pins) operation.Operation {
	return &scan{scanner: scanner, pins: pins}
}

// Name implements operation.Operation.
func (s *scan) Name() string { return Name }

// Prepare accepts an empty spec only.
func (s *scan) Prepare(_ context.Context, spec json.RawMessage, _ []*device.Device) (operation.Prepared, error) {
	if err := operation.DecodeSpec(Name, spec, &struct{}{}); err != nil {
		return operation.Prepared{}, err
	}
	return operation.Prepared{Spec: json.RawMessage(`{}`), Access: operation.Read}, nil
}

// Steps gives the one step, scan.
func (s *scan) Steps(_ json.RawMessage, unit operation.Unit) ([]operation.Step, error) {
	observe := func(ctx context.Context, env operation.Env) (operation.Observation, error) {
		total := 0
		for _, dev := range unit.Devices {
			n, err := s.read(ctx, env, dev)
			if err != nil {
				return operation.Observation{}, err
			}
			total += n
		}
		return operation.Observation{Verdict: operation.Done, Detail: fmt.Sprintf("%d host keys", total)}, nil
	}
	return []operation.Step{{Name: "scan", Observe: observe}}, nil
}

func (s *scan) read(ctx context.Context, env operation.Env, dev *device.Device) (int, error) {
	fail := func(err error) error {
		kind, stage := fault.KindOf(err), fault.StageOf(err)
		if stage == "" {
			stage = "host_key"
		}
		return &fault.Error{Kind: kind, Act: "read host keys", Device: dev.Name, Stage: stage, Err: err}
	}
	keys, err := s.scanner.ScanHostKeys(ctx, dev)
	if err != nil {
		return 0, fail(err)
	}
	if len(keys) == 0 {
		return 0, fail(fault.New(fault.HostKey, "it offered no host key"))
	}
	pinned, err := s.pins.PinnedHostKeys(dev)
	if err != nil {
		return 0, fail(err)
	}
	for i, status := range judge(keys, pinned) {
		env.Row(dev, Row{HostKey: keys[i], Status: status})
	}
	return len(keys), nil
}

// judge gives the status of each presented key.
func judge(presented, pinned []device.HostKey) []Status {
	in := func(k device.HostKey) bool {
		return slices.ContainsFunc(pinned, func(p device.HostKey) bool { return p.PublicKey == k.PublicKey })
	}
	proven := slices.ContainsFunc(presented, in)
	out := make([]Status, len(presented))
	for i, k := range presented {
		sameType := slices.ContainsFunc(pinned, func(p device.HostKey) bool { return p.Type == k.Type })
		switch {
		case in(k):
			out[i] = Pinned
		case sameType || len(pinned) > 0 && !proven:
			out[i] = Changed
		default:
			out[i] = Unknown
		}
	}
	return out
}
