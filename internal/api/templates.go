package api

import (
	"context"
)

// Template is a template in force on fleetd.
type Template struct {
	Name       string `json:"name" doc:"platform/template"`
	Text       string `json:"text"`
	Overridden bool   `json:"overridden" doc:"an operator's own, not the built-in one"`
	File       string `json:"file" doc:"on fleetd's host: where the override is or would go; empty without a folder for them"`
	SHA256     string `json:"sha256" doc:"of the text"`
}

// TemplateChange is the body of PUT /v1/templates/{platform}/{template}.
type TemplateChange struct {
	Text   string          `json:"text" doc:"TextFSM"`
	Base   string          `json:"base,omitempty" doc:"SHA-256 of the text that this one was made from; refused when another one is in force by now"`
	Sample *TemplateSample `json:"sample,omitempty" doc:"the output that the template is for; it must be read without an error"`
}

// TemplateSample is an output to keep beside a template.
type TemplateSample struct {
	Case   string `json:"case" doc:"its name: letters, digits, _ and -"`
	Raw    string `json:"raw"`
	Origin string `json:"origin" doc:"where it is from"`
}

// TemplateSaved tells what was put into force.
type TemplateSaved struct {
	Template Template `json:"template"`
	Rows     int      `json:"rows" doc:"that the sample gives"`
	Sample   string   `json:"sample" doc:"on fleetd's host: the sample's folder, or empty"`
	Previous string   `json:"previous" doc:"on fleetd's host: where the override that was there is kept, or empty"`
	Warnings []string `json:"warnings" doc:"what is odd in it, and which samples it does not read as before"`
}

// TemplateService answers for templates.
type TemplateService interface {
	// Template gives a template in force by platform/template.
	Template(ctx context.Context, name string) (Template, error)
	// PutTemplate checks a template and puts it into force. By is who asked.
	PutTemplate(ctx context.Context, by, name string, c TemplateChange) (TemplateSaved, error)
}

func (s *Server) templateRoutes() []route {
	const template = "/v1/templates/{platform}/{template}"
	return []route{
		handle(s, "GET", template, "get-template", "A template in force", s.template),
		handle(s, "PUT", template, "put-template", "Check an own template and put it into force in place of the built-in one", s.putTemplate,
			maxBytes(32<<20)), // a sample of 8 MB, escaped
	}
}

type templateInput struct {
	Platform string `path:"platform" maxLength:"64"`
	Template string `path:"template" maxLength:"64"`
}

func (s *Server) template(ctx context.Context, in *templateInput) (*answer[Template], error) {
	return answered(s.service.Template(ctx, in.Platform+"/"+in.Template))
}

type putTemplateInput struct {
	Platform string `path:"platform" maxLength:"64"`
	Template string `path:"template" maxLength:"64"`
	Body     TemplateChange
}

func (s *Server) putTemplate(ctx context.Context, in *putTemplateInput) (*answer[TemplateSaved], error) {
	saved, err := s.service.PutTemplate(ctx, peer(ctx), in.Platform+"/"+in.Template, in.Body)
	saved.Warnings = notNil(saved.Warnings)
	return answered(saved, err)
}
