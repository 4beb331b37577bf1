package override

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"capfleet/internal/fault"
	"capfleet/internal/parse"
	"capfleet/internal/report"
)

// Bounds of what is written; real templates and samples have a few KiB.
const (
	maxTemplate = 1 << 20
	maxSample   = 8 << 20
)

// Template is a template in force.
type Template struct {
	Name       string // platform/template
	Text       string
	Overridden bool
	// File is where the override is or would go; "" when there is no folder for them.
	File   string
	SHA256 string // of Text, 64 hexadecimal digits
}

// Change is a template to put into force.
type Change struct {
	Name string
	Text string
	// Base is the SHA256 of the template that the text was made from. When another
	// one is in force by now the change is refused as fault.Conflict. "" takes
	// whatever is there.
	Base string
	// Sample is what the template is for: it must be read without an error.
	Sample *Sample
}

// Sample is an output with where it is from.
type Sample struct {
	Case   string // name of its folder
	Raw    string
	Origin string
}

// Saved is a change that was made.
type Saved struct {
	Template Template
	Rows     int    // that the sample gives
	Sample   string // the sample's folder; "" without one
	Previous string // where the override that was there is now; "" for none
	// Warnings tell what the template does not read as before, and what is odd in it.
	Warnings []string
}

// Store is the overrides folder. It is safe for concurrent use by one process.
type Store struct {
	dir string
	lib *parse.Library

	writing sync.Mutex
}

// New gives the store of a folder, which need not exist; "" is none, and then
// nothing can be put.
func New(dir string) *Store { return &Store{dir: dir, lib: parse.NewLibrary(dir)} }

// A name is a platform and a template: nothing that could leave the folder.
var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9_]{0,63}/[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

var validCase = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

func checkName(name string) error {
	if !validName.MatchString(name) {
		return &fault.Error{Kind: fault.Invalid, Act: fmt.Sprintf("%q is no name of a template", fault.Clip(name, 80)), Next: "write platform/template, such as endace_osm/filesystem"}
	}
	return nil
}

// Template gives the template in force, which need not be a good one; where there
// is none, fault.NotFound.
func (s *Store) Template(name string) (Template, error) {
	if err := checkName(name); err != nil {
		return Template{}, err
	}
	src, err := s.lib.ReadFile(name + parse.Extension)
	if err != nil {
		return Template{}, err
	}
	return Template{Name: name, Text: string(src), Overridden: s.lib.Overridden(name + parse.Extension),
		File: s.lib.OverridePath(name + parse.Extension), SHA256: digest(src)}, nil
}

// Put checks a template and its sample and puts them into force. An error leaves
// everything as it was.
func (s *Store) Put(ctx context.Context, c Change) (Saved, error) {
	if err := checkName(c.Name); err != nil {
		return Saved{}, err
	}
	if s.dir == "" {
		return Saved{}, &fault.Error{Kind: fault.Unsupported, Act: "save template " + c.Name, Err: errors.New("this fleetd has no folder for overrides"),
			Next: "start fleetd with --overrides DIR"}
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	was, err := s.Template(c.Name)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return Saved{}, err
	}
	if c.Base != "" && c.Base != was.SHA256 {
		return Saved{}, &fault.Error{Kind: fault.Conflict, Act: "save template " + c.Name, Err: errors.New("it has been changed since it was read"),
			Next: "start again from the one in force"}
	}
	out, err := s.check(ctx, c, was)
	if err != nil {
		return Saved{}, err
	}
	if err := s.write(c, was, &out); err != nil {
		return Saved{}, err
	}
	out.Template, err = s.Template(c.Name)
	return out, err
}

// check tries a change without writing anything.
func (s *Store) check(ctx context.Context, c Change, was Template) (Saved, error) {
	var out Saved
	if len(c.Text) > maxTemplate {
		return out, fault.New(fault.TooLarge, "the template is larger than %d bytes", maxTemplate)
	}
	t, err := parse.Compile(c.Name, []byte(c.Text))
	if err != nil {
		return out, err
	}
	for _, f := range parse.Lint(c.Name, []byte(c.Text)) {
		out.Warnings = append(out.Warnings, f.String())
	}
	if c.Sample != nil {
		if out.Rows, err = tryOwn(ctx, t, c.Sample); err != nil {
			return out, err
		}
	}
	if err := s.checkLayout(c); err != nil {
		return out, err
	}
	lost, err := s.lost(ctx, c, was, t)
	out.Warnings = append(out.Warnings, lost...)
	return out, err
}

// tryOwn runs the template on the sample that it is for.
func tryOwn(ctx context.Context, t *parse.Template, sample *Sample) (int, error) {
	switch {
	case !validCase.MatchString(sample.Case):
		return 0, fault.New(fault.Invalid, "%q is no name of a sample: letters, digits, _ and - are expected", fault.Clip(sample.Case, 80))
	case len(sample.Raw) > maxSample:
		return 0, fault.New(fault.TooLarge, "the sample is larger than %d bytes", maxSample)
	}
	rows, err := t.Parse(ctx, strings.NewReader(sample.Raw))
	if err != nil {
		return 0, err
	}
	return len(rows), nil
}

// checkLayout reads the platform's layout with the new template in place of the
// one in force, in a folder of its own.
func (s *Store) checkLayout(c Change) (err error) {
	platform, _, _ := strings.Cut(c.Name, "/")
	trial, err := os.MkdirTemp("", "fleetd-override-*")
	if err != nil {
		return fault.Wrap(fault.Storage, "try the template", err)
	}
	defer func() {
		if rerr := os.RemoveAll(trial); err == nil && rerr != nil {
			err = fault.Wrap(fault.Storage, "try the template", rerr)
		}
	}()
	// What the operator overrides of the platform already counts as well.
	own, err := filepath.Glob(filepath.Join(s.dir, "templates", platform, "*"))
	if err != nil {
		return fault.Wrap(fault.Internal, "list overrides", err)
	}
	to := filepath.Join(trial, "templates", platform)
	if err := os.MkdirAll(to, 0o700); err != nil {
		return fault.Wrap(fault.Storage, "try the template", err)
	}
	for _, file := range own {
		if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return fault.Wrap(fault.Storage, "read override", err)
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(file)), text, 0o600); err != nil {
			return fault.Wrap(fault.Storage, "try the template", err)
		}
	}
	if err := os.WriteFile(filepath.Join(trial, "templates", filepath.FromSlash(c.Name)+parse.Extension), []byte(c.Text), 0o600); err != nil {
		return fault.Wrap(fault.Storage, "try the template", err)
	}
	err = report.Check(parse.NewLibrary(trial), platform)
	if fault.Is(err, fault.NotFound) {
		return nil // a template of a platform without reports
	}
	if err != nil {
		// The name of the trial folder tells nobody anything.
		return &fault.Error{Kind: fault.KindOf(err), Act: "use the template in " + platform + "/reports.yaml", Stage: "layout", Err: cause(err),
			Next: "keep the Value names that reports.yaml asks for, or override reports.yaml first"}
	}
	return nil
}

// cause is the error below the one that names a file.
func cause(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}

// write puts sample and template in place, the template last: it is what counts.
func (s *Store) write(c Change, was Template, out *Saved) error {
	file := s.lib.OverridePath(c.Name + parse.Extension)
	if c.Sample != nil {
		platform, template, _ := strings.Cut(c.Name, "/")
		dir := filepath.Join(s.dir, "templates", platform, "samples", template, c.Sample.Case)
		if err := writeSample(dir, c); err != nil {
			return err
		}
		out.Sample = dir
	}
	if was.Overridden && was.Text != c.Text {
		out.Previous = file + ".previous"
		if err := writeFile(out.Previous, []byte(was.Text)); err != nil {
			return err
		}
	}
	return writeFile(file, []byte(c.Text))
}

// writeFile writes a file by way of a temporary name, durably.
func writeFile(name string, data []byte) error {
	const act = "save override"
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // as an operator would make it: no secret is in there
		return fault.Wrap(fault.Storage, act, err)
	}
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return fault.Wrap(fault.Storage, act, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fault.Wrap(fault.Storage, act, errors.Join(err, ignoreMissing(os.Remove(f.Name()))))
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// sameText compares texts without regard to how their lines end.
func sameText(a, b []byte) bool {
	crlf := []byte("\r\n")
	return bytes.Equal(bytes.ReplaceAll(a, crlf, []byte("\n")), bytes.ReplaceAll(b, crlf, []byte("\n")))
}
