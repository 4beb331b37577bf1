package inventory

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/secret"
)

// FuzzLoad: no input panics, every error is of the caller's making, and what is
// accepted keeps every promise that the rest of the program builds on.
func FuzzLoad(f *testing.F) {
	f.Add(base)
	f.Add(fleet)
	example, err := os.ReadFile(filepath.Join("..", "..", "..", "inventory.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(example))
	f.Add("version: 1\ndevices: &d [*d]\n")
	f.Add("version: 1\ncredentials: {default: {username: a, private_key: {age: {file: a, identity: ~/b}}, certificate: {file: c}, enable: {command: [d/e, '']}, password: {credential: f}}}\n" +
		"devices: [{name: a, address: b, platform: linux}]\n")
	f.Add("version: 1\ncredentials: {default: {username: a, password: " + canary + "}}\ndevices: [{name: a, address: '::1'}]\n")
	f.Add("version: 1\ndevices:\n  - name: a\n   address: b\n")
	f.Add("? [a]\n: {b: c}\n---\n...\n%TAG ! x\n")
	f.Fuzz(func(t *testing.T, doc string) {
		if len(doc) > 1<<16 {
			return
		}
		inv, err := parse([]byte(doc), "/inv/inventory.yaml", Options{Platforms: platforms()})
		if err != nil {
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "/inv/inventory.yaml:") {
				t.Fatalf("%s: %v", fault.KindOf(err), err)
			}
			return
		}
		last := ""
		for _, d := range inv.Devices() {
			got, err := inv.Device(d.Name)
			switch {
			case err != nil || got != d || d.Name <= last:
				t.Fatalf("%q after %q: %v", d.Name, last, err)
			case !filepath.IsLocal(d.Name) || strings.ContainsAny(d.Name, "/\\ *?[\n"):
				t.Fatalf("name %q", d.Name)
			case d.Host == "" || strings.ContainsAny(d.Host, "[]/ \n") || d.Port < 1 || d.Port > 65535:
				t.Fatalf("address %q port %d", d.Host, d.Port)
			case !slices.Contains(platforms(), d.Platform) || d.Credentials.Username == "" || !filepath.IsAbs(d.KnownHosts):
				t.Fatalf("incomplete: %+v", d)
			case d.SSH.MaxSessions < 1 || d.SSH.ConnectTimeout <= 0 || d.SSH.CommandTimeout <= 0 || d.SSH.Keepalive <= 0:
				t.Fatalf("ssh: %+v", d.SSH)
			case len(d.Jump) > maxHops:
				t.Fatalf("%d hops", len(d.Jump))
			case d.BMC != nil && (d.BMC.Host == "" || d.BMC.Credentials.Password.IsZero()):
				t.Fatalf("bmc: %+v", d.BMC)
			}
			if d.HAPeer != "" {
				peer, err := inv.Device(d.HAPeer)
				if err != nil || peer == d || peer.HAPeer != d.Name || peer.Platform != d.Platform {
					t.Fatalf("pair %q and %q: %v", d.Name, d.HAPeer, err)
				}
			}
			for _, ref := range append(secrets(&d.Credentials), certificates(&d.Credentials)...) {
				if !ref.IsZero() && (ref.Validate() != nil || ref.File != "" && !filepath.IsAbs(ref.File) ||
					ref.Age != secret.Age{} && (!filepath.IsAbs(ref.Age.File) || !filepath.IsAbs(ref.Age.Identity))) {
					t.Fatalf("secret %#v: %v", ref, ref.Validate())
				}
			}
			for _, c := range d.Jump {
				if strings.Contains(c.Name, "@") && !c.Credentials.Password.IsZero() {
					t.Fatalf("a password goes to %s", c.Name)
				}
			}
			last = d.Name
		}
	})
}

// FuzzSelect: what is selected is of the inventory, sorted, each once, and
// nothing is selected by nothing.
func FuzzSelect(f *testing.F) {
	for _, s := range []string{"site=lon,role in (probe,cms),tier!=lab", "group notin (core)", "!role", "rack>6", "a==", "((", "site in ()", "name=x,,"} {
		f.Add("lon-*", s)
		f.Add("", s)
	}
	f.Add("[a-", "")
	f.Add(`\`, "")
	inv := load(f, fleet)
	f.Fuzz(func(t *testing.T, pattern, selector string) {
		sel := Selection{Selector: selector}
		if pattern != "" {
			sel.Names = []string{pattern}
		}
		got, err := inv.Select(sel)
		if err != nil {
			if k := fault.KindOf(err); k != fault.Invalid && k != fault.NotFound {
				t.Fatalf("%s: %v", k, err)
			}
			return
		}
		if len(got) == 0 {
			t.Fatal("nothing, without an error")
		}
		all := names(inv.Devices())
		for i, d := range got {
			if !slices.Contains(all, d.Name) || i > 0 && got[i-1].Name >= d.Name {
				t.Fatalf("selected %v", names(got))
			}
		}
	})
}

// big is a plausible inventory of n devices.
func big(n int) []byte {
	var b strings.Builder
	b.WriteString("version: 1\nsites:\n")
	for s := range 50 {
		fmt.Fprintf(&b, "  site-%02d: {timezone: Europe/London}\n", s)
	}
	b.WriteString(`credentials:
  default: {username: fleet, password: {env: FLEET_PASSWORD}}
  bmc: {username: ADMIN, password: {file: secrets/bmc}}
groups:
  probes: {platform: endace_osm, labels: {role: probe}}
  adcs: {platform: f5_bigip, labels: {role: adc}}
  core: {labels: {tier: core}, ssh: {max_sessions: 4}}
devices:
  - {name: bastion, platform: linux, address: bastion.example.com}
`)
	for i := range n - 1 {
		group := []string{"probes, core", "probes", "adcs"}[i%3]
		fmt.Fprintf(&b, "  - name: site-%02d-dev-%05d\n    address: 10.%d.%d.%d\n    site: site-%02d\n    groups: [%s]\n    labels: {rack: r%d}\n    covers: [link-%d]\n",
			i%50, i, i>>16, i>>8&255, i&255, i%50, group, i%40, i%100)
		if i%3 == 2 {
			b.WriteString("    jump: bastion\n")
		} else {
			fmt.Fprintf(&b, "    bmc: {address: 10.128.%d.%d, credentials: bmc}\n", i>>8&255, i&255)
		}
	}
	return []byte(b.String())
}

// The requirement, 10,000 devices well under a second, is what the benchmark
// measures. Here the time for a part of them is held against that of parsing the YAML alone, on the
// same machine in the same state, which catches anything quadratic.
func TestManyDevices(t *testing.T) {
	src := big(3000)
	alone := yamlAlone(t, src)
	start := time.Now()
	inv, err := parse(src, "inventory.yaml", Options{Platforms: platforms()})
	if err != nil {
		t.Fatal(err)
	}
	got, err := inv.Select(Selection{Names: []string{"site-*"}, Selector: "site in (site-07,site-08),group=probes,tier!=core,rack"})
	if err != nil || len(got) != 40 {
		t.Fatalf("%d devices, %v", len(got), err)
	}
	bounded(t, alone, time.Since(start))
}

// A slip in every device costs little more than reading the file: names are
// compared only for what is told.
func TestManyMistakes(t *testing.T) {
	src := strings.ReplaceAll(string(big(3000)), "    site: ", "    ha_peer: x")
	alone := yamlAlone(t, []byte(src))
	start := time.Now()
	bad := problemsOf(t, src)
	bounded(t, alone, time.Since(start))
	if len(bad.Problems) != maxProblems || bad.More < 2900 {
		t.Errorf("%d problems and %d more", len(bad.Problems), bad.More)
	}
}

func yamlAlone(t *testing.T, src []byte) time.Duration {
	t.Helper()
	start := time.Now()
	if _, ok := document(src, &problems{}); !ok {
		t.Fatal("not YAML")
	}
	return time.Since(start)
}

func bounded(t *testing.T, alone, took time.Duration) {
	t.Helper()
	t.Logf("took %v, the YAML alone %v", took, alone)
	if took > 30*alone {
		t.Errorf("took %v, the YAML alone %v", took, alone)
	}
}

func BenchmarkLoad10k(b *testing.B) {
	src := big(10_000)
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parse(src, "inventory.yaml", Options{Platforms: platforms()}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSelect10k(b *testing.B) {
	inv, err := parse(big(10_000), "inventory.yaml", Options{})
	if err != nil {
		b.Fatal(err)
	}
	for name, sel := range map[string]Selection{
		"selector": {Selector: "site in (site-07,site-08),group=probes,tier!=core"},
		"glob":     {Names: []string{"site-0?-dev-*"}},
		"all":      {All: true},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := inv.Select(sel); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
