package sim

import (
	"fmt"
	"slices"
)

// The platforms, as inventories name them.
const (
	platformOSm   = "endace_osm"
	platformBigIP = "f5_bigip"
	platformLinux = "linux"
)

// The roles of devices; each has its own name part and label.
const (
	roleProbe   = "probe"
	roleLTM     = "ltm"
	roleCapture = "capture"
	roleBastion = "bastion"
)

// spec is one device of the plan: everything about it that never changes.
type spec struct {
	name     string
	site     string
	platform string
	role     string
	tier     string
	group    string // of the inventory
	login    string // the inventory's credential, see credential
	covers   []string
	haPeer   string
	jump     string
	// interactiveOnly devices offer keyboard-interactive and nothing else, as
	// appliances behind RADIUS do.
	interactiveOnly bool
}

type sitePlan struct {
	name, timezone string
	// bastion sites can only be reached through their bastion host.
	bastion bool
	// interactive sites have probes that know keyboard-interactive only.
	interactive bool
	// bigipLogin is who the inventory logs in as: root gets bash, admin gets tmsh.
	bigipLogin string
}

// sites in the order in which growing fleets open them.
func sites() []sitePlan {
	return []sitePlan{
		{name: "lon", timezone: "Europe/London", bigipLogin: "f5-root"},
		{name: "nyc", timezone: "America/New_York", bigipLogin: "f5-admin", interactive: true},
		{name: "sgp", timezone: "Asia/Singapore", bigipLogin: "f5-root", bastion: true},
		{name: "fra", timezone: "Europe/Berlin", bigipLogin: "f5-admin"},
		{name: "hkg", timezone: "Asia/Hong_Kong", bigipLogin: "f5-root"},
		{name: "syd", timezone: "Australia/Sydney", bigipLogin: "f5-admin", bastion: true},
		{name: "tyo", timezone: "Asia/Tokyo", bigipLogin: "f5-root"},
		{name: "par", timezone: "Europe/Paris", bigipLogin: "f5-admin"},
		{name: "chi", timezone: "America/Chicago", bigipLogin: "f5-root"},
		{name: "gru", timezone: "America/Sao_Paulo", bigipLogin: "f5-admin", bastion: true},
		{name: "ams", timezone: "Europe/Amsterdam", bigipLogin: "f5-root"},
		{name: "bom", timezone: "Asia/Kolkata", bigipLogin: "f5-admin"},
	}
}

// plan lays out n devices. Sites are equally large blocks of probes, HA pairs of
// BIG-IPs, capture hosts and, where the site has one, the bastion; a block too
// small for a pair has probes instead. The same n always gives the same plan.
func plan(n int) []spec {
	all := sites()
	used := min(len(all), max(1, min(3, n/8), n/64))
	out := make([]spec, 0, n)
	for i, site := range all[:used] {
		size := n/used + boolInt(i < n%used)
		out = append(out, planSite(site, size)...)
	}
	return out
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func planSite(site sitePlan, size int) []spec {
	pairs, captures, bastions := 0, 0, 0
	if size >= 4 {
		pairs, captures = max(1, size/8), max(1, size/8)
		bastions = boolInt(site.bastion)
	}
	probes := size - 2*pairs - captures - bastions
	jump := ""
	var out []spec
	if bastions > 0 {
		jump = site.name + "-bastion"
		out = append(out, spec{name: jump, site: site.name, platform: platformLinux, role: roleBastion,
			tier: "edge", group: "bastions", login: "bastion"})
	}
	for i := 1; i <= probes; i++ {
		s := spec{name: fmt.Sprintf("%s-probe-%02d", site.name, i), site: site.name, platform: platformOSm,
			role: roleProbe, tier: "core", group: "probes", login: "endace", jump: jump,
			interactiveOnly: site.interactive}
		// Two probes watch each link; an odd one out watches a link alone.
		s.covers = []string{fmt.Sprintf("%s-link-%02d", site.name, (i+1)/2)}
		if i == probes {
			s.tier = "lab"
		}
		out = append(out, s)
	}
	group := map[string]string{"f5-root": "bigips", "f5-admin": "bigips-tmsh"}[site.bigipLogin]
	for i := 1; i <= 2*pairs; i++ {
		peer := i + 1
		if i%2 == 0 {
			peer = i - 1
		}
		out = append(out, spec{name: fmt.Sprintf("%s-ltm-%02d", site.name, i), site: site.name,
			platform: platformBigIP, role: roleLTM, tier: "core", group: group, login: site.bigipLogin,
			haPeer: fmt.Sprintf("%s-ltm-%02d", site.name, peer), jump: jump})
	}
	for i := 1; i <= captures; i++ {
		out = append(out, spec{name: fmt.Sprintf("%s-cap-%02d", site.name, i), site: site.name,
			platform: platformLinux, role: roleCapture, tier: "edge", group: "captures", login: "linux", jump: jump})
	}
	return out
}

// login is one entry of the inventory's credentials.
type login struct {
	username string
	key      bool   // the inventory uses the fleet's private key, else the password
	secret   string // name of the password's file in secrets/
	enable   string // name of the enable password's file
}

// credential is the inventory's entry of a name.
func credential(name string) login {
	switch name {
	case "endace":
		return login{username: "fleet", secret: "endace", enable: "endace-enable"}
	case "f5-root":
		return login{username: "root", key: true, secret: "f5-root"}
	case "f5-admin":
		return login{username: "admin", secret: "f5-admin"}
	case "bastion":
		return login{username: "jump", key: true, secret: "bastion"}
	default:
		return login{username: "capture", key: true, secret: "linux"}
	}
}

// account is a user that a device knows.
type account struct {
	username string
	secret   string // whose password in secrets/
	key      bool   // the fleet's private key is accepted as well
	tmsh     bool   // BIG-IP: the login shell is tmsh, not bash
}

// accounts are the users of a device. BIG-IPs know both kinds of login whatever
// the inventory uses.
func (s *spec) accounts() []account {
	switch s.platform {
	case platformBigIP:
		return []account{
			{username: "root", secret: "f5-root", key: true},
			{username: "admin", secret: "f5-admin", key: true, tmsh: true},
		}
	default:
		l := credential(s.login)
		return []account{{username: l.username, secret: l.secret, key: !s.interactiveOnly}}
	}
}

// secretNames lists the password files of a plan, sorted.
func secretNames(specs []spec) []string {
	var names []string
	for i := range specs {
		for _, a := range specs[i].accounts() {
			names = append(names, a.secret)
		}
		if e := credential(specs[i].login).enable; e != "" {
			names = append(names, e)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
