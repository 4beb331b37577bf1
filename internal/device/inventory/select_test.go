package inventory

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

const fleet = `
version: 1
sites: {lon: {}, nyc: {}, syd: {}}
credentials: {default: {username: fleet, agent: true}}
groups:
  probes: {platform: endace_osm, labels: {role: probe}}
  core: {labels: {tier: core}}
  empty: {}
devices:
  - {name: lon-probe-01, address: 192.0.2.1, site: lon, groups: [probes, core]}
  - {name: lon-probe-02, address: 192.0.2.2, site: lon, groups: [probes], labels: {tier: lab, rack: 7}}
  - {name: nyc-probe-01, address: 192.0.2.3, site: nyc, groups: [probes, core]}
  - {name: lon-cms-01, address: 192.0.2.4, site: lon, platform: linux, labels: {role: cms}}
  - {name: nyc-host, address: 192.0.2.5, platform: linux, groups: [core]}
`

func names(devices []*device.Device) []string {
	out := make([]string, len(devices))
	for i, d := range devices {
		out[i] = d.Name
	}
	return out
}

// A value that nobody has is told of where the selection matches all the same.
func TestSelectionWarnings(t *testing.T) {
	t.Parallel()
	inv := load(t, fleet)
	for selector, want := range map[string][]string{
		"":                                       nil,
		"site=lon,role in (probe,cms),tier!=lab": nil,
		"rack>6":                                 nil,
		"!role,!nothing":                         nil,
		"tier!=lba":                              {`selector "tier!=lba": no device has tier=lba, did you mean tier=lab?`},
		"role in (probe,csm)":                    {`selector "role in (probe,csm)": no device has role=csm, did you mean role=cms?`},
		"tier notin (lab,zzzzzz,corre)": {`selector "tier notin (lab,zzzzzz,corre)": no device has tier=corre, did you mean tier=core?`,
			`selector "tier notin (lab,zzzzzz,corre)": no device has tier=zzzzzz`},
		"sit=lon":  nil, // refused
		"not a = ": nil,
	} {
		if diff := cmp.Diff(want, inv.SelectionWarnings(Selection{Selector: selector})); diff != "" {
			t.Errorf("%s:\n%s", selector, diff)
		}
	}
}

func TestSelect(t *testing.T) {
	t.Parallel()
	inv := load(t, fleet)
	all := []string{"lon-cms-01", "lon-probe-01", "lon-probe-02", "nyc-host", "nyc-probe-01"}
	for name, c := range map[string]struct {
		sel  Selection
		want []string
	}{
		"all":                   {Selection{All: true}, all},
		"all with a selector":   {Selection{All: true, Selector: "site=nyc"}, []string{"nyc-probe-01"}},
		"one name":              {Selection{Names: []string{"nyc-host"}}, []string{"nyc-host"}},
		"order and repetition":  {Selection{Names: []string{"nyc-host", "lon-*", "lon-cms-01"}}, []string{"lon-cms-01", "lon-probe-01", "lon-probe-02", "nyc-host"}},
		"question mark":         {Selection{Names: []string{"lon-probe-0?"}}, []string{"lon-probe-01", "lon-probe-02"}},
		"class":                 {Selection{Names: []string{"lon-probe-0[2-9]"}}, []string{"lon-probe-02"}},
		"names and selector":    {Selection{Names: []string{"*-probe-*"}, Selector: "site=lon"}, []string{"lon-probe-01", "lon-probe-02"}},
		"label":                 {Selection{Selector: "tier=core"}, []string{"lon-probe-01", "nyc-host", "nyc-probe-01"}},
		"label as written":      {Selection{Selector: "rack=7"}, []string{"lon-probe-02"}},
		"number":                {Selection{Selector: "rack>6"}, []string{"lon-probe-02"}},
		"several":               {Selection{Selector: "site=lon,role in (probe,cms),tier!=lab"}, []string{"lon-cms-01", "lon-probe-01"}},
		"exists":                {Selection{Selector: "role"}, []string{"lon-cms-01", "lon-probe-01", "lon-probe-02", "nyc-probe-01"}},
		"does not exist":        {Selection{Selector: "!role"}, []string{"nyc-host"}},
		"a key nobody has, not": {Selection{Selector: "!maintenance"}, all},
		"no site":               {Selection{Selector: "!site"}, []string{"nyc-host"}},
		"another site":          {Selection{Selector: "site!=lon"}, []string{"nyc-host", "nyc-probe-01"}},
		"platform":              {Selection{Selector: "platform==linux"}, []string{"lon-cms-01", "nyc-host"}},
		"name":                  {Selection{Selector: "name in (nyc-host,lon-cms-01)"}, []string{"lon-cms-01", "nyc-host"}},
		"group":                 {Selection{Selector: "group=probes"}, []string{"lon-probe-01", "lon-probe-02", "nyc-probe-01"}},
		"both groups":           {Selection{Selector: "group=probes,group=core"}, []string{"lon-probe-01", "nyc-probe-01"}},
		"either group":          {Selection{Selector: "group in (probes,core)"}, []string{"lon-probe-01", "lon-probe-02", "nyc-host", "nyc-probe-01"}},
		"not in a group":        {Selection{Selector: "group!=core"}, []string{"lon-cms-01", "lon-probe-02"}},
		"in none of the groups": {Selection{Selector: "group notin (core,empty)"}, []string{"lon-cms-01", "lon-probe-02"}},
		"in one, not the other": {Selection{Selector: "group=probes,group!=core"}, []string{"lon-probe-02"}},
		"in any group":          {Selection{Selector: "group"}, []string{"lon-probe-01", "lon-probe-02", "nyc-host", "nyc-probe-01"}},
		"in no group":           {Selection{Selector: "!group"}, []string{"lon-cms-01"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := inv.Select(c.sel)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, names(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A selection that is not what was meant must never select something.
func TestSelectRefuses(t *testing.T) {
	t.Parallel()
	inv := load(t, fleet)
	many := make([]string, 9)
	for i := range many {
		many[i] = "gone-" + string(rune('a'+i))
	}
	for name, c := range map[string]struct {
		sel  Selection
		kind fault.Kind
		want []string
	}{
		"nothing":                {Selection{}, fault.Invalid, []string{"no devices are selected", "--selector or --all"}},
		"blank selector":         {Selection{Selector: "  "}, fault.Invalid, []string{"no devices are selected"}},
		"names and all":          {Selection{All: true, Names: []string{"nyc-host"}}, fault.Invalid, []string{"not both"}},
		"unknown name":           {Selection{Names: []string{"lon-probe-1"}}, fault.NotFound, []string{`no device is called "lon-probe-1"; did you mean "lon-probe-01"?`}},
		"one good, one unknown":  {Selection{Names: []string{"nyc-host", "nyc-hots"}}, fault.NotFound, []string{`"nyc-hots"; did you mean "nyc-host"?`}},
		"empty name":             {Selection{Names: []string{""}}, fault.NotFound, []string{`no device is called ""`}},
		"glob without a match":   {Selection{Names: []string{"syd-*"}}, fault.NotFound, []string{`no device matches "syd-*"`}},
		"bad glob":               {Selection{Names: []string{"lon-[a"}}, fault.Invalid, []string{`bad glob "lon-[a"`}},
		"many unknown":           {Selection{Names: many}, fault.NotFound, []string{"gone-a", "and 4 more names match nothing"}},
		"empty site":             {Selection{Selector: "site=="}, fault.Invalid, []string{`there is no site ""`}},
		"bad syntax":             {Selection{Selector: "site in lon"}, fault.Invalid, []string{`selector "site in lon"`, "for example"}},
		"bad value":              {Selection{Selector: "site=l/n"}, fault.Invalid, nil},
		"unknown key":            {Selection{Selector: "rol=probe"}, fault.Invalid, []string{`no device has a label "rol"; did you mean "role"?`}},
		"unknown key, negated":   {Selection{Selector: "teir!=lab"}, fault.Invalid, []string{`did you mean "tier"?`}},
		"unknown key, notin":     {Selection{Selector: "teir notin (lab)"}, fault.Invalid, []string{`did you mean "tier"?`}},
		"unknown key, exists":    {Selection{Selector: "rack,teir"}, fault.Invalid, []string{`did you mean "tier"?`}},
		"near key, not exists":   {Selection{Selector: "!teir"}, fault.Invalid, []string{`did you mean "tier"?`}},
		"key far from all":       {Selection{Selector: "colour=red"}, fault.Invalid, []string{"in use: group, name, platform, rack, role, site, tier"}},
		"unknown site":           {Selection{Selector: "site=lno"}, fault.Invalid, []string{`there is no site "lno"; did you mean "lon"?`}},
		"unknown site, negated":  {Selection{Selector: "site!=lno"}, fault.Invalid, []string{`did you mean "lon"?`}},
		"one unknown in a list":  {Selection{Selector: "site in (lon,nyx)"}, fault.Invalid, []string{`there is no site "nyx"`}},
		"unknown group":          {Selection{Selector: "group=probe"}, fault.Invalid, []string{`there is no group "probe"; did you mean "probes"?`}},
		"unknown platform":       {Selection{Selector: "platform=f5"}, fault.Invalid, []string{"known: endace_osm, f5_bigip, linux"}},
		"comparing a site":       {Selection{Selector: "site>1"}, fault.Invalid, []string{"cannot be compared"}},
		"value nobody has":       {Selection{Selector: "tier=croe"}, fault.NotFound, []string{"no device matches", "did you mean tier=core?"}},
		"site without devices":   {Selection{Selector: "site=syd"}, fault.NotFound, []string{"no device matches"}},
		"nothing in common":      {Selection{Names: []string{"nyc-*"}, Selector: "site=lon"}, fault.NotFound, []string{"among those named"}},
		"endless selector":       {Selection{Selector: strings.Repeat("a=b,", 2000) + "c=d"}, fault.Invalid, []string{"longer than"}},
		"control chars in names": {Selection{Names: []string{"a\x1bc"}}, fault.NotFound, []string{`"a\x1bc"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := inv.Select(c.sel)
			if err == nil {
				t.Fatalf("selected %v", names(got))
			}
			if !fault.Is(err, c.kind) {
				t.Errorf("kind %s, want %s: %v", fault.KindOf(err), c.kind, err)
			}
			if fault.KindOf(err).ExitCode() != fault.ExitUsage {
				t.Errorf("exit code %d", fault.KindOf(err).ExitCode())
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in: %v", w, err)
				}
			}
		})
	}
}

// Keys with one value mean what the label library says they mean.
func TestSelectorAgreesWithKubernetes(t *testing.T) {
	t.Parallel()
	inv := load(t, fleet)
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SampledFrom([]string{"site", "platform", "name", "role", "tier", "rack"})
		requirement := rapid.Custom(func(t *rapid.T) string {
			k := key.Draw(t, "key")
			values := rapid.SliceOfNDistinct(rapid.SampledFrom(slices.Sorted(func(yield func(string) bool) {
				for v := range inv.vocabulary[k] {
					if !yield(v) {
						return
					}
				}
			})), 1, 1, rapid.ID[string]).Draw(t, "values")
			list := "(" + strings.Join(values, ",") + ")"
			return rapid.SampledFrom([]string{k, "!" + k, k + "=" + values[0], k + "!=" + values[0], k + " in " + list, k + " notin " + list}).Draw(t, "form")
		})
		s := strings.Join(rapid.SliceOfN(requirement, 1, 4).Draw(t, "requirements"), ",")
		oracle, err := labels.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{}
		for _, d := range inv.Devices() {
			set := labels.Set{"name": d.Name, "platform": d.Platform}
			if d.Site != "" {
				set["site"] = d.Site
			}
			for k, v := range d.Labels {
				set[k] = v
			}
			if oracle.Matches(set) {
				want = append(want, d.Name)
			}
		}
		got, err := inv.Select(Selection{Selector: s})
		if len(want) == 0 {
			if !fault.Is(err, fault.NotFound) {
				t.Fatalf("%s matches nothing, got %v and %v", s, names(got), err)
			}
			return
		}
		if err != nil || !slices.Equal(want, names(got)) {
			t.Fatalf("%s: got %v (%v), want %v", s, names(got), err, want)
		}
	})
}
