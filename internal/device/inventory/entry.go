package inventory

import (
	"slices"

	"go.yaml.in/yaml/v3"
)

// device reads one entry of devices; false when it has no usable name, without
// which nothing else about it can be told.
func (s *schema) device(n *yaml.Node) (*entry, bool) {
	e := &entry{}
	what := "a device"
	if name := nodeValue(n, "name"); name != "" {
		what = "device " + quote(name)
	}
	var address bool
	keys := []string{"name", "address", "platform", "site", "groups", "labels", "credentials", "covers", "ha_peer", "jump", "ssh", "bmc"}
	if !s.mapping(n, what, keys, func(key text, v *yaml.Node) {
		switch key.value {
		case "name":
			e.name, _ = s.scalar(v, what+": name")
		case "address":
			address = true
			if t, ok := s.scalar(v, what+": address"); ok {
				var err error
				if e.host, e.port, err = parseAddress(t.value, defaultPort); err != nil {
					s.add(t.at, "%s: bad address %s: %v", what, quote(t.value), err)
				}
			}
		case "groups":
			e.groups = s.words(v, what+": groups")
		case "covers":
			for _, link := range s.words(v, what+": covers") {
				if s.name(link, what+": covers") {
					e.covers = append(e.covers, link.value)
				}
			}
		case "ha_peer":
			e.haPeer, _ = s.scalar(v, what+": ha_peer")
		case "bmc":
			e.bmc = s.bmcSettings(v, what+": bmc", true, &e.settings)
		default:
			s.setting(key, v, what, &e.settings)
		}
	}) {
		return nil, false
	}
	if !address {
		s.add(placeOfNode(n), "%s: address is missing", what)
	}
	if !e.name.set {
		if !hasKey(n, "name") {
			s.add(placeOfNode(n), "%s: name is missing", what)
		}
		return nil, false
	}
	if e.name.value == noJump {
		s.add(e.name.at, "a device cannot be called %q: that word takes away a jump host", noJump)
		return nil, false
	}
	return e, s.name(e.name, "device")
}

// defaultPort is SSH's.
const defaultPort = 22

// nodeValue gives the scalar at a key of a mapping, or "".
func nodeValue(n *yaml.Node, key string) string {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		return ""
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return resolve(n.Content[i+1]).Value
		}
	}
	return ""
}

// words reads a list of texts without repetition.
func (s *schema) words(n *yaml.Node, what string) []text {
	var out []text
	s.list(n, what, func(n *yaml.Node) {
		t, ok := s.scalar(n, what)
		if !ok {
			return
		}
		if slices.ContainsFunc(out, func(o text) bool { return o.value == t.value }) {
			s.add(t.at, "%s: %s is given twice", what, quote(t.value))
			return
		}
		out = append(out, t)
	})
	return out
}
