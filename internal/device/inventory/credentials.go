package inventory

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

func (s *schema) credentials(name text, n *yaml.Node) *credentials {
	out := &credentials{name: name}
	what := "credentials " + quote(name.value)
	ok := s.mapping(n, what, []string{"username", "password", "private_key", "passphrase", "certificate", "agent", "enable"}, func(key text, v *yaml.Node) {
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
		case "certificate":
			out.certificate = s.secret(v, inner)
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
	for _, key := range []string{"passphrase", "certificate"} {
		if has(key) && !has("private_key") {
			s.add(name.at, "%s: a %s without a private_key", what, key)
		}
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
