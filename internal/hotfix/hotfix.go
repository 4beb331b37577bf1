package hotfix

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
	"capfleet/internal/transfer"
)

// Name of the operation.
const Name = "hotfix"

// File is a kept artifact, as a request names it.
type File struct {
	SHA256 string
	Name   string
	Size   int64
}

// Options is what the operation is made of. All of it must be safe for concurrent
// use.
type Options struct {
	// Definitions finds the definition in force of a platform.
	Definitions func(platform string) (*device.Definition, bool)
	// File finds an artifact by its whole SHA-256; fault.NotFound when there is none.
	File func(ctx context.Context, sha256 string) (File, error)
	// Buffers are shared by all uploads; nil is some for each.
	Buffers *transfer.Buffers
}

// flow is how the devices of one platform are brought to a hotfix. There is one
// for each way that a platform definition can describe.
type flow interface {
	// prepare refuses what cannot be done to these devices, which are all of the
	// platform, and says how long the change phase of each may take. It fills what
	// is derived into the spec.
	prepare(spec *Spec, file File, devices []*device.Device) (worst map[string]time.Duration, err error)
	// steps of one unit. They hold the state of one attempt.
	steps(spec Spec, unit operation.Unit) ([]operation.Step, error)
}

type hotfix struct{ Options }

var _ operation.Operation = (*hotfix)(nil)

// New gives the operation.
func New(opts Options) operation.Operation { return &hotfix{opts} }

// Name implements operation.Operation.
func (o *hotfix) Name() string { return Name }

// flow gives the flow of a platform, or fault.Unsupported.
func (o *hotfix) flow(platform string) (flow, error) {
	def, ok := o.Definitions(platform)
	switch {
	case ok && def.Hotfix != nil && def.Hotfix.MaintenanceMode != nil:
		return &maintenance{def: def, how: def.Hotfix, mode: def.Hotfix.MaintenanceMode, buffers: o.Buffers}, nil
	case ok && def.Hotfix != nil && def.Hotfix.Volumes != nil:
		return &volumes{def: def, how: def.Hotfix, vol: def.Hotfix.Volumes, buffers: o.Buffers}, nil
	default:
		return nil, &fault.Error{Kind: fault.Unsupported, Act: Name, Stage: "platform",
			Err: fmt.Errorf("the definition of platform %s does not say how a hotfix is installed", platform)}
	}
}

// Prepare implements operation.Operation: a file that is not kept, a platform that
// the file is not for and names that do not follow are refused here, before any
// device is touched. A file that is not kept is fault.NotFound.
func (o *hotfix) Prepare(ctx context.Context, raw json.RawMessage, devices []*device.Device) (operation.Prepared, error) {
	spec, err := readSpec(raw)
	if err != nil {
		return operation.Prepared{}, err
	}
	// A file that is not kept is told last: what else is wrong is known to whoever
	// asks before the file is sent.
	var file File
	var missing error
	if spec.Action != Rollback {
		if file, err = o.file(ctx, "file", spec.File); fault.Is(err, fault.NotFound) && spec.Names.File != "" {
			file, missing = File{SHA256: spec.File, Name: spec.Names.File, Size: spec.Size}, err
		} else if err != nil {
			return operation.Prepared{}, err
		}
		if spec.Size = file.Size; spec.Names.File == "" {
			spec.Names.File = file.Name
		}
	}
	if spec.Base != "" {
		base, err := o.file(ctx, "base", spec.Base)
		if fault.Is(err, fault.NotFound) && spec.BaseName != "" {
			base, missing = File{SHA256: spec.Base, Name: spec.BaseName}, cmp.Or(missing, err)
		} else if err != nil {
			return operation.Prepared{}, err
		}
		if spec.BaseSize = base.Size; spec.BaseName == "" {
			spec.BaseName = base.Name
		}
	}
	worst, err := o.check(&spec, file, devices)
	if err = cmp.Or(err, missing); err != nil {
		return operation.Prepared{}, err
	}
	out := operation.Prepared{Access: operation.Change, WorstCase: worst, Prepares: spec.Action == Stage || spec.Action == Apply}
	if spec.Action == Plan {
		out.Access, out.WorstCase = operation.Read, nil
	}
	if out.Spec, err = json.Marshal(spec); err != nil {
		return operation.Prepared{}, fault.Wrap(fault.Internal, "keep the spec", err)
	}
	return out, nil
}

// file finds an artifact that a request names.
func (o *hotfix) file(ctx context.Context, stage, sha256 string) (File, error) {
	file, err := o.File(ctx, sha256)
	switch {
	case fault.Is(err, fault.NotFound):
		return file, &fault.Error{Kind: fault.NotFound, Act: Name, Stage: stage,
			Err: fmt.Errorf("fleetd keeps no artifact %s", quote(sha256)), Next: "add the file first: fleetctl artifact add FILE"}
	case err != nil:
		return file, err
	case file.Size == 0:
		return file, &fault.Error{Kind: fault.Invalid, Act: Name, Stage: stage, Err: fmt.Errorf("%s is empty", quote(file.Name))}
	default:
		return file, nil
	}
}

// check has the devices' one platform look at the request. A file is for one
// platform, so devices of two are a mistake in the selection.
func (o *hotfix) check(spec *Spec, file File, devices []*device.Device) (map[string]time.Duration, error) {
	if len(devices) == 0 {
		return nil, fault.New(fault.Invalid, "there are no devices")
	}
	first := devices[0]
	for _, dev := range devices {
		if dev.Platform != first.Platform {
			return nil, &fault.Error{Kind: fault.Invalid, Act: Name, Stage: "platform",
				Err:  fmt.Errorf("%s is %s and %s is %s, and a hotfix is for one platform", first.Name, first.Platform, dev.Name, dev.Platform),
				Next: "select by platform: -l platform=" + first.Platform}
		}
	}
	f, err := o.flow(first.Platform)
	if err != nil {
		return nil, err
	}
	return f.prepare(spec, file, devices)
}

// Steps implements operation.Operation.
func (o *hotfix) Steps(raw json.RawMessage, unit operation.Unit) ([]operation.Step, error) {
	spec, err := readSpec(raw)
	if err != nil {
		return nil, err
	}
	f, err := o.flow(unit.Devices[0].Platform)
	if err != nil {
		return nil, err
	}
	return f.steps(spec, unit)
}
