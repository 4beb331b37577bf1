package hotfix

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

// failoverLine hands the active role over, and is only ever typed on the active
// member.
const failoverLine = "run sys failover standby"

// both looks at a member and its peer; the peer's zero value stands for none.
func (p *pair) both(ctx context.Context, env operation.Env, s stage) (own, peer member, err error) {
	if own, err = p.see(ctx, env, s.dev); err != nil || s.peer == nil {
		return own, peer, err
	}
	peer, err = p.see(ctx, env, s.peer)
	return own, peer, err
}

// patient is both with a pair of which one may not answer for a while.
func (p *pair) patient(ctx context.Context, env operation.Env, s stage) (own, peer member, err error) {
	err = p.until(ctx, env, s.dev, env.Now().Add(p.how.Reconnect), func() (_ bool, err error) {
		own, peer, err = p.both(ctx, env, s)
		return err == nil, err
	})
	return own, peer, err
}

func (s stage) roles(own, peer member) string {
	return fmt.Sprintf("%s is %s and %s is %s", s.dev.Name, own.Role, s.peer.Name, peer.Role)
}

// booted reports whether the member runs its new software already, or was sent
// there: its role does not matter to this stage any more.
func (p *pair) booted(env operation.Env, s stage, own member) (bool, error) {
	if own.at(s.leg) {
		return true, nil
	}
	act, err := came(env, p.rebootStep(s)+"/"+s.dev.Name)
	return act.Progress == sending || act.Progress == answered, err
}

// rebootStep is the step by which the stage's member is rebooted.
func (p *pair) rebootStep(s stage) string {
	switch {
	case s.peer == nil:
		return stepAloneReboot
	case s.dev.Name == p.course.Order[0]:
		return stepFirstReboot
	default:
		return stepSecondReboot
	}
}

// observeStandby sees whether the member carries no traffic, which its peer does.
// A failover that was ordered is given time to happen.
func (p *pair) observeStandby(ctx context.Context, env operation.Env, s stage) (operation.Observation, error) {
	act, err := came(env, s.act())
	if err != nil {
		return failed(err)
	}
	if reboot, err := came(env, p.rebootStep(s)+"/"+s.dev.Name); err != nil {
		return failed(err)
	} else if reboot.Progress == sending || reboot.Progress == answered {
		return done("%s was rebooted at %s", s.dev.Name, reboot.At.Format(time.RFC3339))
	}
	for {
		own, peer, err := p.patient(ctx, env, s)
		if err != nil {
			return failed(err)
		}
		past, err := p.booted(env, s, own)
		switch {
		case err != nil:
			return failed(err)
		case past:
			return done("%s runs %s already", s.dev.Name, own.Running)
		case own.Role != roleActive && peer.Role == roleActive:
			return done("%s, as both say", s.roles(own, peer))
		}
		pending := (act.Progress == sending || act.Progress == answered) && env.Now().Before(act.At.Add(p.vol.Shows))
		switch {
		case pending:
		case own.Role == roleActive && peer.Role == roleStandby && act.Progress == answered:
			// It would be asked for a second time only by a person.
			if err := note(ctx, env, s.act(), unsettled, ""); err != nil {
				return failed(err)
			}
			return inconclusive("%s took %s at %s, and %s later %s; the traffic is where it was. Retry sends it once more",
				s.dev.Name, quote(failoverLine), act.At.Format(time.RFC3339), p.vol.Shows, s.roles(own, peer))
		case own.Role == roleActive && peer.Role == roleStandby:
			if wrong := p.peerReady(s, peer); wrong != "" {
				return failed(&fault.Error{Kind: fault.Conflict, Act: "fail over", Device: s.dev.Name, Stage: s.name, Err: errors.New(wrong)})
			}
			return needed("%s", s.roles(own, peer))
		default:
			return failed(&fault.Error{Kind: fault.Conflict, Act: "nothing is rebooted", Device: s.dev.Name, Stage: s.name, Err: errors.New(s.roles(own, peer)),
				Next: "one has to be active and the other standby; mend that, then retry the job"})
		}
		if err := p.look(env, s.dev).wait(ctx, p.how.Poll); err != nil {
			return failed(err)
		}
	}
}

// peerReady says why the traffic cannot be handed to the peer: what was changed
// there must be proven first.
func (p *pair) peerReady(s stage, peer member) string {
	l := p.course.Target[s.peer.Name]
	if s.name == stepFailover && !peer.at(l) {
		return fmt.Sprintf("%s runs %s and was to run %s", s.peer.Name, peer.Running, l.Software)
	}
	return ""
}

// standby hands the active role over, once, and has both confirm it.
func (p *pair) standby(ctx context.Context, env operation.Env, s stage) error {
	own, peer, err := p.both(ctx, env, s)
	if err != nil {
		return errors.Join(err, note(ctx, env, s.act(), notSent, ""))
	}
	if own.Role != roleActive || peer.Role != roleStandby {
		return &fault.Error{Kind: fault.Disconnected, Act: "fail over", Device: s.dev.Name, Stage: s.name, Err: errors.New("the roles changed just now: " + s.roles(own, peer))}
	}
	session, err := p.look(env, s.dev).session(ctx)
	if err != nil {
		return errors.Join(err, note(ctx, env, s.act(), notSent, ""))
	}
	_, err = send(ctx, env, s.act(), session, device.Command{Line: failoverLine})
	switch {
	case fault.Is(err, fault.Refused):
		return operation.Attention(&fault.Error{Kind: fault.Refused, Act: failoverLine, Device: s.dev.Name, Stage: s.name, Err: err,
			Next: s.peer.Name + " runs the new software and is standby; see why, then retry the job"})
	case err != nil && (ctx.Err() != nil || !fault.KindOf(err).Retryable()):
		return err
	}
	seen, err := p.observeStandby(ctx, env, s)
	switch {
	case err != nil:
		return err
	case seen.Verdict == operation.Done:
		return nil
	case seen.Verdict == operation.Needed:
		return &fault.Error{Kind: fault.Disconnected, Act: failoverLine, Device: s.dev.Name, Stage: s.name, Err: errors.New("the command did not arrive: " + seen.Detail)}
	default:
		return operation.Attention(&fault.Error{Kind: fault.Conflict, Act: seen.Detail, Device: s.dev.Name, Stage: s.name, Next: "look at both members, then retry the job"})
	}
}

func (p *pair) observeReboot(ctx context.Context, env operation.Env, s stage) (operation.Observation, error) {
	act, err := came(env, s.act())
	if err != nil {
		return failed(err)
	}
	if act.Progress == sending || act.Progress == answered {
		again, err := p.onceMore(ctx, env, s)
		if err != nil {
			return failed(err)
		}
		if !again {
			return p.goingDown(ctx, env, s, act)
		}
	}
	own, peer, err := p.patient(ctx, env, s)
	switch {
	case err != nil:
		return failed(err)
	case own.at(s.leg):
		return done("%s runs %s from %s", s.dev.Name, own.Running, own.Volume)
	}
	if wrong := p.mayReboot(s, own, peer); wrong != "" {
		return failed(&fault.Error{Kind: fault.Conflict, Act: "it is not rebooted", Device: s.dev.Name, Stage: s.name, Err: errors.New(wrong)})
	}
	if err := p.currentConfig(ctx, env, s); err != nil {
		return failed(err)
	}
	return needed("%s runs %s from %s", s.dev.Name, own.Running, own.Volume)
}

// onceMore reports whether a member that was rebooted is to be rebooted again: it came
// back from another volume, and an operator has taken the job up since. The boot that
// it is in now is what the next one is told from.
func (p *pair) onceMore(ctx context.Context, env operation.Env, s stage) (bool, error) {
	var retries int
	if ok, err := env.Recall(keyAstray+s.dev.Name, &retries); err != nil || !ok || env.Retries() <= retries {
		return false, err
	}
	own, _, err := p.patient(ctx, env, s)
	if err != nil || own.Volume == "" || own.Volume == s.leg.Volume {
		return false, err
	}
	before := p.course.Before[s.dev.Name]
	before.Boot = own.Boot
	p.course.Before[s.dev.Name] = before
	if err := env.Remember(ctx, keyCourse, p.course); err != nil {
		return false, err
	}
	if err := note(ctx, env, s.act(), notSent, ""); err != nil {
		return false, err
	}
	return true, env.Remember(ctx, keyAstray+s.dev.Name, nil)
}

// astray remembers that a member came back from another volume than it was to.
func (p *pair) astray(ctx context.Context, env operation.Env, s stage, own member) error {
	if own.Volume == "" || own.Volume == s.leg.Volume {
		return nil
	}
	return env.Remember(ctx, keyAstray+s.dev.Name, env.Retries())
}

// mayReboot says why a member cannot be taken away now.
func (p *pair) mayReboot(s stage, own, peer member) string {
	r, ok := own.row(s.leg.Volume)
	switch {
	case !ok || !r.complete() || !r.holds(s.leg.Software):
		return fmt.Sprintf("%s is not what is to be booted: %s", s.leg.Volume, r)
	case s.peer == nil:
		return ""
	case own.Role == roleActive || peer.Role != roleActive:
		return s.roles(own, peer) + ": who is rebooted must not be active, and the other one must be"
	}
	return p.peerReady(stage{name: p.failoverOf(s), dev: s.dev, peer: s.peer, leg: s.leg}, peer)
}

// failoverOf is the step by which the stage's member was to lose the active role.
func (p *pair) failoverOf(s stage) string {
	if s.name == stepSecondReboot {
		return stepFailover
	}
	return stepFirstStandby
}

// hasRebooted compares the member's boot with that of the snapshot. Running from
// another volume is a proof, too: only a boot leads there.
func (p *pair) hasRebooted(dev *device.Device, now member) (Answer, string) {
	before := p.course.Before[dev.Name]
	answer, detail := rebooted(before.Boot, now.Boot)
	if answer == NotObservable && now.Volume != before.Volume && now.Volume != "" {
		return Proven, fmt.Sprintf("it runs from %s, before from %s", now.Volume, before.Volume)
	}
	return answer, detail
}

// goingDown waits until a member that was told to reboot, or was about to be, has
// gone down or is up again.
func (p *pair) goingDown(ctx context.Context, env operation.Env, s stage, act actRecord) (operation.Observation, error) {
	until := act.At.Add(p.vol.Down)
	for {
		own, err := p.see(ctx, env, s.dev)
		switch {
		case ctx.Err() != nil:
			return failed(err)
		case gone(err):
			return done("%s does not answer since the reboot: %v", s.dev.Name, err)
		case err != nil && env.Now().Before(until): // services end one by one
		case err != nil:
			return failed(err)
		default:
			answer, detail := p.hasRebooted(s.dev, own)
			if answer == Proven || own.at(s.leg) {
				return done("%s has rebooted: %s", s.dev.Name, detail)
			}
			if env.Now().After(until) {
				if err := note(ctx, env, s.act(), unsettled, ""); err != nil {
					return failed(err)
				}
				return inconclusive("%s was sent to %s at %s, or was about to be, and %s later it has not rebooted (%s); retry sends it once more",
					quote("reboot volume "+s.leg.Volume), s.dev.Name, act.At.Format(time.RFC3339), p.vol.Down, detail)
			}
		}
		if err := p.look(env, s.dev).wait(ctx, p.how.Poll); err != nil {
			return failed(err)
		}
	}
}

// reboot boots the member from its new volume. A connection that is cut is what it
// is expected to do.
func (p *pair) reboot(ctx context.Context, env operation.Env, s stage) error {
	own, peer, err := p.both(ctx, env, s)
	if err == nil {
		if wrong := p.mayReboot(s, own, peer); wrong != "" {
			err = &fault.Error{Kind: fault.Conflict, Act: "it is not rebooted", Device: s.dev.Name, Stage: s.name, Err: errors.New(wrong)}
		}
	}
	if err != nil {
		return errors.Join(err, note(ctx, env, s.act(), notSent, ""))
	}
	session, err := p.look(env, s.dev).session(ctx)
	if err != nil {
		return errors.Join(err, note(ctx, env, s.act(), notSent, ""))
	}
	line := "reboot volume " + s.leg.Volume
	_, err = send(ctx, env, s.act(), session, device.Command{Line: line})
	switch {
	case fault.Is(err, fault.Refused):
		return operation.Attention(&fault.Error{Kind: fault.Refused, Act: line, Device: s.dev.Name, Stage: s.name, Err: err, Next: "it was not rebooted; see why, then retry the job"})
	case err != nil && (ctx.Err() != nil || !fault.KindOf(err).Retryable()):
		return err
	}
	act, err := came(env, s.act())
	if err != nil {
		return err
	}
	seen, err := p.goingDown(ctx, env, s, act)
	if err != nil || seen.Verdict == operation.Done {
		return err
	}
	return operation.Attention(&fault.Error{Kind: fault.Conflict, Act: seen.Detail, Device: s.dev.Name, Stage: s.name, Next: "look at the device, then retry the job"})
}

// observeReturn waits for the member and proves that it is back: rebooted, from the
// right volume, with the right software, in its role, and for some time.
func (p *pair) observeReturn(ctx context.Context, env operation.Env, s stage) (operation.Observation, error) {
	act, err := came(env, p.rebootStep(s)+"/"+s.dev.Name)
	if err != nil {
		return failed(err)
	}
	if act.At.IsZero() { // it runs its software, and this job has not rebooted it
		act.At = env.Now()
	}
	until := act.At.Add(p.vol.Return.Worst)
	if act.Progress == unsettled || env.Now().After(until) {
		until = env.Now().Add(p.vol.Settle) // a person has taken it up again
	}
	var up, good time.Time // since when it answers, and since when it is as it should be
	var boot, seen string  // of good, and of up
	for {
		own, peer, err := p.both(ctx, env, s)
		now := env.Now()
		wrong := ""
		switch {
		case ctx.Err() != nil:
			return failed(err)
		case err == nil:
			wrong = p.backWrong(s, own, peer)
			// New firmware reboots it again: it settles from the last boot on.
			if answer, _ := p.hasRebooted(s.dev, own); (up.IsZero() || seen != own.Boot.Value && own.Boot.Kind == device.ReadBootID) && (answer == Proven || own.at(s.leg)) {
				up, seen = now, own.Boot.Value
			}
		case !fault.KindOf(err).Retryable() && !fault.Is(err, fault.Refused) && !fault.Is(err, fault.Unparsed):
			return inconclusive("%s is back and cannot be worked with: %v", s.dev.Name, err)
		}
		switch {
		case err != nil, wrong != "":
			good = time.Time{}
		case good.IsZero() || boot != own.Boot.Value && own.Boot.Kind == device.ReadBootID:
			good, boot = now, own.Boot.Value
		case now.Sub(good) >= p.vol.Stable:
			return p.returned(env, s, own, peer)
		}
		switch {
		case err != nil && now.After(until):
			return inconclusive("%s is not back %s after the reboot: %v%s", s.dev.Name, short(now.Sub(act.At).Seconds()), err, p.next(s, ""))
		case err == nil && wrong != "" && (!up.IsZero() && now.Sub(up) > p.vol.Settle || up.IsZero() && now.After(act.At.Add(p.vol.Down+p.vol.Settle)) || now.After(until)):
			if err := p.astray(ctx, env, s, own); err != nil {
				return failed(err)
			}
			return inconclusive("%s came back wrong: %s%s", s.dev.Name, wrong, p.next(s, own.Volume))
		}
		env.Progress(s.dev, int64(now.Sub(act.At).Seconds()), int64(p.vol.Return.Worst.Seconds()), "seconds")
		if err := p.look(env, s.dev).wait(ctx, p.how.Poll); err != nil {
			return failed(err)
		}
	}
}

// next says what a person can do about a member that is not back, or is and runs from
// a volume.
func (p *pair) next(s stage, volume string) string {
	before, ok := p.course.Before[s.dev.Name]
	if !ok || p.spec.Action == Rollback {
		return ""
	}
	out := fmt.Sprintf(". Its earlier software is on %s: fleetctl hotfix rollback boots it", before.Volume)
	if volume == before.Volume {
		out = fmt.Sprintf(". It runs its earlier software: see why it did not boot %s, then job retry boots that once more", s.leg.Volume)
	}
	if s.peer != nil {
		out += "; " + s.peer.Name + " was left alone"
	}
	return out
}

// backWrong says what is not as it should be, "" when nothing is.
func (p *pair) backWrong(s stage, own, peer member) string {
	var not []string
	answer, detail := p.hasRebooted(s.dev, own)
	if answer == Disproven {
		return "it has not rebooted: " + detail
	}
	if !own.at(s.leg) {
		not = append(not, fmt.Sprintf("it runs %s from %s, and was to run %s from %s", own.Running, own.Volume, s.leg.Software, s.leg.Volume))
	}
	switch {
	case s.peer == nil && own.Role != roleActive:
		not = append(not, "its state is "+own.Role)
	case s.peer != nil && !(own.Role == roleStandby && peer.Role == roleActive || own.Role == roleActive && peer.Role == roleStandby):
		not = append(not, s.roles(own, peer))
	}
	return strings.Join(not, "; ")
}

// returned records that the member is back.
func (p *pair) returned(env operation.Env, s stage, own, peer member) (operation.Observation, error) {
	if s.peer != nil && own.Role == roleActive {
		env.Warn(s.dev, "it took the active role when it came back, and was to be standby: %s", s.roles(own, peer))
	}
	_, detail := p.hasRebooted(s.dev, own)
	where := own.Role
	if s.peer != nil {
		where = s.roles(own, peer)
	}
	return done("%s runs %s from %s; %s; rebooted: %s", s.dev.Name, own.Running, own.Volume, where, detail)
}
