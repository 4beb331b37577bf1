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

// keyComplete remembers, by device, when its volume was seen to hold the software.
const keyComplete = "complete/"

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
		complete, m, err := p.installed(ctx, env, dev)
		if err != nil || complete {
			return err
		}
		l := p.course.Target[dev.Name]
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

// installed looks once, and remembers when it is so.
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
	if !ok || !r.holds(l.Software) || !r.complete() {
		return false, m, nil
	}
	return true, m, env.Remember(ctx, keyComplete+dev.Name, stamp(env))
}

// awaitInstall waits for an installation that was ordered, or was about to be. over
// is false where the device shows that it never began.
func (p *pair) awaitInstall(ctx context.Context, env operation.Env, dev *device.Device, act actRecord) (over bool, err error) {
	l := p.course.Target[dev.Name]
	begun := false
	for {
		complete, m, err := p.installed(ctx, env, dev)
		if err != nil || complete {
			return complete, err
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
		complete, m, err := p.installed(ctx, env, dev)
		if err != nil || complete {
			return err
		}
		l := p.course.Target[dev.Name]
		if _, there := m.row(l.Volume); there {
			l.Create = false // an earlier attempt has made it
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
