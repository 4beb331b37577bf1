package inventory

import (
	"cmp"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/secret"
)

// knownBMCs is the file of pinned certificates of BMCs, beside known_hosts.
const knownBMCs = "known_bmcs"

// maxHops bounds a chain of jump hosts.
const maxHops = 8

// resolver turns the file as written into devices. A name that is defined
// nowhere is told once, where it stands, and then passed over.
type resolver struct {
	*problems
	file      file
	platforms []string
	dir       string // of the file
	hosts     string // known_hosts, absolute

	entries map[string]*entry
	devices map[string]*device.Device
	creds   map[string]device.Credentials
	// By device, after inheritance; the zero text is none.
	jumps, bmcJumps map[string]text
}

func (r *resolver) run() []*device.Device {
	r.hosts = r.path(r.file.knownHosts)
	r.index()
	r.references()
	for name, c := range r.file.credentials {
		r.creds[name] = r.credentials(c)
	}
	for _, e := range r.file.devices {
		if r.entries[e.name.value] == e {
			r.devices[e.name.value] = r.device(e)
		}
	}
	r.pairs()
	if r.acyclic() {
		for name, d := range r.devices {
			d.Jump = r.hops(name, r.jumps[name])
			if d.BMC != nil {
				d.BMC.Jump = r.hops(name, r.bmcJumps[name])
			}
		}
	}
	return slices.SortedFunc(maps.Values(r.devices), func(a, b *device.Device) int { return cmp.Compare(a.Name, b.Name) })
}

// path makes a path of the file absolute.
func (r *resolver) path(t text) string {
	ref, err := secret.Ref{File: cmp.Or(t.value, "known_hosts")}.Absolute(r.dir)
	if err != nil {
		r.add(t.at, "known_hosts: %v", err)
	}
	return ref.File
}

func (r *resolver) index() {
	for _, e := range r.file.devices {
		if first, twice := r.entries[e.name.value]; twice {
			r.add(e.name.at, "device %s is there twice, first in line %d", quote(e.name.value), first.name.at.line)
			continue
		}
		r.entries[e.name.value] = e
	}
}

// references checks every name that stands for something defined elsewhere.
func (r *resolver) references() {
	r.settingsReferences("defaults", &r.file.defaults)
	for name, s := range r.file.sites {
		r.settingsReferences("site "+quote(name), &s.settings)
	}
	for name, g := range r.file.groups {
		r.settingsReferences("group "+quote(name), &g.settings)
	}
	for _, e := range r.file.devices {
		what := "device " + quote(e.name.value)
		r.settingsReferences(what, &e.settings)
		for _, g := range e.groups {
			if _, ok := r.file.groups[g.value]; !ok {
				r.add(g.at, "%s: group %s is not defined", what, quote(g.value)).near(g.value, maps.Keys(r.file.groups))
			}
		}
		if e.haPeer.set {
			if _, ok := r.entries[e.haPeer.value]; !ok {
				r.add(e.haPeer.at, "%s: ha_peer %s is no device of this inventory", what, quote(e.haPeer.value)).
					near(e.haPeer.value, maps.Keys(r.entries))
				e.haPeer = text{}
			}
		}
	}
}

// settingsReferences checks the names in one block and takes out the bad ones,
// so that one mistake is one error.
func (r *resolver) settingsReferences(what string, s *settings) {
	if t := &s.attrs[attrPlatform]; t.set && len(r.platforms) > 0 && !slices.Contains(r.platforms, t.value) {
		r.add(t.at, "%s: platform %s is not known (known: %s)", what, quote(t.value), strings.Join(r.platforms, ", ")).
			near(t.value, slices.Values(r.platforms))
	} else if t.set && (t.value == "" || len(t.value) > maxName) {
		r.add(t.at, "%s: bad platform %s", what, quote(t.value))
	}
	if t := &s.attrs[attrSite]; t.set {
		if _, ok := r.file.sites[t.value]; !ok {
			r.add(t.at, "%s: site %s is not defined", what, quote(t.value)).near(t.value, maps.Keys(r.file.sites))
			t.value = ""
		}
	}
	for _, a := range []attr{attrCredentials, attrBMCCredentials} {
		if t := &s.attrs[a]; t.set {
			if _, ok := r.file.credentials[t.value]; !ok {
				r.add(t.at, "%s: %s %s are not defined", what, a, quote(t.value)).near(t.value, maps.Keys(r.file.credentials))
				t.value = ""
			}
		}
	}
	for _, a := range []attr{attrJump, attrBMCJump} {
		t := &s.attrs[a]
		if !t.set || t.value == noJump {
			continue
		}
		if problem := r.checkJump(t.value); problem != "" {
			f := r.add(t.at, "%s: %s %s %s", what, a, quote(t.value), problem)
			if !strings.Contains(t.value, "@") {
				f.near(t.value, maps.Keys(r.entries))
			}
			t.value = noJump
		}
	}
}

func (r *resolver) checkJump(jump string) string {
	user, address, outside := strings.Cut(jump, "@")
	if !outside {
		if _, ok := r.entries[jump]; ok {
			return ""
		}
		return "is no device of this inventory, and no user@host:port"
	}
	if user == "" {
		return "has no user before the @"
	}
	if problem := checkUsername(user); problem != "" {
		return "has a user that " + problem
	}
	if _, _, err := parseAddress(address, defaultPort); err != nil {
		return "is not user@host:port: " + err.Error()
	}
	return ""
}

func (r *resolver) credentials(c *credentials) device.Credentials {
	at := func(ref secret.Ref) secret.Ref {
		abs, err := ref.Absolute(r.dir)
		if err != nil {
			r.add(c.name.at, "credentials %s: %v", quote(c.name.value), err)
		}
		return abs
	}
	return device.Credentials{
		Name:        c.name.value,
		Username:    c.username,
		Password:    at(c.password),
		PrivateKey:  at(c.privateKey),
		Passphrase:  at(c.passphrase),
		Certificate: at(c.certificate),
		Agent:       c.agent,
		Enable:      at(c.enable),
	}
}

// device applies groups, site and defaults to one entry.
func (r *resolver) device(e *entry) *device.Device {
	what := "device " + quote(e.name.value)
	groups := make([]*group, 0, len(e.groups))
	for _, name := range e.groups {
		if g, ok := r.file.groups[name.value]; ok {
			groups = append(groups, g)
		}
	}
	d := &device.Device{
		Name:       e.name.value,
		Host:       e.host,
		Port:       e.port,
		Covers:     slices.Sorted(slices.Values(e.covers)),
		HAPeer:     e.haPeer.value,
		KnownHosts: r.hosts,
		Labels:     r.labels(e, groups),
	}
	for _, g := range groups {
		d.Groups = append(d.Groups, g.name.value)
	}
	slices.Sort(d.Groups)

	siteName := r.pick(e, groups, attrSite, nil)
	home := r.file.sites[siteName.value]
	if home != nil {
		d.Site, d.Timezone = home.name.value, home.timezone
	}
	get := func(a attr) text { return r.pick(e, groups, a, home) }

	platform := get(attrPlatform)
	if d.Platform = platform.value; !platform.set {
		r.add(e.name.at, "%s: no platform: neither the device nor its groups nor the defaults give one", what)
	}
	creds := get(attrCredentials)
	if !creds.set {
		creds.value = defaultCredentials
	}
	if _, ok := r.file.credentials[creds.value]; !ok && !creds.set {
		r.add(e.name.at, "%s: no credentials: name some, or define ones called %q", what, defaultCredentials)
	}
	d.Credentials = r.creds[creds.value]
	d.SSH = sshSettings(get)
	r.jumps[d.Name] = r.jump(e, attrJump, get(attrJump), what, d.Credentials)
	if e.bmc != nil {
		d.BMC = r.bmc(e, what, get)
		r.bmcJumps[d.Name] = r.bmcJump(e, d, what, get(attrBMCJump))
	}
	return d
}

// pick gives the setting in force: the device's own, its groups', its site's,
// the defaults'.
func (r *resolver) pick(e *entry, groups []*group, a attr, home *site) text {
	if own := e.settings.attrs[a]; own.set {
		return own
	}
	var from *group
	for _, g := range groups {
		t := g.settings.attrs[a]
		switch {
		case !t.set:
		case from == nil:
			from = g
		case from.settings.attrs[a].value != t.value:
			r.disagree(e, a.String(), from.name.value, from.settings.attrs[a].value, g.name.value, t.value)
			return t
		}
	}
	if from != nil {
		return from.settings.attrs[a]
	}
	if home != nil {
		if t := home.settings.attrs[a]; t.set {
			return t
		}
	}
	return r.file.defaults.attrs[a]
}

func (r *resolver) disagree(e *entry, setting, group1, value1, group2, value2 string) {
	if value1 == "" || value2 == "" {
		return // one of them is an error of its own
	}
	r.add(e.name.at, "device %s: its groups disagree on %s: %s says %s, %s says %s; give the device its own",
		quote(e.name.value), setting, quote(group1), quote(value1), quote(group2), quote(value2))
}

func (r *resolver) labels(e *entry, groups []*group) map[string]string {
	out := map[string]string{}
	for _, l := range r.file.defaults.labels {
		out[l.key.value] = l.value.value
	}
	own := func(key string) bool {
		return slices.ContainsFunc(e.settings.labels, func(l label) bool { return l.key.value == key })
	}
	var from map[string]string // which group gave a label
	for _, g := range groups {
		for _, l := range g.settings.labels {
			key, value := l.key.value, l.value.value
			if first, given := from[key]; given && out[key] != value && !own(key) {
				r.disagree(e, "label "+key, first, cmp.Or(out[key], `""`), g.name.value, cmp.Or(value, `""`))
			}
			if from == nil {
				from = map[string]string{}
			}
			out[key], from[key] = value, g.name.value
		}
	}
	for _, l := range e.settings.labels {
		out[l.key.value] = l.value.value
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// sshSettings reads settings that the schema has checked.
func sshSettings(get func(attr) text) device.SSH {
	out := device.DefaultSSH()
	if t := get(attrMaxSessions); t.set {
		out.MaxSessions, _ = strconv.Atoi(t.value)
	}
	for a, into := range map[attr]*time.Duration{
		attrConnectTimeout: &out.ConnectTimeout,
		attrCommandTimeout: &out.CommandTimeout,
		attrKeepalive:      &out.Keepalive,
	} {
		if t := get(a); t.set {
			*into, _ = time.ParseDuration(t.value)
		}
	}
	out.LegacyAlgorithms = get(attrLegacyAlgorithms).value == "true"
	return out
}

func (r *resolver) bmc(e *entry, what string, get func(attr) text) *device.BMC {
	creds := get(attrBMCCredentials)
	if !creds.set {
		r.add(e.bmc.at, "%s: bmc: credentials are missing; a device's own are never sent to its BMC", what)
	}
	if c, ok := r.file.credentials[creds.value]; ok && c.password == (secret.Ref{}) {
		r.add(e.bmc.at, "%s: bmc: credentials %s have no password, which every BMC needs", what, quote(creds.value))
	}
	out := &device.BMC{
		Host:        e.bmc.host,
		Port:        e.bmc.port,
		Protocol:    cmp.Or(get(attrBMCProtocol).value, bmcAuto),
		Credentials: r.creds[creds.value],
		TLSPins:     e.bmc.pins,
		PlainHTTP:   get(attrBMCPlainHTTP).value == "true",
		KnownBMCs:   filepath.Join(filepath.Dir(r.hosts), knownBMCs),
	}
	if out.Protocol == bmcAuto && out.Port != 0 {
		r.add(e.bmc.at, "%s: bmc: the address has a port, so protocol must say what is there (supermicro_web, ipmi_lan or redfish)", what)
	}
	if out.PlainHTTP && len(out.TLSPins) > 0 {
		r.add(e.bmc.at, "%s: bmc: tls_pins have no meaning with plain_http, which sends the password without TLS", what)
	}
	return out
}

// bmcJump gives the jump host of a device's BMC, which is never the one of the
// device by itself: BMCs are often in another network.
func (r *resolver) bmcJump(e *entry, d *device.Device, what string, t text) text {
	t = r.jump(e, attrBMCJump, t, what, d.Credentials)
	switch at := cmp.Or(e.settings.attrs[attrBMCJump].at, e.bmc.at); {
	case t.value == d.Name:
		r.add(at, "%s: bmc: jump is the device itself, which does not answer when its BMC is needed", what)
		return text{}
	case t.value != "" && d.BMC.Protocol == bmcIPMI:
		r.add(at, "%s: bmc: jump %s cannot carry %s, which is UDP: SSH forwards TCP alone; set the protocol redfish or supermicro_web, or jump: none",
			what, quote(t.value), bmcIPMI)
	}
	return t
}

// jump gives the jump host in force. A device does not inherit itself.
func (r *resolver) jump(e *entry, a attr, t text, what string, creds device.Credentials) text {
	if !t.set || t.value == noJump || t.value == e.name.value && !e.settings.attrs[a].set {
		return text{}
	}
	if strings.Contains(t.value, "@") && creds.Name != "" && creds.PrivateKey.IsZero() && !creds.Agent {
		r.add(cmp.Or(e.settings.attrs[a].at, e.name.at),
			"%s: %s %s needs a private_key or the agent, which credentials %s do not have: a password is not sent to another host; make the jump host a device with credentials of its own",
			what, a, quote(t.value), quote(creds.Name))
	}
	return t
}

// pairs checks that the members of each HA pair name each other.
func (r *resolver) pairs() {
	for _, name := range slices.Sorted(maps.Keys(r.devices)) {
		e, d := r.entries[name], r.devices[name]
		if d.HAPeer == "" {
			continue
		}
		what := "device " + quote(name)
		if d.HAPeer == name {
			r.add(e.haPeer.at, "%s: ha_peer is the device itself", what)
			continue
		}
		peer := r.devices[d.HAPeer]
		switch {
		case peer.HAPeer == "":
			r.add(e.haPeer.at, "%s: ha_peer %s does not name %s as its ha_peer; both name each other", what, quote(peer.Name), quote(name))
		case peer.HAPeer != name:
			r.add(e.haPeer.at, "%s: ha_peer %s names %s as its ha_peer; both name each other", what, quote(peer.Name), quote(peer.HAPeer))
		case peer.Platform != d.Platform && name < peer.Name && peer.Platform != "" && d.Platform != "":
			r.add(e.haPeer.at, "%s is %s and its ha_peer %s is %s; a pair is of one platform", what, d.Platform, quote(peer.Name), peer.Platform)
		}
	}
}

// acyclic reports whether no chain of jump hosts comes back to where it was or
// is too long, telling each circle once.
func (r *resolver) acyclic() bool {
	const (
		onPath = 1
		done   = 2
	)
	state := map[string]int{}
	ok := true
	for _, start := range slices.Sorted(maps.Keys(r.devices)) {
		var path []string
		name := start
		for name != "" && state[name] == 0 {
			state[name] = onPath
			path = append(path, name)
			name = r.jumps[name].value
			if strings.Contains(name, "@") {
				name = ""
			}
		}
		if name != "" && state[name] == onPath {
			circle := append(path[slices.Index(path, name):], name)
			e := r.entries[name]
			r.add(cmp.Or(e.settings.attrs[attrJump].at, e.name.at), "jump hosts go in a circle: %s", strings.Join(circle, " -> "))
			ok = false
		}
		for _, p := range path {
			state[p] = done
		}
	}
	return ok
}

// hops gives the chain of jump hosts that ends with the one that a device names,
// nearest to us first.
func (r *resolver) hops(name string, jump text) []device.Hop {
	var out []device.Hop
	for ; jump.value != ""; jump = r.jumps[name] {
		if len(out) == maxHops {
			r.add(r.entries[name].name.at, "device %s: more than %d jump hosts one after the other", quote(name), maxHops)
			return nil
		}
		if user, address, outside := strings.Cut(jump.value, "@"); outside {
			out = append(out, r.outsideHop(r.devices[name], jump.value, user, address))
			break
		}
		d := r.devices[jump.value]
		out = append(out, device.Hop{Name: d.Name, Host: d.Host, Port: d.Port, Credentials: d.Credentials, SSH: d.SSH})
		name = d.Name
	}
	slices.Reverse(out)
	return out
}

// outsideHop is a jump host that is no device: it is given the key, with its
// certificate, and the agent of the device that names it, and neither its password
// nor its leave to use old algorithms.
func (r *resolver) outsideHop(d *device.Device, written, user, address string) device.Hop {
	host, port, _ := parseAddress(address, defaultPort)
	ssh := d.SSH
	ssh.LegacyAlgorithms = false
	return device.Hop{
		Name: written,
		Host: host,
		Port: port,
		Credentials: device.Credentials{
			Name:        d.Credentials.Name,
			Username:    user,
			PrivateKey:  d.Credentials.PrivateKey,
			Passphrase:  d.Credentials.Passphrase,
			Certificate: d.Credentials.Certificate,
			Agent:       d.Credentials.Agent,
		},
		SSH: ssh,
	}
}
