package hotfix

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

// Keys of what is remembered, with the device's name.
const (
	keyComplete = "complete/" // when its volume was seen to hold the software
	keyAgain    = "again/"    // that it held it before, with an old configuration
)

// installLine is what is typed.
func (p *pair) installLine(l leg) string {
	line := fmt.Sprintf("install sys software %s %s volume %s", kindOf(p.isHotfix(p.spec.Names.File)), p.spec.Install, l.Volume)
	if l.Create {
		line += " create-volume"
	}
	return line
}

func installAct(dev *device.Device) string { return stepInstall + "/" + dev.Name }

// observeInstall sees whether the volumes hold the software. What is being installed
// since this job ordered it is waited for.
func (p *pair) observeInstall(ctx context.Context, env operation.Env) (operation.Observation, error) {
	if p.nothing != "" {
		return done("%s", p.nothing)
	}
	todo := make([]string, len(p.devices))
	err := p.each(func(i int, dev *device.Device) error {
		if p.pastInstall(env, dev) {
			return nil
		}
		act, err := came(env, installAct(dev))
		if err != nil {
			return err
		}
		if act.Progress == sending || act.Progress == answered {
			over, err := p.awaitInstall(ctx, env, dev, act)
			if err != nil || over {
				return err
			}
		}
		l := p.course.Target[dev.Name]
		complete, m, err := p.installed(ctx, env, dev)
		if err != nil {
			return err
		}
		if complete {
			// An installation of long ago is made anew where it has an old configuration.
			todo[i], err = p.renew(ctx, env, dev, m, l)
			return err
		}
		if r, ok := m.row(l.Volume); ok {
			todo[i] = fmt.Sprintf("%s: %s", dev.Name, r)
		} else {
			todo[i] = fmt.Sprintf("%s has no volume %s yet", dev.Name, l.Volume)
		}
		return nil
	})
	if err != nil {
		return failed(err)
	}
	if why := strings.Trim(strings.Join(todo, "; "), "; "); why != "" {
		return needed("%s", why)
	}
	return done("the volumes hold %s", p.goal())
}

// installed looks once whether the volume holds the software.
func (p *pair) installed(ctx context.Context, env operation.Env, dev *device.Device) (bool, member, error) {
	var m member
	end := env.Now().Add(p.how.Reconnect)
	err := p.until(ctx, env, dev, end, func() (_ bool, err error) {
		m, err = p.see(ctx, env, dev)
		return err == nil, err
	})
	if err != nil {
		return false, m, err
	}
	l := p.course.Target[dev.Name]
	r, ok := m.row(l.Volume)
	// A row may lag: its "complete" counts only with the right version and build.
	return ok && r.holds(l.Software) && r.complete(), m, nil
}

// renew says why a volume that holds the software has to be installed to all the
// same; where it need not be, it is remembered as complete.
func (p *pair) renew(ctx context.Context, env operation.Env, dev *device.Device, m member, l leg) (string, error) {
	if !m.at(l) { // what is running has its configuration
		known, why, err := p.outdated(ctx, env, dev, l.Volume)
		if err != nil || why != "" {
			return why, err
		}
		if !known {
			env.Warn(dev, "which configuration %s has is not known, since this fleetd did not install it: cpcfg %s copies the present one", l.Volume, l.Volume)
		}
	}
	return "", p.complete(ctx, env, dev)
}

// complete remembers that a volume was seen to hold the software.
func (p *pair) complete(ctx context.Context, env operation.Env, dev *device.Device) error {
	return env.Remember(ctx, keyComplete+dev.Name, stamp(env))
}

// awaitInstall waits for an installation that was ordered, or was about to be. over
// is false where the device shows that it never began.
func (p *pair) awaitInstall(ctx context.Context, env operation.Env, dev *device.Device, act actRecord) (over bool, err error) {
	l := p.course.Target[dev.Name]
	again := false
	if _, err := env.Recall(keyAgain+dev.Name, &again); err != nil {
		return false, err
	}
	begun := false
	for {
		complete, m, err := p.installed(ctx, env, dev)
		if err != nil {
			return false, err
		}
		// Where the volume held the software before, its row may still show that.
		if complete && (begun || !again || env.Now().After(act.At.Add(p.vol.Shows))) {
			return true, p.complete(ctx, env, dev)
		}
		r, ok := m.row(l.Volume)
		now := env.Now()
		switch {
		case ok && r.failed() && begun:
			return false, p.installFailed(ctx, env, dev, r)
		case ok && r.busy():
			begun = true
			p.installProgress(env, dev, l, r)
		case !begun && now.After(act.At.Add(p.vol.Shows)):
			if act.Progress == sending {
				return false, nil // it never left, or never arrived
			}
			if ok && r.failed() {
				return false, p.installFailed(ctx, env, dev, r)
			}
			return false, &fault.Error{Kind: fault.Conflict, Act: "install to " + l.Volume, Device: dev.Name, Stage: stepInstall,
				Err:  fmt.Errorf("the device took the command at %s and shows nothing of it %s later: %s", act.At.Format(time.RFC3339), p.vol.Shows, r),
				Next: "see /var/log/liveinstall.log there; the running volume was not touched"}
		}
		if now.After(act.At.Add(p.vol.Install.Worst)) {
			return false, &fault.Error{Kind: fault.Conflict, Act: "install to " + l.Volume, Device: dev.Name, Stage: stepInstall,
				Err:  fmt.Errorf("it is not complete %s after it was ordered: %s", p.vol.Install.Worst, r),
				Next: "see /var/log/liveinstall.log there; the running volume was not touched"}
		}
		if err := p.look(env, dev).wait(ctx, p.how.Poll); err != nil {
			return false, err
		}
	}
}

// installFailed ends an installation. When the job is taken up again it is ordered
// anew.
func (p *pair) installFailed(ctx context.Context, env operation.Env, dev *device.Device, r volumeRow) error {
	if err := note(ctx, env, installAct(dev), refused, r.Status); err != nil {
		return err
	}
	return &fault.Error{Kind: fault.Refused, Act: "install to " + r.Name, Device: dev.Name, Stage: stepInstall, Err: fmt.Errorf("the device says: %s", quote(r.Status)),
		Next: "the running volume was not touched; see /var/log/liveinstall.log there, then retry the job"}
}

// installProgress tells watchers how far it is: a hotfix's runs twice, first for the
// base image.
func (p *pair) installProgress(env operation.Env, dev *device.Device, l leg, r volumeRow) {
	var percent float64
	if _, err := fmt.Sscanf(r.Status, "installing %f", &percent); err != nil || math.IsNaN(percent) {
		return
	}
	total := 100.0
	if p.isHotfix(p.spec.Names.File) {
		total = 200
		if r.holds(l.Software) {
			percent += 100
		}
	}
	env.Progress(dev, int64(min(max(percent, 0), total)), int64(total), "percent")
}

// install orders the installations and waits for them, side by side.
func (p *pair) install(ctx context.Context, env operation.Env) error {
	return p.each(func(_ int, dev *device.Device) error {
		l := p.course.Target[dev.Name]
		complete, m, err := p.installed(ctx, env, dev)
		if err != nil {
			return err
		}
		if complete {
			if why, err := p.renew(ctx, env, dev, m, l); err != nil || why == "" {
				return err
			}
		}
		if err := env.Remember(ctx, keyAgain+dev.Name, complete); err != nil {
			return err
		}
		if _, there := m.row(l.Volume); there {
			l.Create = false // an earlier attempt has made it
		}
		if err := p.rememberConfig(ctx, env, dev, l.Volume); err != nil {
			return err
		}
		s, err := p.look(env, dev).session(ctx)
		if err != nil {
			return err
		}
		_, err = send(ctx, env, installAct(dev), s, device.Command{Line: p.installLine(l)})
		if fault.Is(err, fault.Refused) {
			return &fault.Error{Kind: fault.Refused, Act: p.installLine(l), Device: dev.Name, Stage: stepInstall, Err: err,
				Next: "the running volume was not touched; see why, then retry the job"}
		}
		act, aerr := came(env, installAct(dev))
		switch {
		case aerr != nil:
			return aerr
		case err != nil && (act.Progress == notSent || !fault.KindOf(err).Retryable() || ctx.Err() != nil):
			return err
		}
		over, err := p.awaitInstall(ctx, env, dev, act)
		if err == nil && !over {
			// Nothing of it is seen on the device, so that it can be sent again.
			err = &fault.Error{Kind: fault.Disconnected, Act: p.installLine(l), Device: dev.Name, Stage: stepInstall, Err: fmt.Errorf("the command did not arrive")}
		}
		return err
	})
}
