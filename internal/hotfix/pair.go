package hotfix

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
	"capfleet/internal/transfer"
)

// volumes is the flow of a platform that installs to a volume which is not running
// and then boots from it: a device by itself, or both members of an HA pair.
//
//	preflight, upload, verify           prepare phase, looked at again in the wave
//	snapshot                            what both are like before, and the gates
//	backup                              the configuration's archive, off the box
//	install                             to a volume that is not running, both at once
//	first-standby, -reboot, -return     the standby member; from here a cancel is held
//	failover                            once, confirmed from both
//	second-reboot, -return              the other member
//	post-check                          roles, sync state, differences
//
// Nothing up to install changes what is running. From there on one member is worked
// on at a time, and it is never the active one: a member that has not come back as
// it should ends the change while its peer carries the traffic. A device by itself
// has the steps reboot and return instead.
//
// rollback is the same without the file: it boots the volume that ran before.
type volumes struct {
	def     *device.Definition
	how     *device.Hotfix
	vol     *device.Volumes
	buffers *transfer.Buffers
}

var _ flow = (*volumes)(nil)

// The steps that only this flow has.
const (
	stepBackup       = "backup"
	stepFirstStandby = "first-standby"
	stepFirstReboot  = "first-reboot"
	stepFirstReturn  = "first-return"
	stepFailover     = "failover"
	stepSecondReboot = "second-reboot"
	stepSecondReturn = "second-return"
	stepAloneReboot  = "reboot"
	stepAloneReturn  = "return"
)

// volumeName is what names of volumes look like (verified).
var volumeName = regexp.MustCompile(`\AHD[1-9]\.[1-9][0-9]?\z`)

// software is what a volume holds: the version and the build that it shows.
type software struct {
	Version string `json:"version"`
	Build   string `json:"build"`
}

func (s software) String() string { return strings.TrimSpace(s.Version + " build " + s.Build) }

// softwareOf takes the installed name of an image apart.
func softwareOf(name string) (software, bool) {
	i := strings.LastIndexByte(name, '-')
	if i <= 0 || i == len(name)-1 {
		return software{}, false
	}
	return software{Version: name[:i], Build: name[i+1:]}, true
}

func (v *volumes) isHotfix(file string) bool {
	re, err := device.PromptExpr(v.vol.HotfixFile)
	return err == nil && re.MatchString(file)
}

func (v *volumes) prepare(spec *Spec, file File, devices []*device.Device) (map[string]time.Duration, error) {
	invalid := func(stage, next, format string, args ...any) error {
		return &fault.Error{Kind: fault.Invalid, Act: Name, Stage: stage, Err: fmt.Errorf(format, args...), Next: next}
	}
	if spec.Volume != "" && !volumeName.MatchString(spec.Volume) {
		return nil, invalid("volume", "", "%s is no name of a volume, such as HD1.2", quote(spec.Volume))
	}
	for _, dev := range devices {
		if dev.HAPeer != "" && !slices.ContainsFunc(devices, func(d *device.Device) bool { return d.Name == dev.HAPeer }) {
			return nil, invalid("pair", "select "+dev.HAPeer+" as well", "%s is half of a pair, and its peer %s is not selected: a pair is changed as one", dev.Name, dev.HAPeer)
		}
	}
	if spec.Action != Rollback {
		names, err := namesOf(v.how, spec.Names.File, spec.Install, spec.Installed)
		if err != nil {
			return nil, &fault.Error{Kind: fault.Invalid, Act: Name, Stage: "file", Err: err}
		}
		target, ok := softwareOf(names.Installed)
		if !ok {
			return nil, invalid("file", "give version and build with --installed-as VERSION-BUILD", "no version and build follow from %s", quote(file.Name))
		}
		spec.Names = names
		if err := v.checkBase(spec, target); err != nil {
			return nil, err
		}
	}
	worst := make(map[string]time.Duration, len(devices))
	for _, dev := range devices {
		worst[dev.Name] = v.worstCase(spec.Action)
	}
	return worst, nil
}

// checkBase sees that a hotfix has its base image, and that the base is one.
func (v *volumes) checkBase(spec *Spec, target software) error {
	invalid := func(next, format string, args ...any) error {
		return &fault.Error{Kind: fault.Invalid, Act: Name, Stage: "base", Err: fmt.Errorf(format, args...), Next: next}
	}
	if !v.isHotfix(spec.Names.File) {
		if spec.Base != "" || spec.BaseOnDevice {
			return invalid("leave the base image out", "%s needs no base image", quote(spec.Names.File))
		}
		return nil
	}
	switch {
	case spec.Base == "" && !spec.BaseOnDevice:
		return invalid("add it with --base FILE, or --base-on-device where it is there already",
			"%s is installed on the base image of %s, which is missing", quote(spec.Names.File), target.Version)
	case spec.Base == "":
		return nil
	case spec.BaseOnDevice:
		return invalid("", "the base image is given twice: as a file and as being on the device")
	case v.isHotfix(spec.BaseName):
		return invalid("", "%s is a hotfix itself, and no base image", quote(spec.BaseName))
	}
	names, err := namesOf(v.how, spec.BaseName, "", "")
	if err != nil {
		return &fault.Error{Kind: fault.Invalid, Act: Name, Stage: "base", Err: err}
	}
	if base, ok := softwareOf(names.Installed); !ok || base.Version != target.Version {
		return invalid("", "%s is the base image of %s, and %s needs that of %s", quote(spec.BaseName), base.Version, quote(spec.Names.File), target.Version)
	}
	return nil
}

// worstCase is how long the change phase of one device may take. Installations run
// side by side, and are counted twice all the same: a window rather ends later.
func (v *volumes) worstCase(action Action) time.Duration {
	out := 2*v.how.Look.Worst + v.vol.Shows + v.vol.Return.Worst + v.vol.Stable
	switch action {
	case Apply:
		return out + v.vol.Save.Worst + v.vol.Install.Worst
	case Rollback:
		return out
	default:
		return v.how.Look.Worst
	}
}

// pair is one unit on its way through the steps, in one attempt. What outlives the
// attempt is in the Env's memory.
type pair struct {
	*volumes
	spec    Spec
	devices []*device.Device

	// nothing says why there is nothing to do; "" when there is.
	nothing string
	// course is what was settled by the snapshot, once begun.
	begun  bool
	course course
}

// course is what is to be done, as the snapshot settled it.
type course struct {
	At     time.Time         `json:"at"`
	Target map[string]leg    `json:"target"` // by device
	Order  []string          `json:"order"`  // those to reboot; the one that is not active first
	Before map[string]member `json:"before"` // by device
	Shots  map[string]string `json:"shots"`  // SHA-256 of the snapshots, by device
}

// leg is where a device is to go.
type leg struct {
	Volume   string   `json:"volume"`
	Create   bool     `json:"create,omitempty"` // the volume has to be made
	Software software `json:"software"`
}

// Keys of what is remembered beside those of the other flow.
const (
	keyCourse  = "course"
	keyArchive = "archive/" // and the device
	keyImage   = "image/"   // and the device and the file
	keyAstray  = "astray/"  // and the device
)

func (v *volumes) steps(spec Spec, unit operation.Unit) ([]operation.Step, error) {
	p := &pair{volumes: v, spec: spec, devices: unit.Devices}
	if len(unit.Devices) > 2 {
		return nil, fault.New(fault.Internal, "unit %s has %d devices, and a pair has two", unit.Name, len(unit.Devices))
	}
	if spec.Action == Plan {
		return []operation.Step{{Name: "plan", Observe: p.plan}}, nil
	}
	steps := []operation.Step{{Name: stepPreflight, Prepare: spec.Action != Rollback, Observe: p.observePreflight}}
	if spec.Action != Rollback {
		steps = append(steps,
			operation.Step{Name: stepUpload, Prepare: true, Observe: p.observeUpload, Act: p.upload},
			operation.Step{Name: stepVerify, Prepare: true, Observe: p.observeListed})
	}
	if spec.Action == Stage {
		return append(steps, operation.Step{Name: stepStaged, Prepare: true, Observe: p.observeStaged}), nil
	}
	steps = append(steps, operation.Step{Name: stepSnapshot, Observe: p.observeSnapshot})
	if spec.Action == Apply {
		steps = append(steps,
			operation.Step{Name: stepBackup, Observe: p.observeBackup, Act: p.backup},
			operation.Step{Name: stepInstall, Once: true, Observe: p.observeInstall, Act: p.install})
	}
	if len(p.devices) == 1 {
		steps = append(steps, p.held(stepAloneReboot, true, 0, p.observeReboot, p.reboot), p.held(stepAloneReturn, false, 0, p.observeReturn, nil))
	} else {
		steps = append(steps,
			p.held(stepFirstStandby, true, 0, p.observeStandby, p.standby),
			p.held(stepFirstReboot, true, 0, p.observeReboot, p.reboot),
			p.held(stepFirstReturn, false, 0, p.observeReturn, nil),
			p.held(stepFailover, true, 1, p.observeStandby, p.standby),
			p.held(stepSecondReboot, true, 1, p.observeReboot, p.reboot),
			p.held(stepSecondReturn, false, 1, p.observeReturn, nil))
	}
	return append(steps, operation.Step{Name: stepPostCheck, Observe: p.observePostCheck}), nil
}

// stage is a step of one member's way to its new volume.
type stage struct {
	name string
	dev  *device.Device
	peer *device.Device // nil for a device by itself
	leg  leg
}

func (s stage) act() string { return s.name + "/" + s.dev.Name }

// held makes a step of the i-th member to be rebooted one of those between which a
// cancel is held back. Where no i-th one is to be rebooted it has nothing to do.
func (p *pair) held(name string, once bool, i int,
	observe func(context.Context, operation.Env, stage) (operation.Observation, error),
	act func(context.Context, operation.Env, stage) error) operation.Step {
	of := func() (stage, bool) {
		if p.nothing != "" || i >= len(p.course.Order) {
			return stage{}, false
		}
		dev, peer := p.member(p.course.Order[i])
		return stage{name: name, dev: dev, peer: peer, leg: p.course.Target[dev.Name]}, true
	}
	s := operation.Step{Name: name, Once: once, Hold: true}
	s.Observe = func(ctx context.Context, env operation.Env) (operation.Observation, error) {
		st, ok := of()
		switch {
		case p.nothing != "":
			return done("%s", p.nothing)
		case !ok:
			return done("its software is the right one")
		}
		// Kept with the result of whichever attempt has one.
		if err := p.storeEarlier(env); err != nil {
			return failed(err)
		}
		seen, err := observe(ctx, env, st)
		if err != nil {
			return seen, p.loud(env, st, err)
		}
		switch {
		case seen.Verdict == operation.Inconclusive:
			err = p.keepMembers(ctx, env, seen.Detail)
		case act == nil: // it is back
			err = p.keepMember(ctx, env, st.dev, "returned", seen.Detail)
		}
		return seen, err
	}
	if act != nil {
		s.Act = func(ctx context.Context, env operation.Env) error {
			st, ok := of()
			if !ok {
				return fault.New(fault.Internal, "%s has no device", name)
			}
			err := p.loud(env, st, act(ctx, env, st))
			if operation.NeedsAttention(err) {
				return operation.Attention(errors.Join(err, p.keepMembers(ctx, env, err.Error())))
			}
			return err
		}
	}
	return s
}

// loud adds to an error what the member is in, once it was rebooted.
func (p *pair) loud(env operation.Env, s stage, err error) error {
	if err == nil {
		return nil
	}
	for _, step := range []string{stepFirstReboot, stepSecondReboot, stepAloneReboot} {
		act, rerr := came(env, step+"/"+s.dev.Name)
		if rerr != nil || act.Progress == "" || act.Progress == notSent || act.Progress == refused {
			continue
		}
		out := error(&fault.Error{Kind: fault.KindOf(err), Act: fmt.Sprintf("rebooted to %s at %s and not proven to be back", s.leg.Volume, act.At.Format(time.RFC3339)),
			Device: s.dev.Name, Stage: fault.StageOf(err), Err: err})
		if operation.NeedsAttention(err) {
			return operation.Attention(out)
		}
		return out
	}
	return err
}

// member finds a device of the unit and its peer.
func (p *pair) member(name string) (dev, peer *device.Device) {
	for _, d := range p.devices {
		if d.Name == name {
			dev = d
		} else {
			peer = d
		}
	}
	return dev, peer
}

func (p *pair) look(env operation.Env, dev *device.Device) look { return look{env: env, dev: dev} }

// tmsh runs a command of tmsh.
func (p *pair) tmsh(ctx context.Context, env operation.Env, dev *device.Device, line string, timeout time.Duration) (device.Output, error) {
	return p.look(env, dev).run(ctx, line, "", timeout)
}

// target is an image's place on the device.
func (p *pair) target(file string) string { return path.Join(p.how.UploadDir, file) }

// until repeats a look with pauses until it says that it is over. fn's error ends it
// too, unless it is that of a device which may answer again before the time is over.
func (p *pair) until(ctx context.Context, env operation.Env, dev *device.Device, end time.Time, fn func() (over bool, err error)) error {
	for {
		over, err := fn()
		if over || err != nil && (ctx.Err() != nil || !fault.KindOf(err).Retryable() || env.Now().After(end)) {
			return err
		}
		if err := p.look(env, dev).wait(ctx, p.how.Poll); err != nil {
			return err
		}
	}
}
