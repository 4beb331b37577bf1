package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capfleet/internal/secret"
)

func TestAStringNeverShowsItself(t *testing.T) {
	t.Parallel()
	const value = "hunter2-very-secret"
	s := secret.New(value)
	holder := struct {
		Password secret.String `json:"password"`
		inner    secret.String
	}{s, s}

	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10.3s"} {
		fmt.Fprintf(&out, verb+"\n", s)
		fmt.Fprintf(&out, verb+"\n", holder)
		fmt.Fprintf(&out, verb+"\n", &holder)
	}
	fmt.Fprintln(&out, fmt.Errorf("login with %v", s))
	js, err := json.Marshal(map[string]any{"a": s, "b": holder})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(js)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "password", s, "holder", holder)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "password", s, "holder", holder)

	for _, form := range []string{value, fmt.Sprintf("%x", value), fmt.Sprintf("%X", value), value[:7]} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the value shows as %q in\n%s", form, out.String())
		}
	}
	if s.Reveal() != value {
		t.Error("Reveal must give the value")
	}
}

func TestResolve(t *testing.T) {
	t.Setenv("FLEET_TEST_SECRET", "from env")
	t.Setenv("FLEET_TEST_EMPTY", "")
	dir := t.TempDir()
	write := func(name, content string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	ok := map[string]struct {
		ref  secret.Ref
		want string
	}{
		"env":              {secret.Ref{Env: "FLEET_TEST_SECRET"}, "from env"},
		"file":             {secret.Ref{File: write("a", "one")}, "one"},
		"line end removed": {secret.Ref{File: write("b", "two\r\n")}, "two"},
		"only one removed": {secret.Ref{File: write("c", "three\n\n")}, "three\n"},
		"spaces stay":      {secret.Ref{File: write("d", " four ")}, " four "},
	}
	for name, c := range ok {
		got, err := c.ref.Resolve()
		if err != nil || got.Reveal() != c.want {
			t.Errorf("%s: got %q, %v; want %q", name, got.Reveal(), err, c.want)
		}
	}
	bad := map[string]struct {
		ref  secret.Ref
		says string
	}{
		"unset":    {secret.Ref{Env: "FLEET_TEST_NO_SUCH"}, "FLEET_TEST_NO_SUCH is not set"},
		"empty":    {secret.Ref{Env: "FLEET_TEST_EMPTY"}, "is empty"},
		"no file":  {secret.Ref{File: filepath.Join(dir, "none")}, "none"},
		"empty f":  {secret.Ref{File: write("e", "\n")}, "is empty"},
		"both":     {secret.Ref{Env: "A", File: "b"}, "not both"},
		"neither":  {secret.Ref{}, "no secret"},
		"too long": {secret.Ref{File: write("f", strings.Repeat("x", 1<<20+1))}, "larger than"},
	}
	for name, c := range bad {
		if _, err := c.ref.Resolve(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v does not say %q", name, err, c.says)
		}
	}
}

func TestAbsoluteAndPermissions(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	for in, want := range map[string]string{
		"secrets/bmc": "/etc/fleet/secrets/bmc",
		"/abs":        "/abs",
		"~/.ssh/id":   filepath.Join(dir, ".ssh/id"),
	} {
		got, err := secret.Ref{File: in}.Absolute("/etc/fleet")
		if err != nil || got.File != want {
			t.Errorf("%s: got %q, %v; want %q", in, got.File, err, want)
		}
	}
	p := filepath.Join(dir, "open")
	if err := os.WriteFile(p, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (secret.Ref{File: p}).Permissions(); err != nil {
		t.Errorf("0600: %v", err)
	}
	if err := os.Chmod(p, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := (secret.Ref{File: p}).Permissions(); err == nil {
		t.Error("a file that everybody can read must be reported")
	}
}
