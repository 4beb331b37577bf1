package hotfix

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

// findings is what a device shows before anything is done to it.
type findings struct {
	version   string // of its software; "" when it shows none
	list      []entry
	listed    listing
	boot      boot
	proofs    []Proof
	normal    Answer
	capturing Answer
	record    record
	recorded  bool
	// forbids are the reasons why it is not touched, each with what to do about it.
	forbids []string
	// nothing says why nothing is missing; "" when something is.
	nothing string
}

// record is what the operation keeps of a device from one job to the next: what it
// installed there last, which a list without versions does not show.
type record struct {
	Names
	SHA256 string    `json:"sha256"`
	At     time.Time `json:"at"`
	// State is how far that came.
	State recordState `json:"state"`
}

type recordState string

const (
	// recordBegun: the device was put into maintenance mode for it.
	recordBegun recordState = "begun"
	// recordInstalled: it was installed, and the reload was still to come.
	recordInstalled recordState = "installed"
	// recordApplied: it was installed and the device proven to be back.
	recordApplied recordState = "applied"
)

func (c *change) recordKey() string { return "device/" + c.dev.Name }

func (c *change) loadRecord(ctx context.Context, env operation.Env) (r record, ok bool, err error) {
	raw, err := env.Load(ctx, c.recordKey())
	if err != nil || raw == nil {
		return r, false, err
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, false, fault.Wrap(fault.Storage, "read what was installed on "+c.dev.Name, err)
	}
	return r, true, nil
}

func (c *change) storeRecord(env operation.Env, state recordState) error {
	raw, err := json.Marshal(record{Names: c.spec.Names, SHA256: c.spec.File, At: env.Now().UTC().Truncate(time.Second), State: state})
	if err != nil {
		return fault.Wrap(fault.Internal, "keep what was installed on "+c.dev.Name, err)
	}
	env.Store(c.dev, c.recordKey(), raw)
	return nil
}

// find looks at everything that decides whether a device may be touched.
func (c *change) find(ctx context.Context, env operation.Env) (f findings, err error) {
	l := c.look(env)
	if f.record, f.recorded, err = c.loadRecord(ctx, env); err != nil {
		return f, err
	}
	if f.version, err = c.version(ctx, l); err != nil {
		return f, err
	}
	normal, err := l.normalMode(ctx, c.def.Proofs.NormalMode)
	if err != nil {
		return f, err
	}
	f.normal = normal.Answer
	installed, err := c.installed(ctx, l, &f)
	if err != nil {
		return f, err
	}
	b, booted, err := l.boot(ctx, c.def.Proofs.Rebooted)
	if err != nil {
		return f, err
	}
	f.boot = b
	capturing, err := l.capturing(ctx, c.def)
	if err != nil {
		return f, err
	}
	f.capturing = capturing.Answer
	if b.Kind != "" {
		booted.Detail = "shown by " + strings.ReplaceAll(string(b.Kind), "_", " ") + ": " + b.Value
	}
	f.proofs = []Proof{installed, booted, normal, capturing}
	c.judge(&f)
	for i := range f.proofs {
		f.proofs[i].Accepted = f.proofs[i].Answer == NotObservable && c.spec.accepts(f.proofs[i].Name)
	}
	return f, nil
}

// fresh is how old findings may be to be gone by: looking whether packets are
// kept takes a while.
const fresh = time.Minute

// findAgain is find, or what it found a moment ago.
func (c *change) findAgain(ctx context.Context, env operation.Env) (findings, error) {
	if age := env.Now().Sub(c.foundAt); age >= 0 && age < fresh {
		return c.found, nil
	}
	return c.find(ctx, env)
}

// version reads the software's version, "" where the definition or the device does
// not give one.
func (c *change) version(ctx context.Context, l look) (string, error) {
	k := c.def.Checks
	if k.Version == "" {
		return "", nil
	}
	out, err := l.run(ctx, k.Version, "", 0)
	if fault.Is(err, fault.Refused) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if m := expr(k.VersionMatch).FindStringSubmatch(out.Text); m != nil {
		l.env.Facts(l.dev, operation.Facts{"version": m[1]})
		return m[1], nil
	}
	return "", nil
}

// installed reads the list and says what it shows of the hotfix.
func (c *change) installed(ctx context.Context, l look, f *findings) (Proof, error) {
	list, p, err := l.list(ctx, c.def.Proofs.Installed)
	if err != nil {
		return p, err
	}
	f.list = list
	if p.Answer == NotObservable {
		f.listed = listing{Answer: NotObservable}
		return p, nil
	}
	f.listed = c.spec.Names.find(c.how, list)
	p.Answer = f.listed.Answer
	switch {
	case p.Answer == Proven:
		p.Detail = "lists " + quote(f.listed.Entry)
	case p.Answer == NotObservable:
		p.Detail = fmt.Sprintf("lists %s without a version", quote(f.listed.Entry))
	case f.listed.Entry != "":
		p.Detail = fmt.Sprintf("lists %s", quote(f.listed.Entry))
	default:
		p.Detail = fmt.Sprintf("%s is not in the list", quote(c.spec.Installed))
	}
	if p.Answer == NotObservable && f.recorded {
		p.Detail += "; " + f.record.String()
	}
	return p, nil
}

// String says what is known from earlier jobs.
func (r record) String() string {
	what := map[recordState]string{recordBegun: "was to be installed", recordInstalled: "was installed", recordApplied: "was installed"}[r.State]
	return fmt.Sprintf("%s %s by this fleetd at %s", quote(r.Install), what, r.At.Format(time.RFC3339))
}

// ours reports whether the record is of this very hotfix.
func (f *findings) ours(c *change) bool {
	return f.recorded && f.record.Install == c.spec.Install && f.record.Installed == c.spec.Installed
}

// bootedSince reports whether the device shows that it has booted since a time.
func (f *findings) bootedSince(t time.Time) bool {
	return f.boot.Kind == device.ReadUptime && f.boot.At.Sub(t).Seconds() > f.boot.Uptime+f.boot.Grain
}

// judge decides from what was found: whether anything is missing, and what forbids
// to go on.
func (c *change) judge(f *findings) {
	forbid := func(format string, args ...any) { f.forbids = append(f.forbids, fmt.Sprintf(format, args...)) }
	there := f.listed.Answer == Proven
	if f.listed.Answer == NotObservable && f.listed.Entry != "" && f.ours(c) && f.record.State != recordBegun {
		there = true // the list names it, and it was the last thing that was put there
	}
	pending := f.ours(c) && f.record.State != recordApplied && !(f.normal == Proven && f.bootedSince(f.record.At))
	switch {
	case there && f.normal != Disproven && !pending:
		f.nothing = fmt.Sprintf("%s is installed", c.spec.Install)
		for _, p := range f.proofs {
			if p.Name == ProofInstalled {
				f.nothing += ": " + p.Detail
			}
		}
		return
	case f.normal == Disproven && !pending:
		forbid("it is in maintenance mode already, and not by this fleetd: somebody works on it")
	}
	if release, ok := c.how.Release.Apply(c.spec.Names.File); ok && f.version != "" && !strings.HasPrefix(f.version+".", release) {
		forbid("it runs %s, and the file's name says that it is for %sx", quote(f.version), release)
	}
	for _, p := range f.proofs {
		if p.Answer != NotObservable || c.spec.accepts(p.Name) || there && p.Name == ProofInstalled {
			continue
		}
		if p.Name == ProofNormalMode || p.Name == ProofInstalled || p.Name == ProofRebooted || p.Name == ProofCapturing {
			forbid("%s could not be shown: %s; --accept-unobserved %s goes on without it", p.Name, p.Detail, p.Name)
		}
	}
}

// forbidden makes one error of the reasons.
func (c *change) forbidden(f findings) error {
	if len(f.forbids) == 0 {
		return nil
	}
	return &fault.Error{Kind: fault.Conflict, Act: "nothing was done", Device: c.dev.Name, Stage: stepPreflight,
		Err: errors.New(strings.Join(f.forbids, "; "))}
}

// observePreflight looks whether the device may be touched. Once the change has
// begun that is no question any more.
func (c *change) observePreflight(ctx context.Context, env operation.Env) (operation.Observation, error) {
	if err := c.anew(ctx, env); err != nil {
		return failed(err)
	}
	begun, err := env.Recall(keyBefore, &c.before)
	if err != nil {
		return failed(err)
	}
	if c.begun = begun; begun {
		return done("the change has begun: the snapshot is of %s", c.before.At.Format(time.RFC3339))
	}
	f, err := c.find(ctx, env)
	if err != nil {
		return failed(err)
	}
	if f.nothing != "" {
		c.nothing = f.nothing
		c.row(env, f)
		return done("%s", f.nothing)
	}
	if c.spec.Action == Apply {
		if err := c.forbidden(f); err != nil {
			return failed(err)
		}
	}
	c.found, c.foundAt = f, env.Now()
	return done("%s", f.summary())
}

// summary is one line of what was found.
func (f findings) summary() string {
	words := make([]string, 0, len(f.proofs))
	for _, p := range f.proofs {
		words = append(words, fmt.Sprintf("%s %s (%s)", p.Name, strings.ReplaceAll(string(p.Answer), "_", " "), p.Detail))
	}
	return strings.Join(words, ", ")
}

// observeSnapshot takes the snapshot that the post-check compares with, and sees
// that nobody else is configuring the device. It is the last look before the
// change; what it remembers makes the change begun.
func (c *change) observeSnapshot(ctx context.Context, env operation.Env) (operation.Observation, error) {
	if c.nothing != "" {
		return done("%s", c.nothing)
	}
	if c.begun {
		return done("taken at %s", c.before.At.Format(time.RFC3339))
	}
	f, err := c.findAgain(ctx, env)
	if err != nil {
		return failed(err)
	}
	if err := c.forbidden(f); err != nil {
		return failed(err)
	}
	l := c.look(env)
	s, err := l.session(ctx)
	if err != nil {
		return failed(err)
	}
	if who, err := enterConfig(ctx, s, c.dev, c.mode, false); err != nil && !(who != "" && c.spec.Takeover) {
		return failed(err)
	}
	if f.boot, err = c.tellable(ctx, l, f.boot); err != nil {
		return failed(err)
	}
	c.before = beforeRecord{At: env.Now().UTC(), Version: f.version, Boot: f.boot, Listed: f.listed.Entry, Installed: f.listed.Answer,
		Maintenance: f.normal == Disproven, Capturing: f.capturing}
	if err := c.shot(ctx, env, l); err != nil {
		return failed(err)
	}
	if f.ours(c) && f.record.State == recordInstalled && f.listed.Entry != "" {
		// An earlier job installed it and did not come to the reload.
		c.before.Installed = Proven
	}
	if err := env.Remember(ctx, keyBefore, c.before); err != nil {
		return failed(err)
	}
	c.begun = true
	return done("kept as artifact %.12s", c.before.Snapshot)
}

// tellable gives a boot from which a later one can be told: a device that is begun
// anew may have booted a moment ago, and would show much the same uptime after the
// next boot.
func (c *change) tellable(ctx context.Context, l look, b boot) (boot, error) {
	for b.Kind == device.ReadUptime && b.Uptime <= slackOf(b, b) {
		if err := l.wait(ctx, c.how.Poll); err != nil {
			return b, err
		}
		now, _, err := l.boot(ctx, c.def.Proofs.Rebooted)
		if err != nil {
			return b, err
		}
		b = now
	}
	return b, nil
}

// shot takes the snapshot. A device that is begun anew is held to what it was like
// before the first time: what it has lost since must not pass for its usual state.
func (c *change) shot(ctx context.Context, env operation.Env, l look) error {
	var origin beforeRecord
	known, err := env.Recall(keyOrigin, &origin)
	if err != nil {
		return err
	}
	if known {
		c.before.Snapshot, c.before.Version = origin.Snapshot, origin.Version
		c.before.Maintenance, c.before.Capturing = origin.Maintenance, origin.Capturing
		return nil
	}
	snap, err := l.snapshot(ctx, c.how.Snapshot)
	if err != nil {
		return err
	}
	c.before.At = snap.TakenAt
	c.before.Snapshot, err = snap.keep(ctx, env, c.dev, c.dev.Name+"_before.json")
	return err
}

// plan is the only step of the action plan.
func (c *change) plan(ctx context.Context, env operation.Env) (operation.Observation, error) {
	f, err := c.find(ctx, env)
	if err != nil {
		return failed(err)
	}
	there, err := c.staged(ctx, env)
	if err != nil {
		return failed(err)
	}
	env.Row(c.dev, c.planRow(f, there))
	return done("%s", f.summary())
}
