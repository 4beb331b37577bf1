package inventory

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/hint"
)

// Bounds of a selection, which comes from outside the process.
const (
	maxSelector = 4096
	maxPatterns = 20_000
)

// Selection says which devices are meant. A device must match the selector,
// where there is one, and one of the names, where there are some. All stands
// for every device and may be narrowed by a selector, but not by names: that
// would be two answers to one question.
type Selection struct {
	Names    []string // device names, or globs as path.Match knows them
	Selector string   // Kubernetes label selector; site, platform, group and name are keys too
	All      bool
}

// Select gives the devices that are meant, by name, each once. An empty
// selection, a bad pattern or selector, and a key or value that nothing has is
// fault.Invalid; a name, a glob or a whole selection that matches nothing is
// fault.NotFound. Both name the nearest that exists, because a slip in a
// selection sends commands to other devices than were meant.
func (inv *Inventory) Select(sel Selection) ([]*device.Device, error) {
	switch {
	case sel.All && len(sel.Names) > 0:
		return nil, fault.New(fault.Invalid, "a selection has names or all devices, not both")
	case !sel.All && len(sel.Names) == 0 && strings.TrimSpace(sel.Selector) == "":
		return nil, &fault.Error{Kind: fault.Invalid, Err: errors.New("no devices are selected"),
			Next: "name devices or globs, or use --selector or --all"}
	}
	named, err := inv.named(sel.Names)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(sel.Selector) == "" {
		if len(named) == 0 {
			return nil, fault.New(fault.NotFound, "the inventory %s has no devices", inv.path)
		}
		return named, nil
	}
	requirements, err := inv.selector(sel.Selector)
	if err != nil {
		return nil, err
	}
	out := slices.DeleteFunc(named, func(d *device.Device) bool { return !matches(d, requirements) })
	if len(out) == 0 {
		among := ""
		if len(sel.Names) > 0 {
			among = " among those named"
		}
		return nil, fault.New(fault.NotFound, "no device matches the selector %s%s%s", quote(sel.Selector), among, inv.vocabulary.hint(requirements))
	}
	return out, nil
}

// named gives the devices that the names and globs mean, or all without any. The
// slice is the caller's.
func (inv *Inventory) named(patterns []string) ([]*device.Device, error) {
	if len(patterns) == 0 {
		return slices.Clone(inv.devices), nil
	}
	if len(patterns) > maxPatterns {
		return nil, fault.New(fault.Invalid, "a selection of %d names; at most %d are taken", len(patterns), maxPatterns)
	}
	chosen := make(map[*device.Device]bool, len(patterns))
	var missing []string
	for _, p := range patterns {
		if d, ok := inv.byName[p]; ok {
			chosen[d] = true
			continue
		}
		if _, err := path.Match(p, ""); err != nil {
			return nil, fault.New(fault.Invalid, "bad glob %s: *, ? and [a-z] are known", quote(p))
		}
		found := false
		if isGlob(p) {
			for _, d := range inv.devices {
				if ok, _ := path.Match(p, d.Name); ok {
					chosen[d], found = true, true
				}
			}
		}
		if !found {
			missing = append(missing, p)
		}
	}
	if len(missing) > 0 {
		return nil, inv.missing(missing)
	}
	return slices.DeleteFunc(slices.Clone(inv.devices), func(d *device.Device) bool { return !chosen[d] }), nil
}

func isGlob(s string) bool { return strings.ContainsAny(s, `*?[\`) }

func (inv *Inventory) missing(patterns []string) error {
	const shown = 5
	var lines []string
	for _, p := range patterns[:min(len(patterns), shown)] {
		if isGlob(p) {
			lines = append(lines, "no device matches "+quote(p))
		} else {
			lines = append(lines, "no device is called "+quote(p)+hint.DidYouMean(p, inv.names()))
		}
	}
	if more := len(patterns) - shown; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more names match nothing", more))
	}
	return fault.New(fault.NotFound, "%s", strings.Join(lines, "\n"))
}

func (inv *Inventory) names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, d := range inv.devices {
			if !yield(d.Name) {
				return
			}
		}
	}
}

// selector parses a label selector and checks its words against the inventory.
func (inv *Inventory) selector(s string) ([]labels.Requirement, error) {
	if len(s) > maxSelector {
		return nil, fault.New(fault.Invalid, "the selector is longer than %d characters", maxSelector)
	}
	requirements, err := labels.ParseToRequirements(s)
	if err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Act: "selector " + quote(s), Err: err,
			Next: "for example site=lon,role in (probe,cms),tier!=lab"}
	}
	for _, r := range requirements {
		if err := inv.vocabulary.check(r); err != nil {
			return nil, &fault.Error{Kind: fault.Invalid, Act: "selector " + quote(s), Err: err}
		}
	}
	return requirements, nil
}

// The keys that selectors take from the device and not from its labels.
const (
	keyName     = "name"
	keySite     = "site"
	keyPlatform = "platform"
	keyGroup    = "group"
)

func virtualKeys() []string { return []string{keyGroup, keyName, keyPlatform, keySite} }

func matches(d *device.Device, requirements []labels.Requirement) bool {
	for i := range requirements {
		r := &requirements[i]
		if r.Key() == keyGroup {
			if !matchesGroups(d.Groups, r) {
				return false
			}
		} else if !r.Matches(view{d}) {
			return false
		}
	}
	return true
}

// matchesGroups gives a key with several values the meaning that a reader
// expects: group=a is being in a, group!=a is not being in a.
func matchesGroups(groups []string, r *labels.Requirement) bool {
	among := func() bool {
		return slices.ContainsFunc(r.ValuesUnsorted(), func(v string) bool { return slices.Contains(groups, v) })
	}
	switch r.Operator() {
	case selection.In, selection.Equals, selection.DoubleEquals:
		return among()
	case selection.NotIn, selection.NotEquals:
		return !among()
	case selection.Exists:
		return len(groups) > 0
	case selection.DoesNotExist:
		return len(groups) == 0
	default: // > and <, which vocabulary.check refuses
		return false
	}
}

// view shows a device to the label library: its labels and the virtual keys with
// one value.
type view struct{ d *device.Device }

var _ labels.Labels = view{}

func (v view) Has(key string) bool { _, ok := v.Lookup(key); return ok }

func (v view) Get(key string) string { value, _ := v.Lookup(key); return value }

func (v view) Lookup(key string) (string, bool) {
	switch key {
	case keyName:
		return v.d.Name, true
	case keyPlatform:
		return v.d.Platform, true
	case keySite:
		return v.d.Site, v.d.Site != ""
	default:
		value, ok := v.d.Labels[key]
		return value, ok
	}
}

// vocabulary is every key that a selector can mean, with its values: a label's
// are those in use, a virtual key's those that are defined.
type vocabulary map[string]map[string]bool

func newVocabulary(devices []*device.Device, f *file, platforms []string) vocabulary {
	v := vocabulary{}
	for _, key := range virtualKeys() {
		v[key] = map[string]bool{}
	}
	for _, p := range platforms {
		v[keyPlatform][p] = true
	}
	for s := range f.sites {
		v[keySite][s] = true
	}
	for g := range f.groups {
		v[keyGroup][g] = true
	}
	for _, d := range devices {
		v[keyName][d.Name] = true
		v[keyPlatform][d.Platform] = true
		for key, value := range d.Labels {
			if v[key] == nil {
				v[key] = map[string]bool{}
			}
			v[key][value] = true
		}
	}
	return v
}

// check refuses a requirement whose words the inventory does not have. A key
// that no device has is a slip, above all under != and notin, where it would
// select everything; only "!key" may name a key that nobody has now, since that
// is what it says, unless it is nearly the name of another. Values are checked
// where the inventory defines which there are.
func (v vocabulary) check(r labels.Requirement) error {
	key := r.Key()
	values, known := v[key]
	if !known {
		near := hint.DidYouMean(key, maps.Keys(v))
		if r.Operator() == selection.DoesNotExist && near == "" {
			return nil
		}
		if near == "" {
			near = fmt.Sprintf(" (in use: %s)", list(slices.Sorted(maps.Keys(v))))
		}
		return fmt.Errorf("no device has a label %s%s", quote(key), near)
	}
	if !slices.Contains(virtualKeys(), key) {
		return nil
	}
	if r.Operator() == selection.GreaterThan || r.Operator() == selection.LessThan {
		return fmt.Errorf("%s is no number and cannot be compared", key)
	}
	for _, value := range slices.Sorted(slices.Values(r.ValuesUnsorted())) {
		if !values[value] {
			near := hint.DidYouMean(value, maps.Keys(values))
			if near == "" && len(values) > 0 {
				near = fmt.Sprintf(" (known: %s)", list(slices.Sorted(maps.Keys(values))))
			}
			return fmt.Errorf("there is no %s %s%s", key, quote(value), near)
		}
	}
	return nil
}

// SelectionWarnings tells of values in a selector that no device has. Select takes
// them: a label may have any value, and tier!=lab is right before there is a lab. But a
// slip there leaves devices out of a selection, or in it, without anybody being told. A
// selection that Select refuses has none.
func (inv *Inventory) SelectionWarnings(sel Selection) []string {
	if strings.TrimSpace(sel.Selector) == "" {
		return nil
	}
	requirements, err := inv.selector(sel.Selector)
	if err != nil {
		return nil
	}
	var out []string
	for _, r := range requirements {
		if slices.Contains(virtualKeys(), r.Key()) || r.Operator() == selection.GreaterThan || r.Operator() == selection.LessThan {
			continue // their values are checked, or are bounds
		}
		values := inv.vocabulary[r.Key()]
		for _, value := range slices.Sorted(slices.Values(r.ValuesUnsorted())) {
			if values[value] {
				continue
			}
			text := fmt.Sprintf("selector %s: no device has %s=%s", quote(sel.Selector), r.Key(), value)
			if near, ok := hint.Nearest(value, maps.Keys(values)); ok {
				text += fmt.Sprintf(", did you mean %s=%s?", r.Key(), near)
			}
			out = append(out, text)
		}
	}
	return out
}

// hint names the nearest value where a label's value is one that nobody has.
func (v vocabulary) hint(requirements []labels.Requirement) string {
	for _, r := range requirements {
		if r.Operator() == selection.NotIn || r.Operator() == selection.NotEquals {
			continue
		}
		for _, value := range r.ValuesUnsorted() {
			if known := v[r.Key()]; len(known) > 0 && !known[value] {
				if near, ok := hint.Nearest(value, maps.Keys(known)); ok {
					return fmt.Sprintf("; no device has %s=%s, did you mean %s=%s?", r.Key(), value, r.Key(), near)
				}
			}
		}
	}
	return ""
}

// list shows some words of a longer list.
func list(words []string) string {
	const shown = 12
	if len(words) > shown {
		return strings.Join(words[:shown], ", ") + " ..."
	}
	return strings.Join(words, ", ")
}
