package inventory

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"capfleet/internal/secret"
)

func (s *schema) credentials(name text, n *yaml.Node) *credentials {
	out := &credentials{name: name}
	what := "credentials " + quote(name.value)
	ok := s.mapping(n, what, []string{"username", "password", "private_key", "passphrase", "agent", "enable"}, func(key text, v *yaml.Node) {
		inner := what + ": " + key.value
		switch key.value {
		case "username":
			if t, ok := s.scalar(v, inner); ok {
				if problem := checkUsername(t.value); problem != "" {
					s.add(t.at, "%s %s", inner, problem)
				}
				out.username = t.value
			}
		case "password":
			out.password = s.secret(v, inner)
		case "private_key":
			out.privateKey = s.secret(v, inner)
		case "passphrase":
			out.passphrase = s.secret(v, inner)
		case "enable":
			out.enable = s.secret(v, inner)
		case "agent":
			out.agent = s.flag(v, inner) == "true"
		}
	})
	if !ok {
		return out
	}
	// A value that was refused has its own error; only what is absent is told here.
	has := func(key string) bool { return hasKey(n, key) }
	if !has("username") {
		s.add(name.at, "%s: username is missing", what)
	}
	if !has("password") && !has("private_key") && !has("agent") {
		s.add(name.at, "%s: one of password, private_key and agent is needed", what)
	}
	if has("passphrase") && !has("private_key") {
		s.add(name.at, "%s: a passphrase without a private_key", what)
	}
	return out
}

func hasKey(n *yaml.Node, key string) bool {
	n = resolve(n)
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return true
		}
	}
	return false
}

func checkUsername(name string) string {
	if len(name) > 128 {
		return "is longer than 128 characters"
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return "holds a space or a control character"
	}
	return ""
}

// secret reads where a secret is. Nothing that stands in the place of one is
// ever repeated in an error: it may be the secret.
func (s *schema) secret(n *yaml.Node, what string) secret.Ref {
	const wanted = "{env: VARIABLE} or {file: PATH}"
	at := placeOfNode(n)
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		s.add(at, "%s must say where the secret is: %s; a secret itself is never written into the inventory", what, wanted)
		return secret.Ref{}
	}
	var ref secret.Ref
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		var into *string
		switch k.Value {
		case "env":
			into = &ref.Env
		case "file":
			into = &ref.File
		default:
			s.add(placeOfNode(k), "%s: unknown key: %s is expected", what, wanted)
			return secret.Ref{}
		}
		if *into != "" {
			s.add(placeOfNode(k), "%s: %s is given twice", what, k.Value)
			return secret.Ref{}
		}
		t, ok := s.scalar(v, what+": "+k.Value)
		if !ok {
			return secret.Ref{}
		}
		if into == &ref.Env && !isVariable(t.value) {
			s.add(t.at, "%s: env is not the name of an environment variable (letters, digits and _)", what)
			return secret.Ref{}
		}
		*into = t.value
	}
	if (ref.Env == "") == (ref.File == "") {
		s.add(at, "%s: exactly one of env and file is expected: %s", what, wanted)
		return secret.Ref{}
	}
	return ref
}

func isVariable(name string) bool {
	for i, r := range name {
		if r != '_' && !isAlnum(r) || i == 0 && r <= '9' {
			return false
		}
	}
	return name != ""
}
