// Package secret keeps credentials out of everything that is printed.
//
// A String prints as "<secret>" in every verb of fmt, in JSON, in YAML and in
// slog; only Reveal gives the value, so that every use can be found by name. A
// Ref says where a secret is: an environment variable, a file, a file encrypted
// with age, a systemd credential, or what a program prints. Refs are what the
// inventory, the ledger and job snapshots hold; a value exists only between
// Resolve and the connection. A Resolver reads secrets for a whole fleet, so that
// a program is not started once for each device.
//
// The place is authoritative and is read again for each connection: a secret
// that was renewed there needs no restart. No error holds a value, nor anything
// that was read from a place.
package secret

import (
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what a String prints as.
const Redacted = "<secret>"

// maxValue bounds a secret, in bytes: keys are a few KiB.
const maxValue = 1 << 20

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
