// Package secret keeps credentials out of everything that is printed.
//
// A String prints as "<secret>" in every verb of fmt, in JSON, in YAML and in
// slog; only Reveal gives the value, so that every use can be found by name. A
// Ref says where a secret is. Refs are what the inventory, the ledger and job
// snapshots hold; a value exists only between Resolve and the connection.
package secret

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// Redacted is what a String prints as.
const Redacted = "<secret>"

// maxFile bounds what is read from a secret file: keys are a few KiB.
const maxFile = 1 << 20

// String is a secret value. The zero String holds none.
type String struct {
	// A pointer, because fmt cannot call Format on a String in an unexported field
	// of another struct and would print the field itself: so it prints an address.
	v *string
}

// New makes a String.
func New(v string) String { return String{&v} }

// Reveal gives the value.
func (s String) Reveal() string {
	if s.v == nil {
		return ""
	}
	return *s.v
}

// Empty reports whether there is no value.
func (s String) Empty() bool { return s.Reveal() == "" }

// String implements fmt.Stringer.
func (s String) String() string { return Redacted }

// GoString implements fmt.GoStringer.
func (s String) GoString() string { return Redacted }

// Format implements fmt.Formatter, so that no verb reaches the field.
func (s String) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// MarshalText covers JSON, YAML and everything else that asks for text.
func (s String) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// LogValue implements slog.LogValuer.
func (s String) LogValue() slog.Value { return slog.StringValue(Redacted) }

// Ref says where a secret is: in an environment variable or in a file. Exactly
// one is set; the zero Ref means that there is none.
type Ref struct {
	Env  string `json:"env,omitempty" yaml:"env,omitempty"`
	File string `json:"file,omitempty" yaml:"file,omitempty"` // absolute after loading
}

// IsZero reports whether the Ref names nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

// String names the place, never the value.
func (r Ref) String() string {
	switch {
	case r.Env != "":
		return "environment variable " + r.Env
	case r.File != "":
		return "file " + r.File
	default:
		return "no secret"
	}
}

// Resolve reads the secret. One trailing line end is taken off, as editors add
// it. A variable that is unset or empty, and a file that is empty, is an error
// that names the place: an empty password is nearly always a mistake.
func (r Ref) Resolve() (String, error) {
	switch {
	case r.Env != "" && r.File != "":
		return String{}, errors.New("a secret has env or file, not both")
	case r.Env != "":
		v, ok := os.LookupEnv(r.Env)
		if !ok {
			return String{}, fmt.Errorf("environment variable %s is not set", r.Env)
		}
		if v == "" {
			return String{}, fmt.Errorf("environment variable %s is empty", r.Env)
		}
		return New(v), nil
	case r.File != "":
		b, err := readFile(r.File)
		if err != nil {
			return String{}, err
		}
		b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
		if len(b) == 0 {
			return String{}, fmt.Errorf("secret file %s is empty", r.File)
		}
		return New(string(b)), nil
	default:
		return String{}, errors.New("no secret is configured")
	}
}

// Permissions reports a file that people other than its owner and group can
// read; the inventory's check turns it into a warning. nil for env and for
// platforms without modes.
func (r Ref) Permissions() error {
	if r.File == "" {
		return nil
	}
	st, err := os.Stat(r.File)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("secret file %s does not exist", r.File)
	}
	if err != nil {
		return err
	}
	if st.Mode().Perm()&0o007 != 0 {
		return fmt.Errorf("secret file %s can be read by everybody (mode %04o): chmod 600 it", r.File, st.Mode().Perm())
	}
	return nil
}

// Absolute makes a relative file absolute to dir and expands a leading ~/.
func (r Ref) Absolute(dir string) (Ref, error) {
	if r.File == "" {
		return r, nil
	}
	f := r.File
	if rest, ok := strings.CutPrefix(f, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return r, fmt.Errorf("expand %s: %w", f, err)
		}
		f = filepath.Join(home, rest)
	}
	if !filepath.IsAbs(f) {
		f = filepath.Join(dir, f)
	}
	r.File = f
	return r, nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("secret file %s is larger than %d bytes", name, maxFile)
	}
	return b, nil
}
