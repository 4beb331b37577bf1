package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Ref says where a secret is. Exactly one place is set; the zero Ref means that
// there is none. Refs can be compared and be keys of a map. The JSON form is what
// a job's snapshot of a device holds.
type Ref struct {
	// Env names an environment variable of this process.
	Env string `json:"env,omitempty"`
	// File is a path, absolute after loading.
	File string `json:"file,omitempty"`
	// Age is a file encrypted with age (age-encryption.org/v1).
	Age Age `json:"age,omitzero"`
	// Command is a program that prints the secret.
	Command Command `json:"command,omitempty"`
	// Credential names a systemd credential (LoadCredential= and its kin).
	Credential string `json:"credential,omitempty"`
}

// IsZero reports whether the Ref names nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

// String names the place, never the value. Of a command it names the program
// alone: arguments are nobody's business but the program's.
func (r Ref) String() string {
	switch {
	case r.Env != "":
		return "environment variable " + r.Env
	case r.File != "":
		return "file " + r.File
	case r.Age != Age{}:
		return "age file " + r.Age.File
	case r.Command != "":
		return "command " + r.Command.Program()
	case r.Credential != "":
		return "systemd credential " + r.Credential
	default:
		return "no secret"
	}
}

// Validate reports a Ref that names no place, several, or half of one. It looks
// at nothing outside the Ref.
func (r Ref) Validate() error {
	places := 0
	for _, set := range []bool{r.Env != "", r.File != "", r.Age != Age{}, r.Command != "", r.Credential != ""} {
		if set {
			places++
		}
	}
	switch {
	case places == 0:
		return errors.New("no secret is configured")
	case places > 1:
		return errors.New("a secret has one of env, file, age, command and credential, not several")
	case r.Age != Age{} && (r.Age.File == "" || r.Age.Identity == ""):
		return errors.New("age needs both a file and an identity")
	case r.Command != "" && r.Command.Program() == "":
		return errors.New("the command has no program")
	case r.Credential != "":
		return CheckCredential(r.Credential)
	}
	return nil
}

// Resolve reads the secret. One trailing line end is taken off, as editors and
// programs add it. A place that is missing or empty is an error that names it: an
// empty password is nearly always a mistake.
//
// Only a command takes time; it ends with ctx, or after 30 seconds, and that
// error is a context.DeadlineExceeded to errors.Is. Where many want the same
// secret at once, use a Resolver.
func (r Ref) Resolve(ctx context.Context) (String, error) {
	if err := r.Validate(); err != nil {
		return String{}, err
	}
	if ctx.Err() != nil {
		return String{}, context.Cause(ctx)
	}
	var value []byte
	var err error
	switch {
	case r.Env != "":
		return fromEnvironment(r.Env)
	case r.File != "":
		value, err = readFile("secret file", r.File)
	case r.Age != Age{}:
		value, err = r.Age.decrypt()
	case r.Command != "":
		value, err = r.Command.run(ctx, commandTimeout)
	default:
		value, err = readCredential(r.Credential)
	}
	if err != nil {
		return String{}, err
	}
	value = bytes.TrimSuffix(bytes.TrimSuffix(value, []byte("\n")), []byte("\r"))
	if len(value) == 0 {
		return String{}, fmt.Errorf("the secret in %s is empty", r)
	}
	return New(string(value)), nil
}

func fromEnvironment(name string) (String, error) {
	v, ok := os.LookupEnv(name)
	switch {
	case !ok:
		return String{}, fmt.Errorf("environment variable %s is not set", name)
	case v == "":
		return String{}, fmt.Errorf("environment variable %s is empty", name)
	}
	return New(v), nil
}

// Warnings tells what will keep the secret from being read, and what lets others
// read it: one line each, none when all is well. No secret is read and no program
// started.
func (r Ref) Warnings() []string {
	var out []string
	note := func(problem string) {
		if problem != "" {
			out = append(out, problem)
		}
	}
	switch {
	case r.Env != "":
		if os.Getenv(r.Env) == "" {
			note(r.String() + " is not set or empty")
		}
	case r.File != "":
		note(private("secret file", r.File))
	case r.Age != Age{}:
		note(private("age identity", r.Age.Identity))
		note(present("age file", r.Age.File))
	case r.Command != "":
		note(r.Command.warning())
	case r.Credential != "":
		if path, err := credentialPath(r.Credential); err != nil {
			note(err.Error())
		} else {
			note(present(r.String(), path))
		}
	}
	return out
}

// Absolute makes relative paths absolute to dir and expands a leading ~/. The
// program of a command is a path when it holds a slash; its arguments are left as
// they are.
func (r Ref) Absolute(dir string) (Ref, error) {
	var failed error
	abs := func(path string) string {
		out, err := absolute(dir, path)
		if err != nil {
			failed = err
		}
		return out
	}
	r.File, r.Age.File, r.Age.Identity = abs(r.File), abs(r.Age.File), abs(r.Age.Identity)
	if args := r.Command.Args(); len(args) > 0 && isPath(args[0]) {
		args[0] = abs(args[0])
		command, err := NewCommand(args...)
		if err != nil {
			return r, err
		}
		r.Command = command
	}
	return r, failed
}

// isPath tells a program's path from a name to be looked up.
func isPath(program string) bool { return filepath.Base(program) != program }

func absolute(dir, path string) (string, error) {
	if path == "" {
		return "", nil
	}
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return path, fmt.Errorf("expand %s: %w", path, err)
		}
		path = filepath.Join(home, rest)
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	return path, nil
}

// lookup finds the program of a command. A bare name is searched in PATH, and
// never found in the current folder.
func lookup(program string) (string, error) {
	path, err := exec.LookPath(program)
	return path, bare(err)
}

// bare takes the name of the program or file from an error: the caller says it.
func bare(err error) error {
	if e, ok := errors.AsType[*exec.Error](err); ok {
		err = e.Err
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	}
	return err
}
