package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
	"capfleet/internal/parse"
)

// Spec is what a request says.
type Spec struct {
	// Command is one line, as it would be typed at the device's prompt. White space
	// at the ends is taken off; without Unsafe, runs of it become one space.
	Command string `json:"command"`
	// Mode of the platform's command line to run it in; "" is its working mode.
	Mode string `json:"mode,omitempty"`
	// Template is the text of a TextFSM template for the output; "" gives the
	// output as it is. TemplateName is used in messages.
	Template     string `json:"template,omitempty"`
	TemplateName string `json:"template_name,omitempty"`
	// Unsafe allows a line that is not on the platform's read-only list. The job
	// then counts as a change.
	Unsafe bool `json:"unsafe,omitempty"`
	// TimeoutSeconds bounds the command; 0 is the device's own command timeout.
	TimeoutSeconds float64 `json:"timeout_seconds,omitempty"`
	// Record gives the transcript, cleaned, as a Recording in place of a Row.
	Record bool `json:"record,omitempty"`
	// Blank are words that are blanked in a recording beside what is always.
	Blank []string `json:"blank,omitempty"`
}

// Bounds of a spec. A terminal in line mode takes 4095 bytes; some command lines
// take less.
const (
	maxLine     = 2000
	maxTemplate = 1 << 20
	maxTimeout  = 24 * time.Hour
)

// unlistable is the platform on which nothing is safe by its looks: a line goes to a
// shell, where the harmless commands have options that write, and what a name
// stands for is up to the host.
const unlistable = "linux"

func (s *Spec) timeout() time.Duration {
	return time.Duration(s.TimeoutSeconds * float64(time.Second))
}

// read decodes a spec and checks what does not depend on the devices.
func read(raw json.RawMessage) (Spec, *parse.Template, error) {
	var s Spec
	if err := operation.DecodeSpec(Name, raw, &s); err != nil {
		return s, nil, err
	}
	s.Command = strings.TrimSpace(s.Command)
	if !s.Unsafe {
		s.Command = strings.Join(strings.Fields(s.Command), " ")
	}
	invalid := func(format string, args ...any) error {
		return &fault.Error{Kind: fault.Invalid, Act: Name, Stage: "spec", Err: fmt.Errorf(format, args...)}
	}
	switch {
	case s.Command == "":
		return s, nil, invalid("the command is empty")
	case len(s.Command) > maxLine:
		return s, nil, invalid("the command has %d bytes; at most %d are sent in one line", len(s.Command), maxLine)
	case !utf8.ValidString(s.Command) || strings.ContainsFunc(s.Command, unicode.IsControl):
		// A line end would be a second command, a tab completes, an escape edits.
		return s, nil, invalid("the command holds a control character; it is one line of plain text")
	case s.TimeoutSeconds < 0 || s.TimeoutSeconds > maxTimeout.Seconds():
		return s, nil, invalid("timeout_seconds is from 0 to %.0f", maxTimeout.Seconds())
	case len(s.Template) > maxTemplate:
		return s, nil, invalid("the template is larger than %d bytes", maxTemplate)
	case s.Record && (s.Unsafe || s.Template != ""):
		return s, nil, invalid("what is recorded is a read-only command's output as it is, without unsafe and template")
	case len(s.Blank) > 0 && !s.Record:
		return s, nil, invalid("blank has no meaning without record")
	case s.Template == "" && s.TemplateName != "":
		return s, nil, invalid("template_name without a template")
	case s.Template == "":
		return s, nil, nil
	}
	if s.TemplateName == "" {
		s.TemplateName = "template"
	}
	template, err := parse.Compile(s.TemplateName, []byte(s.Template))
	if err != nil {
		return s, nil, err
	}
	return s, template, nil
}

// permit checks the line and the mode against the platforms of all devices.
func (o *command) permit(s Spec, devices []*device.Device) error {
	byPlatform := map[string][]*device.Device{}
	var platforms []string
	for _, d := range devices {
		if byPlatform[d.Platform] == nil {
			platforms = append(platforms, d.Platform)
		}
		byPlatform[d.Platform] = append(byPlatform[d.Platform], d)
	}
	slices.Sort(platforms)
	for _, platform := range platforms {
		def, ok := o.definitions(platform)
		if !ok {
			return &fault.Error{Kind: fault.Unsupported, Act: Name, Err: fmt.Errorf("there is no driver for platform %s (%s)", platform, some(byPlatform[platform]))}
		}
		if err := permitOn(s, def); err != nil {
			var f *fault.Error
			if errors.As(err, &f) {
				f.Act = fmt.Sprintf("run %q on %s (%s)", fault.Clip(s.Command, 60), platform, some(byPlatform[platform]))
			}
			return err
		}
	}
	return nil
}

func permitOn(s Spec, def *device.Definition) error {
	shell := def.Transport == device.TransportShell
	if shell && strings.Contains(s.Command, "?") {
		// It answers at once, before the line is ended, and stays in the line.
		return fault.New(fault.Invalid, "the command line takes ? for its help key, wherever it stands")
	}
	modes := def.ModeNames()
	if s.Mode != "" && !slices.Contains(modes, s.Mode) {
		if len(modes) == 0 {
			return fault.New(fault.Invalid, "there are no modes on this platform")
		}
		return fault.New(fault.Invalid, "there is no mode %q (known: %s)", fault.Clip(s.Mode, 60), strings.Join(modes, ", "))
	}
	if s.Unsafe {
		return nil
	}
	next := "--unsafe runs it; that counts as a change and is audited"
	if s.Record {
		next = "record the commands of a report, or run it with: fleetctl command run --unsafe"
	}
	denied := func(format string, args ...any) error {
		return &fault.Error{Kind: fault.Denied, Err: fmt.Errorf(format, args...), Next: next}
	}
	switch {
	case def.Platform == unlistable:
		return denied("no command is known to be safe on this platform")
	case s.Mode != "" && slices.Index(modes, s.Mode) > slices.Index(modes, def.Shell.WorkingMode):
		// Entering it takes it from whoever is in there.
		return denied("mode %s is above %s, where reading is done", s.Mode, def.Shell.WorkingMode)
	case len(def.ReadOnly) == 0:
		return denied("the platform has no list of read-only commands")
	case !def.IsReadOnly(s.Command):
		return denied("it is not a read-only command; those are: %s, without characters that could bring another one along", strings.Join(def.ReadOnly, ", "))
	}
	return nil
}

// some names a few of many devices.
func some(devices []*device.Device) string {
	const shown = 3
	names := make([]string, 0, shown)
	for _, d := range devices[:min(len(devices), shown)] {
		names = append(names, d.Name)
	}
	out := strings.Join(names, ", ")
	if more := len(devices) - shown; more > 0 {
		out += fmt.Sprintf(" and %d more", more)
	}
	return out
}
