package api_test

import (
	"context"
	"os/user"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

func (f *fake) Template(_ context.Context, name string) (api.Template, error) {
	return api.Template{Name: name, Text: "Start\n"}, f.note("template", name)
}

func (f *fake) PutTemplate(_ context.Context, by, name string, c api.TemplateChange) (api.TemplateSaved, error) {
	return api.TemplateSaved{Template: api.Template{Name: name, Text: c.Text}, Rows: 3}, f.note("put", by, name, c)
}

func TestTemplates(t *testing.T) {
	f := &fake{}
	socket, _ := serve(t, f)
	c := dial(t, socket)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Template(t.Context(), "endace_osm", "filesystem")
	if err != nil || got.Name != "endace_osm/filesystem" {
		t.Fatalf("%+v, %v", got, err)
	}
	f.take()
	change := api.TemplateChange{Text: "Value A (<&>\u00e9)\n", Base: "00", Sample: &api.TemplateSample{Case: "a", Raw: "b\x01\n", Origin: "c"}}
	saved, err := c.PutTemplate(t.Context(), "endace_osm", "filesystem", change)
	if err != nil || saved.Rows != 3 || saved.Warnings == nil {
		t.Fatalf("%+v, %v", saved, err)
	}
	if diff := cmp.Diff([]any{"put", me.Username, "endace_osm/filesystem", change}, f.take()); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	f.err = fault.New(fault.Conflict, "changed")
	if _, err := c.PutTemplate(t.Context(), "endace_osm", "filesystem", change); !fault.Is(err, fault.Conflict) {
		t.Errorf("%v", err)
	}
}
