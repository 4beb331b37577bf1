package inventory

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/api/validate/content"

	"capfleet/internal/secret"
)

// formatVersion is the version of the file format that this package reads.
const formatVersion = 1

// maxName bounds every name. It is what a Kubernetes label value may have, since
// names are selectable like labels.
const maxName = 63

// noJump in place of a jump host takes away an inherited one.
const noJump = "none"

// defaultCredentials is the name of the credentials that are used where nobody
// names others.
const defaultCredentials = "default"

// attr is a setting that a device can have itself or inherit. Values are kept
// as text in one spelling, so that two groups that mean the same agree.
type attr int

const (
	attrPlatform attr = iota
	attrSite
	attrCredentials
	attrJump
	attrMaxSessions
	attrConnectTimeout
	attrCommandTimeout
	attrKeepalive
	attrLegacyAlgorithms
	attrBMCProtocol
	attrBMCCredentials
	attrCount
)

func (a attr) String() string {
	return [...]string{"platform", "site", "credentials", "jump", "ssh.max_sessions", "ssh.connect_timeout",
		"ssh.command_timeout", "ssh.keepalive", "ssh.legacy_algorithms", "bmc.protocol", "bmc.credentials"}[a]
}

// The file as it is written, each value with its place.
type (
	file struct {
		knownHosts  text
		defaults    settings
		sites       map[string]*site
		credentials map[string]*credentials
		groups      map[string]*group
		devices     []*entry
	}
	settings struct {
		attrs  [attrCount]text
		labels []label
	}
	label struct{ key, value text }
	site  struct {
		name     text
		timezone string
		settings settings // credentials and jump
	}
	credentials struct {
		name                                     text
		username                                 string
		password, privateKey, passphrase, enable secret.Ref
		agent                                    bool
	}
	group struct {
		name     text
		settings settings
	}
	entry struct {
		name     text
		host     string
		port     int
		groups   []text
		covers   []string
		haPeer   text
		bmc      *bmc
		settings settings
	}
	bmc struct {
		at   place
		host string
		port int
	}
)

// schema reads the sections of a file.
type schema struct {
	decoder
	platforms []string // known ones; empty when they are not checked
	checked   map[label]string
	zones     map[string]error
}

func (s *schema) file(root *yaml.Node) file {
	f := file{
		sites:       map[string]*site{},
		credentials: map[string]*credentials{},
		groups:      map[string]*group{},
	}
	var version, devices bool
	whole := s.mapping(root, "the inventory", []string{"version", "known_hosts", "defaults", "sites", "credentials", "groups", "devices"},
		func(key text, v *yaml.Node) {
			switch key.value {
			case "version":
				version = true // checked before everything else
			case "known_hosts":
				f.knownHosts, _ = s.scalar(v, "known_hosts")
			case "defaults":
				s.settings(v, "defaults", &f.defaults)
			case "sites":
				s.named(v, "sites", "site", func(name text, v *yaml.Node) { f.sites[name.value] = s.site(name, v) })
			case "credentials":
				s.named(v, "credentials", "credentials", func(name text, v *yaml.Node) { f.credentials[name.value] = s.credentials(name, v) })
			case "groups":
				s.named(v, "groups", "group", func(name text, v *yaml.Node) {
					g := &group{name: name}
					f.groups[name.value] = g
					s.settings(v, "group "+quote(name.value), &g.settings)
				})
			case "devices":
				devices = true
				s.list(v, "devices", func(n *yaml.Node) {
					if e, ok := s.device(n); ok {
						f.devices = append(f.devices, e)
					}
				})
			}
		})
	switch {
	case !whole:
	case !version:
		s.add(placeOfNode(root), "version is missing: this program reads version: %d", formatVersion)
	case !devices:
		s.add(placeOfNode(root), "devices is missing (a list; [] for none)")
	}
	return f
}

// version reports whether the file is of a format that can be read. A newer one
// is refused before its unknown keys are complained about.
func (s *schema) version(root *yaml.Node) bool {
	n := resolve(root)
	if n.Kind != yaml.MappingNode {
		return true
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != "version" {
			continue
		}
		at := placeOfNode(n.Content[i+1])
		v, ok := s.scalar(n.Content[i+1], "version")
		if !ok {
			return false
		}
		number, err := strconv.Atoi(v.value)
		switch {
		case err != nil || number < 1:
			s.add(at, "version %s is not a version number; this program reads version: %d", quote(v.value), formatVersion)
		case number > formatVersion:
			s.add(at, "version %d is newer than this program, which reads version: %d; a newer fleetd is needed", number, formatVersion)
		default:
			return true
		}
		return false
	}
	return true
}

// named reads a mapping from names to things.
func (s *schema) named(n *yaml.Node, section, what string, each func(name text, v *yaml.Node)) {
	s.mapping(n, section, nil, func(name text, v *yaml.Node) {
		if s.name(name, what) {
			each(name, v)
		}
	})
}

// name checks a name. Names become parts of keys, labels and messages, and files
// may be named after them, so they hold nothing that means something there.
func (s *schema) name(name text, what string) bool {
	n := name.value
	ok := n != "" && len(n) <= maxName && isAlnum(rune(n[0])) && isAlnum(rune(n[len(n)-1]))
	for _, r := range n {
		ok = ok && (isAlnum(r) || r == '.' || r == '_' || r == '-')
	}
	if !ok {
		s.add(name.at, "%s: bad name %s: 1 to %d letters, digits, dots, - and _, with a letter or digit at both ends", what, quote(n), maxName)
	}
	return ok
}

func (s *schema) site(name text, n *yaml.Node) *site {
	out := &site{name: name}
	what := "site " + quote(name.value)
	s.mapping(n, what, []string{"timezone", "credentials", "jump"}, func(key text, v *yaml.Node) {
		t, ok := s.scalar(v, what+": "+key.value)
		if !ok {
			return
		}
		switch key.value {
		case "timezone":
			if err := s.timezone(t.value); err != nil {
				s.add(t.at, "%s: %s is no time zone: an IANA name such as Europe/London is expected", what, quote(t.value))
				return
			}
			out.timezone = t.value
		case "credentials":
			out.settings.attrs[attrCredentials] = t
		case "jump":
			out.settings.attrs[attrJump] = t
		}
	})
	return out
}

func (s *schema) timezone(name string) error {
	err, known := s.zones[name]
	if !known {
		if _, err = time.LoadLocation(name); name == "Local" {
			// The zone of whichever machine reads the file.
			err = strconv.ErrSyntax
		}
		s.zones[name] = err
	}
	return err
}

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
		if !(r == '_' || isAlnum(r) && (i > 0 || r > '9')) {
			return false
		}
	}
	return name != ""
}

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

// bmcSettings reads a BMC's block; only a device's own has an address.
func (s *schema) bmcSettings(n *yaml.Node, what string, withAddress bool, into *settings) *bmc {
	keys := []string{"protocol", "credentials"}
	if withAddress {
		keys = append(keys, "address")
	}
	out := &bmc{at: placeOfNode(n)}
	if !s.mapping(n, what, keys, func(key text, v *yaml.Node) {
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
					strings.Join(protocols, ", "), didYouMean(t.value, slices.Values(protocols)))
				return
			}
			into.attrs[attrBMCProtocol] = t
		case "credentials":
			into.attrs[attrBMCCredentials] = t
		}
	}) {
		return nil
	}
	if withAddress && !hasKey(n, "address") {
		s.add(out.at, "%s: address is missing", what)
	}
	return out
}

func bmcProtocols() []string { return []string{"auto", "supermicro_web", "ipmi_lan", "redfish"} }

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
