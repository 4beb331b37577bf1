package sel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"capfleet/internal/bmc"
	"capfleet/internal/device"
	"capfleet/internal/dossier"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
	"capfleet/internal/secret"
)

const (
	// DossierName is the name of the operation that gathers a dossier.
	DossierName = "dossier"

	// A dossier is ready within five minutes: the way in and each request have a
	// share of it, and the whole ends with what there is.
	gatherLimit  = 4 * time.Minute
	requestLimit = 45 * time.Second

	// maxDossiers bounds the devices of one job: each is held in memory.
	maxDossiers = 16
	// maxGathered bounds what is held for one device, in bytes.
	maxGathered = 24 << 20
	// maxReason bounds what an error may say in the manifest.
	maxReason = 500
)

// Where a part comes from.
const (
	sourceBMC    = "bmc"
	sourceDevice = "device"
	sourceFleetd = "fleetd"
)

// Actions tells what fleetd has done with a device; the daemon does.
type Actions interface {
	// Actions gives the jobs that worked on a device with what was done step by
	// step, and who asked for them, newest first, as one JSON document.
	Actions(ctx context.Context, device string) ([]byte, error)
}

// GatherOptions is what the operation that gathers is made of.
type GatherOptions struct {
	Options
	Actions Actions
	// Definitions gives a platform's, which lists what is asked of its devices.
	Definitions func(platform string) (*device.Definition, bool)
	// Signer signs dossiers. It is asked for on first use.
	Signer func() (dossier.Signer, error)
}

type gather struct {
	logs *logs
	opts GatherOptions
}

var _ operation.Operation = (*gather)(nil)

// NewDossier gives the operation "dossier". Its spec is empty. It succeeds with
// whatever could be had, because the worse a device is the more that counts; what
// failed is in the dossier and in the warnings.
func NewDossier(opts GatherOptions) operation.Operation {
	return &gather{newLogs(opts.Options), opts}
}

// Name implements operation.Operation.
func (g *gather) Name() string { return DossierName }

// Prepare accepts an empty spec and a few devices.
func (g *gather) Prepare(_ context.Context, spec json.RawMessage, devices []*device.Device) (operation.Prepared, error) {
	if err := operation.DecodeSpec(DossierName, spec, &struct{}{}); err != nil {
		return operation.Prepared{}, err
	}
	if len(devices) > maxDossiers {
		return operation.Prepared{}, fault.New(fault.Invalid, "dossiers of %d devices were asked for; %d at a time are possible", len(devices), maxDossiers)
	}
	return operation.Prepared{Spec: json.RawMessage(`{}`), Access: operation.Read, Beside: true}, nil
}

// DossierRow is what a dossier has come to.
type DossierRow struct {
	Device      string    `json:"device"`
	Artifact    string    `json:"artifact"` // SHA-256
	File        string    `json:"file"`
	Bytes       int64     `json:"bytes"`
	Complete    int       `json:"complete"` // parts
	Failed      int       `json:"failed"`   // parts that are missing or cut short
	Signer      string    `json:"signer"`   // public key
	CollectedAt time.Time `json:"collected_at"`
}

// Steps gives the one step, gather.
func (g *gather) Steps(_ json.RawMessage, unit operation.Unit) ([]operation.Step, error) {
	observe := func(ctx context.Context, env operation.Env) (operation.Observation, error) {
		var details []string
		for _, dev := range unit.Devices {
			detail, err := g.gather(ctx, env, dev)
			if err != nil {
				return operation.Observation{}, &fault.Error{Kind: fault.KindOf(err), Act: "gather a dossier", Device: dev.Name, Stage: "gather", Err: err}
			}
			details = append(details, detail)
		}
		return operation.Observation{Verdict: operation.Done, Detail: strings.Join(details, "; ")}, nil
	}
	return []operation.Step{{Name: "gather", Observe: observe}}, nil
}

// gather asks the BMC, the device and fleetd at once, and packs what they gave.
func (g *gather) gather(ctx context.Context, env operation.Env, dev *device.Device) (string, error) {
	signer, err := g.opts.Signer()
	if err != nil {
		return "", fault.Wrap(fault.Storage, "open the key that signs", err)
	}
	bounded, cancel := context.WithTimeout(ctx, gatherLimit)
	defer cancel()
	c := &collection{env: env, dev: dev, secrets: g.secrets(bounded, dev)}
	var asked [3][]dossier.Part
	var wait sync.WaitGroup
	wait.Go(func() { asked[0] = g.ofBMC(bounded, c) })
	wait.Go(func() { asked[1] = g.ofDevice(bounded, c) })
	wait.Go(func() { asked[2] = g.ofFleetd(bounded, c) })
	wait.Wait()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	m := &dossier.Manifest{Device: dev.Name, Platform: dev.Platform, Address: bmc.HostName(dev.Host, dev.Port), Site: dev.Site,
		CreatedAt: env.Now().UTC().Truncate(time.Second), Parts: slices.Concat(asked[0], asked[1], asked[2])}
	if dev.BMC != nil {
		m.BMC = bmc.HostName(dev.BMC.Host, dev.BMC.Port)
	}
	var archive bytes.Buffer
	if err := dossier.Write(&archive, m, signer); err != nil {
		return "", err
	}
	size, file := int64(archive.Len()), m.Name()+".tar.gz"
	sum, err := env.Keep(ctx, dev, file, "application/gzip", &archive)
	if err != nil {
		return "", err
	}
	row := DossierRow{Device: dev.Name, Artifact: sum, File: file, Bytes: size, Signer: signer.Public(), CollectedAt: m.CreatedAt}
	missing := incomplete(m.Parts)
	for _, w := range missing {
		env.Warn(dev, "%s: %s: %s", w.parts, w.state, w.reason)
		row.Failed += w.count
	}
	row.Complete = len(m.Parts) - row.Failed
	env.Row(dev, row)
	return fmt.Sprintf("%d parts, %d of them incomplete", len(m.Parts), row.Failed), nil
}

// shortfall is what several parts lack for one reason: a dead device is told of once.
type shortfall struct {
	parts  string
	state  dossier.State
	reason string
	count  int
}

func incomplete(parts []dossier.Part) (found []shortfall) {
	for _, p := range parts {
		if p.State == dossier.Complete || p.State == dossier.Absent {
			continue
		}
		i := slices.IndexFunc(found, func(s shortfall) bool { return s.state == p.State && s.reason == p.Reason })
		if i < 0 {
			found = append(found, shortfall{p.Name, p.State, p.Reason, 1})
			continue
		}
		found[i].parts += ", " + p.Name
		found[i].count++
	}
	return found
}

// secrets gives those of the device that can be read now.
func (g *gather) secrets(ctx context.Context, dev *device.Device) (known []string) {
	refs := []secret.Ref{dev.Credentials.Password, dev.Credentials.Enable}
	if dev.BMC != nil {
		refs = append(refs, dev.BMC.Credentials.Password)
	}
	for _, ref := range refs {
		if ref.IsZero() {
			continue
		}
		if value, err := g.opts.Secrets.Resolve(ctx, ref); err == nil {
			known = append(known, value.Reveal())
		}
	}
	return known
}

// collection is one dossier in the making.
type collection struct {
	env     operation.Env
	dev     *device.Device
	secrets []string // that are known, to be blanked

	mutex sync.Mutex
	held  int // bytes
}

// part asks for one thing and makes a part of it. A request that fails with a
// beginning of an answer gives a partial part.
func (c *collection) part(ctx context.Context, source, name, what string, ask func(context.Context) ([]byte, error)) dossier.Part {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	p := dossier.Part{Name: name, Source: source, Request: what, State: dossier.Complete, CollectedAt: c.env.Now().UTC().Truncate(time.Millisecond)}
	begun := c.env.Now()
	content, err := ask(ctx)
	p.Seconds = math.Round(c.env.Now().Sub(begun).Seconds()*1000) / 1000
	content = redact(content, c.secrets...)
	if over := len(content) > dossier.MaxPart; over {
		content = content[:dossier.MaxPart]
		err = errors.Join(fault.New(fault.TooLarge, "only its first %d bytes are kept", dossier.MaxPart), err)
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.held+len(content) > maxGathered {
		content, err = nil, fault.New(fault.TooLarge, "the dossier is full: %d bytes", maxGathered)
	}
	c.held += len(content)
	p.Content = content
	switch {
	case err == nil:
	case fault.Is(err, fault.Refused) || fault.Is(err, fault.Unsupported):
		p.State, p.Content, p.Reason = dossier.Absent, nil, clip(err)
	case len(content) > 0:
		p.State, p.Reason = dossier.Partial, clip(err)
	default:
		p.State, p.Reason = dossier.Failed, clip(err)
	}
	return p
}

// clip gives an error's text bounded, on one line and without secrets.
func clip(err error) string {
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(redact([]byte(err.Error()))), "?")), " ")
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "..."
	}
	return text
}

// ofBMC gathers the event log and the sensors.
func (g *gather) ofBMC(ctx context.Context, c *collection) []dossier.Part {
	if c.dev.BMC == nil {
		return nil
	}
	var before memory
	if kept, err := c.env.Load(ctx, memoryKey(c.dev)); err == nil {
		if m, err := recall(kept); err == nil {
			before = memory{Protocol: m.Protocol} // evidence is read anew, all of it
		}
	}
	events := c.part(ctx, sourceBMC, "event-log.json", c.dev.BMC.Protocol, func(ctx context.Context) ([]byte, error) {
		log, err := g.logs.read(ctx, c.env, c.dev, before, false)
		before.Protocol = log.Protocol
		rows := make([]Row, len(log.Entries))
		for i := range log.Entries {
			rows[i] = rowOf(c.dev, &log.Entries[i], false)
		}
		if err != nil && len(rows) == 0 {
			return nil, err
		}
		content, jsonErr := json.MarshalIndent(map[string]any{"protocol": log.Protocol, "erased": log.Erased, "full": log.Full, "records": rows}, "", "  ")
		return content, errors.Join(err, jsonErr)
	})
	sensors := c.part(ctx, sourceBMC, "sensors", c.dev.BMC.Protocol, func(ctx context.Context) (content []byte, err error) {
		err = g.logs.with(ctx, c.env.Now, c.dev, before.Protocol, false, func(reader bmc.Reader) error {
			able, ok := reader.(bmc.SensorReader)
			if !ok {
				return fault.New(fault.Unsupported, "the sensors are not read this way")
			}
			got, err := able.Sensors(ctx)
			content = got.Content
			return err
		})
		return content, err
	})
	return []dossier.Part{events, sensors}
}

// ofDevice runs what the platform's definition lists. One device that cannot be
// reached fails each of them, with one try.
func (g *gather) ofDevice(ctx context.Context, c *collection) []dossier.Part {
	def, ok := g.opts.Definitions(c.dev.Platform)
	if !ok {
		return nil
	}
	parts := make([]dossier.Part, 0, len(def.Dossier))
	var dead error
	for _, r := range def.Dossier {
		if dead != nil {
			parts = append(parts, dossier.Part{Name: r.Name + ".txt", Source: sourceDevice, Request: r.Line, State: dossier.Failed, Reason: clip(dead), CollectedAt: c.env.Now().UTC()})
			continue
		}
		parts = append(parts, c.part(ctx, sourceDevice, r.Name+".txt", r.Line, func(ctx context.Context) ([]byte, error) {
			session, err := c.env.Session(ctx, c.dev)
			if err != nil {
				dead = err
				return nil, err
			}
			out, err := session.Run(ctx, device.Command{Line: r.Line, Mode: r.Mode, MaxBytes: dossier.MaxPart})
			if fault.Is(err, fault.Disconnected) {
				dead = err
			}
			return []byte(out.Text), err
		}))
	}
	return parts
}

// ofFleetd gathers what we did ourselves.
func (g *gather) ofFleetd(ctx context.Context, c *collection) []dossier.Part {
	actions := c.part(ctx, sourceFleetd, "actions.json", "jobs, journal and audit", func(ctx context.Context) ([]byte, error) {
		return g.opts.Actions.Actions(ctx, c.dev.Name)
	})
	return []dossier.Part{actions}
}
