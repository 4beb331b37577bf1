package parse

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"capfleet/internal/fault"
	"capfleet/templates"
)

// Extension of template files. A template is named without it.
const Extension = ".textfsm"

// Library finds templates and the files beside them: an operator's own first, then
// the built-in ones. Each is compiled once; an override that changed is read again
// without a restart. It is safe for concurrent use.
type Library struct {
	overrides string // a folder, "" for none

	mu    sync.Mutex
	cache map[string]cached
}

type cached struct {
	src      []byte
	template *Template
	err      error
}

// NewLibrary gives the library of an overrides folder, whose subfolder
// "templates" mirrors the built-in tree (endace_osm/filesystem.textfsm). With ""
// there are the built-in templates only.
func NewLibrary(overrideDir string) *Library {
	l := &Library{cache: map[string]cached{}}
	if overrideDir != "" {
		l.overrides = filepath.Join(overrideDir, "templates")
	}
	return l
}

// Template gives a template by its path in the tree, with or without the
// extension: "endace_osm/filesystem".
func (l *Library) Template(path string) (*Template, error) {
	name := strings.TrimSuffix(path, Extension)
	src, err := l.ReadFile(name + Extension)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if have, ok := l.cache[name]; ok && bytes.Equal(have.src, src) {
		return have.template, have.err
	}
	t, err := Compile(name, src)
	l.cache[name] = cached{src: src, template: t, err: err}
	return t, err
}

// ReadFile gives a file of the tree: the override where there is one. A file that
// exists nowhere is fault.NotFound; an override that cannot be read is an error and
// never falls back, or its owner would not notice.
func (l *Library) ReadFile(path string) ([]byte, error) {
	if !fs.ValidPath(path) {
		return nil, fault.New(fault.Invalid, "%q is not a path in the template tree (write platform/name)", path)
	}
	if l.overrides != "" {
		src, err := os.ReadFile(l.OverridePath(path))
		if err == nil {
			return src, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fault.Wrap(fault.Invalid, "read override", err)
		}
	}
	src, err := fs.ReadFile(templates.FS, path)
	if err != nil {
		return nil, &fault.Error{Kind: fault.NotFound, Act: "read " + path, Err: fmt.Errorf("no such file among the templates"), Next: "the templates are listed in templates/README.md"}
	}
	return src, nil
}

// OverridePath is where an operator's own version of a file of the tree goes, or
// "" when the library has no overrides folder.
func (l *Library) OverridePath(path string) string {
	if l.overrides == "" {
		return ""
	}
	return filepath.Join(l.overrides, filepath.FromSlash(path))
}

// Overridden reports whether the operator has an own version of the file.
func (l *Library) Overridden(path string) bool {
	if l.overrides == "" {
		return false
	}
	_, err := os.Stat(l.OverridePath(path))
	return err == nil
}

// Names gives the paths of all templates, built in and overriding, sorted, without
// extension.
func (l *Library) Names() ([]string, error) {
	seen := map[string]bool{}
	collect := func(fsys fs.FS) error {
		return fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if name, ok := strings.CutSuffix(path, Extension); ok && !d.IsDir() {
				seen[name] = true
			}
			return nil
		})
	}
	if err := collect(templates.FS); err != nil {
		return nil, fault.Wrap(fault.Internal, "list templates", err)
	}
	if l.overrides != "" {
		if err := collect(os.DirFS(l.overrides)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fault.Wrap(fault.Invalid, "list override templates", err)
		}
	}
	return slices.Sorted(maps.Keys(seen)), nil
}
