package report

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
	"capfleet/internal/parse"
)

// Spec is what a request says.
type Spec struct {
	Report string `json:"report"` // filesystem, rotation-file or software
	// Record gives what the report's commands print, cleaned, in place of the
	// report's rows: a Recording for each command. No template is run.
	Record bool `json:"record,omitempty"`
	// Blank are words that are blanked in a recording beside what is always.
	Blank []string `json:"blank,omitempty"`
}

type operationReport struct{ layouts *layouts }

var _ operation.Operation = (*operationReport)(nil)

// New gives the operation "report", with the layouts and templates of lib. It is
// safe for concurrent use.
func New(lib *parse.Library) operation.Operation {
	return &operationReport{layouts: &layouts{lib: lib, cache: map[string]cachedLayout{}}}
}

// Name implements operation.Operation.
func (o *operationReport) Name() string { return "report" }

// Prepare checks the spec and the layouts and templates of all platforms asked.
// Devices whose platform has no such report are omitted; when that leaves none, the
// request is refused as fault.Unsupported.
func (o *operationReport) Prepare(_ context.Context, raw json.RawMessage, devices []*device.Device) (operation.Prepared, error) {
	spec, err := readSpec(raw)
	if err != nil {
		return operation.Prepared{}, err
	}
	out := operation.Prepared{Access: operation.Read, Omit: map[string]string{}}
	if out.Spec, err = json.Marshal(spec); err != nil {
		return operation.Prepared{}, fault.Wrap(fault.Internal, "keep the spec", err)
	}
	for _, dev := range devices {
		_, _, err := o.find(dev, spec)
		if fault.Is(err, fault.Unsupported) {
			out.Omit[dev.Name] = errors.Unwrap(err).Error()
			continue
		}
		if err != nil {
			return operation.Prepared{}, err
		}
	}
	if len(devices) > 0 && len(out.Omit) == len(devices) {
		return operation.Prepared{}, &fault.Error{Kind: fault.Unsupported, Act: "report " + spec.Report,
			Err: errors.New(out.Omit[devices[0].Name]), Next: "select devices of another platform"}
	}
	return out, nil
}

// Steps gives the one step of a report: read.
func (o *operationReport) Steps(raw json.RawMessage, unit operation.Unit) ([]operation.Step, error) {
	spec, err := readSpec(raw)
	if err != nil {
		return nil, err
	}
	observe := func(ctx context.Context, env operation.Env) (operation.Observation, error) {
		var details []string
		read := o.read
		if spec.Record {
			read = o.record
		}
		for _, dev := range unit.Devices {
			n, err := read(ctx, env, dev, spec)
			if err != nil {
				return operation.Observation{}, err
			}
			details = append(details, fmt.Sprintf("%d %s", n, plural(n, "row")))
		}
		return operation.Observation{Verdict: operation.Done, Detail: strings.Join(details, ", ")}, nil
	}
	return []operation.Step{{Name: "read", Observe: observe}}, nil
}

func readSpec(raw json.RawMessage) (Spec, error) {
	fail := func(err error) (Spec, error) {
		return Spec{}, &fault.Error{Kind: fault.Invalid, Act: "report", Err: err,
			Next: `write {"report": "` + strings.Join(names, `"}, {"report": "`) + `"}`}
	}
	var spec Spec
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&spec); err != nil {
		return fail(fmt.Errorf("the spec cannot be read: %w", err))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fail(errors.New("the spec is followed by something else"))
	}
	if !slices.Contains(names, spec.Report) {
		return fail(fmt.Errorf("no report is called %q", spec.Report))
	}
	if len(spec.Blank) > 0 && !spec.Record {
		return fail(errors.New("blank has no meaning without record"))
	}
	return spec, nil
}

// find gives how a device's platform gives a report, or fault.Unsupported whose
// cause is the reason.
func (o *operationReport) find(dev *device.Device, spec Spec) (*layout, *reportLayout, error) {
	unsupported := func(reason error) error {
		return &fault.Error{Kind: fault.Unsupported, Act: "report " + spec.Report, Device: dev.Name, Stage: "layout", Err: reason}
	}
	all, err := o.layouts.forPlatform(dev.Platform)
	if fault.Is(err, fault.NotFound) {
		return nil, nil, unsupported(fmt.Errorf("there are no reports for platform %s", dev.Platform))
	}
	if err != nil {
		return nil, nil, err
	}
	how := all.reports[spec.Report]
	switch {
	case how == nil:
		return nil, nil, unsupported(fmt.Errorf("platform %s has no report %s", dev.Platform, spec.Report))
	case how.unsupported != "":
		return nil, nil, unsupported(errors.New(how.unsupported))
	}
	return all, how, nil
}

// answer is what one command gave.
type answer struct {
	command    *command
	transcript string
	rows       []parse.Row
}

// read runs the commands on one device and puts out its rows. It gives their
// number.
func (o *operationReport) read(ctx context.Context, env operation.Env, dev *device.Device, spec Spec) (int, error) {
	all, how, err := o.find(dev, spec)
	if err != nil {
		return 0, err
	}
	session, err := env.Session(ctx, dev)
	if err != nil {
		return 0, err
	}
	answers := map[string]answer{}
	for i := range how.commands {
		cmd := &how.commands[i]
		env.Progress(dev, int64(i), int64(len(how.commands)), "commands")
		a, err := o.run(ctx, env, session, dev, spec, cmd)
		if cmd.optional && fault.Is(err, fault.Refused) {
			env.Warn(dev, "%s was refused: what it tells is not known", cmd.line)
			continue
		}
		if err != nil {
			return 0, err
		}
		answers[cmd.name] = a
	}
	now := env.Now().UTC().Truncate(time.Second)
	rows, facts, err := makeRows(all, how, answers, dev, spec, now)
	if err != nil {
		return 0, o.unreadable(ctx, env, dev, spec, answers, how, err)
	}
	for _, row := range rows {
		env.Row(dev, row)
	}
	facts["report_"+strings.ReplaceAll(spec.Report, "-", "_")+"_at"] = now.Format(time.RFC3339)
	env.Facts(dev, facts)
	if len(rows) == 0 {
		env.Warn(dev, "%s lists nothing", how.commands[0].line)
	}
	return len(rows), nil
}

func (o *operationReport) run(ctx context.Context, env operation.Env, session device.Session, dev *device.Device, spec Spec, cmd *command) (answer, error) {
	out, err := session.Run(ctx, device.Command{Line: cmd.line, Mode: cmd.mode, Timeout: cmd.timeout})
	if unread := cmd.unread(out, err); len(unread) > 0 {
		const most = 10
		for _, line := range unread[:min(len(unread), most)] {
			env.Warn(dev, "%s could not read everything: %s", cmd.line, line)
		}
		if more := len(unread) - most; more > 0 {
			env.Warn(dev, "%s could not read everything: %d more of such lines", cmd.line, more)
		}
		out.Text, err = strings.TrimSuffix(out.Text, out.Stderr), nil
	}
	if err != nil {
		return answer{}, about("run "+cmd.line, dev, "command", err)
	}
	a := answer{command: cmd, transcript: out.Transcript()}
	a.rows, err = cmd.template.Parse(ctx, strings.NewReader(a.transcript))
	if fault.Is(err, fault.Unparsed) {
		return answer{}, o.keep(ctx, env, dev, spec, a, err)
	}
	if err != nil {
		return answer{}, about("read "+cmd.line, dev, "parse", err)
	}
	return a, nil
}

// unread gives what a command that ended with an error says that it could not read,
// line by line; none where that is not all that went wrong. df does so for a mount
// whose server is gone: what it prints of the others is whole.
func (c *command) unread(out device.Output, err error) []string {
	if c.partial == nil || out.Stderr == "" || !fault.Is(err, fault.Refused) {
		return nil
	}
	lines := strings.Split(strings.TrimRight(out.Stderr, "\n"), "\n")
	if slices.ContainsFunc(lines, func(l string) bool { return !c.partial.MatchString(l) }) {
		return nil
	}
	return lines
}

// about names act, device and stage in an error that does not name a device yet.
func about(act string, dev *device.Device, stage string, err error) error {
	var have *fault.Error
	if errors.As(err, &have) && have.Device != "" {
		return err
	}
	if have != nil && have.Stage != "" {
		stage = have.Stage
	}
	return &fault.Error{Kind: fault.KindOf(err), Act: act, Device: dev.Name, Stage: stage, Err: err}
}

// unreadable keeps the text behind a figure that is none: that of the column's
// command, of the first one where no column is at fault.
func (o *operationReport) unreadable(ctx context.Context, env operation.Env, dev *device.Device, spec Spec, answers map[string]answer, how *reportLayout, err error) error {
	name := how.commands[0].name
	var figure *figureError
	if errors.As(err, &figure) {
		name = figure.command
	}
	a, ok := answers[name]
	if !ok {
		return about("report "+spec.Report, dev, "parse", &fault.Error{Kind: fault.Unparsed, Err: err})
	}
	return o.keep(ctx, env, dev, spec, a, err)
}

// keep stores the text that was not understood and gives the error that leads on
// from it.
func (o *operationReport) keep(ctx context.Context, env operation.Env, dev *device.Device, spec Spec, a answer, cause error) error {
	out := &fault.Error{Kind: fault.Unparsed, Act: "read " + a.command.line, Device: dev.Name, Stage: "parse", Err: cause}
	file := fmt.Sprintf("%s_%s_%s.txt", dev.Name, spec.Report, a.command.name)
	sum, err := env.Keep(ctx, dev, file, "text/plain; charset=utf-8", strings.NewReader(a.transcript))
	if err != nil {
		out.Err = errors.Join(cause, fmt.Errorf("the raw text could not be kept: %w", err))
		return out
	}
	override := o.layouts.lib.OverridePath(a.command.path + parse.Extension)
	if override == "" {
		override = "templates/" + a.command.path + parse.Extension + " in the folder given to fleetd --overrides"
	}
	out.Next = fmt.Sprintf("the raw text is artifact %.12s; correct a copy of template %s until fleetctl parse --template COPY RAW gives the rows, then save it as %s",
		sum, a.command.path, override)
	return out
}

// makeRows turns the records of all commands into the report's rows.
func makeRows(all *layout, how *reportLayout, answers map[string]answer, dev *device.Device, spec Spec, now time.Time) ([]any, operation.Facts, error) {
	facts := operation.Facts{}
	if spec.Report == SoftwareReport {
		r := &reading{layout: how, nulls: all.nullValues, records: map[string][]parse.Row{}, number: 1}
		for name, a := range answers {
			r.records[name] = slices.Clip(a.rows)
		}
		row := r.software(dev.Name, dev.Platform, now)
		r.demand()
		facts["version"], facts["build"] = deref(row.Version), deref(row.Build)
		return []any{row}, facts, r.err
	}
	cmd := &how.commands[0]
	var rows []any
	for i, record := range answers[cmd.name].rows {
		if how.blank(record) || slices.ContainsFunc(how.omit, func(o patterns) bool { return matches(record, o) }) {
			continue
		}
		r := &reading{layout: how, nulls: all.nullValues, records: map[string][]parse.Row{cmd.name: {record}}, number: i + 1}
		var row any
		if spec.Report == FilesystemReport {
			row = r.filesystem(dev.Name, now)
		} else {
			row = r.rotationFile(dev.Name, now)
		}
		if r.demand(); r.err != nil {
			return nil, nil, r.err
		}
		rows = append(rows, row)
	}
	if len(rows) < how.atLeast {
		return nil, nil, fmt.Errorf("%d %s where at least %d must be", len(rows), plural(len(rows), "row"), how.atLeast)
	}
	return rows, facts, nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}
