package device

import (
	"path"
	"regexp"
	"strings"
	"sync"
)

// memo keeps what packages have worked out from a definition, so that patterns
// are compiled once for a definition and not once for a device.
type memo struct {
	owner *Definition // a copied definition must not use what was made for the original
	mu    sync.Mutex
	made  map[any]any
}

func newMemo(d *Definition) *memo { return &memo{owner: d, made: make(map[any]any)} }

// Derived gives what build makes of d, calling it once for each key of a loaded
// definition. As with context keys, the key's type should be the caller's own.
// build must be a function of d alone; its result is shared between goroutines.
// For a definition that was not loaded but put together by hand, build is called
// each time.
func Derived[T any](d *Definition, key any, build func(*Definition) (T, error)) (T, error) {
	if d.memo == nil || d.memo.owner != d {
		return build(d)
	}
	d.memo.mu.Lock()
	defer d.memo.mu.Unlock()
	if have, ok := d.memo.made[key].(T); ok {
		return have, nil
	}
	made, err := build(d)
	if err == nil {
		d.memo.made[key] = made
	}
	return made, err
}

// ModeNames lists the modes from least to most privileged.
func (d *Definition) ModeNames() []string {
	names := make([]string, len(d.Shell.Modes))
	for i, m := range d.Shell.Modes {
		names[i] = m.Name
	}
	return names
}

// shellMeta are the characters with which a line of a read-only command could
// bring another command along, in a POSIX shell or in tmsh.
const shellMeta = ";&|<>$`(){}\\\"'"

// IsReadOnly reports whether line is one of the platform's read-only commands: it
// matches one of the globs, in which * stands for anything. A line with a
// character that could chain or substitute another command never is, whatever
// the globs say.
func (d *Definition) IsReadOnly(line string) bool {
	if strings.ContainsAny(line, shellMeta) || !printable(line) {
		return false
	}
	line = strings.Join(strings.Fields(line), " ")
	// path.Match keeps * from crossing a slash, which means nothing here.
	const slash = "\x00"
	line = strings.ReplaceAll(line, "/", slash)
	for _, g := range d.ReadOnly {
		if ok, err := path.Match(strings.ReplaceAll(g, "/", slash), line); err == nil && ok {
			return true
		}
	}
	return false
}

type refusalKey struct{}

// Refusal gives the line with which the device refused a command, or "". The
// family of command lines that is meant prints its error first or last, so only
// the first and the last line with text are looked at: a log that is shown may
// well hold a line which begins like an error.
func (d *Definition) Refusal(output string) string {
	exprs, err := Derived(d, refusalKey{}, func(d *Definition) ([]*regexp.Regexp, error) {
		res := make([]*regexp.Regexp, 0, len(d.Shell.Errors))
		for _, e := range d.Shell.Errors {
			re, err := regexp.Compile(e)
			if err != nil {
				return nil, err
			}
			res = append(res, re)
		}
		return res, nil
	})
	if err != nil {
		return "" // cannot be: LoadDefinition compiled them
	}
	text := strings.Trim(output, " \t\r\n")
	first, _, _ := strings.Cut(text, "\n")
	last := text[strings.LastIndexByte(text, '\n')+1:]
	for _, line := range []string{first, last} {
		line = strings.TrimRight(line, " \t\r")
		for _, re := range exprs {
			if line != "" && re.MatchString(line) {
				return line
			}
		}
	}
	return ""
}
