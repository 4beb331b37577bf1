package report

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/parse"
	"capfleet/internal/transcript"
)

// A recording is what a report would have read, cleaned; whether a template knows
// it does not matter.
func TestRecord(t *testing.T) {
	t.Parallel()
	env := newEnv("endace_osm").
		prints("show version", "ny-7 # show version\n| nobody | knows | this | 10.1.1.1 | Acme |\n").
		fails("show packages", &fault.Error{Kind: fault.Refused, Act: "show packages", Device: "dev-01"})
	env.dev.Host, env.dev.Credentials.Username = "10.1.1.1", "jsmith"
	run := func(spec string) error {
		steps, err := New(parse.NewLibrary("")).Steps(json.RawMessage(spec), env.Unit())
		if err != nil {
			return err
		}
		_, err = steps[0].Observe(t.Context(), env)
		return err
	}
	if err := run(`{"report": "software", "record": true, "blank": ["acme"]}`); err != nil {
		t.Fatal(err)
	}
	at := env.Now().UTC().Truncate(1e9)
	want := []any{
		Recording{Device: "dev-01", Platform: "endace_osm", Report: "software", Command: "show version", Mode: "enable", Template: "endace_osm/version",
			Transcript: "xx-0 # show version\n| nobody | knows | this | 192.0.2.1 | Xxxx |\n", CollectedAt: at,
			Blanked: []transcript.Blank{{Kind: "host name", Count: 1, As: "xx-0"}, {Kind: "address", Count: 1, As: "192.0.2.1"}, {Kind: "named word", Count: 1, As: "Xxxx"}}},
		Recording{Device: "dev-01", Platform: "endace_osm", Report: "software", Command: "show packages", Mode: "enable", Template: "endace_osm/packages",
			Refused: true, Blanked: []transcript.Blank{}, CollectedAt: at},
	}
	if diff := cmp.Diff(want, env.rows); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if len(env.kept) > 0 {
		t.Errorf("what was not cleaned was kept: %v", env.kept)
	}
	if err := run(`{"report": "filesystem", "record": true}`); !fault.Is(err, fault.Refused) || !strings.Contains(err.Error(), "show files system") {
		t.Errorf("a command that is needed: %v", err)
	}
	if err := run(`{"report": "filesystem", "blank": ["x"]}`); !fault.Is(err, fault.Invalid) {
		t.Errorf("blank without record: %v", err)
	}
	_, err := New(parse.NewLibrary("")).Prepare(t.Context(), json.RawMessage(`{"report": "rotation-file", "record": true}`), []*device.Device{{Name: "l", Platform: "linux"}})
	if !fault.Is(err, fault.Unsupported) {
		t.Errorf("a platform without the report: %v", err)
	}
}

func TestCheckReadsLayoutAndTemplates(t *testing.T) {
	t.Parallel()
	lib := parse.NewLibrary("")
	for platform, kind := range map[string]fault.Kind{"endace_osm": "", "f5_bigip": "", "linux": "", "toaster": fault.NotFound, "../x": fault.NotFound} {
		if err := Check(lib, platform); fault.KindOf(err) != kind {
			t.Errorf("%s: %v", platform, err)
		}
	}
}
