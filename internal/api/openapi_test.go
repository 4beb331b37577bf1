package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"capfleet/internal/api"
)

// The document in docs/ is what the server serves; -update writes it anew.
var update = flag.Bool("update", false, "write docs/openapi.json anew")

const golden = "../../docs/openapi.json"

func TestOpenAPIDocument(t *testing.T) {
	t.Parallel()
	doc := api.New(api.Options{Service: &fake{}}).OpenAPI()
	if *update {
		if err := os.WriteFile(golden, doc, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, doc) {
		t.Errorf("docs/openapi.json is not what the server serves: go test ./internal/api -run TestOpenAPIDocument -update")
	}
	// Two servers give one document: nothing in it depends on the order of a map.
	if again := api.New(api.Options{Service: &fake{}}).OpenAPI(); !bytes.Equal(doc, again) {
		t.Error("the document is not the same each time")
	}
}

// What a reader and a generator of clients rely on.
func TestOpenAPIIsWhole(t *testing.T) {
	t.Parallel()
	var doc struct {
		OpenAPI string
		Info    struct{ Title, Version string }
		Paths   map[string]map[string]struct {
			OperationID string
			Summary     string
			Parameters  []struct{ Name, In string }
			Responses   map[string]struct {
				Description string
				Content     map[string]struct{ Schema map[string]any }
			}
		}
		Components struct{ Schemas map[string]any }
	}
	raw := api.New(api.Options{Service: &fake{}}).OpenAPI()
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") || doc.Info.Title == "" || doc.Info.Version == "" {
		t.Errorf("head: %s %+v", doc.OpenAPI, doc.Info)
	}
	ids := map[string]bool{}
	operations := 0
	for path, methods := range doc.Paths {
		for method, op := range methods {
			operations++
			at := method + " " + path
			if op.OperationID == "" || op.Summary == "" || ids[op.OperationID] {
				t.Errorf("%s: operation id %q, summary %q", at, op.OperationID, op.Summary)
			}
			ids[op.OperationID] = true
			for _, name := range strings.Split(path, "/") {
				if !strings.HasPrefix(name, "{") {
					continue
				}
				found := false
				for _, p := range op.Parameters {
					found = found || p.In == "path" && "{"+p.Name+"}" == name
				}
				if !found {
					t.Errorf("%s: %s is not described", at, name)
				}
			}
			if _, ok := op.Responses["default"].Content["application/problem+json"]; !ok {
				t.Errorf("%s: errors are not described", at)
			}
			good := op.Responses["200"]
			for _, status := range []string{"201", "202"} {
				if other, ok := op.Responses[status]; ok {
					good = other
				}
			}
			if len(good.Content) != 1 {
				t.Errorf("%s: a good answer has %d descriptions", at, len(good.Content))
			}
		}
	}
	if operations < 16 {
		t.Errorf("%d operations", operations)
	}
	var tree any
	if err := json.Unmarshal(raw, &tree); err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	refs(tree, used)
	for ref := range used {
		name, ok := strings.CutPrefix(ref, "#/components/schemas/")
		if _, there := doc.Components.Schemas[name]; !ok || !there {
			t.Errorf("%s leads nowhere", ref)
		}
	}
	for name := range doc.Components.Schemas {
		if !used["#/components/schemas/"+name] {
			t.Errorf("schema %s is used nowhere", name)
		}
	}
	if t.Failed() {
		fmt.Fprintln(t.Output(), string(raw))
	}
}

func refs(v any, used map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if s, ok := value.(string); ok && key == "$ref" {
				used[s] = true
			}
			refs(value, used)
		}
	case []any:
		for _, value := range v {
			refs(value, used)
		}
	}
}
