package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/fault"
)

func TestContexts(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yaml")
	c, err := LoadContexts(path)
	if err != nil || len(c.Names()) != 0 || c.Current != "" {
		t.Fatalf("no file: %+v %v", c, err)
	}
	if err := os.WriteFile(path, []byte(`# my fleets
current: lab
contexts:
  # in the cellar
  lab: {server: ssh://joe@lab, output: json}
  prod:
    server: /run/fleetd/fleetd.sock # this host
`), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err = LoadContexts(path); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"lab", "prod"}, c.Names()); diff != "" || c.Current != "lab" {
		t.Error(diff, c.Current)
	}
	if _, err := c.Get("la"); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "lab, prod") {
		t.Errorf("unknown: %v", err)
	}
	if err := c.Set("west-1", Context{Server: "ssh://west"}); err != nil {
		t.Error(err)
	}
	if err := c.Use("west-1"); err != nil {
		t.Error(err)
	}
	if err := c.Remove("prod"); err != nil {
		t.Error(err)
	}
	out, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"# my fleets", "# in the cellar"} {
		if !strings.Contains(string(out), part) {
			t.Errorf("the comment %q is lost:\n%s", part, out)
		}
	}
	if err := os.WriteFile(path, out, 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := LoadContexts(path)
	if err != nil {
		t.Fatalf("%v of\n%s", err, out)
	}
	lab, _ := again.Get("lab")
	west, _ := again.Get("west-1")
	if diff := cmp.Diff([]any{"west-1", []string{"lab", "west-1"}, Context{"ssh://joe@lab", "json"}, Context{Server: "ssh://west"}},
		[]any{again.Current, again.Names(), lab, west}); diff != "" {
		t.Error(diff)
	}
	if err := again.Remove("west-1"); err != nil || again.Current != "" {
		t.Errorf("removing the current one leaves %q, %v", again.Current, err)
	}
}

func TestContextsRefuse(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"contexts: {lab: {sever: x}}":              ":1:",
		"contexts: {lab: {server: x, output: [a]}": ":1:",
		"contexts: {lab: {}}":                      "no server",
		"current: lab\n":                           `no context "lab"`,
		"contexts: {-x: {server: y}}":              `"-x"`,
		"contexts: {a b: {server: y}}":             `"a b"`,
		"currant: lab":                             "did you mean current?",
		"cherry: lab":                              "known: current, contexts",
	} {
		path := write(t, text)
		if _, err := LoadContexts(path); !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzContexts(f *testing.F) {
	f.Add([]byte("current: lab\ncontexts:\n  lab: {server: ssh://joe@lab}\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, src, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := LoadContexts(path)
		if err != nil {
			return
		}
		out, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, out, 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := LoadContexts(path)
		if err != nil {
			t.Fatalf("%v of %q made of %q", err, out, src)
		}
		if diff := cmp.Diff(c.contexts, again.contexts); diff != "" || c.Current != again.Current {
			t.Errorf("%s of %q", diff, src)
		}
	})
}
