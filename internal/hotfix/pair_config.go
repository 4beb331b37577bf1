package hotfix

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

// A volume gets the configuration of the moment in which software is installed to it
// (verified). What is configured afterwards is not there when it boots, so the
// digest of that moment is kept, for later jobs too.

// configLine prints a digest of the saved configuration.
const configLine = "cat /config/bigip.conf /config/bigip_base.conf 2>/dev/null | md5sum"

var configDigest = regexp.MustCompile(`(?m)^([0-9a-f]{32})\b`)

// configRecord is the configuration that a volume was given.
type configRecord struct {
	Volume string    `json:"volume"`
	Digest string    `json:"digest"`
	At     time.Time `json:"at"`
}

// Keys of what is remembered, with the device's name.
const (
	keyConfig  = "config/"
	keyNoticed = "noticed/" // by how many retries a person had seen that it is older
)

func configKey(dev *device.Device, volume string) string { return "config/" + dev.Name + "/" + volume }

// configNow gives the digest of the saved configuration, "" where the device does
// not show it.
func (p *pair) configNow(ctx context.Context, env operation.Env, dev *device.Device) (string, error) {
	out, err := p.look(env, dev).run(ctx, configLine, "bash", 0)
	if fault.Is(err, fault.Refused) {
		return "", nil
	}
	return first(configDigest, out.Text), err
}

// rememberConfig keeps what an installation that is about to be ordered carries along.
func (p *pair) rememberConfig(ctx context.Context, env operation.Env, dev *device.Device, volume string) error {
	digest, err := p.configNow(ctx, env, dev)
	if err != nil || digest == "" {
		return err
	}
	return env.Remember(ctx, keyConfig+dev.Name, configRecord{Volume: volume, Digest: digest, At: stamp(env)})
}

// storeConfig hands what is remembered on to later jobs.
func (p *pair) storeConfig(env operation.Env, dev *device.Device) error {
	var r configRecord
	if ok, err := env.Recall(keyConfig+dev.Name, &r); err != nil || !ok {
		return err
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return fault.Wrap(fault.Internal, "keep which configuration "+r.Volume+" has", err)
	}
	env.Store(dev, configKey(dev, r.Volume), raw)
	return nil
}

// outdated says how the configuration of a volume differs from the one that is saved
// now, "" where it does not. known is false where nothing is known of it.
func (p *pair) outdated(ctx context.Context, env operation.Env, dev *device.Device, volume string) (known bool, why string, err error) {
	var r configRecord
	ok, err := env.Recall(keyConfig+dev.Name, &r)
	if err != nil {
		return false, "", err
	}
	if !ok || r.Volume != volume {
		raw, err := env.Load(ctx, configKey(dev, volume))
		if err != nil || raw == nil {
			return false, "", err
		}
		if err := json.Unmarshal(raw, &r); err != nil {
			return false, "", fault.Wrap(fault.Storage, "read which configuration "+volume+" has", err)
		}
	}
	now, err := p.configNow(ctx, env, dev)
	if err != nil || now == "" || now == r.Digest {
		return err == nil && now != "", "", err
	}
	return true, fmt.Sprintf("%s has the configuration of %s, and another one was saved since", volume, r.At.Format(time.RFC3339)), nil
}

// currentConfig refuses to boot a volume whose configuration is older than what is
// saved. Who takes the job up again has seen to it.
func (p *pair) currentConfig(ctx context.Context, env operation.Env, s stage) error {
	if p.spec.Action == Rollback {
		return nil // what was saved since is what is given up
	}
	_, why, err := p.outdated(ctx, env, s.dev, s.leg.Volume)
	if err != nil || why == "" {
		return err
	}
	noticed := 0
	ok, err := env.Recall(keyNoticed+s.dev.Name, &noticed)
	switch {
	case err != nil:
		return err
	case ok && env.Retries() > noticed:
		env.Warn(s.dev, "%s; it was booted all the same, as the job was taken up again", why)
		return nil
	}
	if err := env.Remember(ctx, keyNoticed+s.dev.Name, env.Retries()); err != nil {
		return err
	}
	return &fault.Error{Kind: fault.Conflict, Act: "it is not rebooted", Device: s.dev.Name, Stage: s.name, Err: errors.New(why),
		Next: "copy it with cpcfg " + s.leg.Volume + ", then retry the job"}
}
