// Package command is the operation that runs one command line of the operator's
// on devices and gives back what they answered, as text or, through a template,
// as rows.
//
// What counts as reading is said by the platform's definition: a list of globs.
// Everything else, and everything on linux, has to be asked for as unsafe and is
// then a change: it is run once, under the journal, and after a crash in the
// middle it goes to a person and not to the device again, because no device
// shows whether an arbitrary command has been run.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
	"capfleet/internal/parse"
)

// Name of the operation.
const Name = "command"

// Row is what one device answered when there is no template.
type Row struct {
	Device         string  `json:"device"`
	Command        string  `json:"command"`
	Output         string  `json:"output"`
	ElapsedSeconds float64 `json:"elapsed_seconds"`
}

type command struct {
	definitions func(platform string) (*device.Definition, bool)
}

var _ operation.Operation = (*command)(nil)

// New gives the operation. definitions finds the definition in force of a
// platform; it must be safe for concurrent use.
func New(definitions func(platform string) (*device.Definition, bool)) operation.Operation {
	return &command{definitions: definitions}
}

// Name implements operation.Operation.
func (o *command) Name() string { return Name }

// Prepare checks the line against the platforms of all devices and compiles the
// template. A line that is not read-only gives fault.Denied and names --unsafe.
func (o *command) Prepare(_ context.Context, raw json.RawMessage, devices []*device.Device) (operation.Prepared, error) {
	s, _, err := read(raw)
	if err != nil {
		return operation.Prepared{}, err
	}
	if err := o.permit(s, devices); err != nil {
		return operation.Prepared{}, err
	}
	out := operation.Prepared{Access: operation.Read}
	if s.Unsafe {
		out.Access = operation.Change
	}
	if out.Spec, err = json.Marshal(s); err != nil {
		return operation.Prepared{}, fault.Wrap(fault.Internal, "keep the spec", err)
	}
	return out, nil
}

// Steps gives one step that reads, or for an unsafe command a step that connects
// and one that runs it, once: what fails before anything is sent leaves no
// intent behind and may be tried again.
func (o *command) Steps(raw json.RawMessage, unit operation.Unit) ([]operation.Step, error) {
	s, template, err := read(raw)
	if err != nil {
		return nil, err
	}
	run := func(ctx context.Context, env operation.Env) error {
		for _, dev := range unit.Devices {
			if err := o.run(ctx, env, dev, s, template); err != nil {
				return err
			}
		}
		return nil
	}
	if !s.Unsafe {
		return []operation.Step{{Name: "run", Observe: func(ctx context.Context, env operation.Env) (operation.Observation, error) {
			return operation.Observation{Verdict: operation.Done, Detail: s.Command}, run(ctx, env)
		}}}, nil
	}
	connect := func(ctx context.Context, env operation.Env) (operation.Observation, error) {
		for _, dev := range unit.Devices {
			if _, err := env.Session(ctx, dev); err != nil {
				return operation.Observation{}, err
			}
		}
		return operation.Observation{Verdict: operation.Done, Detail: "logged in"}, nil
	}
	return []operation.Step{{Name: "connect", Observe: connect}, {Name: "run", Once: true, Act: run}}, nil
}

func (o *command) run(ctx context.Context, env operation.Env, dev *device.Device, s Spec, template *parse.Template) error {
	session, err := env.Session(ctx, dev)
	if err != nil {
		return err
	}
	if !s.Unsafe {
		// The list in force may have changed since the job was made.
		if err := permitOn(s, session.Definition()); err != nil {
			return fault.Wrap(fault.Denied, "run "+fault.Clip(s.Command, 60)+" on "+dev.Name, err)
		}
	}
	out, err := session.Run(ctx, device.Command{Line: s.Command, Mode: s.Mode, Timeout: s.timeout()})
	if err != nil {
		return failed(ctx, env, dev, s, out, "command", err)
	}
	if s.Record {
		env.Row(dev, recording(dev, s, out, env.Now()))
		return nil
	}
	if template == nil {
		env.Row(dev, Row{Device: dev.Name, Command: s.Command, Output: out.Text, ElapsedSeconds: seconds(out.Elapsed)})
		return nil
	}
	rows, err := template.Parse(ctx, strings.NewReader(out.Transcript()))
	if err != nil {
		return failed(ctx, env, dev, s, out, "parse", err)
	}
	if len(rows) == 0 {
		env.Warn(dev, "template %s gives no rows", s.TemplateName)
	}
	keys := columns(template)
	for _, r := range rows {
		env.Row(dev, record{device: dev.Name, keys: keys, values: r})
	}
	return nil
}

// failed keeps what the device did say and names where it is kept.
func failed(ctx context.Context, env operation.Env, dev *device.Device, s Spec, out device.Output, stage string, cause error) error {
	if named := fault.StageOf(cause); named != "" {
		stage = named
	}
	f := &fault.Error{Kind: fault.KindOf(cause), Act: "run " + fault.Clip(s.Command, 60), Device: dev.Name, Stage: stage, Err: cause}
	if stage == "parse" {
		f.Act = "read the output of " + fault.Clip(s.Command, 60)
	}
	if out.Text == "" || ctx.Err() != nil {
		return f
	}
	sum, err := env.Keep(ctx, dev, dev.Name+"_command.txt", "text/plain; charset=utf-8", strings.NewReader(out.Transcript()))
	if err != nil {
		f.Err = errors.Join(cause, fmt.Errorf("the output could not be kept: %w", err))
		return f
	}
	f.Next = fmt.Sprintf("the output is artifact %.12s", sum)
	return f
}

// seconds rounds to what is of interest. Duration.Seconds adds two fractions and
// gives 1.2349999999999999.
func seconds(d time.Duration) float64 {
	return float64(d.Round(time.Millisecond).Milliseconds()) / 1000
}

// columns are a template's keys in the order of its Values.
func columns(t *parse.Template) []string {
	values := t.Values()
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = v.Key
	}
	return out
}

// record is a row of a template. The key device is the inventory's name; a
// template's own Value of that name, which shows what the device calls itself,
// is given as device_value.
type record struct {
	device string
	keys   []string
	values parse.Row
}

// MarshalJSON keeps the template's order of keys, which is the order of columns
// that its author had in mind.
func (r record) MarshalJSON() ([]byte, error) {
	device, err := json.Marshal(r.device)
	if err != nil {
		return nil, err
	}
	out := append([]byte(`{"device":`), device...)
	for _, k := range r.keys {
		value, err := json.Marshal(r.values[k])
		if err != nil {
			return nil, err
		}
		if k == "device" {
			k = "device_value"
			for slices.Contains(r.keys, k) {
				k += "_"
			}
		}
		key, err := json.Marshal(k)
		if err != nil {
			return nil, err
		}
		out = append(append(append(append(out, ','), key...), ':'), value...)
	}
	return append(out, '}'), nil
}
