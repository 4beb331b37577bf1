package inventory

import (
	"go.yaml.in/yaml/v3"

	"capfleet/internal/secret"
)

// whereSecrets says what may stand in the place of a secret.
const whereSecrets = "{env: VARIABLE}, {file: PATH}, {credential: NAME}, {age: {file: PATH, identity: PATH}} or {command: [PROGRAM, ARGUMENT]}"

// secret reads where a secret is. Nothing that stands in the place of one is
// ever repeated in an error: it may be the secret.
func (s *schema) secret(n *yaml.Node, what string) secret.Ref {
	at := placeOfNode(n)
	if resolve(n).Kind != yaml.MappingNode {
		s.add(at, "%s must say where the secret is: %s; a secret itself is never written into the inventory", what, whereSecrets)
		return secret.Ref{}
	}
	var ref secret.Ref
	places := 0
	ok := s.parts(n, what, whereSecrets, map[string]func(*yaml.Node, string) bool{
		"env": func(v *yaml.Node, what string) bool {
			t, ok := s.scalar(v, what)
			if ok && !isVariable(t.value) {
				s.add(t.at, "%s is not the name of an environment variable (letters, digits and _)", what)
				return false
			}
			ref.Env = t.value
			places++
			return ok
		},
		"file": func(v *yaml.Node, what string) bool {
			places++
			return s.pathOf(v, what, &ref.File)
		},
		"credential": func(v *yaml.Node, what string) bool {
			t, ok := s.scalar(v, what)
			if ok {
				if err := secret.CheckCredential(t.value); err != nil {
					s.add(t.at, "%s: %v", what, err)
					return false
				}
			}
			ref.Credential = t.value
			places++
			return ok
		},
		"age": func(v *yaml.Node, what string) bool {
			places++
			return s.age(v, what, &ref.Age)
		},
		"command": func(v *yaml.Node, what string) bool {
			places++
			return s.command(v, what, &ref.Command)
		},
	})
	if ok && places != 1 {
		s.add(at, "%s: exactly one place is expected: %s", what, whereSecrets)
		ok = false
	}
	if !ok {
		return secret.Ref{}
	}
	return ref
}

// parts calls the reader of each key of a mapping. It is mapping for what may hold
// a secret by mistake: no key is repeated that is not among the known ones.
func (s *schema) parts(n *yaml.Node, what, wanted string, readers map[string]func(v *yaml.Node, what string) bool) bool {
	n = resolve(n)
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		read, known := readers[k.Value]
		switch {
		case !known:
			s.add(placeOfNode(k), "%s: unknown key: %s is expected", what, wanted)
			return false
		case seen[k.Value]:
			s.add(placeOfNode(k), "%s: %s is given twice", what, k.Value)
			return false
		}
		seen[k.Value] = true
		if !read(v, what+": "+k.Value) {
			return false
		}
	}
	return true
}

func (s *schema) pathOf(n *yaml.Node, what string, into *string) bool {
	t, ok := s.scalar(n, what)
	*into = t.value
	return ok
}

func (s *schema) age(n *yaml.Node, what string, into *secret.Age) bool {
	const wanted = "{file: PATH, identity: PATH}"
	at := placeOfNode(n)
	if resolve(n).Kind != yaml.MappingNode {
		s.add(at, "%s must say which file and what opens it: %s", what, wanted)
		return false
	}
	ok := s.parts(n, what, wanted, map[string]func(*yaml.Node, string) bool{
		"file":     func(v *yaml.Node, what string) bool { return s.pathOf(v, what, &into.File) },
		"identity": func(v *yaml.Node, what string) bool { return s.pathOf(v, what, &into.Identity) },
	})
	if ok && (into.File == "" || into.Identity == "") {
		s.add(at, "%s needs both: %s", what, wanted)
		return false
	}
	return ok
}

// command reads a program and its arguments. An argument may be empty; numbers
// and the like are taken as they are written.
func (s *schema) command(n *yaml.Node, what string, into *secret.Command) bool {
	at := placeOfNode(n)
	n = resolve(n)
	if n.Kind != yaml.SequenceNode {
		s.add(at, "%s must be a list, [PROGRAM, ARGUMENT, ...]: it is not given to a shell", what)
		return false
	}
	args := make([]string, 0, len(n.Content))
	for _, c := range n.Content {
		if c = resolve(c); c.Kind != yaml.ScalarNode || c.Tag == "!!null" {
			s.add(placeOfNode(c), "%s: each argument is text (quote what YAML takes for something else)", what)
			return false
		}
		args = append(args, c.Value)
	}
	command, err := secret.NewCommand(args...)
	if err != nil {
		s.add(at, "%s: %v", what, err)
		return false
	}
	*into = command
	return true
}

func isVariable(name string) bool {
	for i, r := range name {
		if r != '_' && !isAlnum(r) || i == 0 && r <= '9' {
			return false
		}
	}
	return name != ""
}
