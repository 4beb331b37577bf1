package inventory

import (
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

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
	attrBMCPlainHTTP
	attrBMCJump
	attrCount
)

func (a attr) String() string {
	return [...]string{"platform", "site", "credentials", "jump", "ssh.max_sessions", "ssh.connect_timeout",
		"ssh.command_timeout", "ssh.keepalive", "ssh.legacy_algorithms", "bmc.protocol", "bmc.credentials", "bmc.plain_http", "bmc.jump"}[a]
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
		name                                                  text
		username                                              string
		password, privateKey, passphrase, certificate, enable secret.Ref
		agent                                                 bool
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
		pins []string
	}
)

// schema reads the sections of a file.
type schema struct {
	decoder
	checked map[label]string
	zones   map[string]error
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
