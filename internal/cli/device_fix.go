package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
	"capfleet/internal/parse"
)

// templateFleet is what --fix needs of fleetd.
type templateFleet interface {
	Template(ctx context.Context, platform, name string) (api.Template, error)
	PutTemplate(ctx context.Context, platform, name string, change api.TemplateChange) (api.TemplateSaved, error)
}

// fixReport leads from a report that a template does not match to one that works.
func (a *app) fixReport(ctx context.Context, f fleet, opts *recordOptions, device string) error {
	corrected, err := a.correctedTemplate(opts)
	if err != nil {
		return err
	}
	sel := api.Selection{Names: []string{device}}
	job, err := a.start(ctx, f, "report", reportSpec{Report: opts.report, Record: true, Blank: opts.blank}, sel)
	if err != nil {
		return err
	}
	res, err := a.await(ctx, f, job)
	if err != nil {
		return a.detached(ctx, job, err)
	}
	if len(res.Failures) > 0 {
		a.reportFailures(res)
		return statusOf(jobCode(res.Job))
	}
	recorded, err := recordings(res)
	if err != nil {
		return err
	}
	unknown, err := unmatched(ctx, f, recorded)
	if err != nil {
		return err
	}
	if len(unknown) == 0 {
		a.say("the templates know every line that %s printed for this report: there is nothing to mend in them", device)
	} else {
		a.tellBlanked(recorded)
	}
	for _, m := range unknown {
		m.sample = opts.sampleName(m.recording)
		if corrected != "" {
			err = a.applyTemplate(ctx, f, m, corrected)
			corrected = "" // it is for the first one
		} else {
			err = a.mend(ctx, f, m)
		}
		if err != nil {
			return err
		}
	}
	a.say("running report %s on %s:", opts.report, device)
	return a.submit(ctx, f, &jobFlags{outputFlags: opts.outputFlags}, "report", reportSpec{Report: opts.report}, sel)
}

// correctedTemplate gives the text of --template, or "" where there is somebody to
// correct it now.
func (a *app) correctedTemplate(opts *recordOptions) (string, error) {
	if opts.template != "" {
		src, err := readTemplate(opts.template)
		return string(src), err
	}
	if !a.streams.InTerminal || !a.streams.ErrTerminal || a.streams.Edit == nil {
		return "", &fault.Error{Kind: fault.Invalid, Act: "--fix shows, asks and opens an editor, and there is no terminal",
			Next: "correct a copy of the template until fleetctl parse --template COPY RAW gives the rows, then add --template COPY"}
	}
	return "", nil
}

// mismatch is an output that its template does not match.
type mismatch struct {
	recording
	platform, name string // of the template
	base           string // digest of the template in force
	sample         string // name of the sample
	text           string // of the template, as far as it is corrected
	err            error  // what is wrong with it now; nil when it works
	rows           []parse.Row
	values         []parse.Value
}

// unmatched gives the outputs that the templates in force do not match.
func unmatched(ctx context.Context, f fleet, recorded []recording) ([]*mismatch, error) {
	var out []*mismatch
	for _, r := range recorded {
		if r.Refused {
			continue // the report does without
		}
		m := &mismatch{recording: r}
		var ok bool
		if m.platform, m.name, ok = strings.Cut(r.Template, "/"); !ok {
			return nil, fault.New(fault.Internal, "fleetd names no template for %q", r.Command)
		}
		t, err := f.Template(ctx, m.platform, m.name)
		if err != nil {
			return nil, err
		}
		m.base = t.SHA256
		if m.try(ctx, t.Text); m.err != nil {
			out = append(out, m)
		}
		if ctx.Err() != nil {
			return nil, fault.Wrap(fault.Canceled, "try the templates", ctx.Err())
		}
	}
	return out, nil
}

// try runs a template on the output and keeps what came of it.
func (m *mismatch) try(ctx context.Context, text string) {
	m.text, m.rows, m.values = text, nil, nil
	t, err := parse.Compile(m.Template, []byte(text))
	if err != nil {
		m.err = err
		return
	}
	m.values = t.Values()
	m.rows, m.err = t.Parse(ctx, strings.NewReader(m.Transcript))
}

// applyTemplate puts a template into force that was corrected beforehand.
func (a *app) applyTemplate(ctx context.Context, f fleet, m *mismatch, text string) error {
	m.try(ctx, text)
	if m.err != nil {
		a.showProblem(m)
		return fault.Wrap(fault.Unparsed, "the corrected template does not match either", shortCause(m.err))
	}
	return a.saveTemplate(ctx, f, m)
}

// mend has the operator correct a copy of the template until it matches, and puts
// it into force.
func (a *app) mend(ctx context.Context, f fleet, m *mismatch) (err error) {
	dir, err := os.MkdirTemp("", "fleetctl-fix-*")
	if err != nil {
		return fault.Wrap(fault.Storage, "make a place for the copy", err)
	}
	copied, raw := filepath.Join(dir, m.name+parse.Extension), filepath.Join(dir, "raw.txt")
	for file, text := range map[string]string{copied: m.text, raw: m.Transcript} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return fault.Wrap(fault.Storage, "write the copy", err)
		}
	}
	defer func() {
		if err != nil {
			a.say("your copy is kept: %s", copied)
			return
		}
		err = fault.Wrap(fault.Storage, "remove the copy", os.RemoveAll(dir))
	}()
	a.say("the copy to correct is %s\nthe text is %s", copied, raw)
	for {
		a.showOutcome(m)
		edit, save, quit := "edit the template", "", "quit"
		if m.err == nil {
			edit, save = "edit it again", "save it as an override"
		}
		switch answer, err := a.choose(ctx, edit, save, quit); {
		case err != nil:
			return err
		case answer == quit:
			return fault.New(fault.Canceled, "nothing was saved")
		case answer == save:
			err := a.saveTemplate(ctx, f, m)
			if err == nil || !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.Unparsed) {
				return err
			}
			m.err = err // shown, and to be corrected like anything else
		default:
			if err := a.edit(ctx, m, copied); err != nil {
				if ctx.Err() != nil {
					return err
				}
				a.say("%v", err) // what was read before stays as it is
			}
		}
	}
}

// edit opens the copy and tries what was made of it.
func (a *app) edit(ctx context.Context, m *mismatch, file string) error {
	editor := "vi"
	for _, name := range []string{"EDITOR", "VISUAL"} {
		if e := a.streams.Getenv(name); strings.TrimSpace(e) != "" {
			editor = e
		}
	}
	if err := a.streams.Edit(ctx, editor, file); err != nil {
		return &fault.Error{Kind: fault.Invalid, Act: "run the editor " + editor, Err: err, Next: "set EDITOR"}
	}
	text, err := readTemplate(file)
	if err != nil {
		return err
	}
	m.try(ctx, string(text))
	return nil
}

// choose asks which of up to three things to do. The first is what an empty line
// means; those that are "" are not offered.
func (a *app) choose(ctx context.Context, choices ...string) (string, error) {
	var offers []string
	for i, c := range choices {
		if c == "" {
			continue
		}
		offer := "[" + c[:1] + "]" + c[1:]
		if i == 0 {
			offer += " (Enter)"
		}
		offers = append(offers, offer)
	}
	for {
		_, _ = fmt.Fprintf(a.streams.Err, "%s: ", strings.Join(offers, ", "))
		line, err := a.readLine(ctx)
		if err != nil {
			return "", err
		}
		typed := strings.ToLower(strings.TrimSpace(line))
		if line == "" {
			return choices[len(choices)-1], nil // end of input
		}
		if typed == "" {
			return choices[0], nil
		}
		for _, c := range choices {
			if c != "" && (typed == c[:1] || strings.HasPrefix(c, typed)) {
				return c, nil
			}
		}
	}
}

// saveTemplate puts the template into force on fleetd with the text as its sample,
// or, where fleetd has no place for it, leaves it here and says where it goes.
func (a *app) saveTemplate(ctx context.Context, f fleet, m *mismatch) error {
	saved, err := f.PutTemplate(ctx, m.platform, m.name, api.TemplateChange{Text: m.text, Base: m.base,
		Sample: &api.TemplateSample{Case: m.sample, Raw: m.Transcript, Origin: origin(m.recording)}})
	if fault.Is(err, fault.Unsupported) {
		file := m.name + parse.Extension
		if werr := output.WriteFile(file, []byte(m.text)); werr != nil {
			return errors.Join(err, fault.Wrap(fault.Storage, "write "+file, werr))
		}
		a.say("wrote %s here; it goes to DIR/templates/%s%s", file, m.Template, parse.Extension)
		return err
	}
	if err != nil {
		return err
	}
	a.say("saved as %s on fleetd's host, in force at once\nthe sample is %s, with %s", saved.Template.File, saved.Sample, count(saved.Rows, "row"))
	if saved.Previous != "" {
		a.say("the override that was there is %s", saved.Previous)
	}
	for _, w := range saved.Warnings {
		a.say("%s", output.Wrap("warning: "+w, a.screenErr().Width, "  "))
	}
	return nil
}
