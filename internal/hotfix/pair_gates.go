package hotfix

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

// ProofLicence is the proof that the licence allows the new software.
const ProofLicence = "licence"

// outlook is what the devices show before anything is done to them.
type outlook struct {
	members map[string]member
	legs    map[string]leg
	order   []string // those to reboot
	proofs  map[string][]Proof
	// forbids are the reasons why they are not touched, by device.
	forbids map[string][]string
	// nothing says why nothing is missing; "" when something is.
	nothing string
}

func (o *outlook) forbid(dev, format string, args ...any) {
	o.forbids[dev] = append(o.forbids[dev], fmt.Sprintf(format, args...))
}

// goal is the software that the request leads to. A rollback has none of its own.
func (p *pair) goal() software {
	s, _ := softwareOf(p.spec.Installed)
	return s
}

// survey looks at everything that decides whether the unit may be touched.
func (p *pair) survey(ctx context.Context, env operation.Env) (*outlook, error) {
	o := &outlook{legs: map[string]leg{}, proofs: map[string][]Proof{}, forbids: map[string][]string{}}
	var err error
	if o.members, err = p.seeAll(ctx, env); err != nil {
		return nil, err
	}
	for _, dev := range p.devices {
		if err := p.choose(ctx, env, dev, o); err != nil {
			return nil, err
		}
	}
	settled := len(o.legs) == len(p.devices)
	for _, dev := range p.devices {
		if l, ok := o.legs[dev.Name]; ok && !o.members[dev.Name].at(l) {
			o.order = append(o.order, dev.Name)
		}
	}
	if settled && len(o.order) == 0 {
		words := make([]string, len(p.devices))
		for i, dev := range p.devices {
			words[i] = fmt.Sprintf("%s runs %s", dev.Name, o.members[dev.Name].Running)
		}
		o.nothing = strings.Join(words, ", ")
		return o, nil
	}
	// The one that carries the traffic is rebooted last.
	slices.SortStableFunc(o.order, func(a, b string) int {
		return boolOrder(o.members[a].Role == roleActive, o.members[b].Role == roleActive)
	})
	p.judgeRoles(o)
	for _, dev := range p.devices {
		if err := p.gates(ctx, env, dev, o); err != nil {
			return nil, err
		}
	}
	return o, nil
}

func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// choose settles where a device is to go.
func (p *pair) choose(ctx context.Context, env operation.Env, dev *device.Device, o *outlook) error {
	m := o.members[dev.Name]
	if p.spec.Action == Rollback {
		return p.chooseBack(ctx, env, dev, m, o)
	}
	goal := p.goal()
	if m.Running == goal && (p.spec.Volume == "" || p.spec.Volume == m.Volume) {
		o.legs[dev.Name] = leg{Volume: m.Volume, Software: goal}
		return nil
	}
	if p.spec.Volume != "" {
		r, there := m.row(p.spec.Volume)
		if there && r.Active {
			o.forbid(dev.Name, "%s is running, and nothing can be installed to it", p.spec.Volume)
			return nil
		}
		o.legs[dev.Name] = leg{Volume: p.spec.Volume, Create: !there, Software: goal}
		return nil
	}
	var empty, other []volumeRow
	for _, r := range m.Volumes {
		switch {
		case r.Active:
		case r.holds(goal):
			o.legs[dev.Name] = leg{Volume: r.Name, Software: goal}
			return nil
		case r.empty():
			empty = append(empty, r)
		default:
			other = append(other, r)
		}
	}
	switch {
	case len(empty) > 0:
		o.legs[dev.Name] = leg{Volume: empty[0].Name, Software: goal}
	case len(other) == 1:
		o.legs[dev.Name] = leg{Volume: other[0].Name, Software: goal}
	case len(other) == 0:
		o.forbid(dev.Name, "it has no volume beside the running %s: name a new one with --volume", m.Volume)
	default:
		o.forbid(dev.Name, "which volume to overwrite? %s: say which with --volume", rows(other))
	}
	return nil
}

func rows(list []volumeRow) string {
	words := make([]string, len(list))
	for i, r := range list {
		words[i] = r.String()
	}
	return strings.Join(words, "; ")
}

// earlier is what the operation keeps of a device from one job to the next: what
// ran there before the last change.
type earlier struct {
	Volume   string    `json:"volume"`
	Software software  `json:"software"`
	At       time.Time `json:"at"` // when it was rebooted away from
}

func earlierKey(dev *device.Device) string { return "volume/" + dev.Name }

// storeEarlier keeps what ran on the members before, for a rollback, and what their
// volumes were given. What a rollback
// itself leads to stays the thing to roll back to: a second one changes nothing.
func (p *pair) storeEarlier(env operation.Env) error {
	for _, dev := range p.devices {
		before := p.course.Before[dev.Name]
		e := earlier{Volume: before.Volume, Software: before.Running, At: stamp(env)}
		if p.spec.Action == Rollback {
			e.Volume, e.Software = p.course.Target[dev.Name].Volume, p.course.Target[dev.Name].Software
		}
		raw, err := json.Marshal(e)
		if err != nil {
			return fault.Wrap(fault.Internal, "keep what ran on "+dev.Name, err)
		}
		env.Store(dev, earlierKey(dev), raw)
		if err := p.storeConfig(env, dev); err != nil {
			return err
		}
	}
	return nil
}

// chooseBack settles which volume a rollback boots: the one that was asked for, the
// one that ran before the last change by this fleetd, or the only other one.
func (p *pair) chooseBack(ctx context.Context, env operation.Env, dev *device.Device, m member, o *outlook) error {
	take := func(volume string) {
		r, ok := m.row(volume)
		switch {
		case !ok:
			o.forbid(dev.Name, "it has no volume %s", volume)
		case !r.complete() || r.empty():
			o.forbid(dev.Name, "%s cannot be booted: %s", volume, r)
		default:
			o.legs[dev.Name] = leg{Volume: volume, Software: r.software}
		}
	}
	if p.spec.Volume != "" {
		take(p.spec.Volume)
		return nil
	}
	raw, err := env.Load(ctx, earlierKey(dev))
	if err != nil {
		return err
	}
	if raw != nil {
		var e earlier
		if err := json.Unmarshal(raw, &e); err != nil {
			return fault.Wrap(fault.Storage, "read what ran on "+dev.Name, err)
		}
		if r, ok := m.row(e.Volume); ok && r.software != e.Software {
			o.forbid(dev.Name, "%s held %s before the change of %s and holds %s now: say which volume with --volume", e.Volume, e.Software, e.At.Format(time.RFC3339), r.software)
			return nil
		}
		take(e.Volume)
		return nil
	}
	var other []volumeRow
	for _, r := range m.Volumes {
		if !r.Active && !r.empty() && r.complete() {
			other = append(other, r)
		}
	}
	switch len(other) {
	case 1:
		take(other[0].Name)
	case 0:
		o.forbid(dev.Name, "it has no other volume to boot")
	default:
		o.forbid(dev.Name, "this fleetd has not changed it before, and it could boot %s: say which with --volume", rows(other))
	}
	return nil
}

// judgeRoles sees that one member can carry the traffic while the other is away.
func (p *pair) judgeRoles(o *outlook) {
	if len(p.devices) == 1 {
		return
	}
	a, b := p.devices[0].Name, p.devices[1].Name
	ma, mb := o.members[a], o.members[b]
	roles := fmt.Sprintf("%s is %s and %s is %s", a, ma.Role, b, mb.Role)
	active := 0
	for _, m := range []member{ma, mb} {
		if m.Role == roleActive {
			active++
		}
	}
	switch {
	case active == 2:
		o.forbid(a, "%s: both would carry the traffic; see why before anything is rebooted", roles)
	case active == 0:
		o.forbid(a, "%s: neither carries the traffic", roles)
	case ma.Role != roleStandby && mb.Role != roleStandby && !(p.spec.Action == Rollback && len(o.order) == 1 && o.members[o.order[0]].Role != roleActive):
		// A member that does not work may be rolled back: it carries nothing.
		o.forbid(a, "%s: one has to be standby", roles)
	}
	if p.spec.Action == Rollback || ma.Running != mb.Running {
		return // different releases do not sync
	}
	for _, name := range []string{a, b} {
		if s := o.members[name].Sync; s != inSync {
			o.forbid(name, "its sync state is %s, and must be %s before a change", quote(s), inSync)
			return
		}
	}
}

var serviceDate = regexp.MustCompile(`(?m)^Service check date *: *(\d{8})\b`)

// gates sees whether a device may be given the new software.
func (p *pair) gates(ctx context.Context, env operation.Env, dev *device.Device, o *outlook) error {
	m := o.members[dev.Name]
	l, ok := o.legs[dev.Name]
	for _, r := range m.Volumes {
		if r.busy() {
			o.forbid(dev.Name, "something is being installed on it: %s", r)
		}
	}
	if !ok || m.at(l) {
		return nil
	}
	if err := p.failback(ctx, env, dev, o); err != nil {
		return err
	}
	if p.spec.Action == Rollback {
		return nil
	}
	if l.Software.olderThan(m.Running) {
		o.forbid(dev.Name, "it runs %s, which is newer than %s: rollback boots what ran before", m.Running, l.Software)
	}
	if err := p.licence(ctx, env, dev, l, o); err != nil {
		return err
	}
	if p.spec.BaseOnDevice {
		listed, err := p.listed(ctx, env, dev, false)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(listed, func(i listedImage) bool { return i.Version == l.Software.Version }) {
			o.forbid(dev.Name, "it has no base image of %s: give it with --base FILE", l.Software.Version)
		}
	}
	switch out, err := p.tmsh(ctx, env, dev, "load sys config verify", p.vol.Save.Worst); {
	case fault.Is(err, fault.Refused):
		o.forbid(dev.Name, "load sys config verify finds an error in its configuration: %s", quote(refusal(err, out.Text)))
	case err != nil:
		return err
	}
	return nil
}

// refusal is what a device said: its error, or the last thing before it gave up.
func refusal(err error, text string) string {
	for line := range strings.Lines(text) {
		if tmshError.MatchString(line) {
			return strings.TrimSpace(line)
		}
	}
	if line := lastLine(text); line != "" {
		return line
	}
	return err.Error()
}

var tmshError = regexp.MustCompile(`^(?:[0-9a-f]{8}:\d+: |Unexpected Error: |Syntax Error: )`)

// failback sees that the roles do not move by themselves when a member is back.
func (p *pair) failback(ctx context.Context, env operation.Env, dev *device.Device, o *outlook) error {
	if len(p.devices) == 1 {
		return nil
	}
	out, err := p.tmsh(ctx, env, dev, "list cm traffic-group", 0)
	if fault.Is(err, fault.Refused) {
		return nil // a release that has none
	}
	if err == nil && strings.Contains(out.Text, "auto-failback-enabled true") {
		o.forbid(dev.Name, "auto-failback is on, and would move the traffic back by itself: turn it off first")
	}
	return err
}

// licence compares the service check date with what the new version asks for.
func (p *pair) licence(ctx context.Context, env operation.Env, dev *device.Device, l leg, o *outlook) error {
	const line = `grep "Service check date" /config/bigip.license`
	proof := Proof{Name: ProofLicence, Answer: NotObservable, How: line}
	out, err := p.look(env, dev).run(ctx, line, "bash", 0)
	if err != nil && !fault.Is(err, fault.Refused) {
		return err
	}
	have, herr := time.Parse("20060102", first(serviceDate, out.Text))
	need, known := p.vol.LicenceCheckDate(l.Software.Version)
	switch {
	case err != nil || herr != nil:
		proof.Detail = "the device shows no service check date"
	case !known:
		proof.Detail = fmt.Sprintf("its service check date is %s, and the platform definition has no licence check date of %s", have.Format(time.DateOnly), l.Software.Version)
	case have.Before(need):
		proof.Answer = Disproven
		proof.Detail = fmt.Sprintf("its service check date is %s, and %s asks for %s", have.Format(time.DateOnly), l.Software.Version, need.Format(time.DateOnly))
		o.forbid(dev.Name, "the licence is too old, so that it would boot and not load its configuration: %s; reactivate the licence first", proof.Detail)
	default:
		proof.Answer = Proven
		proof.Detail = fmt.Sprintf("its service check date is %s, and %s asks for %s", have.Format(time.DateOnly), l.Software.Version, need.Format(time.DateOnly))
	}
	if proof.Answer == NotObservable {
		if proof.Accepted = p.spec.accepts(ProofLicence); !proof.Accepted {
			o.forbid(dev.Name, "whether its licence is new enough could not be shown: %s; --accept-unobserved %s goes on without it", proof.Detail, ProofLicence)
		}
	}
	o.proofs[dev.Name] = append(o.proofs[dev.Name], proof)
	return nil
}

// forbidden makes one error of the reasons.
func (p *pair) forbidden(o *outlook) error {
	var words, names []string
	for _, dev := range p.devices {
		names = append(names, dev.Name)
		for _, why := range o.forbids[dev.Name] {
			words = append(words, dev.Name+": "+why)
		}
	}
	if len(words) == 0 {
		return nil
	}
	return &fault.Error{Kind: fault.Conflict, Act: "nothing was done on " + strings.Join(names, " and "), Stage: stepPreflight, Err: errors.New(strings.Join(words, "; "))}
}

// observePreflight looks whether the unit may be touched. Once the change has begun
// that is no question any more.
func (p *pair) observePreflight(ctx context.Context, env operation.Env) (operation.Observation, error) {
	begun, err := env.Recall(keyCourse, &p.course)
	if err != nil {
		return failed(err)
	}
	if p.begun = begun; begun {
		return done("the change has begun: the snapshot is of %s", p.course.At.Format(time.RFC3339))
	}
	o, err := p.survey(ctx, env)
	if err != nil {
		return failed(err)
	}
	if o.nothing != "" {
		p.nothing = o.nothing
		p.unchanged(env, o)
		return done("%s", o.nothing)
	}
	if p.spec.Action != Stage {
		if err := p.forbidden(o); err != nil {
			return failed(err)
		}
	}
	return done("%s", o.summary(p))
}

func (o *outlook) summary(p *pair) string {
	words := make([]string, 0, len(p.devices))
	for _, dev := range p.devices {
		words = append(words, fmt.Sprintf("%s: %s, to %s", dev.Name, o.members[dev.Name], o.legs[dev.Name].Volume))
	}
	return strings.Join(words, "; ")
}

// observeSnapshot is the last look before the change. What it remembers makes the
// change begun, and settles its course.
func (p *pair) observeSnapshot(ctx context.Context, env operation.Env) (operation.Observation, error) {
	switch {
	case p.nothing != "":
		return done("%s", p.nothing)
	case p.begun:
		return done("taken at %s", p.course.At.Format(time.RFC3339))
	}
	o, err := p.survey(ctx, env)
	if err != nil {
		return failed(err)
	}
	if o.nothing != "" {
		p.nothing = o.nothing
		p.unchanged(env, o)
		return done("%s", o.nothing)
	}
	if err := p.forbidden(o); err != nil {
		return failed(err)
	}
	c := course{At: stamp(env), Target: o.legs, Order: o.order, Before: o.members, Shots: map[string]string{}}
	for _, dev := range p.devices {
		s, err := p.look(env, dev).snapshot(ctx, p.how.Snapshot)
		if err != nil {
			return failed(err)
		}
		if c.Shots[dev.Name], err = s.keep(ctx, env, dev, dev.Name+"_before.json"); err != nil {
			return failed(err)
		}
	}
	if err := env.Remember(ctx, keyCourse, c); err != nil {
		return failed(err)
	}
	p.begun, p.course = true, c
	return done("%s", o.summary(p))
}
