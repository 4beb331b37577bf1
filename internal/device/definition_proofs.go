package device

import (
	"regexp"
	"slices"
	"strings"
	"time"
)

// Proofs say how a state of a device is shown. Each is a list of readings, the
// best first; the first that gives an answer decides. A proof without readings,
// or whose readings show nothing, is not observable on the platform.
type Proofs struct {
	// Installed shows which hotfixes the device has: kind list.
	Installed []Reading `yaml:"installed"`
	// Rebooted shows that the device booted since an earlier look: kinds uptime,
	// boot_time and boot_id.
	Rebooted []Reading `yaml:"rebooted"`
	// NormalMode shows that the device is in no maintenance mode: kinds prompt and
	// text.
	NormalMode []Reading `yaml:"normal_mode"`
	// Capturing shows that packets are being kept: kinds newest and moving.
	Capturing []Reading `yaml:"capturing"`
}

// ReadingKind is how the text of a reading is understood.
type ReadingKind string

// The kinds of readings.
const (
	// ReadList takes every line that Match matches for an entry, its named groups
	// for the entry's parts: name, and version where the device shows one apart.
	// A line with text that neither Match nor Ignore matches makes the list unreadable: a
	// list that is half understood proves nothing absent.
	ReadList ReadingKind = "list"
	// ReadUptime takes the groups days, hours, minutes and seconds for the time
	// since the boot.
	ReadUptime ReadingKind = "uptime"
	// ReadBootTime takes the first group, in Layout, for the time of the boot.
	ReadBootTime ReadingKind = "boot_time"
	// ReadBootID takes the first group for something that each boot changes.
	ReadBootID ReadingKind = "boot_id"
	// ReadPrompt looks for Proven and Disproven in the prompt that Line is typed at.
	ReadPrompt ReadingKind = "prompt"
	// ReadText looks for Proven and Disproven in the output.
	ReadText ReadingKind = "text"
	// ReadNewest takes the first groups of all matches, in Layout, for times of
	// packets. The newest proves capture when it is no older than Within by the
	// device's own clock (Checks.Clock), and disproves it otherwise.
	ReadNewest ReadingKind = "newest"
	// ReadMoving takes the first groups of all matches, together, for a figure that
	// moves while packets are kept; it is read twice, Apart from each other. Still
	// says what one that does not move shows.
	ReadMoving ReadingKind = "moving"
)

// Reading is one way in which a device shows something.
type Reading struct {
	Kind      ReadingKind   `yaml:"kind"`
	Line      string        `yaml:"line"`
	Mode      string        `yaml:"mode"` // "" is the working mode
	Timeout   time.Duration `yaml:"timeout"`
	Match     string        `yaml:"match"`
	Ignore    []string      `yaml:"ignore"`
	Layout    string        `yaml:"layout"`    // Go layout
	Within    time.Duration `yaml:"within"`    // of newest
	Apart     time.Duration `yaml:"apart"`     // of moving
	Still     string        `yaml:"still"`     // of moving: disproven or not_observable
	Proven    string        `yaml:"proven"`    // of prompt and text; "" is whatever Disproven does not match
	Disproven string        `yaml:"disproven"` // of prompt and text
}

// Values of Reading.Still.
const (
	StillDisproven     = "disproven"
	StillNotObservable = "not_observable"
)

func (c checker) proofs(d *Definition) error {
	for _, p := range []struct {
		key      string
		readings []Reading
		kinds    []ReadingKind
	}{
		{"installed", d.Proofs.Installed, []ReadingKind{ReadList}},
		{"rebooted", d.Proofs.Rebooted, []ReadingKind{ReadUptime, ReadBootTime, ReadBootID}},
		{"normal_mode", d.Proofs.NormalMode, []ReadingKind{ReadPrompt, ReadText}},
		{"capturing", d.Proofs.Capturing, []ReadingKind{ReadNewest, ReadMoving}},
	} {
		for i, r := range p.readings {
			here := []any{"proofs", p.key, i}
			if !slices.Contains(p.kinds, r.Kind) {
				words := make([]string, len(p.kinds))
				for j, k := range p.kinds {
					words[j] = string(k)
				}
				return c.errorf(with(here, "kind"), "must be %s", strings.Join(words, " or "))
			}
			if err := c.reading(d, r, here); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c checker) reading(d *Definition, r Reading, here []any) error {
	switch {
	case strings.TrimSpace(r.Line) == "" || !printable(r.Line):
		return c.errorf(with(here, "line"), "must be one line to type")
	case r.Mode != "" && d.Shell.modeIndex(r.Mode) < 0:
		return c.errorf(with(here, "mode"), "%q is not a mode", r.Mode)
	case r.Timeout < 0 || r.Within < 0 || r.Apart < 0:
		return c.errorf(here, "a time must not be negative")
	}
	for i, p := range r.Ignore {
		if err := c.pattern(p, with(here, "ignore", i)...); err != nil {
			return err
		}
	}
	for key, p := range map[string]string{"match": r.Match, "proven": r.Proven, "disproven": r.Disproven} {
		if p == "" {
			continue
		}
		if err := c.pattern(p, with(here, key)...); err != nil {
			return err
		}
	}
	return c.readingOfKind(r, here)
}

func (c checker) readingOfKind(r Reading, here []any) error {
	groups := regexp.MustCompile(r.Match)
	switch r.Kind {
	case ReadPrompt, ReadText:
		if r.Proven == "" && r.Disproven == "" {
			return c.errorf(here, "needs proven, disproven or both")
		}
		return nil
	case ReadList:
		if groups.SubexpIndex("name") < 0 {
			return c.errorf(with(here, "match"), "needs a group (?P<name>...)")
		}
		return nil
	case ReadUptime:
		for _, name := range groups.SubexpNames() {
			if name != "" && !slices.Contains(uptimeUnits, name) {
				return c.errorf(with(here, "match"), "group %q is none of %s", name, strings.Join(uptimeUnits, ", "))
			}
		}
		if !slices.ContainsFunc(uptimeUnits, func(u string) bool { return groups.SubexpIndex(u) >= 0 }) {
			return c.errorf(with(here, "match"), "needs groups named %s, those that are printed", strings.Join(uptimeUnits, ", "))
		}
		return nil
	default:
	}
	if groups.NumSubexp() == 0 {
		return c.errorf(with(here, "match"), "needs a group ( ) around the value")
	}
	switch r.Kind {
	case ReadBootTime, ReadNewest:
		if r.Layout == "" {
			return c.errorf(here, "layout says how the time is written")
		}
		if r.Kind == ReadNewest && r.Within == 0 {
			return c.errorf(here, "within says how old the newest packet may be")
		}
	case ReadMoving:
		if r.Apart == 0 {
			return c.errorf(here, "apart says how long after the first look the second is")
		}
		if r.Still != StillDisproven && r.Still != StillNotObservable {
			return c.errorf(with(here, "still"), "must be %s or %s", StillDisproven, StillNotObservable)
		}
	default:
	}
	return nil
}

// uptimeUnits are the named groups of an uptime.
var uptimeUnits = []string{"days", "hours", "minutes", "seconds"}
