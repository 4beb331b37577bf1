package inventory

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"capfleet/internal/fault"
)

// canary stands where a secret was written into the file by mistake.
const canary = "hunter2secret"

// base is a good file; each case below spoils it in one way.
const base = `version: 1
sites:
  lon: {timezone: Europe/London}
credentials:
  default: {username: fleet, password: {env: FLEET_PASSWORD}}
  key: {username: root, private_key: {file: ~/.ssh/id}}
groups:
  probes: {platform: endace_osm, labels: {role: probe}}
  adcs: {platform: f5_bigip, labels: {role: adc}}
devices:
  - name: lon-probe-01
    address: 192.0.2.11
    site: lon
    groups: [probes]
  - name: lon-ltm-01
    address: 192.0.2.21
    groups: [adcs]
    ha_peer: lon-ltm-02
  - name: lon-ltm-02
    address: 192.0.2.22
    groups: [adcs]
    ha_peer: lon-ltm-01
`

func problemsOf(t *testing.T, doc string) *FileError {
	t.Helper()
	inv, err := parse([]byte(doc), "inv.yaml", Options{Platforms: platforms()})
	if err == nil {
		t.Fatalf("accepted: %v", names(inv.Devices()))
	}
	if !fault.Is(err, fault.Invalid) || fault.KindOf(err).ExitCode() != fault.ExitUsage {
		t.Errorf("kind %s", fault.KindOf(err))
	}
	var bad *FileError
	if !errors.As(err, &bad) {
		t.Fatalf("no FileError: %v", err)
	}
	return bad
}

// Each mistake is told once, where it stands, with the nearest name.
func TestEachMistake(t *testing.T) {
	t.Parallel()
	load(t, base)
	for name, c := range map[string]struct {
		old, new string   // replaced in base
		want     []string // the whole errors
	}{
		"top level":      {"sites:", "site:", []string{`2:1: the inventory: unknown key "site"; did you mean "sites"?`, `13:11: device "lon-probe-01": site "lon" is not defined`}},
		"device":         {"    address: 192.0.2.11", "    addresss: 192.0.2.11", []string{`11:5: device "lon-probe-01": address is missing`, `12:5: device "lon-probe-01": unknown key "addresss"; did you mean "address"?`}},
		"group":          {"probes: {platform:", "probes: {platfomr:", []string{`8:12: group "probes": unknown key "platfomr"; did you mean "platform"?`, `11:11: device "lon-probe-01": no platform: neither the device nor its groups nor the defaults give one`}},
		"credentials":    {"{username: root,", "{user: root,", []string{`6:3: credentials "key": username is missing`, `6:9: credentials "key": unknown key "user" (known: username, password, private_key, passphrase, certificate, agent, enable)`}},
		"site":           {"{timezone:", "{tz:", []string{`3:9: site "lon": unknown key "tz" (known: timezone, credentials, jump)`}},
		"far from all":   {"    site: lon", "    zzzzzzzz: lon", []string{`13:5: device "lon-probe-01": unknown key "zzzzzzzz" (known: name, address, platform, site, groups, labels, credentials, covers, ha_peer, jump, ssh, bmc)`}},
		"twice in a map": {"    site: lon", "    site: lon\n    site: lon", []string{`14:5: device "lon-probe-01": "site" is given twice, first in line 13`}},
		"merge key":      {"probes: {platform", "probes: {<<: {}, platform", []string{`8:12: group "probes": merge keys (<<) are not supported; groups are for sharing settings`}},

		"no version":       {"version: 1\n", "", []string{"1:1: version is missing: this program reads version: 1"}},
		"version 2":        {"version: 1\n", "version: 2\nnew_section: {}\n", []string{"1:10: version 2 is newer than this program, which reads version: 1; a newer fleetd is needed"}},
		"version of words": {"version: 1\n", "version: one\n", []string{`1:10: version "one" is not a version number; this program reads version: 1`}},
		"version 0":        {"version: 1\n", "version: 0\n", []string{`1:10: version "0" is not a version number; this program reads version: 1`}},
		"version null":     {"version: 1\n", "version:\n", []string{"1:9: version has no value"}},

		"undefined site":        {"    site: lon", "    site: lno", []string{`13:11: device "lon-probe-01": site "lno" is not defined; did you mean "lon"?`}},
		"undefined group":       {"groups: [probes]", "groups: [probe]", []string{`11:11: device "lon-probe-01": no platform: neither the device nor its groups nor the defaults give one`, `14:14: device "lon-probe-01": group "probe" is not defined; did you mean "probes"?`}},
		"undefined credentials": {"    site: lon", "    credentials: kye", []string{`13:18: device "lon-probe-01": credentials "kye" are not defined; did you mean "key"?`}},
		"in a group":            {"{platform: endace_osm,", "{platform: endace_osm, credentials: kay,", []string{`8:47: group "probes": credentials "kay" are not defined; did you mean "key"?`}},
		"unknown platform":      {"platform: endace_osm", "platform: endace_os", []string{`8:22: group "probes": platform "endace_os" is not known (known: endace_osm, f5_bigip, linux); did you mean "endace_osm"?`}},
		"undefined peer":        {"ha_peer: lon-ltm-02", "ha_peer: lon-ltm-2", []string{`18:14: device "lon-ltm-01": ha_peer "lon-ltm-2" is no device of this inventory; did you mean "lon-ltm-02"?`, `22:14: device "lon-ltm-02": ha_peer "lon-ltm-01" does not name "lon-ltm-02" as its ha_peer; both name each other`}},
		"undefined jump":        {"    site: lon", "    jump: lon-ltm-1", []string{`13:11: device "lon-probe-01": jump "lon-ltm-1" is no device of this inventory, and no user@host:port; did you mean "lon-ltm-01"?`}},
		"no credentials at all": {"  default: {", "  other: {", []string{
			`11:11: device "lon-probe-01": no credentials: name some, or define ones called "default"`,
			`15:11: device "lon-ltm-01": no credentials: name some, or define ones called "default"`,
			`19:11: device "lon-ltm-02": no credentials: name some, or define ones called "default"`,
		}},

		"duplicate device": {"name: lon-ltm-02", "name: lon-ltm-01", []string{
			`18:14: device "lon-ltm-01": ha_peer "lon-ltm-02" is no device of this inventory; did you mean "lon-ltm-01"?`,
			`19:11: device "lon-ltm-01" is there twice, first in line 15`,
		}},
		"duplicate group":    {"  adcs: {", "  probes: {", []string{`9:3: groups: "probes" is given twice, first in line 8`, `17:14: device "lon-ltm-01": group "adcs" is not defined`, `15:11: device "lon-ltm-01": no platform`, `19:11`, `21:14`}},
		"group given twice":  {"groups: [probes]", "groups: [probes, probes]", []string{`14:22: device "lon-probe-01": groups: "probes" is given twice`}},
		"cover given twice":  {"    site: lon", "    covers: [a, a]", []string{`13:17: device "lon-probe-01": covers: "a" is given twice`}},
		"cover with a space": {"    site: lon", `    covers: ["core a"]`, []string{`13:14: device "lon-probe-01": covers: bad name "core a": 1 to 63 letters, digits, dots, - and _, with a letter or digit at both ends`}},

		"path in a name":   {"name: lon-probe-01", "name: ../probe", []string{`11:11: device: bad name "../probe": 1 to 63`}},
		"glob in a name":   {"name: lon-probe-01", `name: "lon-*"`, []string{`11:11: device: bad name "lon-*": 1 to 63`}},
		"long name":        {"name: lon-probe-01", "name: " + strings.Repeat("x", 64), []string{`11:11: device: bad name "` + strings.Repeat("x", 64) + `": 1 to 63`}},
		"escape in a name": {"name: lon-probe-01", `name: "a\eb"`, []string{`11:11: device: bad name "a\x1bb": 1 to 63`}},
		"called none":      {"name: lon-probe-01", "name: none", []string{`11:11: a device cannot be called "none": that word takes away a jump host`}},
		"no name":          {"  - name: lon-probe-01\n    address", "  - address", []string{"11:5: a device: name is missing"}},
		"empty name":       {"name: lon-probe-01", "name:", []string{`11:10: a device: name has no value`}},

		"bad port":        {"192.0.2.11", "192.0.2.11:70000", []string{`12:14: device "lon-probe-01": bad address "192.0.2.11:70000": port "70000" is not a number from 1 to 65535`}},
		"bad IPv4":        {"192.0.2.11", "192.0.2.256", []string{`12:14: device "lon-probe-01": bad address "192.0.2.256": "192.0.2.256" is no IPv4 address`}},
		"v6 and a port":   {"192.0.2.11", `"[2001:db8::1]:x"`, []string{`12:14: device "lon-probe-01": bad address "[2001:db8::1]:x": port "x" is not a number from 1 to 65535`}},
		"unquoted v6":     {"192.0.2.11", "[2001:db8::1]", []string{`12:14: device "lon-probe-01": address must be text, not a list (text that begins with [ must be quoted)`}},
		"URL":             {"192.0.2.11", "ssh://host", []string{`12:14: device "lon-probe-01": bad address "ssh://host": port "//host" is not a number from 1 to 65535`}},
		"address missing": {"    address: 192.0.2.11\n", "", []string{`11:5: device "lon-probe-01": address is missing`}},
		"address null":    {"192.0.2.11", "~", []string{`12:14: device "lon-probe-01": address has no value`}},

		"list for a mapping": {"sites:\n  lon: {timezone: Europe/London}", "sites: [lon]", []string{"2:8: sites must be a mapping (key: value), not a list", `12:11: device "lon-probe-01": site "lon" is not defined`}},
		"mapping for a list": {"groups: [probes]", "groups: {probes: x}", []string{`11:11: device "lon-probe-01": no platform`, `14:13: device "lon-probe-01": groups must be a list, not a mapping`}},
		"text for a list":    {"groups: [probes]", "groups: probes", []string{`11:11: device "lon-probe-01": no platform`, `14:13: device "lon-probe-01": groups must be a list, not a single value`}},
		"no time zone":       {"Europe/London", "Europe/Lundon", []string{`3:19: site "lon": "Europe/Lundon" is no time zone: an IANA name such as Europe/London is expected`}},
		"time zone Local":    {"Europe/London", "Local", []string{`3:19: site "lon": "Local" is no time zone`}},

		"ssh without a unit":   {"    site: lon", "    ssh: {keepalive: 20}", []string{`13:22: device "lon-probe-01": ssh.keepalive is a time with its unit, such as 20s or 1m30s, not "20"`}},
		"ssh too long":         {"    site: lon", "    ssh: {connect_timeout: 1h}", []string{`13:28: device "lon-probe-01": ssh.connect_timeout is from 1s to 10m0s, not "1h"`}},
		"ssh key":              {"    site: lon", "    ssh: {max_session: 3}", []string{`13:11: device "lon-probe-01": ssh: unknown key "max_session"; did you mean "max_sessions"?`}},
		"ssh no sessions":      {"    site: lon", "    ssh: {max_sessions: 0}", []string{`13:25: device "lon-probe-01": ssh.max_sessions is a number from 1 to 100, not "0"`}},
		"ssh yes":              {"    site: lon", "    ssh: {legacy_algorithms: yes}", []string{`13:30: device "lon-probe-01": ssh.legacy_algorithms is true or false, not "yes"`}},
		"label key":            {"{role: probe}", "{ro le: probe}", []string{`8:43: group "probes": labels: bad key "ro le"`}},
		"label value":          {"{role: probe}", "{role: a b}", []string{`8:43: group "probes": labels: bad value "a b" of role`}},
		"label called site":    {"{role: probe}", "{site: lon}", []string{`8:43: group "probes": labels: "site" is no label of its own: selectors take it from the device`}},
		"label without value":  {"{role: probe}", "{role: }", []string{`8:49: group "probes": labels: role has no value`}},
		"groups disagree":      {"groups: [probes]", "groups: [probes, adcs]", []string{`11:11: device "lon-probe-01": its groups disagree on platform: "probes" says "endace_osm", "adcs" says "f5_bigip"; give the device its own`, `11:11: device "lon-probe-01": its groups disagree on label role: "probes" says "probe", "adcs" says "adc"; give the device its own`}},
		"own peer":             {"    ha_peer: lon-ltm-02", "    ha_peer: lon-ltm-01", []string{`18:14: device "lon-ltm-01": ha_peer is the device itself`, `22:14: device "lon-ltm-02": ha_peer "lon-ltm-01" names "lon-ltm-01" as its ha_peer; both name each other`}},
		"one-sided pair":       {"    ha_peer: lon-ltm-02\n", "", []string{`21:14: device "lon-ltm-02": ha_peer "lon-ltm-01" does not name "lon-ltm-02" as its ha_peer; both name each other`}},
		"pair of 2 platforms":  {"192.0.2.22\n    groups: [adcs]", "192.0.2.22\n    platform: linux", []string{`18:14: device "lon-ltm-01" is f5_bigip and its ha_peer "lon-ltm-02" is linux; a pair is of one platform`}},
		"jump through itself":  {"    site: lon", "    jump: lon-probe-01", []string{`13:11: jump hosts go in a circle: lon-probe-01 -> lon-probe-01`}},
		"jump without a key":   {"    site: lon", "    jump: ops@gate", []string{`13:11: device "lon-probe-01": jump "ops@gate" needs a private_key or the agent, which credentials "default" do not have: a password is not sent to another host; make the jump host a device with credentials of its own`}},
		"jump without a user":  {"    site: lon", `    jump: "@gate"`, []string{`13:11: device "lon-probe-01": jump "@gate" has no user before the @`}},
		"jump to a bad port":   {"    site: lon", "    jump: a@b:0", []string{`13:11: device "lon-probe-01": jump "a@b:0" is not user@host:port: port "0" is not a number from 1 to 65535`}},
		"bmc protocol":         {"    site: lon", "    bmc: {address: 192.0.2.9, protocol: redfihs, credentials: default}", []string{`13:41: device "lon-probe-01": bmc: unknown protocol "redfihs" (known: auto, supermicro_web, ipmi_lan, redfish); did you mean "redfish"?`}},
		"bmc credentials":      {"    site: lon", "    bmc: {address: 192.0.2.9}", []string{`13:10: device "lon-probe-01": bmc: credentials are missing; a device's own are never sent to its BMC`}},
		"bmc without password": {"    site: lon", "    bmc: {address: 192.0.2.9, credentials: key}", []string{`13:10: device "lon-probe-01": bmc: credentials "key" have no password, which every BMC needs`}},
		"bmc pin":              {"    site: lon", "    bmc: {address: 192.0.2.9, credentials: default, tls_pins: [ab12]}", []string{`13:64: device "lon-probe-01": bmc: tls_pins: "ab12" is no SHA-256 fingerprint of a certificate: 64 hexadecimal digits, with or without colons`}},
		"bmc port":             {"    site: lon", "    bmc: {address: 192.0.2.9:8443, credentials: default}", []string{`13:10: device "lon-probe-01": bmc: the address has a port, so protocol must say what is there (supermicro_web, ipmi_lan or redfish)`}},
		"bmc in the clear":     {"    site: lon", "    bmc: {address: 192.0.2.9, credentials: default, plain_http: yes}", []string{`13:65: device "lon-probe-01": bmc: plain_http is true or false, not "yes"`}},
		"bmc jump of itself":   {"    site: lon", "    bmc: {address: 192.0.2.9, credentials: default, protocol: redfish, jump: lon-probe-01}", []string{`13:78: device "lon-probe-01": bmc: jump is the device itself, which does not answer when its BMC is needed`}},
		"bmc jump of nobody":   {"    site: lon", "    bmc: {address: 192.0.2.9, credentials: default, protocol: redfish, jump: lon-probe-O2}", []string{`13:78: device "lon-probe-01": bmc.jump "lon-probe-O2" is no device of this inventory, and no user@host:port; did you mean "lon-probe-01"?`}},
		"bmc address":          {"    site: lon", "    bmc: {credentials: default}", []string{`13:10: device "lon-probe-01": bmc: address is missing`}},

		"username":             {"username: fleet,", `username: "fl eet",`, []string{`5:23: credentials "default": username holds a space or a control character`}},
		"no way to log in":     {", private_key: {file: ~/.ssh/id}", "", []string{`6:3: credentials "key": one of password, private_key and agent is needed`}},
		"passphrase alone":     {"private_key: {file: ~/.ssh/id}", "agent: true, passphrase: {env: P}", []string{`6:3: credentials "key": a passphrase without a private_key`}},
		"env and file":         {"{env: FLEET_PASSWORD}", "{env: A, file: b}", []string{`5:40: credentials "default": password: exactly one place is expected: {env: VARIABLE}, {file: PATH}, {credential: NAME}, {age: {file: PATH, identity: PATH}} or {command: [PROGRAM, ARGUMENT]}`}},
		"neither":              {"{env: FLEET_PASSWORD}", "{}", []string{`5:40: credentials "default": password: exactly one place`}},
		"certificate alone":    {"private_key: {file: ~/.ssh/id}", "agent: true, certificate: {file: c}", []string{`6:3: credentials "key": a certificate without a private_key`}},
		"file and command":     {"{env: FLEET_PASSWORD}", "{file: a, command: [b]}", []string{`5:40: credentials "default": password: exactly one place`}},
		"age without identity": {"{env: FLEET_PASSWORD}", "{age: {file: a.age}}", []string{`5:46: credentials "default": password: age needs both: {file: PATH, identity: PATH}`}},
		"age as text":          {"{env: FLEET_PASSWORD}", "{age: a.age}", []string{`5:46: credentials "default": password: age must say which file and what opens it: {file: PATH, identity: PATH}`}},
		"age with a slip":      {"{env: FLEET_PASSWORD}", "{age: {file: a, key: b}}", []string{`5:56: credentials "default": password: age: unknown key: {file: PATH, identity: PATH} is expected`}},
		"command as text":      {"{env: FLEET_PASSWORD}", "{command: pass show x}", []string{`5:50: credentials "default": password: command must be a list, [PROGRAM, ARGUMENT, ...]: it is not given to a shell`}},
		"command of nothing":   {"{env: FLEET_PASSWORD}", "{command: []}", []string{`5:50: credentials "default": password: command: the command has no program`}},
		"command of no name":   {"{env: FLEET_PASSWORD}", `{command: ["", a]}`, []string{`5:50: credentials "default": password: command: the command has no program`}},
		"command with null":    {"{env: FLEET_PASSWORD}", `{command: [a, ~]}`, []string{`5:54: credentials "default": password: command: each argument is text (quote what YAML takes for something else)`}},
		"command with NUL":     {"{env: FLEET_PASSWORD}", `{command: [a, "b\0c"]}`, []string{`5:50: credentials "default": password: command: an argument of the command is not text`}},
		"credential as path":   {"{env: FLEET_PASSWORD}", "{credential: ../x}", []string{`5:53: credentials "default": password: credential: that is not the name of a systemd credential (a file name of printable ASCII without / \ : and spaces)`}},
		"env twice":            {"{env: FLEET_PASSWORD}", "{env: A, env: B}", []string{`5:49: credentials "default": password: env is given twice`}},
		"agent of no value":    {"private_key: {file: ~/.ssh/id}", "agent: ssh", []string{`6:32: credentials "key": agent is true or false, not "ssh"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if strings.Count(base, c.old) != 1 {
				t.Fatalf("%q is in the base file %d times", c.old, strings.Count(base, c.old))
			}
			bad := problemsOf(t, strings.Replace(base, c.old, c.new, 1))
			got := make([]string, 0, len(bad.Problems))
			for _, p := range bad.Problems {
				got = append(got, fmt.Sprintf("%d:%d: %s", p.Line, p.Column, p.Text))
			}
			for _, w := range c.want {
				if !slices.ContainsFunc(got, func(g string) bool { return strings.HasPrefix(g, w) }) {
					t.Errorf("missing: %s", w)
				}
			}
			if len(got) != len(c.want) || t.Failed() {
				t.Errorf("told:\n  %s", strings.Join(got, "\n  "))
			}
		})
	}
}

// Whatever form a secret has that was written into the file, it is not repeated.
func TestSecretsAreRefusedAndNotRepeated(t *testing.T) {
	t.Parallel()
	for _, form := range []string{
		canary, `"` + canary + `"`, "!vault " + canary, "!" + canary, "*" + canary, "[" + canary + "]", "{" + canary + "}", "{" + canary + ": x}",
		"{value: " + canary + "}", "{env: " + canary + "!}", "|\n      " + canary, "{env: [" + canary + "]}", "@" + canary, "%" + canary, "'" + canary, `"\q` + canary,
		"{env: X, " + canary + "}", "{env: X}: " + canary, "- " + canary, "&" + canary, canary + ": " + canary, "{file: {" + canary + ": 1}}",
		"{command: " + canary + "}", "{command: [{" + canary + ": x}]}", "{age: " + canary + "}", "{age: {" + canary + ": x}}", "{credential: /" + canary + "}", "{command: [\"\\0\", " + canary + "]}", "{file: x, command: [" + canary + "]}",
		"? " + canary, "`" + canary, "]" + canary, canary + "\n" + canary, "{env: X" + canary, "[[" + canary,
	} {
		doc := strings.Replace(base, "{username: fleet, password: {env: FLEET_PASSWORD}}", "\n    username: fleet\n    password: "+form, 1)
		_, err := parse([]byte(doc), "inv.yaml", Options{})
		if err == nil {
			t.Errorf("accepted: %s", form)
			continue
		}
		if strings.Contains(err.Error(), canary) {
			t.Errorf("%s is repeated: %v", form, err)
		}
		if !strings.Contains(err.Error(), "inv.yaml:") {
			t.Errorf("%s: no place: %v", form, err)
		}
	}
	bad := problemsOf(t, strings.Replace(base, "{env: FLEET_PASSWORD}", canary, 1))
	const want = `credentials "default": password must say where the secret is: {env: VARIABLE}, {file: PATH}, {credential: NAME}, {age: {file: PATH, identity: PATH}} or {command: [PROGRAM, ARGUMENT]}; a secret itself is never written into the inventory`
	if len(bad.Problems) != 1 || bad.Problems[0].Text != want {
		t.Errorf("got %v", bad)
	}
}

func TestSyntaxErrorsHaveTheirPlace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		doc  string
		line int
		want string
	}{
		"indentation":     {"version: 1\ndevices:\n  - name: a\n   address: b\n", 4, "not allowed"},
		"open bracket":    {"version: 1\ndevices: [\n  {name: a}\n", 2, ""},
		"colon":           {"version: 1\nsites: lon: x\n", 2, "mapping"},
		"tab":             {"version: 1\n\tsites: {}\n", 2, "cannot start any token"},
		"open quote":      {"version: 1\nsites: {lon: {timezone: \"Europe}}\n", 2, ""},
		"unquoted v6":     {"version: 1\ndevices:\n  - name: a\n    address: [2001:db8::1]:22\n", 4, `must be quoted: "[2001:db8::1]:22"`},
		"unknown alias":   {"version: 1\ndevices: *all\n", 2, "must be quoted"},
		"second document": {"version: 1\ndevices: []\n---\nversion: 1\n", 4, "a second document"},
		"not UTF-8":       {"version: 1\n# \xff\n", 2, "not plain UTF-8 text: byte 0xff"},
		"control":         {"version: 1\nsites: \x01\n", 2, "byte 0x01"},
		"too deep":        {"version: " + strings.Repeat("[", 20_000), 1, ""},
		"deep lists":      {"version:\n" + strings.Repeat("- ", 20_000), 2, ""},
		"empty":           {"", 1, "the file is empty"},
		"a comment":       {"# nothing\n", 1, "the file is empty"},
		"a word":          {"version\n", 1, "the inventory must be a mapping"},
		"null":            {"~\n", 1, "the inventory must be a mapping (key: value), not nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := problemsOf(t, c.doc)
			if p := bad.Problems[0]; len(bad.Problems) != 1 || p.Line != c.line || !strings.Contains(p.Text, c.want) || strings.Contains(p.Text, "\n") {
				t.Errorf("want line %d %q, got %v", c.line, c.want, bad)
			}
		})
	}
}

func TestCircles(t *testing.T) {
	t.Parallel()
	device := func(name, jump string) string {
		return fmt.Sprintf("  - {name: %s, address: %s.example.com, platform: linux, jump: %s}\n", name, name, jump)
	}
	const head = "version: 1\ncredentials: {default: {username: a, agent: true}}\ndevices:\n"
	bad := problemsOf(t, head+device("a", "b")+device("b", "c")+device("c", "a")+device("d", "a")+device("x", "y")+device("y", "x"))
	got := make([]string, 0, len(bad.Problems))
	for _, p := range bad.Problems {
		got = append(got, p.Text)
	}
	want := []string{"jump hosts go in a circle: a -> b -> c -> a", "jump hosts go in a circle: x -> y -> x"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	var long strings.Builder
	long.WriteString(head)
	for i := range 12 {
		long.WriteString(device(fmt.Sprintf("n%02d", i), fmt.Sprintf("n%02d", i+1)))
	}
	if bad := problemsOf(t, long.String()+device("n12", "none")); !strings.Contains(bad.Error(), "more than 8 jump hosts") {
		t.Errorf("got %v", bad)
	}
}

// All mistakes at once, in the order of the file, but not without end.
func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	doc := strings.NewReplacer("site: lon", "site: lno", "192.0.2.21", "192.0.2.999", "timezone:", "timzone:").Replace(base)
	_, err := parse([]byte(doc), "/etc/fleetd/inventory.yaml", Options{Platforms: platforms()})
	const want = `load inventory: 3 errors
  /etc/fleetd/inventory.yaml:3:9: site "lon": unknown key "timzone"; did you mean "timezone"?
  /etc/fleetd/inventory.yaml:13:11: device "lon-probe-01": site "lno" is not defined; did you mean "lon"?
  /etc/fleetd/inventory.yaml:16:14: device "lon-ltm-01": bad address "192.0.2.999": "192.0.2.999" is no IPv4 address`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
	var many strings.Builder
	many.WriteString("version: 1\ndevices:\n")
	for i := range 200 {
		fmt.Fprintf(&many, "  - {name: d%d, address: a, platform: x}\n", i)
	}
	bad := problemsOf(t, many.String())
	if len(bad.Problems) != maxProblems || bad.More != 350 || !strings.HasSuffix(bad.Error(), "and 350 more") {
		t.Errorf("%d problems and %d more", len(bad.Problems), bad.More)
	}
	if !slices.IsSortedFunc(bad.Problems, func(a, b Problem) int { return a.Line - b.Line }) {
		t.Error("not in the order of the file")
	}
}

func TestOneProblemIsOneLine(t *testing.T) {
	t.Parallel()
	_, err := parse([]byte(strings.Replace(base, "site: lon", "site: lno", 1)), "inv.yaml", Options{Platforms: platforms()})
	const want = `load inventory: inv.yaml:13:11: device "lon-probe-01": site "lno" is not defined; did you mean "lon"?`
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestAliases(t *testing.T) {
	t.Parallel()
	inv := load(t, `
version: 1
credentials: {default: {username: a, agent: true}}
groups:
  g: &shared {platform: linux, labels: {a: b}}
  h: *shared
devices:
  - {name: one, address: a, groups: [g, h]}
  - {name: two, address: b, groups: &list [h]}
  - {name: three, address: c, groups: *list}
`)
	if got := len(inv.Devices()); got != 3 {
		t.Errorf("%d devices", got)
	}
	// An alias of what it stands in cannot keep the walk going.
	_ = problemsOf(t, "version: 1\ndevices: &d [*d, {name: x, address: y, labels: &l {a: *l}}]\n")
}
