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

// observeMaintenance looks whether the device has to go into maintenance mode.
func (c *change) observeMaintenance(ctx context.Context, env operation.Env) (operation.Observation, error) {
	why, err := c.failure(env)
	if err != nil {
		return failed(err)
	}
	if why != "" {
		return done("the installation failed before: %s", why)
	}
	past, err := c.pastIt(ctx, env)
	if err != nil {
		return failed(err)
	}
	if past != "" {
		return done("%s", past)
	}
	var p Proof
	err = c.reconnecting(ctx, env, func() (err error) {
		p, err = c.look(env).normalMode(ctx, c.def.Proofs.NormalMode)
		return err
	})
	if err != nil {
		return failed(err)
	}
	if p.Answer == Disproven {
		if c.outOfUse(env) == "" { // an earlier job of ours left it so
			if err := env.Remember(ctx, keyOutage, outageRecord{From: env.Now().UTC().Truncate(time.Second)}); err != nil {
				return failed(err)
			}
		}
		return done("in maintenance mode: %s", p.Detail)
	}
	return needed("normal mode %s: %s", strings.ReplaceAll(string(p.Answer), "_", " "), p.Detail)
}

// pastIt says that the installation is through, so that maintenance mode is not
// entered again; "" when it is not.
func (c *change) pastIt(ctx context.Context, env operation.Env) (string, error) {
	r, err := came(env, stepReload)
	if err != nil {
		return "", err
	}
	if r.Progress == sending || r.Progress == answered {
		return "the reload was sent at " + r.At.Format(time.RFC3339), nil
	}
	var confirmed string
	if ok, err := env.Recall(keyConfirm, &confirmed); err != nil || ok {
		return confirmed, err
	}
	return "", ctx.Err()
}

// enter puts the device into maintenance mode.
func (c *change) enter(ctx context.Context, env operation.Env) error {
	l := c.look(env)
	s, err := c.configure(ctx, env, stepMaintenance)
	if err != nil {
		return c.untouched(env, err)
	}
	if err := c.storeRecord(env, recordBegun); err != nil {
		return c.untouched(env, err)
	}
	if c.outOfUse(env) == "" {
		if err := env.Remember(ctx, keyOutage, outageRecord{From: env.Now().UTC().Truncate(time.Second)}); err != nil {
			return c.untouched(env, err)
		}
	}
	_, err = s.Run(ctx, command(c.mode.Enter, c.spec.Names))
	if fault.Is(err, fault.Refused) {
		return c.notEntered(ctx, env, err)
	}
	if err != nil {
		return err
	}
	p, err := l.normalMode(ctx, c.def.Proofs.NormalMode)
	if err != nil {
		return err
	}
	if p.Answer == Proven {
		return c.notEntered(ctx, env, fmt.Errorf("the device took %s and is not in maintenance mode: %s", quote(c.mode.Enter.Line), p.Detail))
	}
	return nil
}

// untouched is the error of a device to which maintenance mode has not been ordered
// yet, if so: it is in use as it was.
func (c *change) untouched(env operation.Env, err error) error {
	if c.outOfUse(env) != "" {
		return err
	}
	return operation.Secured(err)
}

// notEntered is the end of a device that did not go into maintenance mode, which
// it is looked at for once more.
func (c *change) notEntered(ctx context.Context, env operation.Env, cause error) error {
	err := &fault.Error{Kind: fault.Refused, Act: "enter maintenance mode", Device: c.dev.Name, Stage: stepMaintenance, Err: cause}
	p, lerr := c.look(env).normalMode(ctx, c.def.Proofs.NormalMode)
	if lerr != nil || p.Answer != Proven {
		return operation.Attention(errors.Join(err, lerr))
	}
	if merr := env.Remember(ctx, keyOutage, nil); merr != nil {
		return errors.Join(err, merr)
	}
	return operation.Secured(err)
}

// seen is what the list shows of the hotfix in the middle of a change, together
// with what else is known.
type seen struct {
	answer Answer // proven where the list and this job's own doing leave no doubt
	detail string
	p      Proof
}

// installedNow looks at the list. A hotfix that is listed without its version is
// proven installed only where the list did not name it before and this job has sent
// the command since.
func (c *change) installedNow(ctx context.Context, env operation.Env) (out seen, err error) {
	err = c.reconnecting(ctx, env, func() (err error) {
		out, err = c.installedOnce(ctx, env)
		return err
	})
	return out, err
}

// installedOnce is installedNow of a device that has to answer at once.
func (c *change) installedOnce(ctx context.Context, env operation.Env) (out seen, err error) {
	var f findings
	if out.p, err = c.installed(ctx, c.look(env), &f); err != nil {
		return out, err
	}
	out.answer, out.detail = f.listed.Answer, out.p.Detail
	if out.answer != NotObservable || f.listed.Entry == "" {
		return out, nil
	}
	act, err := came(env, stepInstall)
	if err != nil {
		return out, err
	}
	switch {
	case c.before.Installed == Proven:
		out.answer, out.detail = Proven, out.detail+"; an earlier job of this fleetd has installed it"
	case c.before.Listed == "" && (act.Progress == sending || act.Progress == answered || act.Progress == unsettled):
		out.answer = Proven
		out.detail += fmt.Sprintf("; at %s it was not listed at all, and %s was sent at %s", c.before.At.Format(time.RFC3339),
			quote(lineOf(c.mode.Install, c.spec.Names)), act.At.Format(time.RFC3339))
	case act.Progress == answered:
		out.detail += fmt.Sprintf(", as it did before; %s was sent at %s and answered %s", quote(lineOf(c.mode.Install, c.spec.Names)),
			act.At.Format(time.RFC3339), quote(lastLine(act.Answer)))
	}
	out.p.Answer, out.p.Detail = out.answer, out.detail
	return out, nil
}

func (c *change) observeInstall(ctx context.Context, env operation.Env) (operation.Observation, error) {
	if past, err := c.pastIt(ctx, env); err != nil || past != "" {
		return operation.Observation{Verdict: operation.Done, Detail: past}, err
	}
	why, err := c.failure(env)
	if err != nil {
		return failed(err)
	}
	if why != "" {
		return done("it failed before: %s", why)
	}
	act, err := came(env, stepInstall)
	if err != nil {
		return failed(err)
	}
	until := act.At.Add(c.mode.Install.Worst)
	for {
		now, err := c.installedNow(ctx, env)
		if err != nil {
			return failed(err)
		}
		switch {
		case now.answer == Proven:
			return done("%s", now.detail)
		case act.Progress == answered:
			return done("the device has answered %s; what it lists is confirmed next", quote(lastLine(act.Answer)))
		case act.Progress != sending && !act.awaitsPerson(env):
			return needed("%s", now.detail)
		case act.Progress == unsettled || env.Now().After(until):
			if act.Progress != unsettled {
				if err := note(ctx, env, stepInstall, unsettled, ""); err != nil {
					return failed(err)
				}
			}
			return inconclusive("%s was typed, or was about to be, and within %s the device showed nothing of it (%s); a retry types it once more",
				quote(lineOf(c.mode.Install, c.spec.Names)), c.mode.Install.Worst, now.detail)
		}
		env.Progress(c.dev, int64(env.Now().Sub(act.At).Seconds()), int64(c.mode.Install.Worst.Seconds()), "seconds")
		if err := c.look(env).wait(ctx, c.how.Poll); err != nil {
			return failed(err)
		}
	}
}

func (c *change) install(ctx context.Context, env operation.Env) error {
	earlier, err := came(env, stepInstall)
	if err != nil {
		return err
	}
	s, err := c.configure(ctx, env, stepInstall)
	if err != nil {
		return err
	}
	out, err := send(ctx, env, stepInstall, s, command(c.mode.Install, c.spec.Names))
	if fault.Is(err, fault.Refused) && (earlier.Progress == sending || earlier.Progress == unsettled) {
		// What was typed before may be why: an installation that still runs must not be
		// met by a reload.
		return errors.Join(operation.Attention(&fault.Error{Kind: fault.Refused, Act: "install once more", Device: c.dev.Name, Stage: stepInstall, Err: err,
			Next: "the first one may still be running: it was not reloaded; retry the job once that has ended"}),
			note(ctx, env, stepInstall, unsettled, out.Text))
	}
	if fault.Is(err, fault.Refused) {
		// The device is brought out of maintenance mode before the task fails.
		return c.fail(ctx, env, "%s was refused: %s", quote(lineOf(c.mode.Install, c.spec.Names)), quote(lastLine(out.Text)))
	}
	return err
}

// configure gives a session in configuration mode. When it cannot, nothing of the
// step has been sent, which is remembered. Once the device is out of use, somebody
// in configuration mode is waited for: after a cut that may be ourselves, as the
// device has not noticed yet.
func (c *change) configure(ctx context.Context, env operation.Env, step string) (device.Session, error) {
	var s device.Session
	err := c.reconnecting(ctx, env, func() (err error) {
		if s, err = c.look(env).session(ctx); err != nil {
			return err
		}
		who, err := enterConfig(ctx, s, c.dev, c.mode, c.spec.Takeover)
		if who != "" && fault.Is(err, fault.Conflict) && c.outOfUse(env) != "" {
			return &fault.Error{Kind: fault.Busy, Act: "wait for configuration mode", Stage: fault.StageOf(err), Err: err}
		}
		if err == nil && who != "" {
			env.Warn(c.dev, "pushed out of configuration mode: %s", quote(who))
		}
		return err
	})
	if err != nil && step == stepInstall {
		err = errors.Join(err, note(ctx, env, step, notSent, ""))
	}
	return s, err
}

// observeConfirm sees whether the installation took.
func (c *change) observeConfirm(ctx context.Context, env operation.Env) (operation.Observation, error) {
	why, err := c.failure(env)
	if err != nil {
		return failed(err)
	}
	if why != "" {
		return done("it failed: %s", why)
	}
	if past, err := c.pastIt(ctx, env); err != nil || past != "" {
		return operation.Observation{Verdict: operation.Done, Detail: past}, err
	}
	now, err := c.installedNow(ctx, env)
	if err != nil {
		return failed(err)
	}
	switch {
	case now.answer == Disproven:
		act, err := came(env, stepInstall)
		if err != nil {
			return failed(err)
		}
		return operation.Observation{Verdict: operation.Done, Detail: now.detail},
			c.fail(ctx, env, "the device answered %s and yet %s", quote(lastLine(act.Answer)), now.detail)
	case now.answer == NotObservable && !c.spec.accepts(ProofInstalled):
		return inconclusive("%s; whether this version is installed is not shown", now.detail)
	}
	if err := env.Remember(ctx, keyConfirm, now.detail); err != nil {
		return failed(err)
	}
	return operation.Observation{Verdict: operation.Done, Detail: now.detail}, c.storeRecord(env, recordInstalled)
}

// observeSave sees whether the configuration was saved before the reload. No device
// shows it, and saving twice does no harm.
func (c *change) observeSave(_ context.Context, env operation.Env) (operation.Observation, error) {
	r, err := came(env, stepReload)
	if err != nil {
		return failed(err)
	}
	if r.Progress == sending || r.Progress == answered {
		return done("the reload was sent at %s", r.At.Format(time.RFC3339))
	}
	var at time.Time
	if ok, err := env.Recall(keySaved, &at); err != nil {
		return failed(err)
	} else if ok {
		return done("saved at %s", at.Format(time.RFC3339))
	}
	return needed("not saved since the installation")
}

func (c *change) save(ctx context.Context, env operation.Env) error {
	s, err := c.configure(ctx, env, stepSave)
	if err != nil {
		return err
	}
	if _, err := s.Run(ctx, command(c.mode.Save, c.spec.Names)); err != nil {
		if fault.Is(err, fault.Refused) {
			return operation.Attention(&fault.Error{Kind: fault.Refused, Act: "save the configuration", Device: c.dev.Name, Stage: stepSave, Err: err,
				Next: "it was not reloaded, since a reload would lose what is not saved; save it by hand, then retry the job"})
		}
		return err
	}
	return env.Remember(ctx, keySaved, env.Now().UTC().Truncate(time.Second))
}

// firstLine and lastLine give the first and the last line with text.
func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(line)
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:])
}
