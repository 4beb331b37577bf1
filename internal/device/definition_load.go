package device

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"capfleet/internal/fault"
)

// maxDefinition bounds a definition file; the built-in ones have a few KiB.
const maxDefinition = 1 << 20

// maxDepth bounds the nesting of a definition file. The schema has four levels.
const maxDepth = 12

// OverrideFile is where an operator's own definition of a platform is looked
// for below the override directory.
func OverrideFile(dir, platform string) string {
	return filepath.Join(dir, "platforms", platform+".yaml")
}

// LoadPlatform gives the definition of a platform that is in force: the
// operator's file in the override directory where there is one, else the
// built-in source. dir may be empty. An override that is damaged or that
// describes another platform is an error, never silently left aside.
func LoadPlatform(dir, platform string, builtin []byte) (*Definition, error) {
	src, source := builtin, BuiltIn
	if dir != "" {
		name := OverrideFile(dir, platform)
		b, err := readDefinition(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, &fault.Error{Kind: fault.Invalid, Act: "read the definition of " + platform, Err: err}
		default:
			src, source = b, name
		}
	}
	d, err := LoadDefinition(src, source)
	if err != nil {
		return nil, err
	}
	if d.Platform != platform {
		return nil, &fault.Error{Kind: fault.Invalid, Act: "load " + source,
			Err: fmt.Errorf("platform is %q, but the file stands for %s", d.Platform, platform)}
	}
	return d, nil
}

// BuiltIn is the Source of the definitions that come with the program.
const BuiltIn = "built in"

func readDefinition(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxDefinition+1))
}

// LoadDefinition reads a platform definition and checks all of it: unknown keys,
// patterns that do not compile, modes that cannot be reached, examples that
// match no mode or two. source names the file in errors, which have the form
// "source:line:column: what is wrong" and are of kind fault.Invalid.
func LoadDefinition(src []byte, source string) (*Definition, error) {
	fail := func(err error) (*Definition, error) {
		return nil, &fault.Error{Kind: fault.Invalid, Act: "load platform definition", Err: err,
			Next: "docs/operations.md says how to correct a definition"}
	}
	if len(src) > maxDefinition {
		return fail(fmt.Errorf("%s: larger than %d bytes", source, maxDefinition))
	}
	root, err := parseYAML(src)
	if err != nil {
		return fail(fmt.Errorf("%s: %w", source, err))
	}
	c := checker{source: source, root: root}
	d := &Definition{Source: source}
	if err := c.decode(root, d); err != nil {
		return fail(err)
	}
	if err := c.check(d); err != nil {
		return fail(err)
	}
	if d.Shell.TerminalWidth == 0 {
		d.Shell.TerminalWidth = defaultTerminalWidth
	}
	if d.Shell.TerminalHeight == 0 {
		d.Shell.TerminalHeight = defaultTerminalHeight
	}
	d.memo = newMemo(d)
	return d, nil
}

// A wide terminal keeps command lines from wrapping in their echo; a high one
// keeps pagers rare where they could not be switched off.
const (
	defaultTerminalWidth  = 511
	defaultTerminalHeight = 999
)

// parseYAML gives the root mapping of the one document in src.
func parseYAML(src []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(src))
	var doc, second yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, errors.New("the file is empty")
	case err != nil:
		return nil, yamlError(err)
	}
	switch err := dec.Decode(&second); {
	case err == nil:
		return nil, fmt.Errorf("line %d: a second document: a definition is one document", second.Line)
	case !errors.Is(err, io.EOF):
		return nil, yamlError(err)
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: a definition is a mapping (key: value)", root.Line)
	}
	if n := tooDeep(root, maxDepth); n != nil {
		return nil, fmt.Errorf("line %d: nested deeper than a definition ever is, or an alias (*): write the text out", n.Line)
	}
	return root, nil
}

func yamlError(err error) error { return errors.New(strings.TrimPrefix(err.Error(), "yaml: ")) }

// tooDeep gives a node below the allowed depth. Aliases count as such: a
// definition has no use for them, and without them decoding is linear in size.
func tooDeep(n *yaml.Node, depth int) *yaml.Node {
	if depth == 0 || n.Kind == yaml.AliasNode {
		return n
	}
	for _, c := range n.Content {
		if bad := tooDeep(c, depth-1); bad != nil {
			return bad
		}
	}
	return nil
}

// at finds the node that a path of keys and indexes leads to, or the nearest one
// above it that is there.
func at(root *yaml.Node, path ...any) *yaml.Node {
	n := root
	for _, step := range path {
		next := (*yaml.Node)(nil)
		switch step := step.(type) {
		case string:
			for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == step {
					next = n.Content[i+1]
				}
			}
		case int:
			if n.Kind == yaml.SequenceNode && step < len(n.Content) {
				next = n.Content[step]
			}
		}
		if next == nil {
			break
		}
		n = next
	}
	return n
}

// pathText writes a path as people write it: shell.modes[1].pattern.
func pathText(path []any) string {
	var b strings.Builder
	for _, step := range path {
		switch step := step.(type) {
		case string:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(step)
		case int:
			fmt.Fprintf(&b, "[%d]", step)
		}
	}
	return b.String()
}

// modeIndex gives the place of a mode by its name, or -1.
func (s *ShellDefinition) modeIndex(name string) int {
	return slices.IndexFunc(s.Modes, func(m Mode) bool { return m.Name == name })
}
