package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"capfleet/internal/fault"
)

// Context is a fleetd by name, as fleetctl's configuration file has it.
type Context struct {
	// Server is a socket's path or ssh://user@host[:port][/socket].
	Server string `yaml:"server"`
	// Output is the format of results where no flag names one; "" is the program's
	// own default.
	Output string `yaml:"output,omitempty"`
}

// Contexts is fleetctl's configuration file:
//
//	current: lab
//	contexts:
//	  lab: {server: ssh://joe@lab-hub, output: json}
//	  production: {server: ssh://joe@hub:2222/run/fleetd/fleetd.sock}
//
// It holds no secret: ssh logs in with the user's keys.
type Contexts struct {
	// Current is the context in force where nothing names another; "" is none.
	Current  string
	contexts map[string]Context
	path     string
	comments yaml.CommentMap
}

type contextsLayout struct {
	Current  string             `yaml:"current,omitempty"`
	Contexts map[string]Context `yaml:"contexts"`
}

// LoadContexts reads the file; one that does not exist has no contexts. What is
// wrong with it is fault.Invalid and names the place.
func LoadContexts(path string) (*Contexts, error) {
	const act = "read fleetctl's configuration"
	c := &Contexts{path: path, contexts: map[string]Context{}, comments: yaml.CommentMap{}}
	var l contextsLayout
	err := readYAML(path, act, &l, func() []string { return []string{"current", "contexts", "server", "output"} }, yaml.CommentToMap(c.comments))
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(l.Contexts)) {
		if err := c.Set(name, l.Contexts[name]); err != nil {
			return nil, &fault.Error{Kind: fault.Invalid, Act: act, Err: fmt.Errorf("%s: %w", path, err)}
		}
	}
	if l.Current != "" {
		if err := c.Use(l.Current); err != nil {
			return nil, &fault.Error{Kind: fault.Invalid, Act: act, Err: fmt.Errorf("%s: current: %w", path, err)}
		}
	}
	return c, nil
}

// Path is the file.
func (c *Contexts) Path() string { return c.path }

// Names gives the contexts in order.
func (c *Contexts) Names() []string { return slices.Sorted(maps.Keys(c.contexts)) }

// Get gives a context by its name, or fault.NotFound with those that there are.
func (c *Contexts) Get(name string) (Context, error) {
	have, ok := c.contexts[name]
	if ok {
		return have, nil
	}
	if len(c.contexts) == 0 {
		return Context{}, &fault.Error{Kind: fault.NotFound, Act: fmt.Sprintf("there is no context %q: %s has none", name, c.path),
			Next: "make one with: fleetctl context set NAME --server SERVER"}
	}
	return Context{}, fault.New(fault.NotFound, "there is no context %q (there are: %s)", name, strings.Join(c.Names(), ", "))
}

// Use makes a context the current one.
func (c *Contexts) Use(name string) error {
	if _, err := c.Get(name); err != nil {
		return err
	}
	c.Current = name
	return nil
}

// Set makes or replaces a context.
func (c *Contexts) Set(name string, ctx Context) error {
	const most = 64
	if name == "" || len(name) > most || !plainName(name) {
		return fault.New(fault.Invalid, "%q cannot be the name of a context: letters, digits and . _ - are possible, %d at most", name, most)
	}
	if ctx.Server == "" {
		return fault.New(fault.Invalid, "context %q has no server", name)
	}
	c.contexts[name] = ctx
	return nil
}

func plainName(name string) bool {
	for i, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_':
		case (r == '.' || r == '-') && i > 0:
		default:
			return false
		}
	}
	return true
}

// Remove takes a context away; when it was the current one there is none then.
func (c *Contexts) Remove(name string) error {
	if _, err := c.Get(name); err != nil {
		return err
	}
	delete(c.contexts, name)
	if c.Current == name {
		c.Current = ""
	}
	return nil
}

// Encode gives the file's new content, with the comments that it had.
func (c *Contexts) Encode() ([]byte, error) {
	out, err := yaml.MarshalWithOptions(contextsLayout{Current: c.Current, Contexts: c.contexts}, yaml.WithComment(c.comments))
	return out, fault.Wrap(fault.Internal, "write fleetctl's configuration", err)
}
