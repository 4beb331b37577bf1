package api_test

import (
	"context"
	"testing"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

func (f *fake) Examine(_ context.Context, by string) (api.Examination, error) {
	return api.Examination{}, f.note("examine", by)
}

func TestExamine(t *testing.T) {
	f := &fake{}
	socket, _ := serve(t, f)
	c := dial(t, socket)
	got, err := c.Examine(t.Context())
	if err != nil || got.Rows == nil {
		t.Errorf("%+v, %v", got, err)
	}
	if asked := f.take(); len(asked) != 2 || asked[1] == "" {
		t.Errorf("asked %v", asked)
	}
	f.err = fault.New(fault.Storage, "no")
	if _, err := c.Examine(t.Context()); !fault.Is(err, fault.Storage) {
		t.Errorf("%v", err)
	}
}
