package secret_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"capfleet/internal/secret"
)

// write makes a file that only its owner can read.
func write(t testing.TB, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func command(t testing.TB, args ...string) secret.Ref {
	t.Helper()
	c, err := secret.NewCommand(args...)
	if err != nil {
		t.Fatal(err)
	}
	return secret.Ref{Command: c}
}

// says checks that there is an error that holds a text and does not hold others.
func says(t testing.TB, err error, text string, never ...string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v does not say %q", err, text)
		return
	}
	for _, n := range never {
		if strings.Contains(err.Error(), n) {
			t.Errorf("%q is in the error: %v", n, err)
		}
	}
}

func TestResolve(t *testing.T) {
	t.Setenv("FLEET_TEST_SECRET", "from env")
	t.Setenv("FLEET_TEST_EMPTY", "")
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	write(t, dir, "fleet-password", "from systemd\n")
	ok := map[string]struct {
		ref  secret.Ref
		want string
	}{
		"env":              {secret.Ref{Env: "FLEET_TEST_SECRET"}, "from env"},
		"file":             {secret.Ref{File: write(t, dir, "a", "one")}, "one"},
		"line end removed": {secret.Ref{File: write(t, dir, "b", "two\r\n")}, "two"},
		"only one removed": {secret.Ref{File: write(t, dir, "c", "three\n\n")}, "three\n"},
		"spaces stay":      {secret.Ref{File: write(t, dir, "d", " four ")}, " four "},
		"credential":       {secret.Ref{Credential: "fleet-password"}, "from systemd"},
		"command":          {command(t, "printf", `%s\n`, "five * $HOME"), "five * $HOME"},
	}
	for name, c := range ok {
		got, err := c.ref.Resolve(t.Context())
		if err != nil || got.Reveal() != c.want {
			t.Errorf("%s: got %q, %v; want %q", name, got.Reveal(), err, c.want)
		}
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	bad := map[string]struct {
		ref  secret.Ref
		says string
	}{
		"unset":         {secret.Ref{Env: "FLEET_TEST_NO_SUCH"}, "FLEET_TEST_NO_SUCH is not set"},
		"empty":         {secret.Ref{Env: "FLEET_TEST_EMPTY"}, "is empty"},
		"no file":       {secret.Ref{File: filepath.Join(dir, "none")}, "none"},
		"empty f":       {secret.Ref{File: write(t, dir, "e", "\n")}, "is empty"},
		"both":          {secret.Ref{Env: "A", File: "b"}, "not several"},
		"neither":       {secret.Ref{}, "no secret"},
		"too long":      {secret.Ref{File: write(t, dir, "f", strings.Repeat("x", 1<<20+1))}, "larger than"},
		"folder":        {secret.Ref{File: dir}, "is not a regular file"},
		"pipe":          {secret.Ref{File: fifo}, "is not a regular file"},
		"half an age":   {secret.Ref{Age: secret.Age{File: "/x"}}, "both a file and an identity"},
		"a path":        {secret.Ref{Credential: "../" + filepath.Base(dir) + "/a"}, "not the name of a systemd credential"},
		"no credential": {secret.Ref{Credential: "none"}, "none: no such file"},
	}
	for name, c := range bad {
		_, err := c.ref.Resolve(t.Context())
		t.Run(name, func(t *testing.T) { says(t, err, c.says) })
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	_, err := secret.Ref{Credential: "fleet-password"}.Resolve(t.Context())
	says(t, err, "LoadCredential=fleet-password:")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (secret.Ref{Env: "FLEET_TEST_SECRET"}).Resolve(ctx); err != context.Canceled {
		t.Errorf("with an ended context: %v", err)
	}
}

func TestAbsolute(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	for in, want := range map[string]string{
		"secrets/bmc": "/etc/fleet/secrets/bmc",
		"/abs":        "/abs",
		"~/.ssh/id":   filepath.Join(dir, ".ssh/id"),
	} {
		refs := map[secret.Ref]secret.Ref{
			{File: in}: {File: want},
			{Age: secret.Age{File: in, Identity: in}}: {Age: secret.Age{File: want, Identity: want}},
			command(t, in, in):                        command(t, want, in),
		}
		for ref, want := range refs {
			if got, err := ref.Absolute("/etc/fleet"); err != nil || got != want {
				t.Errorf("%#v: got %#v, %v; want %#v", ref, got, err, want)
			}
		}
	}
	for _, ref := range []secret.Ref{{}, {Env: "A"}, {Credential: "a"}, command(t, "pass", "show", "a/b")} {
		if got, err := ref.Absolute("/etc/fleet"); err != nil || got != ref {
			t.Errorf("%#v became %#v, %v", ref, got, err)
		}
	}
}

func TestWarnings(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	t.Setenv("FLEET_TEST_SECRET", "x")
	open := write(t, dir, "open", "x")
	closed := write(t, dir, "closed", "x")
	program := write(t, dir, "program", "#!/bin/sh\n")
	anyones := write(t, dir, "anyones", "#!/bin/sh\n")
	for path, mode := range map[string]os.FileMode{open: 0o644, program: 0o755, anyones: 0o777} {
		if err := os.Chmod(path, mode); err != nil { // past the umask
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		ref  secret.Ref
		want []string // what each begins with
	}{
		"env":                  {secret.Ref{Env: "FLEET_TEST_SECRET"}, nil},
		"unset":                {secret.Ref{Env: "FLEET_TEST_NO_SUCH"}, []string{"environment variable FLEET_TEST_NO_SUCH is not set"}},
		"file":                 {secret.Ref{File: closed}, nil},
		"open file":            {secret.Ref{File: open}, []string{"secret file " + open + " can be read by everybody (mode 0644): chmod 600 it"}},
		"no file":              {secret.Ref{File: dir + "/none"}, []string{"secret file " + dir + "/none does not exist"}},
		"age":                  {secret.Ref{Age: secret.Age{File: open, Identity: closed}}, nil},
		"open identity":        {secret.Ref{Age: secret.Age{File: dir + "/none", Identity: open}}, []string{"age identity " + open + " can be read", "age file " + dir + "/none does not exist"}},
		"program":              {command(t, program, "x"), nil},
		"program in PATH":      {command(t, "printf"), nil},
		"program not there":    {command(t, dir+"/none"), []string{"command " + dir + "/none cannot be started: no such file"}},
		"program not in PATH":  {command(t, "no-such-program-anywhere"), []string{"command no-such-program-anywhere cannot be started: executable file not found"}},
		"program of no leave":  {command(t, closed), []string{"command " + closed + " cannot be started: permission denied"}},
		"program of everybody": {command(t, anyones), []string{"command " + anyones + " can be changed by everybody (mode 0777)"}},
		"credential":           {secret.Ref{Credential: "closed"}, nil},
		"no credential":        {secret.Ref{Credential: "none"}, []string{"systemd credential none " + dir + "/none does not exist"}},
	} {
		got := c.ref.Warnings()
		if !slices.EqualFunc(got, c.want, strings.HasPrefix) {
			t.Errorf("%s: warns %q, want %q", name, got, c.want)
		}
	}
}

// What a job's snapshot holds is what the inventory held.
func TestRefsSurviveJSON(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ref  secret.Ref
		want string
	}{
		{secret.Ref{}, `{}`},
		{secret.Ref{Env: "A"}, `{"env":"A"}`},
		{secret.Ref{File: "/b"}, `{"file":"/b"}`},
		{secret.Ref{Age: secret.Age{File: "/c", Identity: "/d"}}, `{"age":{"file":"/c","identity":"/d"}}`},
		{command(t, "/bin/e", "", "f g"), `{"command":["/bin/e","","f g"]}`},
		{secret.Ref{Credential: "h"}, `{"credential":"h"}`},
	} {
		raw, err := json.Marshal(c.ref)
		if err != nil || string(raw) != c.want {
			t.Errorf("%#v is %s, %v; want %s", c.ref, raw, err, c.want)
		}
		var back secret.Ref
		if err := json.Unmarshal(raw, &back); err != nil || back != c.ref {
			t.Errorf("%s is read as %#v, %v", raw, back, err)
		}
	}
	for _, bad := range []string{`{"command":[]}`, `{"command":["\u0000"]}`, `{"command":["a","b\u0000c"]}`, `{"command":"a b"}`, `{"command":[""]}`} {
		var ref secret.Ref
		if err := json.Unmarshal([]byte(bad), &ref); err == nil {
			t.Errorf("%s is read as %#v", bad, ref)
		}
	}
	var ref secret.Ref
	if err := json.Unmarshal([]byte(`{"command":null}`), &ref); err != nil || !ref.IsZero() {
		t.Errorf("null is read as %#v, %v", ref, err)
	}
}

// FuzzRef: whatever is read as a Ref keeps its meaning through JSON, is named
// without its arguments, and resolving what is not valid is an error and no more.
func FuzzRef(f *testing.F) {
	f.Add([]byte(`{"command":["/bin/e","","f g"]}`))
	f.Add([]byte(`{"age":{"file":"/c","identity":"/d"}}`))
	f.Add([]byte(`{"env":"A","file":"b"}`))
	f.Add([]byte(`{"credential":"../h"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var ref secret.Ref
		if json.Unmarshal(raw, &ref) != nil {
			return
		}
		again, err := json.Marshal(ref)
		if err != nil {
			t.Fatal(err)
		}
		var back secret.Ref
		if err := json.Unmarshal(again, &back); err != nil || back != ref {
			t.Fatalf("%#v became %s became %#v: %v", ref, again, back, err)
		}
		if args := ref.Command.Args(); len(args) > 0 && ref.Validate() == nil && ref.String() != "command "+args[0] {
			t.Fatalf("%#v is named %s", ref, ref)
		}
		if ref.Validate() != nil {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := ref.Resolve(ctx); err == nil {
				t.Fatalf("resolved %#v", ref)
			}
		}
	})
}
