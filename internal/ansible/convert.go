package ansible

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"capfleet/internal/device/inventory"
	"capfleet/internal/fault"
)

// Options of Convert say what an Ansible inventory does not.
type Options struct {
	// Platform is that of hosts whose own cannot be told; "" leaves them out.
	// Platforms gives it by group.
	Platform  string
	Platforms map[string]string
	// User logs in where no user is given; "" leaves such hosts out.
	User string
	// Labels are variables that become labels, and Site is the one that names the
	// site; "" is none.
	Labels []string
	Site   string
}

// Platforms are those that can be named in Options.
func Platforms() []string { return []string{"endace_osm", "f5_bigip", "linux"} }

// Result is an inventory of ours with what is not in it.
type Result struct {
	YAML    []byte
	Devices int
	Hosts   int // of Ansible's inventory
	Notes   []Note
}

// platformOf gives our platform for the value of ansible_network_os.
var platformOf = map[string]string{
	"bigip": "f5_bigip", "f5": "f5_bigip", "f5_bigip": "f5_bigip", "f5networks.f5_bigip.bigip": "f5_bigip", "f5networks.f5_modules.bigip": "f5_bigip",
	"endace": "endace_osm", "endace_osm": "endace_osm", "osm": "endace_osm",
	"linux": "linux",
}

// Convert makes an inventory of ours. The error is about the inventory as a whole;
// what is wrong with one host is a note.
func Convert(inv *Inventory, opts Options) (Result, error) {
	for _, p := range append(slices.Collect(maps.Values(opts.Platforms)), opts.Platform) {
		if p != "" && !slices.Contains(Platforms(), p) {
			return Result{}, fault.New(fault.Invalid, "there is no platform %q (known: %s)", p, strings.Join(Platforms(), ", "))
		}
	}
	for g := range opts.Platforms {
		if inv.groups[g] == nil {
			return Result{}, fault.New(fault.Invalid, "the inventory has no group %q", g)
		}
	}
	members, vars, err := inv.resolved()
	if err != nil {
		return Result{}, err
	}
	c := &converter{opts: opts, inv: inv, out: document{Version: 1, KnownHosts: "known_hosts", Sites: map[string]struct{}{},
		Credentials: map[string]*credentials{}, Groups: map[string]struct{}{}}, unused: map[string]int{}, secrets: map[string][]string{}, names: map[string]string{}}
	for _, name := range slices.Sorted(maps.Keys(inv.hosts)) {
		c.host(name, members[name], vars[name])
	}
	c.summarize()
	res := Result{Devices: len(c.out.Devices), Hosts: len(inv.hosts), Notes: inv.notes}
	if res.Devices == 0 {
		return res, &fault.Error{Kind: fault.Invalid, Act: "no host could be taken over", Next: "say what is missing with --platform and --user"}
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(c.out); err != nil {
		return res, fault.Wrap(fault.Internal, "write the inventory", err)
	}
	res.YAML = b.Bytes()
	if _, err := inventory.Parse(res.YAML, "inventory.yaml", inventory.Options{Platforms: Platforms()}); err != nil {
		return res, fault.Wrap(fault.Internal, "check the inventory that was made", err)
	}
	return res, nil
}

// The inventory as it is written.
type (
	document struct {
		Version     int                     `yaml:"version"`
		KnownHosts  string                  `yaml:"known_hosts"`
		Sites       map[string]struct{}     `yaml:"sites,omitempty"`
		Credentials map[string]*credentials `yaml:"credentials"`
		Groups      map[string]struct{}     `yaml:"groups,omitempty"`
		Devices     []entry                 `yaml:"devices"`
	}
	credentials struct {
		Username   string `yaml:"username"`
		Password   *ref   `yaml:"password,omitempty,flow"`
		PrivateKey *ref   `yaml:"private_key,omitempty,flow"`
	}
	ref struct {
		Env  string `yaml:"env,omitempty"`
		File string `yaml:"file,omitempty"`
	}
	entry struct {
		Name        string            `yaml:"name"`
		Platform    string            `yaml:"platform"`
		Address     string            `yaml:"address"`
		Site        string            `yaml:"site,omitempty"`
		Credentials string            `yaml:"credentials"`
		Groups      []string          `yaml:"groups,omitempty,flow"`
		Labels      map[string]string `yaml:"labels,omitempty,flow"`
		Jump        string            `yaml:"jump,omitempty"`
	}
)

type converter struct {
	opts    Options
	inv     *Inventory
	out     document
	unused  map[string]int      // hosts by variable that is not taken over
	secrets map[string][]string // hosts by variable that holds a secret
	names   map[string]string   // name of the credentials by what they are
}

// plainName is what our names and label values may be.
var plainName = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)

// variables gives a host's variables one after the other and remembers which were
// asked for.
type reader struct {
	c    *converter
	host string
	vars map[string]value
	used map[string]bool
	bad  bool
}

// text gives the first of several spellings of a variable that is set. One that
// cannot be taken over makes the host bad.
func (r *reader) text(names ...string) string {
	out := ""
	for _, name := range names {
		v, ok := r.vars[name]
		if !ok {
			continue
		}
		r.used[name] = true
		switch {
		case out != "" || v.text == "" && !v.vault && !v.nested:
		case v.vault:
			r.leave("%s is encrypted", name)
		case v.nested:
			r.leave("%s is a list or a mapping", name)
		case v.template():
			r.leave("%s is a template: let ansible-inventory --list work it out", name)
		default:
			out = v.text
		}
	}
	return out
}

// leave says why the host is left out.
func (r *reader) leave(format string, args ...any) {
	r.c.inv.note("host "+r.host, "left out: "+format, args...)
	r.bad = true
}

func (c *converter) host(name string, groups []string, vars map[string]value) {
	r := &reader{c: c, host: name, vars: vars, used: map[string]bool{}}
	if !plainName.MatchString(name) {
		r.leave("its name cannot be a device's: up to 63 letters, digits, '.', '_' and '-' are")
		return
	}
	e := entry{Name: name}
	e.Platform = c.platform(r, groups)
	e.Address = c.address(r)
	cred := c.credentials(r)
	jump := c.jump(r, cred)
	if r.bad {
		return
	}
	c.labels(r, &e)
	for _, g := range groups {
		if !plainName.MatchString(g) {
			c.inv.note("group "+g, "its name cannot be ours: up to 63 letters, digits, '.', '_' and '-' are")
			continue
		}
		e.Groups = append(e.Groups, g)
		c.out.Groups[g] = struct{}{}
	}
	e.Credentials, e.Jump = c.named(cred), jump
	c.out.Devices = append(c.out.Devices, e)
	for v := range vars {
		if !r.used[v] {
			c.unused[v]++
		}
	}
}

// platform is what the inventory says, or what the operator says of the group.
func (c *converter) platform(r *reader, groups []string) string {
	os := r.text("ansible_network_os")
	connection := r.text("ansible_connection")
	system := r.text("ansible_system")
	switch connection {
	case "", "ssh", "smart", "paramiko", "paramiko_ssh", "network_cli", "ansible.netcommon.network_cli", "ansible.builtin.ssh", "ansible.builtin.paramiko_ssh":
	case "httpapi", "ansible.netcommon.httpapi": // the same device has SSH; its port is another
	default:
		r.leave("it is reached by %s and not by SSH", connection)
		return ""
	}
	if os != "" {
		p := platformOf[strings.ToLower(os)]
		if p == "" {
			r.leave("no platform of ours is ansible_network_os %s", os)
		}
		return p
	}
	var said []string
	for _, g := range groups {
		if p := c.opts.Platforms[g]; p != "" && !slices.Contains(said, p) {
			said = append(said, p)
		}
	}
	switch {
	case len(said) == 1:
		return said[0]
	case len(said) > 1:
		r.leave("its groups were given several platforms: %s", strings.Join(said, ", "))
	case system == "Linux":
		return "linux"
	case c.opts.Platform != "":
		return c.opts.Platform
	default:
		r.leave("its platform is not known: there is no ansible_network_os (give it with --platform)")
	}
	return ""
}

func (c *converter) address(r *reader) string {
	host := r.text("ansible_host", "ansible_ssh_host")
	if host == "" {
		host = r.host
	}
	port := r.text("ansible_port", "ansible_ssh_port")
	if strings.Contains(r.vars["ansible_connection"].text, "httpapi") && port != "" {
		c.inv.note("variable ansible_port", "not taken over where the connection is httpapi: it is not that of SSH")
		port = ""
	}
	if n, err := strconv.Atoi(port); port != "" && (err != nil || n < 1 || n > 65535) {
		r.leave("%q is no port", port)
		return ""
	}
	if strings.ContainsAny(host, " \t\"'/@") {
		r.leave("%q is no address", host)
		return ""
	}
	if port == "" || port == "22" {
		return host
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		return "[" + host + "]:" + port
	}
	return host + ":" + port
}

// login is how Ansible logs in, as far as it says so.
type login struct {
	user, keyFile string
	password      bool // there is one, which is not copied
}

func (c *converter) credentials(r *reader) login {
	l := login{user: r.text("ansible_user", "ansible_ssh_user"), keyFile: r.text("ansible_ssh_private_key_file", "ansible_private_key_file")}
	for name := range r.vars {
		if secretName.MatchString(name) {
			r.used[name] = true
			c.secrets[name] = append(c.secrets[name], r.host)
			l.password = l.password || loginPassword[name]
		}
	}
	if l.user == "" {
		l.user = c.opts.User
	}
	switch {
	case l.user == "":
		r.leave("no user is given for it (ansible_user, or --user)")
	case strings.ContainsFunc(l.user, func(c rune) bool { return c <= ' ' || c == 0x7f }):
		r.leave("%q is no user name", l.user)
	}
	return l
}

var (
	// secretName tells variables that hold a secret by their name.
	secretName    = regexp.MustCompile(`(?i)(?:^|_)(?:pass|password|passwd|passphrase|secret|token|api_?key)$`)
	loginPassword = map[string]bool{"ansible_password": true, "ansible_ssh_pass": true, "ansible_ssh_password": true, "ansible_pass": true}
)

// named gives the entry for a login, making it where it is new.
func (c *converter) named(l login) string {
	key := fmt.Sprint(l)
	if have := c.names[key]; have != "" {
		return have
	}
	base := strings.Trim(strings.Map(func(r rune) rune {
		if r < 0x80 && (r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return r
		}
		return '-'
	}, l.user), "-")
	if base = base[:min(len(base), 50)]; base == "" {
		base = "login"
	}
	name := base
	for n := 2; c.out.Credentials[name] != nil; n++ {
		name = base + "-" + strconv.Itoa(n)
	}
	entry := &credentials{Username: l.user}
	if l.keyFile != "" {
		entry.PrivateKey = &ref{File: l.keyFile}
	}
	if l.password || l.keyFile == "" {
		env := "FLEET_" + strings.ToUpper(strings.ReplaceAll(strings.ReplaceAll(name, "-", "_"), ".", "_")) + "_PASSWORD"
		entry.Password = &ref{Env: env}
		reason := "no secret is copied: put the password into %s of fleetd, or name another place"
		if !l.password {
			reason = "how it logs in is not said: a password is expected in %s of fleetd; name another place, a private_key or the agent"
		}
		c.inv.note("credentials "+name, reason, env)
	}
	c.out.Credentials[name] = entry
	c.names[key] = name
	return name
}

func (c *converter) labels(r *reader, e *entry) {
	if c.opts.Site != "" {
		if v, ok := r.vars[c.opts.Site]; ok {
			r.used[c.opts.Site] = true
			if plainName.MatchString(v.text) {
				e.Site = v.text
				c.out.Sites[v.text] = struct{}{}
			} else {
				c.inv.note("host "+r.host, "%s is no name of a site", c.opts.Site)
			}
		}
	}
	for _, name := range c.opts.Labels {
		v, ok := r.vars[name]
		if !ok {
			continue
		}
		r.used[name] = true
		if !plainName.MatchString(v.text) {
			c.inv.note("host "+r.host, "%s cannot be the value of a label", name)
			continue
		}
		if e.Labels == nil {
			e.Labels = map[string]string{}
		}
		e.Labels[name] = v.text
	}
}

// summarize notes what no device could use, once for all hosts.
func (c *converter) summarize() {
	for _, name := range slices.Sorted(maps.Keys(c.secrets)) {
		hosts := c.secrets[name]
		c.inv.note("variable "+name, "a secret of %s, not copied", some(hosts))
	}
	for _, name := range slices.Sorted(maps.Keys(c.unused)) {
		c.inv.note("variable "+name, "not taken over (%s)", count(c.unused[name], "host"))
	}
}

func some(hosts []string) string {
	const shown = 3
	text := strings.Join(hosts[:min(len(hosts), shown)], ", ")
	if more := len(hosts) - shown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
