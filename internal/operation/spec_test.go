package operation

import (
	"encoding/json"
	"strings"
	"testing"

	"capfleet/internal/fault"
)

func TestDecodeSpec(t *testing.T) {
	t.Parallel()
	type spec struct {
		Report string `json:"report"`
		Count  int    `json:"count"`
	}
	for name, c := range map[string]struct {
		raw  string
		want spec
		err  string
	}{
		"full":         {raw: `{"report":"a","count":2}`, want: spec{"a", 2}},
		"defaults":     {raw: `{"count":2}`, want: spec{"default", 2}},
		"absent":       {raw: ``, want: spec{Report: "default"}},
		"null":         {raw: ` null `, want: spec{Report: "default"}},
		"unknown key":  {raw: `{"reprot":"a"}`, err: `unknown field "reprot"`},
		"wrong type":   {raw: `{"count":"two"}`, err: "count"},
		"not a struct": {raw: `[]`, err: "cannot unmarshal array"},
		"cut off":      {raw: `{"report":`, err: "unexpected EOF"},
		"two of them":  {raw: `{} {}`, err: "something follows it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := spec{Report: "default"}
			err := DecodeSpec("report", json.RawMessage(c.raw), &got)
			if c.err != "" {
				if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %v, want %q", err, c.err)
				}
				return
			}
			if err != nil || got != c.want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}
