package ansible_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/ansible"
	"capfleet/internal/device/inventory"
	"capfleet/internal/fault"
)

var update = flag.Bool("update", false, "write the golden files anew")

func read(t *testing.T, name string) *ansible.Inventory {
	t.Helper()
	src, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	inv, err := ansible.Read(name, src)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

func convert(t *testing.T, name string, opts ansible.Options) ansible.Result {
	t.Helper()
	res, err := ansible.Convert(read(t, name), opts)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func options() ansible.Options {
	return ansible.Options{Platforms: map[string]string{"probes": "endace_osm"}, Site: "site_code", Labels: []string{"rack", "tier"}}
}

// What comes of each form, with everything that was not taken over. fleet.json is
// what ansible-inventory 2.14 prints for fleet.ini.
func TestGolden(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"fleet.ini", "fleet.yml", "fleet.json"} {
		res := convert(t, name, options())
		text := string(res.YAML) + "---\n"
		for _, n := range res.Notes {
			text += n.What + ": " + n.Reason + "\n"
		}
		file := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), text); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

// We read a file as Ansible reads it: what it resolves itself gives the same
// devices.
func TestSameAsAnsible(t *testing.T) {
	t.Parallel()
	ours, theirs := convert(t, "fleet.ini", options()), convert(t, "fleet.json", options())
	if diff := cmp.Diff(string(theirs.YAML), string(ours.YAML)); diff != "" {
		t.Errorf("(-from ansible-inventory +from the file):\n%s", diff)
	}
}

func TestNoSecretIsCopied(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"fleet.ini", "fleet.yml", "fleet.json"} {
		res := convert(t, name, options())
		for _, secret := range []string{"s3cr#t", "hunter2", "vault_f5", "ANSIBLE_VAULT", "6162"} {
			if strings.Contains(fmt.Sprint(string(res.YAML), res.Notes), secret) {
				t.Errorf("%s: %q is in the result", name, secret)
			}
		}
	}
}

// Every host is a device or is noted as left out.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"fleet.ini", "fleet.yml", "fleet.json"} {
		res := convert(t, name, options())
		left := 0
		for _, n := range res.Notes {
			if strings.HasPrefix(n.Reason, "left out: ") {
				left++
			}
		}
		if res.Devices+left < res.Hosts || res.Devices == 0 {
			t.Errorf("%s: %d hosts, %d devices, %d left out", name, res.Hosts, res.Devices, left)
		}
		inv, err := inventory.Parse(res.YAML, "x/inventory.yaml", inventory.Options{})
		if err != nil || len(inv.Devices()) != res.Devices {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOne(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file, text string
		opts       ansible.Options
		want       []string // name platform host:port user
		note       string
	}{
		"nothing is guessed": {text: "a ansible_user=u\n", note: "host a: left out: its platform is not known"},
		"a user is needed":   {text: "a\n", opts: ansible.Options{Platform: "linux"}, note: "host a: left out: no user is given"},
		"told by the operator": {text: "a\n", opts: ansible.Options{Platform: "linux", User: "ops"}, want: []string{"a linux a:22 ops"},
			note: "credentials ops: how it logs in is not said: a password is expected in FLEET_OPS_PASSWORD"},
		"nested groups, the nearest wins": {text: "[top:children]\nmid\n[mid:children]\nlow\n[low]\na\n[top:vars]\nansible_user=t\nansible_port=1\n[mid:vars]\nansible_user=m\n[low:vars]\nansible_port=3\n",
			opts: ansible.Options{Platforms: map[string]string{"top": "endace_osm"}}, want: []string{"a endace_osm a:3 m"}},
		"several platforms":     {text: "[g]\na\n[h]\na\n", opts: ansible.Options{User: "u", Platforms: map[string]string{"g": "linux", "h": "f5_bigip"}}, note: "several platforms"},
		"facts tell Linux":      {text: "a ansible_user=u ansible_system=Linux\n", want: []string{"a linux a:22 u"}},
		"network_os of another": {text: "a ansible_user=u ansible_network_os=ios\n", opts: ansible.Options{Platform: "linux"}, note: "no platform of ours is ansible_network_os ios"},
		"IPv6 with a port":      {text: "a ansible_host=2001:db8::1 ansible_port=2222 ansible_user=u\n", opts: ansible.Options{Platform: "linux"}, want: []string{"a linux 2001:db8::1:2222 u"}},
		"merged mappings": {file: "x.yml", text: "g:\n  vars: &v {ansible_user: u, ansible_port: 3}\nh:\n  hosts:\n    a: {<<: *v, ansible_port: 4}\n",
			opts: ansible.Options{Platform: "linux"}, want: []string{"a linux a:4 u"}},
		"bad port":    {text: "a ansible_port=99999 ansible_user=u\n", opts: ansible.Options{Platform: "linux"}, note: `"99999" is no port`},
		"bad address": {text: "a ansible_host='x y' ansible_user=u\n", opts: ansible.Options{Platform: "linux"}, note: `"x y" is no address`},
		"a script's short form": {file: "x.json", text: `{"_meta": {"hostvars": {"a": {"ansible_user": "u"}}}, "g": ["a", "b"]}`, opts: ansible.Options{Platform: "linux"},
			want: []string{"a linux a:22 u"}, note: "host b: left out: no user"},
		"two logins of one name": {text: "a ansible_user=x.y\nb ansible_user=x-y\n", opts: ansible.Options{Platform: "linux"}, want: []string{"a linux a:22 x.y", "b linux b:22 x-y"}},
		"jump without a key":     {text: "a ansible_user=u ansible_ssh_common_args='-J j@b'\n", opts: ansible.Options{Platform: "linux"}, note: "needs a private key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inv, err := ansible.Read(c.file, []byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			res, err := ansible.Convert(inv, c.opts)
			if err != nil && (len(c.want) > 0 || !fault.Is(err, fault.Invalid)) {
				t.Fatal(err)
			}
			var got []string
			if res.YAML != nil {
				made, err := inventory.Parse(res.YAML, "inventory.yaml", inventory.Options{})
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range made.Devices() {
					got = append(got, fmt.Sprintf("%s %s %s:%d %s", d.Name, d.Platform, d.Host, d.Port, d.Credentials.Username))
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("devices (-want +got):\n%s", diff)
			}
			if c.note != "" && !slices.ContainsFunc(res.Notes, func(n ansible.Note) bool { return strings.Contains(n.What+": "+n.Reason, c.note) }) {
				t.Errorf("not noted: %s\n%v", c.note, res.Notes)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	bomb := "a: &a {x: {vars: {v: 1}}}\n"
	for i := 'b'; i < 'z'; i++ {
		bomb += fmt.Sprintf("%c: &%c {children: {p: *%c, q: *%c, r: *%c}}\n", i, i, i-1, i-1, i-1)
	}
	for name, c := range map[string]struct{ file, text, says string }{
		"empty":                    {"", "# nothing\n", "has no hosts"},
		"section":                  {"", "[a\nb\n", "line 1"},
		"kind of a section":        {"", "[a:things]\n", "line 1: a section is"},
		"variable":                 {"", "a b\n", "line 1"},
		"quote":                    {"", "\na b='x\n", "line 2: a quote is not closed"},
		"range backwards":          {"", "a[5:1]\n", "line 1"},
		"range without end":        {"", "a[1:99999999]\n", "line 1"},
		"ranges that multiply":     {"", "a[1:9999][1:9999]\n", "more than 100000 hosts"},
		"its own child":            {"", "[a:children]\nb\n[b:children]\na\n[b]\nh ansible_user=u\n", "its own child"},
		"YAML":                     {"x.yml", "a: [\n", "read Ansible inventory"},
		"YAML that is none":        {"x.yml", "- a\n", "a mapping of groups is expected"},
		"hosts as text":            {"x.yml", "a: {hosts: b}\n", "line 1"},
		"aliases of aliases":       {"x.yml", bomb, "too large with its aliases"},
		"an alias inside of it":    {"x.yml", "a: &a {children: {b: *a}}\n", "inside what it stands for"},
		"an alias of nothing":      {"x.yml", "a: *b\n", "read Ansible inventory"},
		"children as text in list": {"x.json", `{"_meta": {}, "a": {"children": "b"}}`, "is a list"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inv, err := ansible.Read(c.file, []byte(c.text))
			if err == nil {
				_, err = ansible.Convert(inv, ansible.Options{Platform: "linux", User: "u"})
			}
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
		})
	}
	if _, err := ansible.Convert(read(t, "fleet.ini"), ansible.Options{Platform: "toaster"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("platform: %v", err)
	}
	if _, err := ansible.Convert(read(t, "fleet.ini"), ansible.Options{Platforms: map[string]string{"nobody": "linux"}}); !fault.Is(err, fault.Invalid) {
		t.Errorf("group: %v", err)
	}
}

// Whatever is read, nothing panics, and what comes out is an inventory of ours.
func FuzzConvert(f *testing.F) {
	for _, name := range []string{"fleet.ini", "fleet.yml", "fleet.json"} {
		src, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(name, src)
	}
	f.Fuzz(func(t *testing.T, name string, src []byte) {
		if len(src) > 1<<16 {
			t.Skip("ranges make time, not findings")
		}
		inv, err := ansible.Read(name, src)
		if err != nil {
			return
		}
		if _, err := ansible.Convert(inv, ansible.Options{Platform: "linux", User: "u"}); fault.Is(err, fault.Internal) {
			t.Fatal(err)
		}
	})
}
