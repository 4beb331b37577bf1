package hotfix

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
	"capfleet/internal/transfer"
)

// maintenance is the flow of a platform that installs in a maintenance mode which
// a reload ends:
//
//	preflight, upload, verify          prepare phase, looked at again in the wave
//	snapshot                           what the device is like before
//	maintenance, install, confirm,     from here to the proven return a cancel is
//	save, reload, return               held back
//	post-check                         the same as snapshot, compared
//
// When the installation fails, the device goes through the rest all the same: it is
// saved, reloaded and proven to be back, and then the task fails.
type maintenance struct {
	def     *device.Definition
	how     *device.Hotfix
	mode    *device.MaintenanceMode
	buffers *transfer.Buffers
}

var _ flow = (*maintenance)(nil)

func (m *maintenance) prepare(spec *Spec, file File, devices []*device.Device) (map[string]time.Duration, error) {
	if spec.Action == Rollback || spec.Base != "" || spec.BaseOnDevice || spec.Volume != "" {
		return nil, &fault.Error{Kind: fault.Invalid, Act: Name, Stage: "platform",
			Err: fmt.Errorf("platform %s has no volumes to install to or roll back to, and no base images", m.def.Platform)}
	}
	names, err := namesOf(m.how, spec.Names.File, spec.Install, spec.Installed)
	if err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Act: Name, Stage: "file", Err: err}
	}
	spec.Names = names
	worst := make(map[string]time.Duration, len(devices))
	for _, dev := range devices {
		if dev.HAPeer != "" {
			return nil, &fault.Error{Kind: fault.Unsupported, Act: Name, Device: dev.Name, Stage: "platform",
				Err: fmt.Errorf("it has an HA peer, and platform %s installs device by device", dev.Platform)}
		}
		worst[dev.Name] = m.worstCase(spec.Action)
	}
	return worst, nil
}

// worstCase is how long the change phase may take.
func (m *maintenance) worstCase(action Action) time.Duration {
	if action != Apply {
		return m.how.Look.Worst
	}
	return 2*m.how.Look.Worst + m.outage().Worst + m.mode.Stable
}

// outage is how long nothing is captured.
func (m *maintenance) outage() device.Span {
	out := m.mode.Return
	for _, k := range []device.HotfixCommand{m.mode.Enter, m.mode.Install, m.mode.Save, m.mode.Reload} {
		out.Typical += k.Typical
		out.Worst += k.Worst
	}
	return out
}

// lineOf is a command of the definition for one hotfix.
func lineOf(k device.HotfixCommand, n Names) string {
	return strings.ReplaceAll(k.Line, device.InstallNamePlace, n.Install)
}

// target is the file's place on the device.
func (m *maintenance) target(spec Spec) string { return path.Join(m.how.UploadDir, spec.Names.File) }

func (m *maintenance) steps(spec Spec, unit operation.Unit) ([]operation.Step, error) {
	if len(unit.Devices) != 1 {
		return nil, fault.New(fault.Internal, "unit %s has %d devices, and platform %s installs device by device", unit.Name, len(unit.Devices), m.def.Platform)
	}
	c := &change{maintenance: m, spec: spec, dev: unit.Devices[0]}
	if spec.Action == Plan {
		return []operation.Step{{Name: "plan", Observe: c.plan}}, nil
	}
	steps := []operation.Step{
		{Name: stepPreflight, Prepare: true, Observe: c.observePreflight},
		{Name: stepUpload, Prepare: true, Observe: c.observeUpload, Act: c.upload},
		{Name: stepVerify, Prepare: true, Observe: c.observeVerify},
	}
	if spec.Action == Stage {
		return append(steps, operation.Step{Name: stepStaged, Prepare: true, Observe: c.observeStaged}), nil
	}
	return append(steps,
		operation.Step{Name: stepSnapshot, Observe: c.observeSnapshot},
		c.held(operation.Step{Name: stepMaintenance, Observe: c.observeMaintenance, Act: c.enter}),
		c.held(operation.Step{Name: stepInstall, Once: true, Observe: c.observeInstall, Act: c.install}),
		c.held(operation.Step{Name: stepConfirm, Observe: c.observeConfirm}),
		c.held(operation.Step{Name: stepSave, Observe: c.observeSave, Act: c.save}),
		c.held(operation.Step{Name: stepReload, Once: true, Observe: c.observeReload, Act: c.reload}),
		c.held(operation.Step{Name: stepReturn, Observe: c.observeReturn}),
		operation.Step{Name: stepPostCheck, Observe: c.observePostCheck},
	), nil
}

// The steps, by name.
const (
	stepPreflight   = "preflight"
	stepUpload      = "upload"
	stepVerify      = "verify"
	stepStaged      = "staged"
	stepSnapshot    = "snapshot"
	stepMaintenance = "maintenance"
	stepInstall     = "install"
	stepConfirm     = "confirm"
	stepSave        = "save"
	stepReload      = "reload"
	stepReturn      = "return"
	stepPostCheck   = "post-check"
)

// held makes a step one of those between which the device is out of use. Its
// errors say so: whoever reads them has to know that nothing is captured.
func (c *change) held(s operation.Step) operation.Step {
	s.Hold = true
	observe, act := s.Observe, s.Act
	s.Observe = func(ctx context.Context, env operation.Env) (operation.Observation, error) {
		if c.nothing != "" {
			return operation.Observation{Verdict: operation.Done, Detail: c.nothing}, nil
		}
		seen, err := observe(ctx, env)
		if seen.Verdict == operation.Inconclusive {
			if kerr := keepRecord(ctx, env, c.dev, c.attentionRow(env, seen.Detail)); kerr != nil {
				return operation.Observation{}, kerr
			}
			seen.Detail += c.outOfUse(env)
		}
		return seen, c.loud(ctx, env, err)
	}
	if act != nil {
		s.Act = func(ctx context.Context, env operation.Env) error { return c.loud(ctx, env, act(ctx, env)) }
	}
	return s
}

// attentionRow is what is known of a device that a person has to look at.
func (c *change) attentionRow(env operation.Env, detail string) applyRow {
	row := applyRow{Device: c.dev.Name, Action: Apply, Result: "attention", Names: c.spec.Names, SHA256: c.spec.File, Size: c.spec.Size,
		VersionBefore: text(c.before.Version), ListedBefore: text(c.before.Listed), Before: c.before.Snapshot,
		Proofs: c.last, Differences: []Difference{}, Detail: detail}
	if row.Proofs == nil {
		row.Proofs = []Proof{}
	}
	var o outageRecord
	if ok, err := env.Recall(keyOutage, &o); err == nil && ok {
		row.OutageFrom, row.OutageTo = &o.From, o.To
	}
	return row
}

// loud adds to an error what state the device is left in.
func (c *change) loud(ctx context.Context, env operation.Env, err error) error {
	where := c.outOfUse(env)
	if err == nil || where == "" || operation.IsSecured(err) {
		return err
	}
	out := error(&fault.Error{Kind: fault.KindOf(err), Stage: fault.StageOf(err), Err: fmt.Errorf("%w%s", err, where)})
	if operation.NeedsAttention(err) {
		return operation.Attention(errors.Join(out, keepRecord(ctx, env, c.dev, c.attentionRow(env, err.Error()))))
	}
	return out
}

// change is one device on its way through the steps, in one attempt. What outlives
// the attempt is in the Env's memory.
type change struct {
	*maintenance
	spec Spec
	dev  *device.Device

	// nothing says why there is nothing to do; "" when there is.
	nothing string
	// begun is set once the snapshot before the change has been taken, by this
	// attempt or an earlier one. before is what is remembered of it.
	begun  bool
	before beforeRecord
	// found is what the preflight of this attempt saw, at foundAt.
	found   findings
	foundAt time.Time
	// last are the proofs as they were seen last on the way back.
	last []Proof
}

// Keys of what is remembered beside the acts.
const (
	keyBefore  = "before"
	keyOutage  = "outage"
	keyFailed  = "failed"
	keySaved   = "saved"
	keyBack    = "back"
	keyFile    = "file"
	keyConfirm = "confirm"
	keyGone    = "gone"
	keyOrigin  = "origin"
)

// beforeRecord is what the device was like before the change.
type beforeRecord struct {
	Snapshot    string    `json:"snapshot"` // SHA-256 of the artifact
	At          time.Time `json:"at"`
	Version     string    `json:"version"`
	Boot        boot      `json:"boot"`
	Listed      string    `json:"listed"` // the entry of the hotfix, some version of it
	Installed   Answer    `json:"installed"`
	Maintenance bool      `json:"maintenance"`
	Capturing   Answer    `json:"capturing"`
}

// outageRecord says since when the device is out of use, and until when it was.
type outageRecord struct {
	From time.Time  `json:"from"`
	To   *time.Time `json:"to,omitempty"`
}

func (c *change) look(env operation.Env) look { return look{env: env, dev: c.dev} }

// outOfUse says that the device was put into maintenance mode and is not known to
// have left it, "" otherwise.
func (c *change) outOfUse(env operation.Env) string {
	var o outageRecord
	if ok, err := env.Recall(keyOutage, &o); err != nil || !ok || o.To != nil {
		return ""
	}
	return fmt.Sprintf(" (OUT OF USE: put into maintenance mode at %s and not proven to be back)", o.From.Format(time.RFC3339))
}

// failedRecord is why the installation failed. The device is brought back all the
// same, and begun anew when an operator takes it up again.
type failedRecord struct {
	Why     string `json:"why"`
	Retries int    `json:"retries,omitempty"`
}

// failure is why the installation failed, "" where it did not.
func (c *change) failure(env operation.Env) (string, error) {
	var r failedRecord
	_, err := env.Recall(keyFailed, &r)
	return r.Why, err
}

func (c *change) fail(ctx context.Context, env operation.Env, format string, args ...any) error {
	why := fmt.Sprintf(format, args...)
	env.Warn(c.dev, "%s", why)
	return env.Remember(ctx, keyFailed, failedRecord{Why: why, Retries: env.Retries()})
}

// vanished remembers that the device came back without the hotfix: what was
// installed is not there, and is installed anew when an operator takes the device up
// again.
func (c *change) vanished(ctx context.Context, env operation.Env, why string) error {
	return env.Remember(ctx, keyGone, failedRecord{Why: why, Retries: env.Retries()})
}

// anew forgets an installation that failed, or one that was gone when the device
// came back, once an operator has taken the device up again: everything is looked at
// and done from the start. What the device was like before the first of them is kept
// to compare with.
func (c *change) anew(ctx context.Context, env operation.Env) error {
	var failure, gone failedRecord
	failedOnce, err := env.Recall(keyFailed, &failure)
	if err != nil {
		return err
	}
	vanished, err := env.Recall(keyGone, &gone)
	if err != nil {
		return err
	}
	switch {
	case failedOnce && env.Retries() > failure.Retries:
	case vanished && env.Retries() > gone.Retries:
		if still, err := c.stillGone(ctx, env); err != nil || !still {
			return err
		}
	default:
		return nil
	}
	var before beforeRecord
	if known, err := env.Recall(keyOrigin, &before); err != nil {
		return err
	} else if !known {
		if known, err = env.Recall(keyBefore, &before); err != nil {
			return err
		}
		if known {
			if err := env.Remember(ctx, keyOrigin, before); err != nil {
				return err
			}
		}
	}
	// What says that the rest is to be forgotten goes last.
	for _, key := range []string{actKey(stepInstall), actKey(stepReload), keyOutage, keySaved, keyBack, keyConfirm, keyBefore, keyFailed, keyGone} {
		if err := env.Remember(ctx, key, nil); err != nil {
			return err
		}
	}
	return nil
}

// stillGone looks whether the hotfix is missing still; a person may have installed it
// meanwhile.
func (c *change) stillGone(ctx context.Context, env operation.Env) (bool, error) {
	if _, err := env.Recall(keyBefore, &c.before); err != nil {
		return false, err
	}
	now, err := c.installedNow(ctx, env)
	return now.answer == Disproven, err
}

// patient does something with a device that may not answer for a while: until fn
// ends otherwise than for want of an answer, or until the time is over.
func (c *change) patient(ctx context.Context, env operation.Env, until time.Time, fn func() error) error {
	for {
		err := fn()
		if err == nil || ctx.Err() != nil || !fault.KindOf(err).Retryable() || env.Now().After(until) {
			return err
		}
		if werr := c.look(env).wait(ctx, c.how.Poll); werr != nil {
			return errors.Join(err, werr)
		}
	}
}

// reconnecting is patient for as long as a device may be away in the middle of a
// change.
func (c *change) reconnecting(ctx context.Context, env operation.Env, fn func() error) error {
	return c.patient(ctx, env, env.Now().Add(c.how.Reconnect), fn)
}

func done(format string, args ...any) (operation.Observation, error) {
	return operation.Observation{Verdict: operation.Done, Detail: fmt.Sprintf(format, args...)}, nil
}

func needed(format string, args ...any) (operation.Observation, error) {
	return operation.Observation{Verdict: operation.Needed, Detail: fmt.Sprintf(format, args...)}, nil
}

func inconclusive(format string, args ...any) (operation.Observation, error) {
	return operation.Observation{Verdict: operation.Inconclusive, Detail: fmt.Sprintf(format, args...)}, nil
}

func failed(err error) (operation.Observation, error) { return operation.Observation{}, err }
