package ansible

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"capfleet/internal/fault"
)

// readINI reads Ansible's INI form: sections of hosts, [group:vars] and
// [group:children].
func readINI(src string) (*Inventory, error) {
	inv := newInventory()
	section, kind := ungrouped, "hosts"
	number := 0
	fail := func(format string, args ...any) error {
		return fault.New(fault.Invalid, "line %d: %s", number, fmt.Sprintf(format, args...))
	}
	for line := range strings.Lines(src) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			name, rest, ok := strings.Cut(line[1:], "]")
			if rest = strings.TrimSpace(rest); !ok || name == "" || rest != "" && rest[0] != '#' && rest[0] != ';' {
				return nil, fail("%s is no section", strconv.Quote(line))
			}
			section, kind, _ = strings.Cut(name, ":")
			if kind == "" {
				kind = "hosts"
			}
			if kind != "hosts" && kind != "vars" && kind != "children" {
				return nil, fail("a section is [group], [group:vars] or [group:children], not %s", strconv.Quote(name))
			}
			inv.group(section)
			continue
		}
		g := inv.group(section)
		switch kind {
		case "vars":
			name, text, ok := strings.Cut(line, "=")
			if !ok {
				return nil, fail("%s is no variable: name=value is expected", strconv.Quote(line))
			}
			g.vars[strings.TrimSpace(name)] = value{text: unquote(strings.TrimSpace(text))}
		case "children":
			words, err := words(line)
			if err != nil || len(words) != 1 {
				return nil, fail("the name of one group is expected")
			}
			inv.group(words[0])
			g.addChild(words[0])
		default:
			if err := inv.hostLine(g, line); err != nil {
				return nil, fail("%v", err)
			}
		}
	}
	return inv, nil
}

// hostLine is a pattern of names, then variables.
func (inv *Inventory) hostLine(g *group, line string) error {
	words, err := words(line)
	if err != nil {
		return err
	}
	if len(words) == 0 {
		return nil
	}
	vars := map[string]value{}
	for _, w := range words[1:] {
		name, text, ok := strings.Cut(w, "=")
		if !ok {
			return fmt.Errorf("%q is no variable: name=value is expected", w)
		}
		vars[name] = value{text: text}
	}
	return inv.addPattern(g, words[0], vars)
}

// addPattern adds the hosts of a pattern such as www[01:50].example.com:2222.
func (inv *Inventory) addPattern(g *group, pattern string, vars map[string]value) error {
	pattern, port := cutPort(pattern)
	names, err := expand(pattern)
	if err != nil {
		return err
	}
	for _, name := range names {
		h, err := inv.addHost(name, g)
		if err != nil {
			return err
		}
		if port != "" {
			h.vars["ansible_port"] = value{text: port}
		}
		for k, v := range vars {
			h.vars[k] = v
		}
	}
	return nil
}

var (
	withPort   = regexp.MustCompile(`^((?:[^:\[\]]|\[[^\]]*\])+):(\d+)$`)
	bracketed6 = regexp.MustCompile(`^\[([0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)\](?::(\d+))?$`)
	rangeForm  = regexp.MustCompile(`\[([0-9A-Za-z]+):([0-9A-Za-z]+)(?::([0-9]+))?\]`)
)

// cutPort takes a port off a name; of an IPv6 address only in brackets.
func cutPort(pattern string) (name, port string) {
	if m := bracketed6.FindStringSubmatch(pattern); m != nil {
		return m[1], m[2]
	}
	if m := withPort.FindStringSubmatch(pattern); m != nil {
		return m[1], m[2]
	}
	return pattern, ""
}

// expand gives the names of a pattern with ranges, [01:50] or [a:f], with a step as
// third number.
func expand(pattern string) ([]string, error) {
	at := rangeForm.FindStringSubmatchIndex(pattern)
	if at == nil {
		return []string{pattern}, nil
	}
	from, to, step := pattern[at[2]:at[3]], pattern[at[4]:at[5]], 1
	if at[6] >= 0 {
		n, err := strconv.Atoi(pattern[at[6]:at[7]])
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q has a bad step", pattern)
		}
		step = n
	}
	items, err := items(from, to, step)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", pattern, err)
	}
	rest, err := expand(pattern[at[1]:])
	if err != nil {
		return nil, err
	}
	if len(items)*len(rest) > maxHosts {
		return nil, fmt.Errorf("%q stands for more than %d hosts", pattern, maxHosts)
	}
	var out []string
	for _, item := range items {
		for _, end := range rest {
			out = append(out, pattern[:at[0]]+item+end)
		}
	}
	return out, nil
}

func items(from, to string, step int) ([]string, error) {
	var out []string
	first, err1 := strconv.Atoi(from)
	last, err2 := strconv.Atoi(to)
	switch {
	case err1 == nil && err2 == nil:
		width := 0
		if from[0] == '0' && len(from) > 1 {
			if width = len(from); len(to) != width {
				return nil, fmt.Errorf("the ends of a range with leading zeros must have as many digits")
			}
		}
		if (last-first)/step >= maxHosts {
			return nil, fmt.Errorf("the range is too long")
		}
		for n := first; n <= last; n += step {
			out = append(out, fmt.Sprintf("%0*d", width, n))
		}
	case len(from) == 1 && len(to) == 1 && err1 != nil && err2 != nil:
		for c := int(from[0]); c <= int(to[0]); c += step {
			out = append(out, string(rune(c)))
		}
	default:
		return nil, fmt.Errorf("a range goes from number to number or from letter to letter")
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the range ends before it begins")
	}
	return out, nil
}

// words splits a line as a shell would, without expanding anything; # begins a
// comment.
func words(line string) ([]string, error) {
	var out []string
	var word strings.Builder
	inWord := false
	quote := byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == '"' && c == '\\' && i+1 < len(line) && (line[i+1] == '"' || line[i+1] == '\\'):
			i++
			word.WriteByte(line[i])
		case quote != 0:
			word.WriteByte(c)
		case c == '\'' || c == '"':
			quote, inWord = c, true
		case c == '\\' && i+1 < len(line):
			i++
			word.WriteByte(line[i])
			inWord = true
		case c == '#':
			i = len(line)
		case c == ' ' || c == '\t':
			if inWord {
				out = append(out, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote is not closed")
	}
	if inWord {
		out = append(out, word.String())
	}
	return out, nil
}

// unquote takes off the quotes of a Python string, as group variables may have
// them.
func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '\'' || s[0] == '"') && s[len(s)-1] == s[0] && strings.IndexByte(s[1:len(s)-1], s[0]) < 0 {
		return s[1 : len(s)-1]
	}
	return s
}
