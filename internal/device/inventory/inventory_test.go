package inventory

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the machine may have no time zones of its own

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/secret"
)

func platforms() []string { return []string{"endace_osm", "f5_bigip", "linux"} }

// load parses a document as if it stood in /inv/inventory.yaml.
func load(tb testing.TB, doc string) *Inventory {
	tb.Helper()
	inv, err := parse([]byte(doc), "/inv/inventory.yaml", Options{Platforms: platforms()})
	if err != nil {
		tb.Fatal(err)
	}
	return inv
}

func get(t *testing.T, inv *Inventory, name string) *device.Device {
	t.Helper()
	d, err := inv.Device(name)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func hopNames(d *device.Device) []string {
	out := make([]string, 0, len(d.Jump))
	for _, h := range d.Jump {
		out = append(out, h.Name)
	}
	return out
}

// The example that newcomers copy must itself be right.
func TestExampleFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "..", "..", "inventory.yaml")
	inv, err := Load(path, Options{Platforms: platforms()})
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(root, "known_hosts"); inv.KnownHosts() != want {
		t.Errorf("known_hosts = %s, want %s", inv.KnownHosts(), want)
	}
	if got := len(inv.Devices()); got != 10 {
		t.Errorf("%d devices, want 10", got)
	}
	probe := get(t, inv, "lon-probe-03")
	if probe.Port != 2222 || !probe.SSH.LegacyAlgorithms || probe.SSH.CommandTimeout != 5*time.Minute || probe.Timezone != "Europe/London" {
		t.Errorf("lon-probe-03 = %+v", probe)
	}
	for name, want := range map[string][]string{
		"lon-ltm-01":   {"lon-bastion"},
		"lon-ltm-02":   {"ops@bastion.example.com:2222"},
		"nyc-probe-01": {"nyc-bastion"},
		"nyc-bastion":  {},
		"nyc-cap-01":   {},
	} {
		if diff := cmp.Diff(want, hopNames(get(t, inv, name))); diff != "" {
			t.Errorf("%s: jump hosts (-want +got):\n%s", name, diff)
		}
	}
	if v6 := get(t, inv, "nyc-probe-01"); v6.Host != "2001:db8::11" || v6.Port != 22 {
		t.Errorf("nyc-probe-01 is at %s port %d", v6.Host, v6.Port)
	}
	if b := get(t, inv, "lon-probe-02").BMC; b == nil || b.Protocol != "redfish" || b.Credentials.Username != "ADMIN" ||
		b.Credentials.Password.File != filepath.Join(root, "secrets", "bmc") {
		t.Errorf("lon-probe-02: bmc = %+v", b)
	}
	if _, err := inv.Select(Selection{Selector: "site=lon,role in (probe,adc),tier!=legacy"}); err != nil {
		t.Error(err)
	}
}

func TestDeviceIsFullyResolved(t *testing.T) {
	t.Parallel()
	inv := load(t, `
version: 1
known_hosts: keys/hosts
defaults: {ssh: {keepalive: 30s}, labels: {owner: net}}
sites: {lon: {timezone: Europe/London}}
credentials:
  default: {username: fleet, password: {env: FLEET_PASSWORD}, enable: {file: secrets/enable}}
  key: {username: root, private_key: {file: /keys/id}, passphrase: {env: PASS}, agent: true}
  bmc: {username: ADMIN, password: {file: ../bmc}}
groups:
  z: {platform: endace_osm, labels: {role: probe, n: 012}, ssh: {max_sessions: 4}}
  a: {site: lon, ssh: {max_sessions: 4, command_timeout: 90s}, labels: {owner: ops, role: adc}}
devices:
  - name: two
    address: bastion.example.com:2022
    platform: linux
    credentials: key
  - name: one
    address: 192.0.2.11
    groups: [z, a]
    labels: {role: cms, empty: ""}
    covers: [b, a]
    jump: two
    ssh: {legacy_algorithms: true}
    bmc: {address: "[2001:db8::1]:8443", protocol: redfish, credentials: bmc, jump: two, tls_pins: ["`+strings.Repeat("ab:", 31)+`AB", `+strings.Repeat("CD", 32)+`]}
`)
	key := device.Credentials{
		Name: "key", Username: "root", PrivateKey: secret.Ref{File: "/keys/id"},
		Passphrase: secret.Ref{Env: "PASS"}, Agent: true,
	}
	plain := device.DefaultSSH()
	plain.Keepalive = 30 * time.Second
	own := plain
	own.MaxSessions, own.CommandTimeout, own.LegacyAlgorithms = 4, 90*time.Second, true
	want := []*device.Device{{
		Name: "one", Platform: "endace_osm", Host: "192.0.2.11", Port: 22, Site: "lon", Timezone: "Europe/London",
		Groups: []string{"a", "z"},
		Labels: map[string]string{"role": "cms", "n": "012", "owner": "ops", "empty": ""},
		Covers: []string{"a", "b"},
		Credentials: device.Credentials{
			Name: "default", Username: "fleet",
			Password: secret.Ref{Env: "FLEET_PASSWORD"}, Enable: secret.Ref{File: "/inv/secrets/enable"},
		},
		SSH:        own,
		Jump:       []device.Hop{{Name: "two", Host: "bastion.example.com", Port: 2022, Credentials: key, SSH: plain}},
		KnownHosts: "/inv/keys/hosts",
		BMC: &device.BMC{Host: "2001:db8::1", Port: 8443, Protocol: "redfish", Credentials: device.Credentials{
			Name: "bmc", Username: "ADMIN", Password: secret.Ref{File: "/bmc"},
		}, TLSPins: []string{strings.Repeat("AB", 32), strings.Repeat("CD", 32)}, KnownBMCs: "/inv/keys/known_bmcs",
			Jump: []device.Hop{{Name: "two", Host: "bastion.example.com", Port: 2022, Credentials: key, SSH: plain}}},
	}, {
		Name: "two", Platform: "linux", Host: "bastion.example.com", Port: 2022, Credentials: key, SSH: plain,
		Labels: map[string]string{"owner": "net"}, KnownHosts: "/inv/keys/hosts",
	}}
	if diff := cmp.Diff(want, inv.Devices()); diff != "" {
		t.Errorf("devices (-want +got):\n%s", diff)
	}
	if inv.Path() != "/inv/inventory.yaml" {
		t.Errorf("path = %s", inv.Path())
	}
}

// Every place a secret can be in, with paths from the folder of the file.
func TestPlacesOfSecrets(t *testing.T) {
	t.Parallel()
	inv := load(t, `
version: 1
credentials:
  default:
    username: fleet
    password: {age: {file: secrets/p.age, identity: /etc/age.key}}
    private_key: {credential: fleet-key}
    certificate: {file: fleet-cert.pub}
    passphrase: {command: [bin/show, --entry, fleet/key, "", 012]}
    enable: {command: [pass, show, enable]}
devices:
  - {name: a, platform: linux, address: 192.0.2.1, jump: ops@gate.example.com}
`)
	command := func(args ...string) secret.Ref {
		c, err := secret.NewCommand(args...)
		if err != nil {
			t.Fatal(err)
		}
		return secret.Ref{Command: c}
	}
	want := device.Credentials{
		Name: "default", Username: "fleet",
		Password:    secret.Ref{Age: secret.Age{File: "/inv/secrets/p.age", Identity: "/etc/age.key"}},
		PrivateKey:  secret.Ref{Credential: "fleet-key"},
		Certificate: secret.Ref{File: "/inv/fleet-cert.pub"},
		Passphrase:  command("/inv/bin/show", "--entry", "fleet/key", "", "012"),
		Enable:      command("pass", "show", "enable"),
	}
	d := get(t, inv, "a")
	if diff := cmp.Diff(want, d.Credentials); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want.Username, want.Password, want.Enable = "ops", secret.Ref{}, secret.Ref{}
	if diff := cmp.Diff(want, d.Jump[0].Credentials); diff != "" {
		t.Errorf("what a jump host outside the inventory is given (-want +got):\n%s", diff)
	}
}

// For each setting: the device, its groups, its site, the defaults.
func TestWhoWins(t *testing.T) {
	t.Parallel()
	const doc = `
version: 1
defaults: {credentials: by-defaults, platform: linux, jump: far}
sites:
  plain: {}
  lon: {credentials: by-site, jump: near}
credentials:
  by-defaults: {username: a, agent: true}
  by-site: {username: a, agent: true}
  by-group: {username: a, agent: true}
  own: {username: a, agent: true}
groups:
  g: {credentials: by-group, site: lon, jump: far}
  h: {credentials: by-site}
devices:
  - {name: d-defaults, address: a, site: plain}
  - {name: d-site, address: b, site: lon}
  - {name: d-group, address: c, groups: [g]}
  - {name: d-own, address: d, groups: [g, h], credentials: own, jump: none}
  - {name: far, address: e}
  - {name: near, address: f, site: lon}
`
	inv := load(t, doc)
	for name, want := range map[string]struct {
		credentials string
		jump        []string
	}{
		"d-defaults": {"by-defaults", []string{"far"}},
		"d-site":     {"by-site", []string{"near"}},
		"d-group":    {"by-group", []string{"far"}},
		"d-own":      {"own", []string{}},
		"far":        {"by-defaults", []string{}}, // does not go through itself
		"near":       {"by-site", []string{}},
	} {
		d := get(t, inv, name)
		if d.Credentials.Name != want.credentials {
			t.Errorf("%s: credentials %s, want %s", name, d.Credentials.Name, want.credentials)
		}
		if diff := cmp.Diff(want.jump, hopNames(d)); diff != "" {
			t.Errorf("%s: jump (-want +got):\n%s", name, diff)
		}
	}
}

func TestJumpChainIsNearestFirst(t *testing.T) {
	t.Parallel()
	inv := load(t, `
version: 1
defaults: {platform: linux}
credentials:
  default: {username: fleet, password: {env: P}, private_key: {file: /id}, enable: {env: E}}
devices:
  - {name: inner, address: c, jump: middle}
  - {name: middle, address: b, jump: outer}
  - {name: outer, address: a, jump: "ops@gate.example.com", ssh: {legacy_algorithms: true}}
`)
	d := get(t, inv, "inner")
	if diff := cmp.Diff([]string{"ops@gate.example.com", "outer", "middle"}, hopNames(d)); diff != "" {
		t.Fatalf("chain (-want +got):\n%s", diff)
	}
	gate := d.Jump[0]
	want := device.Credentials{Name: "default", Username: "ops", PrivateKey: secret.Ref{File: "/id"}}
	if diff := cmp.Diff(want, gate.Credentials); diff != "" {
		t.Errorf("a host outside the inventory is given more than the key (-want +got):\n%s", diff)
	}
	if gate.Port != 22 || gate.SSH.LegacyAlgorithms {
		t.Errorf("gate = %+v", gate)
	}
	if !d.Jump[1].SSH.LegacyAlgorithms {
		t.Error("outer lost its own settings as a jump host")
	}
}

func TestLoadMissingAndOversized(t *testing.T) {
	t.Parallel()
	_, err := Load(filepath.Join(t.TempDir(), "none.yaml"), Options{})
	if !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "none.yaml does not exist") {
		t.Errorf("missing file: %v", err)
	}
	if _, err := Load(t.TempDir(), Options{}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a folder: %v", err)
	}
}

func TestPlatformsAreOptional(t *testing.T) {
	t.Parallel()
	doc := "version: 1\ncredentials: {default: {username: a, agent: true}}\ndevices: [{name: a, address: b, platform: cisco_ios}]\n"
	if _, err := parse([]byte(doc), "i.yaml", Options{}); err != nil {
		t.Errorf("without a list of platforms any is accepted: %v", err)
	}
	if _, err := parse([]byte(doc), "i.yaml", Options{Platforms: platforms()}); err == nil {
		t.Error("an unknown platform was accepted")
	}
}

func TestDevicesIsTheCallersSlice(t *testing.T) {
	t.Parallel()
	inv := load(t, fleet)
	slices.Reverse(inv.Devices())
	if inv.Devices()[0].Name != "lon-cms-01" {
		t.Error("the inventory's own slice was handed out")
	}
}
