package device

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Hotfix says how the devices of a platform are brought to a hotfix: how its
// spellings follow from each other, what is typed in each step and how long that
// may take. All of it is data because much of it is inferred, and because an
// operator knows his own appliances.
type Hotfix struct {
	// File is what the name of a hotfix file looks like, as a whole.
	File string `yaml:"file"`
	// UploadDir is where the device looks for files to install.
	UploadDir string `yaml:"upload_dir"`
	// InstallName makes the name that is typed out of the file's name, and
	// InstalledAs the name that the device lists out of the install name.
	InstallName Rewrite `yaml:"install_name"`
	InstalledAs Rewrite `yaml:"installed_as"`
	// Version makes the hotfix's version out of the install name, as a list shows it
	// behind the installed name.
	Version Rewrite `yaml:"version"`
	// Release makes the beginning of the software versions that a hotfix is for out
	// of the file's name. A file that it does not match is for any.
	Release Rewrite `yaml:"release"`

	// Reconnect is how long a device that does not answer in the middle of a change
	// is waited for, and Poll the pause between two looks at a device.
	Reconnect time.Duration `yaml:"reconnect"`
	Poll      time.Duration `yaml:"poll"`
	// Look is how long all commands of the snapshot and of the proofs take.
	Look Span `yaml:"look"`

	// Snapshot is what is compared before and after.
	Snapshot []SnapshotItem `yaml:"snapshot"`

	// MaintenanceMode is set where a hotfix is installed in a maintenance mode that a
	// reload ends, Volumes where it is installed to a volume that is booted then. It is
	// one of the two.
	MaintenanceMode *MaintenanceMode `yaml:"maintenance_mode"`
	Volumes         *Volumes         `yaml:"volumes"`
}

// MaintenanceMode is the way of platforms that install in a maintenance mode.
type MaintenanceMode struct {
	// ConfigMode is the mode whose entering may meet somebody else, and Takeover the
	// question that is asked then. It is never agreed to without being told.
	ConfigMode string `yaml:"config_mode"`
	Takeover   string `yaml:"takeover"`

	Enter   HotfixCommand `yaml:"enter"`
	Install HotfixCommand `yaml:"install"`
	Save    HotfixCommand `yaml:"save"`
	Reload  HotfixCommand `yaml:"reload"`
	// Down is how long after a reload was typed a device may still be up.
	Down time.Duration `yaml:"down"`
	// Settle is how long a device that is up again may take to be in normal mode and
	// to capture, and Stable for how long it must then stay so without another
	// reboot.
	Settle time.Duration `yaml:"settle"`
	Stable time.Duration `yaml:"stable"`
	// Return is the time from the reload to a device that is proven to be back.
	Return Span `yaml:"return"`
}

// Rewrite turns one name into another: Match is an expression of the whole name,
// To may use its groups as ${1}.
type Rewrite struct {
	Match string `yaml:"match"`
	To    string `yaml:"to"`
}

// Apply gives the rewritten name, and false where Match does not match.
func (r Rewrite) Apply(name string) (string, bool) {
	if r.Match == "" {
		return "", false
	}
	re, err := PromptExpr(r.Match)
	if err != nil {
		return "", false // cannot be in a loaded definition
	}
	at := re.FindStringSubmatchIndex(name)
	if at == nil {
		return "", false
	}
	return string(re.ExpandString(nil, r.To, name, at)), true
}

// Span is how long something usually takes, and at most.
type Span struct {
	Typical time.Duration `yaml:"typical"`
	Worst   time.Duration `yaml:"worst"`
}

// InstallNamePlace is what stands for the install name in a HotfixCommand's line.
const InstallNamePlace = "{install_name}"

// HotfixCommand is one command of a hotfix.
type HotfixCommand struct {
	Line    string            `yaml:"line"`
	Mode    string            `yaml:"mode"`    // "" is the working mode
	EndsIn  string            `yaml:"ends_in"` // the mode that it leads to, where that is another
	Answers map[string]string `yaml:"answers"` // to questions it may ask, by their names
	Typical time.Duration     `yaml:"typical"` // how long it usually takes
	Worst   time.Duration     `yaml:"worst"`   // and at most
}

// Differences says what a difference between two snapshots means.
type Differences string

// The kinds of differences.
const (
	// AnyDiffers needs a person, whatever it is.
	AnyDiffers Differences = "attention"
	// LostDiffers needs a person where a line is gone; a new one is kept.
	LostDiffers Differences = "lost"
	// NoDiffers is kept, and needs nobody.
	NoDiffers Differences = "note"
)

// SnapshotItem is one command whose output is compared before and after a change.
type SnapshotItem struct {
	Name        string        `yaml:"name"`
	Line        string        `yaml:"line"`
	Mode        string        `yaml:"mode"`
	Timeout     time.Duration `yaml:"timeout"`
	Optional    bool          `yaml:"optional"` // the device may not know the command
	Differences Differences   `yaml:"differences"`
	// Ignore are lines that are not compared. Volatile are parts of lines that
	// change by themselves (a figure, an uptime): they are compared as "…".
	Ignore   []string `yaml:"ignore"`
	Volatile []string `yaml:"volatile"`
	// Secret are patterns whose first group is a secret. It is never kept; that it
	// changed is seen all the same.
	Secret []string `yaml:"secret"`
}

// hotfix checks the section, which may be absent.
func (c checker) hotfix(d *Definition) error {
	h := d.Hotfix
	if h == nil {
		return nil
	}
	here := func(path ...any) []any { return append([]any{"hotfix"}, path...) }
	if err := c.pattern(h.File, here("file")...); err != nil {
		return err
	}
	if !path.IsAbs(h.UploadDir) || path.Clean(h.UploadDir) != h.UploadDir {
		return c.errorf(here("upload_dir"), "must be an absolute path without . and ..")
	}
	for _, r := range []struct {
		key    string
		r      Rewrite
		needed bool
	}{{"install_name", h.InstallName, true}, {"installed_as", h.InstalledAs, true}, {"version", h.Version, false}, {"release", h.Release, false}} {
		if err := c.rewrite(r.r, here(r.key), r.needed); err != nil {
			return err
		}
	}
	if h.Reconnect <= 0 || h.Poll <= 0 {
		return c.errorf(here(), "reconnect and poll must be times above 0")
	}
	if err := c.span(h.Look, here("look")); err != nil {
		return err
	}
	if err := c.snapshot(d, h.Snapshot, here); err != nil {
		return err
	}
	switch {
	case (h.MaintenanceMode == nil) == (h.Volumes == nil):
		return c.errorf(here(), "give one way to install: maintenance_mode or volumes")
	case h.Volumes != nil:
		return c.volumes(h.Volumes, here("volumes"))
	default:
		return c.maintenanceMode(d, h.MaintenanceMode, here("maintenance_mode"))
	}
}

func (c checker) maintenanceMode(d *Definition, m *MaintenanceMode, here []any) error {
	switch {
	case m.ConfigMode != "" && d.Shell.modeIndex(m.ConfigMode) < 0:
		return c.errorf(with(here, "config_mode"), "%q is not a mode", m.ConfigMode)
	case m.Takeover != "" && !d.Shell.hasQuestion(m.Takeover):
		return c.errorf(with(here, "takeover"), "%q is not a question", m.Takeover)
	case m.Takeover != "" && m.ConfigMode == "":
		return c.errorf(here, "takeover needs config_mode: the mode that is taken over")
	case !strings.Contains(m.Install.Line, InstallNamePlace):
		return c.errorf(with(here, "install", "line"), "must have %s in it", InstallNamePlace)
	case m.Down <= 0 || m.Settle <= 0 || m.Stable <= 0:
		return c.errorf(here, "down, settle and stable must be times above 0")
	}
	if err := c.span(m.Return, with(here, "return")); err != nil {
		return err
	}
	for _, k := range []struct {
		key string
		cmd HotfixCommand
	}{{"enter", m.Enter}, {"install", m.Install}, {"save", m.Save}, {"reload", m.Reload}} {
		if err := c.hotfixCommand(d, m, k.cmd, with(here, k.key)); err != nil {
			return err
		}
	}
	return nil
}

func (c checker) span(s Span, here []any) error {
	if s.Typical <= 0 || s.Worst < s.Typical {
		return c.errorf(here, "typical and worst are the time that it takes: above 0, worst not below typical")
	}
	return nil
}

func (c checker) rewrite(r Rewrite, here []any, needed bool) error {
	switch {
	case r.Match == "" && r.To == "" && !needed:
		return nil
	case r.Match == "" || r.To == "":
		return c.errorf(here, "needs match and to")
	}
	if _, err := PromptExpr(r.Match); err != nil {
		return c.errorf(with(here, "match"), "%w", err)
	}
	return c.pattern(r.Match, with(here, "match")...)
}

func (c checker) hotfixCommand(d *Definition, m *MaintenanceMode, k HotfixCommand, here []any) error {
	switch {
	case strings.TrimSpace(k.Line) == "" || !printable(k.Line):
		return c.errorf(with(here, "line"), "must be one line to type")
	}
	if err := c.span(Span{k.Typical, k.Worst}, here); err != nil {
		return err
	}
	for _, m := range []struct{ key, mode string }{{"mode", k.Mode}, {"ends_in", k.EndsIn}} {
		if m.mode != "" && d.Shell.modeIndex(m.mode) < 0 {
			return c.errorf(with(here, m.key), "%q is not a mode", m.mode)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(k.Answers)) {
		switch {
		case !d.Shell.hasQuestion(name):
			return c.errorf(with(here, "answers", name), "%q is not a question", name)
		case !printable(k.Answers[name]):
			return c.errorf(with(here, "answers", name), "an answer is one line without control characters")
		case m.Takeover == name:
			return c.errorf(with(here, "answers", name), "taking over is only ever asked for by the operator")
		}
	}
	return nil
}

func (c checker) snapshot(d *Definition, items []SnapshotItem, here func(...any) []any) error {
	for i, item := range items {
		at := here("snapshot", i)
		switch {
		case item.Name == "" || strings.ContainsAny(item.Name, "/\\ ") || !printable(item.Name):
			return c.errorf(at, "an item needs a name of one word")
		case slices.ContainsFunc(items[:i], func(o SnapshotItem) bool { return o.Name == item.Name }):
			return c.errorf(with(at, "name"), "%q is there twice", item.Name)
		case strings.TrimSpace(item.Line) == "" || !printable(item.Line):
			return c.errorf(with(at, "line"), "must be one line to type")
		case item.Mode != "" && d.Shell.modeIndex(item.Mode) < 0:
			return c.errorf(with(at, "mode"), "%q is not a mode", item.Mode)
		case !slices.Contains([]Differences{AnyDiffers, LostDiffers, NoDiffers}, item.Differences):
			return c.errorf(with(at, "differences"), "must be %s, %s or %s", AnyDiffers, LostDiffers, NoDiffers)
		case item.Timeout < 0:
			return c.errorf(with(at, "timeout"), "must not be negative")
		}
		for key, list := range map[string][]string{"ignore": item.Ignore, "volatile": item.Volatile, "secret": item.Secret} {
			for j, p := range list {
				if err := c.pattern(p, with(at, key, j)...); err != nil {
					return err
				}
				if key == "secret" && regexp.MustCompile(p).NumSubexp() == 0 {
					return c.errorf(with(at, key, j), "needs a group ( ) around the secret")
				}
			}
		}
	}
	return nil
}

func (s *ShellDefinition) hasQuestion(name string) bool {
	return slices.ContainsFunc(s.Questions, func(q Question) bool { return q.Name == name })
}

// Question gives a question by its name.
func (s *ShellDefinition) Question(name string) (Question, error) {
	for _, q := range s.Questions {
		if q.Name == name {
			return q, nil
		}
	}
	return Question{}, fmt.Errorf("there is no question %q", name)
}

// Mode gives a mode by its name.
func (s *ShellDefinition) Mode(name string) (Mode, error) {
	if i := s.modeIndex(name); i >= 0 {
		return s.Modes[i], nil
	}
	return Mode{}, fmt.Errorf("there is no mode %q", name)
}
