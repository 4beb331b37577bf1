package device_test

import (
	"os"
	"strings"
	"testing"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// Names become those of files in an archive and lines are typed, so neither is taken
// as it comes.
func TestDossierDefinitionErrors(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("endace/platform.yaml")
	if err != nil {
		t.Fatal(err)
	}
	src := string(raw)
	const clock = "{name: clock, line: show clock}"
	for name, c := range map[string]struct{ new, want string }{
		"a name that climbs": {"{name: ../clock, line: show clock}", "dossier[1]: a name has 1 to 64"},
		"no name":            {"{line: show clock}", "dossier[1]: a name has"},
		"a name twice":       {"{name: software, line: show clock}", `dossier[1].name: "software" is there twice`},
		"no line":            {"{name: clock}", "dossier[1]: line must be one line"},
		"two lines":          {`{name: clock, line: "show clock\nreload"}`, "dossier[1]: line must be one line"},
		"a mode of others":   {"{name: clock, line: show clock, mode: tmsh}", `dossier[1].mode: "tmsh" is not a mode`},
		"an unknown key":     {"{name: clock, lines: show clock}", `unknown key "lines"`},
	} {
		changed := strings.Replace(src, clock, c.new, 1)
		if changed == src {
			t.Fatalf("%s: the built-in definition has no %s", name, clock)
		}
		if _, err := device.LoadDefinition([]byte(changed), "x.yaml"); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	if _, err := device.LoadDefinition([]byte(src+"  - {name: last, line: show uptime, mode: standard}\n"), "x.yaml"); err != nil {
		t.Errorf("one more command of one's own: %v", err)
	}
}
