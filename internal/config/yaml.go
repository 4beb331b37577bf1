package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"capfleet/internal/fault"
	"capfleet/internal/hint"
)

// maxFile bounds a configuration file.
const maxFile = 1 << 20

// readYAML reads a file strictly. An error is fault.Invalid with the position in
// the file; for a key that is not known it names the nearest, or lists all.
func readYAML(path, act string, into any, known func() []string, opts ...yaml.DecodeOption) error {
	f, err := os.Open(path)
	if err != nil {
		return &fault.Error{Kind: fault.Invalid, Act: act, Err: err}
	}
	defer func() { _ = f.Close() }()
	src, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return &fault.Error{Kind: fault.Invalid, Act: act, Err: err}
	}
	if len(src) > maxFile {
		return &fault.Error{Kind: fault.TooLarge, Act: act, Err: fmt.Errorf("%s is larger than %d bytes", path, maxFile)}
	}
	if err := decode(src, into, opts...); err != nil {
		return &fault.Error{Kind: fault.Invalid, Act: act, Err: positioned(path, err, known)}
	}
	return nil
}

// decode reads strictly. The library has panicked on odd input before.
func decode(src []byte, into any, opts ...yaml.DecodeOption) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the file cannot be read as YAML: %v", p)
		}
	}()
	err = yaml.UnmarshalWithOptions(src, into, append(opts, yaml.Strict())...)
	if errors.Is(err, io.EOF) { // an empty file
		return nil
	}
	return err
}

// positioned puts the library's error into the form path:line:column: text.
func positioned(path string, err error, known func() []string) error {
	var at yaml.Error
	if !errors.As(err, &at) || at.GetToken() == nil || at.GetToken().Position == nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	message := at.GetMessage()
	var unknown *yaml.UnknownFieldError
	if errors.As(err, &unknown) {
		help := "known: " + strings.Join(known(), ", ")
		if near, ok := hint.Nearest(at.GetToken().Value, slices.Values(known())); ok {
			help = "did you mean " + near + "?"
		}
		message = fmt.Sprintf("unknown key %.80q (%s)", at.GetToken().Value, help)
	}
	pos := at.GetToken().Position
	return fmt.Errorf("%s:%d:%d: %s", path, pos.Line, pos.Column, message)
}
