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

// hasRebooted looks whether the device booted since the snapshot. Where it shows
// nothing of its boots and the operator accepts that, a device that has left
// maintenance mode is taken for one that has: only a reload leads out of it, as far
// as is known.
func (c *change) hasRebooted(ctx context.Context, env operation.Env) (p Proof, now boot, err error) {
	l := c.look(env)
	now, p, err = l.boot(ctx, c.def.Proofs.Rebooted)
	if err != nil {
		return p, now, err
	}
	p.Answer, p.Detail = rebooted(c.before.Boot, now)
	if p.Answer != NotObservable || !c.spec.accepts(ProofRebooted) {
		return p, now, nil
	}
	normal, err := l.normalMode(ctx, c.def.Proofs.NormalMode)
	if err != nil {
		return p, now, err
	}
	if normal.Answer == Disproven {
		p.Answer, p.Detail = Disproven, p.Detail+"; still in maintenance mode"
	} else {
		p.Accepted = true
	}
	return p, now, nil
}

// gone reports whether an error is that of a device that does not answer.
func gone(err error) bool {
	return fault.Is(err, fault.Unreachable) || fault.Is(err, fault.Disconnected) || fault.Is(err, fault.Timeout)
}

func (c *change) observeReload(ctx context.Context, env operation.Env) (operation.Observation, error) {
	act, err := came(env, stepReload)
	if err != nil {
		return failed(err)
	}
	if act.Progress == sending || act.Progress == answered || act.awaitsPerson(env) {
		return c.goingDown(ctx, env, act)
	}
	var p Proof
	err = c.reconnecting(ctx, env, func() (err error) {
		p, _, err = c.hasRebooted(ctx, env)
		return err
	})
	switch {
	case err != nil:
		return failed(err)
	case p.Answer == Proven:
		return done("it has rebooted since the snapshot: %s", p.Detail)
	default:
		return needed("not rebooted since the snapshot: %s", p.Detail)
	}
}

// goingDown waits until a device to which the reload was sent, or was about to be,
// has gone down or is up again. One that simply stays up goes to a person: the
// reload may still come.
func (c *change) goingDown(ctx context.Context, env operation.Env, act actRecord) (operation.Observation, error) {
	until := act.At.Add(c.mode.Down)
	for {
		p, _, err := c.hasRebooted(ctx, env)
		switch {
		case ctx.Err() != nil:
			return failed(stopped(ctx, c.dev))
		case gone(err):
			return done("it does not answer since the reload: %v", err)
		case err != nil:
			return failed(err)
		case p.Answer == Proven || p.Accepted:
			return done("it has rebooted: %s", p.Detail)
		case act.Progress == unsettled || env.Now().After(until):
			if act.Progress != unsettled {
				if err := note(ctx, env, stepReload, unsettled, ""); err != nil {
					return failed(err)
				}
			}
			return inconclusive("%s was typed, or was about to be, and within %s the device did not go down (%s); a retry types it once more",
				quote(c.mode.Reload.Line), c.mode.Down, p.Detail)
		}
		if err := c.look(env).wait(ctx, c.how.Poll); err != nil {
			return failed(err)
		}
	}
}

// reload reboots the device. A connection that is cut is what it is expected to do.
func (c *change) reload(ctx context.Context, env operation.Env) error {
	var s device.Session
	err := c.reconnecting(ctx, env, func() (err error) {
		s, err = c.look(env).session(ctx)
		return err
	})
	if err != nil {
		return errors.Join(err, note(ctx, env, stepReload, notSent, ""))
	}
	_, err = send(ctx, env, stepReload, s, command(c.mode.Reload, c.spec.Names))
	switch act, cerr := came(env, stepReload); {
	case cerr != nil:
		return cerr
	case fault.Is(err, fault.Refused):
		return operation.Attention(&fault.Error{Kind: fault.Refused, Act: "reload", Device: c.dev.Name, Stage: stepReload, Err: err,
			Next: "reload it by hand, or retry the job"})
	case act.Progress == sending && (fault.Is(err, fault.Disconnected) || fault.Is(err, fault.Timeout)) && ctx.Err() == nil:
	case err != nil:
		return err
	}
	act, err := came(env, stepReload)
	if err != nil {
		return err
	}
	seen, err := c.goingDown(ctx, env, act)
	if err != nil || seen.Verdict == operation.Done {
		return err
	}
	return operation.Attention(&fault.Error{Kind: fault.Conflict, Act: seen.Detail, Stage: stepReload, Next: "look at the device, then retry the job"})
}

// observeReturn waits for the device and proves that it is back: rebooted, in
// normal mode, with the hotfix, and capturing; and that it stays so for some time
// without another reboot, which is seen once more at the end of it.
func (c *change) observeReturn(ctx context.Context, env operation.Env) (operation.Observation, error) {
	act, err := came(env, stepReload)
	if err != nil {
		return failed(err)
	}
	if act.At.IsZero() { // it was rebooted by somebody else
		act.At = env.Now()
	}
	until := act.At.Add(c.mode.Return.Worst)
	if act.Progress == unsettled || env.Now().After(until) {
		// A person has taken it up again: it is given some time to answer.
		until = env.Now().Add(c.mode.Settle)
	}
	var up, good time.Time // since when it is known to have rebooted, and since when all proofs hold
	var first, last boot   // what it showed of its boot when they held first, and when it was looked at last
	for {
		proofs, booted, wrong, err := c.back(ctx, env)
		now := env.Now()
		if err == nil {
			c.last = inOrder(proofs)
			for _, earlier := range []boot{first, last} {
				if why := rebootedAgain(earlier, booted); why != "" {
					return inconclusive("it came back and rebooted again: %s", why)
				}
			}
		}
		switch {
		case err != nil || wrong != "":
			good = time.Time{}
		case good.IsZero():
			good = now
			if first.Kind == "" {
				first = booted
			}
		}
		if err == nil && first.Kind != "" {
			last = booted
		}
		switch {
		case ctx.Err() != nil:
			return failed(stopped(ctx, c.dev))
		case err != nil && !fault.KindOf(err).Retryable():
			return inconclusive("it is back and cannot be worked with: %v", err)
		case !good.IsZero() && now.Sub(good) >= c.mode.Stable:
			return c.returned(ctx, env, proofs, good)
		}
		if err == nil && proofs[ProofRebooted].Answer != Disproven && up.IsZero() {
			up = now
		}
		switch {
		case err != nil && now.After(until):
			return inconclusive("not back %s after the reload: %v", short(now.Sub(act.At).Seconds()), err)
		case err == nil && wrong != "" && (!up.IsZero() && now.Sub(up) > c.mode.Settle || up.IsZero() && now.After(act.At.Add(c.mode.Down)) || now.After(until)):
			switch {
			case proofs[ProofInstalled].Answer == Disproven:
			case proofs[ProofNormalMode].Answer == Disproven:
				return inconclusive("it came back wrong: %s; see why and type %s by hand, which alone leads out", wrong, quote(c.mode.Reload.Line))
			default:
				return inconclusive("it came back wrong: %s", wrong)
			}
			if err := c.vanished(ctx, env, wrong); err != nil {
				return failed(err)
			}
			return inconclusive("it came back wrong: %s; a retry installs it anew if it is missing then", wrong)
		}
		env.Progress(c.dev, int64(now.Sub(act.At).Seconds()), int64(c.mode.Return.Worst.Seconds()), "seconds")
		if err := c.look(env).wait(ctx, c.how.Poll); err != nil {
			return failed(err)
		}
	}
}

// back looks once whether the device is back. booted is what it shows of its boot,
// wrong says what is not as it should be; an error is that it does not answer.
func (c *change) back(ctx context.Context, env operation.Env) (proofs map[string]Proof, booted boot, wrong string, err error) {
	l := c.look(env)
	proofs = map[string]Proof{}
	var not []string
	see := func(p Proof, good bool) {
		if p.Answer == NotObservable && c.spec.accepts(p.Name) {
			p.Accepted, good = true, true
		}
		proofs[p.Name] = p
		if !good {
			not = append(not, fmt.Sprintf("%s %s (%s)", p.Name, strings.ReplaceAll(string(p.Answer), "_", " "), p.Detail))
		}
	}
	p, booted, err := c.hasRebooted(ctx, env)
	if err != nil {
		return nil, booted, "", err
	}
	see(p, p.Answer == Proven)
	if len(not) > 0 {
		return proofs, booted, strings.Join(not, "; "), nil
	}
	if p, err = l.normalMode(ctx, c.def.Proofs.NormalMode); err != nil {
		return nil, booted, "", err
	}
	see(p, p.Answer == Proven)
	why, err := c.failure(env)
	if err != nil {
		return nil, booted, "", err
	}
	if why == "" {
		now, err := c.installedOnce(ctx, env)
		if err != nil {
			return nil, booted, "", err
		}
		see(now.p, now.answer == Proven)
	}
	if len(not) > 0 {
		return proofs, booted, strings.Join(not, "; "), nil // capture is looked at twice, some time apart
	}
	if p, err = l.capturing(ctx, c.def); err != nil {
		return nil, booted, "", err
	}
	if p.Answer == Disproven && c.before.Capturing == Disproven && !c.before.Maintenance {
		p.Detail += "; it did not capture before either"
		see(p, true)
	} else {
		see(p, p.Answer == Proven)
	}
	return proofs, booted, strings.Join(not, "; "), nil
}

// returned records that the device is back in use, since a time.
func (c *change) returned(ctx context.Context, env operation.Env, proofs map[string]Proof, since time.Time) (operation.Observation, error) {
	var o outageRecord
	if ok, err := env.Recall(keyOutage, &o); err != nil {
		return failed(err)
	} else if ok && o.To == nil {
		since = since.UTC().Truncate(time.Second)
		o.To = &since
		if err := env.Remember(ctx, keyOutage, o); err != nil {
			return failed(err)
		}
	}
	list := inOrder(proofs)
	words := make([]string, len(list))
	for i, p := range list {
		words[i] = fmt.Sprintf("%s: %s", p.Name, p.Detail)
	}
	if err := env.Remember(ctx, keyBack, list); err != nil {
		return failed(err)
	}
	why, err := c.failure(env)
	if err != nil {
		return failed(err)
	}
	if why == "" {
		if err := c.storeRecord(env, recordApplied); err != nil {
			return failed(err)
		}
	}
	if err := c.keepReturn(ctx, env, why); err != nil {
		return failed(err)
	}
	return done("%s", strings.Join(words, "; "))
}

// keepReturn keeps what is known of a device that is back: a cancel that was held back
// comes through now, and then there is no row of it. why is that of an installation
// that failed.
func (c *change) keepReturn(ctx context.Context, env operation.Env, why string) error {
	row := c.attentionRow(env, "back in use, and not compared with the snapshot")
	row.Result = "returned"
	if why != "" {
		row.Result, row.Detail = "failed", why
	}
	if err := c.fill(ctx, env, c.look(env), &row); err != nil {
		return err
	}
	return keepRecord(ctx, env, c.dev, row)
}

// inOrder gives proofs in the order in which they are always named.
func inOrder(proofs map[string]Proof) []Proof {
	list := make([]Proof, 0, len(proofs))
	for _, name := range proofNames {
		if p, ok := proofs[name]; ok {
			list = append(list, p)
		}
	}
	return list
}
