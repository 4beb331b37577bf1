package daemon

import (
	"context"

	"capfleet/internal/api"
	"capfleet/internal/override"
)

func (s service) Template(_ context.Context, name string) (api.Template, error) {
	t, err := s.d.overrides.Template(name)
	return api.Template(t), err
}

func (s service) PutTemplate(ctx context.Context, by, name string, c api.TemplateChange) (api.TemplateSaved, error) {
	change := override.Change{Name: name, Text: c.Text, Base: c.Base}
	if c.Sample != nil {
		sample := override.Sample(*c.Sample)
		change.Sample = &sample
	}
	saved, err := s.d.overrides.Put(ctx, change)
	if err != nil {
		return api.TemplateSaved{}, err
	}
	s.d.log.Info("template overridden", "template", name, "file", saved.Template.File, "sha256", saved.Template.SHA256,
		"previous", saved.Previous, "sample", saved.Sample, "by", by)
	return api.TemplateSaved{Template: api.Template(saved.Template), Rows: saved.Rows, Sample: saved.Sample, Previous: saved.Previous, Warnings: saved.Warnings}, nil
}
