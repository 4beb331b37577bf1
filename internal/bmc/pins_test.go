package bmc

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/fault"
)

func TestPins(t *testing.T) {
	t.Parallel()
	a, b := strings.Repeat("AB", 32), strings.Repeat("0C", 32)
	path := filepath.Join(t.TempDir(), "known_bmcs")
	if got, err := Pins(path); err != nil || got != nil {
		t.Fatalf("no file: %v, %v", got, err)
	}
	colons := strings.ToLower(strings.TrimSuffix(strings.Repeat("AB:", 32), ":"))
	added, _, err := AddPins(path, []Pin{{"BMC1", colons}, {HostName("BMC2", 8443), b}}, false)
	if diff := cmp.Diff([]Pin{{"bmc1", a}, {"[bmc2]:8443", b}}, added); err != nil || diff != "" {
		t.Fatalf("%v %s", err, diff)
	}
	if stat, err := os.Stat(path); err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", stat.Mode(), err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	// Another certificate of a known host is refused, and nothing is written, also
	// not what else was asked for.
	_, _, err = AddPins(path, []Pin{{"bmc3", a}, {"bmc1", b}}, false)
	if !fault.Is(err, fault.Conflict) {
		t.Errorf("kind %s: %v", fault.KindOf(err), err)
	}
	if now, _ := os.ReadFile(path); string(now) != string(before) {
		t.Errorf("the file changed: %s", now)
	}

	added, unchanged, err := AddPins(path, []Pin{{"bmc1", b}, {"[bmc2]:8443", b}}, true)
	if err != nil || len(added) != 1 || len(unchanged) != 1 {
		t.Errorf("%v, %v, %v", added, unchanged, err)
	}
	got, err := Pins(path)
	if diff := cmp.Diff([]Pin{{"[bmc2]:8443", b}, {"bmc1", b}}, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

func TestPinsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	good := "# a comment\n\nbmc1 " + strings.Repeat("AB", 32) + " # since May\n"
	for name, line := range map[string]string{
		"short":       "bmc2 AB",
		"no host":     strings.Repeat("AB", 32),
		"three words": "bmc2 " + strings.Repeat("AB", 32) + " more",
	} {
		path := filepath.Join(t.TempDir(), "known_bmcs")
		if err := os.WriteFile(path, []byte(good+line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Pins(path); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "known_bmcs:4:") {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := AddPins(path, []Pin{{"bmc9", strings.Repeat("AB", 32)}}, true); err == nil {
			t.Errorf("%s: added to a file that cannot be read", name)
		}
	}
	for _, p := range []Pin{{"", strings.Repeat("AB", 32)}, {"a b", strings.Repeat("AB", 32)}, {"a\nb", strings.Repeat("AB", 32)}, {"a", "AB"}} {
		if _, _, err := AddPins(filepath.Join(t.TempDir(), "k"), []Pin{p}, false); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", p, err)
		}
	}
}
