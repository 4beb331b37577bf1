package inventory

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseAddress(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]struct {
		host string
		port int
	}{
		"192.0.2.1":            {"192.0.2.1", 22},
		"192.0.2.1:2222":       {"192.0.2.1", 2222},
		"host":                 {"host", 22},
		"host.example.com.":    {"host.example.com.", 22},
		"host_1.example:65535": {"host_1.example", 65535},
		"4host.example.4com":   {"4host.example.4com", 22},
		"::1":                  {"::1", 22},
		"2001:db8::11":         {"2001:db8::11", 22},
		"[2001:db8::11]":       {"2001:db8::11", 22},
		"[2001:db8::11]:830":   {"2001:db8::11", 830},
		"fe80::1%eth0":         {"fe80::1%eth0", 22},
		"[fe80::1%eth0]:22":    {"fe80::1%eth0", 22},
		"::ffff:192.0.2.1":     {"::ffff:192.0.2.1", 22},
	} {
		if host, port, err := parseAddress(in, 22); err != nil || host != want.host || port != want.port {
			t.Errorf("%q: %q, %d, %v", in, host, port, err)
		}
	}
	for _, in := range []string{
		"", ":22", "host:", "host:0", "host:65536", "host:+22", "host:-1", "host:22x", "host:٢٢", "a b", "a/b", "user@host", "-host", "host-", "a..b", ".a",
		"192.0.2", "192.0.2.256", "192.0.2.01", "1", "host.1", "[192.0.2.1]:22", "[::1", "[::1]22", "[::1]:", "[]:22", "::1:x", "2001:db8:::1", "host:22:23",
		"höst", "a*", strings.Repeat("a", 64), strings.Repeat("a.", 127) + "abc",
	} {
		if host, port, err := parseAddress(in, 22); err == nil {
			t.Errorf("%q was read as %q, %d", in, host, port)
		}
	}
}

func TestWarnings(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("s"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // past the umask
			t.Fatal(err)
		}
		return path
	}
	open := write("open", 0o644)
	write("closed", 0o600)
	t.Setenv("INVENTORY_TEST_SET", "x")
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	path := filepath.Join(dir, "inventory.yaml")
	doc := `
version: 1
credentials:
  default: {username: a, password: {env: INVENTORY_TEST_UNSET}, private_key: {file: closed}}
  other: {username: a, password: {file: open}, enable: {env: INVENTORY_TEST_SET}}
  lost: {username: a, password: {file: missing}, enable: {command: [bin/none, x]}}
  sealed: {username: a, password: {age: {file: a.age, identity: open}}, private_key: {age: {file: b.age, identity: open}}, certificate: {file: open}}
  renewed: {username: a, private_key: {file: closed}, certificate: {file: gone-cert.pub}, enable: {credential: enable}}
  unused: {username: a, password: {file: not-even-there}}
devices:
  - {name: a, platform: linux, address: 192.0.2.1}
  - {name: b, platform: linux, address: "192.0.2.1:22", credentials: other}
  - {name: c, platform: linux, address: 192.0.2.1, jump: a}
  - {name: d, platform: linux, address: 192.0.2.4, bmc: {address: 192.0.2.9, credentials: lost}}
  - {name: e, platform: linux, address: 192.0.2.5, credentials: sealed}
  - {name: f, platform: linux, address: 192.0.2.6, credentials: renewed}
`
	if err := os.WriteFile(path, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	inv, err := Load(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"devices a and b have one address, 192.0.2.1:22",
		"known_hosts file " + filepath.Join(dir, "known_hosts") + " does not exist: every device will be refused until its host key is pinned",
		"systemd credential enable: CREDENTIALS_DIRECTORY is not set: start fleetd from a systemd unit with LoadCredential=enable:PATH",
		"command " + filepath.Join(dir, "bin", "none") + " cannot be started: no such file or directory",
		"age identity " + open + " can be read by everybody (mode 0644): chmod 600 it",
		"age file " + filepath.Join(dir, "a.age") + " does not exist",
		"age file " + filepath.Join(dir, "b.age") + " does not exist",
		"secret file " + filepath.Join(dir, "missing") + " does not exist",
		"secret file " + open + " can be read by everybody (mode 0644): chmod 600 it",
		"environment variable INVENTORY_TEST_UNSET is not set or empty",
		"certificate file " + filepath.Join(dir, "gone-cert.pub") + " does not exist",
	}
	if diff := cmp.Diff(want, inv.Warnings()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWarningOfUnpinnedBMCs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "inventory.yaml")
	doc := `version: 1
credentials: {default: {username: u, password: {env: HOME}}}
defaults: {platform: linux, bmc: {credentials: default}}
devices:
  - {name: a, address: 192.0.2.1, bmc: {address: 192.0.2.101, protocol: redfish}}
  - {name: b, address: 192.0.2.2, bmc: {address: 192.0.2.102, protocol: ipmi_lan}}
  - {name: c, address: 192.0.2.3, bmc: {address: 192.0.2.103, protocol: supermicro_web, plain_http: true}}
`
	if err := os.WriteFile(path, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	inv, err := Load(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(dir, "known_bmcs") + " does not exist: 1 BMCs will be refused until their certificates are pinned (fleetctl device trust --bmc)"
	if got := inv.Warnings(); !slices.Contains(got, want) {
		t.Errorf("%q", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "known_bmcs"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := inv.Warnings(); slices.Contains(got, want) {
		t.Errorf("%q", got)
	}
}

// TestBMCJump: a BMC goes through its own jump host and not through its device's, a
// jump host in the group does not go through itself, and UDP goes through none.
func TestBMCJump(t *testing.T) {
	t.Parallel()
	load := func(protocol string) (*Inventory, error) {
		path := filepath.Join(t.TempDir(), "inventory.yaml")
		doc := `version: 1
credentials: {default: {username: u, password: {env: HOME}}}
groups: {all: {platform: linux, bmc: {credentials: default, jump: gate, protocol: ` + protocol + `}}}
devices:
  - {name: gate, address: 192.0.2.1, jump: outer, groups: [all], bmc: {address: 192.0.2.101}}
  - {name: outer, address: 192.0.2.2, groups: [all]}
  - {name: inner, address: 192.0.2.3, jump: outer, groups: [all], bmc: {address: 192.0.2.103}}
  - {name: near, address: 192.0.2.4, jump: outer, groups: [all], bmc: {address: 192.0.2.104, jump: none}}
`
		if err := os.WriteFile(path, []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
		return Load(path, Options{})
	}
	inv, err := load("redfish")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{"gate": nil, "inner": {"outer", "gate"}, "near": nil} {
		dev, err := inv.Device(name)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, hop := range dev.BMC.Jump {
			got = append(got, hop.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: by way of %q, want %q", name, got, want)
		}
	}
	const refused = `device "inner": bmc: jump "gate" cannot carry ipmi_lan, which is UDP: SSH forwards TCP alone; set the protocol redfish or supermicro_web, or jump: none`
	if _, err := load("ipmi_lan"); err == nil || !strings.Contains(err.Error(), refused) {
		t.Errorf("%v", err)
	}
}
