package inventory

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/api/validate/content"

	"capfleet/internal/hint"
)

// settings reads a mapping that has settings and nothing else.
func (s *schema) settings(n *yaml.Node, what string, into *settings) {
	s.mapping(n, what, []string{"platform", "site", "credentials", "jump", "labels", "ssh", "bmc"}, func(key text, v *yaml.Node) {
		if key.value == "bmc" {
			s.bmcSettings(v, what+": bmc", false, into)
			return
		}
		s.setting(key, v, what, into)
	})
}

// setting reads one key that devices, groups and defaults share.
func (s *schema) setting(key text, v *yaml.Node, what string, into *settings) {
	scalar := func(a attr) {
		if t, ok := s.scalar(v, what+": "+key.value); ok {
			into.attrs[a] = t
		}
	}
	switch key.value {
	case "platform":
		scalar(attrPlatform)
	case "site":
		scalar(attrSite)
	case "credentials":
		scalar(attrCredentials)
	case "jump":
		scalar(attrJump)
	case "labels":
		s.labels(v, what+": labels", into)
	case "ssh":
		s.ssh(v, what+": ssh", into)
	}
}

func (s *schema) labels(n *yaml.Node, what string, into *settings) {
	s.mapping(n, what, nil, func(key text, v *yaml.Node) {
		value, ok := text{at: key.at, set: true}, true
		// The empty value is a label's right.
		if r := resolve(v); r.Kind != yaml.ScalarNode || r.Tag == "!!null" || r.Value != "" {
			value, ok = s.scalar(v, what+": "+key.value)
		}
		if !ok {
			return
		}
		pair := label{text{value: key.value}, text{value: value.value}}
		problem, known := s.checked[pair]
		if !known {
			problem = checkLabel(key.value, value.value)
			s.checked[pair] = problem
		}
		if problem != "" {
			s.add(key.at, "%s: %s", what, problem)
			return
		}
		into.labels = append(into.labels, label{key, value})
	})
}

func checkLabel(key, value string) string {
	if slices.Contains(virtualKeys(), key) {
		return quote(key) + " is no label of its own: selectors take it from the device"
	}
	if why := content.IsLabelKey(key); len(why) > 0 {
		return "bad key " + quote(key) + ": " + why[0]
	}
	if why := content.IsLabelValue(value); len(why) > 0 {
		return "bad value " + quote(value) + " of " + key + ": " + why[0]
	}
	return ""
}

func (s *schema) ssh(n *yaml.Node, what string, into *settings) {
	keys := []string{"max_sessions", "connect_timeout", "command_timeout", "keepalive", "legacy_algorithms"}
	s.mapping(n, what, keys, func(key text, v *yaml.Node) {
		inner := what + "." + key.value
		t := text{at: placeOfNode(v)}
		var a attr
		switch key.value {
		case "max_sessions":
			a, t.value = attrMaxSessions, s.number(v, inner, 1, 100)
		case "connect_timeout":
			a, t.value = attrConnectTimeout, s.duration(v, inner, time.Second, 10*time.Minute)
		case "command_timeout":
			a, t.value = attrCommandTimeout, s.duration(v, inner, time.Second, 24*time.Hour)
		case "keepalive":
			a, t.value = attrKeepalive, s.duration(v, inner, time.Second, time.Hour)
		case "legacy_algorithms":
			a, t.value = attrLegacyAlgorithms, s.flag(v, inner)
		}
		if t.set = t.value != ""; t.set {
			into.attrs[a] = t
		}
	})
}

// flag, number and duration give a value in its one spelling, or "" after
// telling what is wrong with it.

func (s *schema) flag(n *yaml.Node, what string) string {
	t, ok := s.scalar(n, what)
	if ok && t.value != "true" && t.value != "false" {
		s.add(t.at, "%s is true or false, not %s", what, quote(t.value))
		return ""
	}
	return t.value
}

func (s *schema) number(n *yaml.Node, what string, lowest, highest int) string {
	t, ok := s.scalar(n, what)
	if !ok {
		return ""
	}
	i, err := strconv.Atoi(t.value)
	if err != nil || i < lowest || i > highest {
		s.add(t.at, "%s is a number from %d to %d, not %s", what, lowest, highest, quote(t.value))
		return ""
	}
	return strconv.Itoa(i)
}

func (s *schema) duration(n *yaml.Node, what string, lowest, highest time.Duration) string {
	t, ok := s.scalar(n, what)
	if !ok {
		return ""
	}
	d, err := time.ParseDuration(t.value)
	switch {
	case err != nil:
		s.add(t.at, "%s is a time with its unit, such as 20s or 1m30s, not %s", what, quote(t.value))
	case d < lowest || d > highest:
		s.add(t.at, "%s is from %s to %s, not %s", what, lowest, highest, quote(t.value))
	default:
		return d.String()
	}
	return ""
}

// bmcSettings reads a BMC's block; only a device's own has an address and pins.
func (s *schema) bmcSettings(n *yaml.Node, what string, own bool, into *settings) *bmc {
	keys := []string{"protocol", "credentials", "jump", "plain_http"}
	if own {
		keys = append(keys, "address", "tls_pins")
	}
	out := &bmc{at: placeOfNode(n)}
	if !s.mapping(n, what, keys, func(key text, v *yaml.Node) {
		switch key.value {
		case "tls_pins":
			out.pins = s.pins(v, what+": tls_pins")
			return
		case "plain_http":
			if t := (text{value: s.flag(v, what+": plain_http"), at: placeOfNode(v), set: true}); t.value != "" {
				into.attrs[attrBMCPlainHTTP] = t
			}
			return
		}
		t, ok := s.scalar(v, what+": "+key.value)
		if !ok {
			return
		}
		switch key.value {
		case "address":
			var err error
			if out.host, out.port, err = parseAddress(t.value, 0); err != nil {
				s.add(t.at, "%s: bad address %s: %v", what, quote(t.value), err)
			}
		case "protocol":
			if protocols := bmcProtocols(); !slices.Contains(protocols, t.value) {
				s.add(t.at, "%s: unknown protocol %s (known: %s)%s", what, quote(t.value),
					strings.Join(protocols, ", "), hint.DidYouMean(t.value, slices.Values(protocols)))
				return
			}
			into.attrs[attrBMCProtocol] = t
		case "credentials":
			into.attrs[attrBMCCredentials] = t
		case "jump":
			into.attrs[attrBMCJump] = t
		}
	}) {
		return nil
	}
	if own && !hasKey(n, "address") {
		s.add(out.at, "%s: address is missing", what)
	}
	return out
}

// pins reads fingerprints of certificates, as OpenSSL prints them with colons or
// as 64 digits without.
func (s *schema) pins(n *yaml.Node, what string) []string {
	var out []string
	for _, t := range s.words(n, what) {
		digits := strings.ToUpper(strings.ReplaceAll(t.value, ":", ""))
		if sum, err := hex.DecodeString(digits); err != nil || len(sum) != sha256.Size {
			s.add(t.at, "%s: %s is no SHA-256 fingerprint of a certificate: 64 hexadecimal digits, with or without colons", what, quote(t.value))
			continue
		}
		out = append(out, digits)
	}
	return out
}

// bmcAuto is the protocol of a BMC for which nobody names one.
const bmcAuto = "auto"

// bmcIPMI is the protocol that is UDP.
const bmcIPMI = "ipmi_lan"

func bmcProtocols() []string { return []string{bmcAuto, "supermicro_web", "ipmi_lan", "redfish"} }
