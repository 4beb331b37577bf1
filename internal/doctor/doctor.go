package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/parse"
	"capfleet/internal/report"
	"capfleet/internal/secret"
)

// Severity says how bad a finding is.
type Severity string

// Severities.
const (
	OK      Severity = "ok"
	Warning Severity = "warning" // works, and may not be what is wanted
	Error   Severity = "error"   // something will not work
)

// Finding is what one look gave.
type Finding struct {
	Area     string   `json:"area"` // inventory, secrets, host keys, disk, clock, templates
	Subject  string   `json:"subject"`
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
	Next     string   `json:"next"` // what to do; "" where nothing is to be done
}

// Subject is what is looked at. All fields must be set but Environ, whose absence
// is an empty environment.
type Subject struct {
	// Inventory is the path of the file. Reload reads it as a reload would, and tells
	// whether that would change the devices.
	Inventory string
	Reload    func() (changed bool, err error)
	// Devices and Warnings are those of the inventory in force.
	Devices  []*device.Device
	Warnings []string
	// Trusts reports whether a known_hosts file vouches for a host.
	Trusts func(knownHosts, host string, port int) (bool, error)
	// Resolve reads a secret, which is forgotten at once.
	Resolve func(ctx context.Context, ref secret.Ref) error
	Getenv  func(string) string
	// StateDir is where fleetd writes.
	StateDir string
	Space    func(dir string) (Space, error)
	// Overrides is the folder of the operator's own templates, or "".
	Overrides string
	// Newest is the latest time that fleetd has written down; zero for none.
	Newest time.Time
	Now    time.Time
	// Synchronized reports whether the system says that its clock is kept right;
	// known is false where the system does not say.
	Synchronized func() (yes, known bool)
}

// Space is what is free on a file system, in bytes.
type Space struct{ Free, Total uint64 }

// Examine takes all looks. When ctx ends it gives what it has.
func Examine(ctx context.Context, s Subject) []Finding {
	// The inventory warns of what the looks at secrets and host keys tell better.
	secrets := s.secrets(ctx)
	s.Warnings = slices.DeleteFunc(slices.Clone(s.Warnings), func(w string) bool {
		return strings.HasPrefix(w, "known_hosts file") || slices.ContainsFunc(secrets, func(f Finding) bool {
			return f.Severity == Error && strings.Contains(w, f.Subject)
		})
	})
	out := append(s.inventory(ctx), secrets...)
	for _, look := range []func(context.Context) []Finding{s.hostKeys, s.disk, s.clock, s.templates} {
		if ctx.Err() != nil {
			break
		}
		out = append(out, look(ctx)...)
	}
	return out
}

func (s Subject) inventory(context.Context) []Finding {
	const area = "inventory"
	var out []Finding
	changed, err := s.Reload()
	if changed {
		out = append(out, Finding{area, s.Inventory, Warning, "the file has changed since fleetd read it", "have fleetd read it again: systemctl reload fleetd, or kill -HUP"})
	}
	if err != nil {
		out = append(out, Finding{area, s.Inventory, Error, "the file would be refused: " + err.Error(), "correct it; fleetd goes on with what it read before"})
	}
	for _, w := range s.Warnings {
		out = append(out, Finding{area, s.Inventory, Warning, w, ""}) // it says itself what to do
	}
	if len(out) == 0 {
		out = append(out, Finding{area, s.Inventory, OK, count(len(s.Devices), "device"), ""})
	}
	return out
}

// hostKeys names the hosts that would be refused: those that nothing vouches for.
func (s Subject) hostKeys(context.Context) []Finding {
	const area = "host keys"
	type host struct {
		file, name string
		port       int
	}
	var out []Finding
	broken := map[string]bool{}
	seen := map[host]bool{}
	var devices, hops []string
	look := func(file, name string, port int, label string, into *[]string) {
		h := host{file, name, port}
		if seen[h] || broken[file] {
			return
		}
		seen[h] = true
		ok, err := s.Trusts(file, name, port)
		switch {
		case err != nil:
			broken[file] = true
			out = append(out, fromError(area, file, err))
		case !ok:
			*into = append(*into, label)
		}
	}
	for _, dev := range s.Devices {
		look(dev.KnownHosts, dev.Host, dev.Port, dev.Name, &devices)
	}
	for _, dev := range s.Devices {
		for _, hop := range dev.Jump {
			look(dev.KnownHosts, hop.Host, hop.Port, hop.Name, &hops)
		}
	}
	if len(devices) > 0 {
		out = append(out, Finding{area, some(devices), Error, fmt.Sprintf("no host key is pinned for %s: refused before a credential is sent", count(len(devices), "device")),
			"fleetctl device trust " + forCommand(devices) + "   (compare the fingerprints first)"})
	}
	if len(hops) > 0 {
		out = append(out, Finding{area, some(hops), Error, fmt.Sprintf("no host key is pinned for %s", count(len(hops), "jump host")),
			"connect to it once with ssh as fleetd's user, or add the key to known_hosts"})
	}
	if len(out) == 0 {
		out = append(out, Finding{area, "known_hosts", OK, "every host is vouched for", ""})
	}
	return out
}

// Below these a disk is worth a warning or an error.
const (
	spaceWarning = 2 << 30
	spaceError   = 256 << 20
)

func (s Subject) disk(context.Context) []Finding {
	const area = "disk"
	space, err := s.Space(s.StateDir)
	if err != nil {
		if errors.Is(err, errors.ErrUnsupported) {
			return nil
		}
		return []Finding{fromError(area, s.StateDir, err)}
	}
	f := Finding{area, s.StateDir, OK, fmt.Sprintf("%.1f GB free of %.1f GB", float64(space.Free)/1e9, float64(space.Total)/1e9), ""}
	switch {
	case space.Free < spaceError:
		f.Severity, f.Next = Error, "free some space: new work is refused when the disk is full"
	case space.Free < spaceWarning || space.Free < space.Total/20:
		f.Severity, f.Next = Warning, "free some space, or remove artifacts: fleetctl artifact list"
	}
	probe, err := os.CreateTemp(s.StateDir, ".doctor-*")
	if err == nil {
		err = errors.Join(probe.Close(), os.Remove(probe.Name()))
	}
	if err != nil {
		return []Finding{f, {area, s.StateDir, Error, "fleetd cannot write there: " + err.Error(), "give it to the user that fleetd runs as"}}
	}
	return []Finding{f}
}

// slack is how far clocks may differ before it is told.
const slack = 2 * time.Minute

// built is a time that has passed for every system with this program.
var built = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (s Subject) clock(context.Context) []Finding {
	const area = "clock"
	now := s.Now.UTC().Format(time.RFC3339)
	switch yes, known := s.Synchronized(); {
	case s.Now.Before(built):
		return []Finding{{area, now, Error, "fleetd's host lives in the past", "set its clock, and have it kept by NTP"}}
	case s.Newest.After(s.Now.Add(slack)):
		return []Finding{{area, now, Error, "fleetd has written down a later time, " + s.Newest.UTC().Format(time.RFC3339) + ": the clock has gone back",
			"set it right, and have it kept by NTP"}}
	case known && !yes:
		return []Finding{{area, now, Warning, "the system says that its clock is not synchronized", "have it kept by NTP: captures of several devices are put in order by clocks"}}
	case known:
		return []Finding{{area, now, OK, "synchronized", ""}}
	default:
		return []Finding{{area, now, OK, "plausible; the system does not say whether it is synchronized", ""}}
	}
}

// templates checks the operator's own templates, and that each platform in use has
// a layout that works.
func (s Subject) templates(ctx context.Context) []Finding {
	const area = "templates"
	lib := parse.NewLibrary(s.Overrides)
	names, err := lib.Names()
	if err != nil {
		return []Finding{fromError(area, s.Overrides, err)}
	}
	var out []Finding
	own := 0
	for _, name := range names {
		file := name + parse.Extension
		if !lib.Overridden(file) {
			continue
		}
		own++
		src, err := lib.ReadFile(file)
		if err != nil {
			out = append(out, fromError(area, name, err))
			continue
		}
		for _, f := range parse.Lint("", src) {
			severity := Warning
			if f.Severity == parse.Error {
				severity = Error
			}
			out = append(out, Finding{area, name, severity, f.String(), "correct " + filepath.ToSlash(lib.OverridePath(file))})
		}
	}
	var platforms []string
	for _, dev := range s.Devices {
		if !slices.Contains(platforms, dev.Platform) {
			platforms = append(platforms, dev.Platform)
		}
	}
	slices.Sort(platforms)
	for _, p := range platforms {
		if err := report.Check(lib, p); err != nil && !fault.Is(err, fault.NotFound) && ctx.Err() == nil {
			out = append(out, fromError(area, p, err))
		}
	}
	if len(out) == 0 {
		out = append(out, Finding{area, strings.Join(platforms, ", "), OK, fmt.Sprintf("%s, %d of them your own", count(len(names), "template"), own), ""})
	}
	return out
}

// fromError makes a finding of an error, with its next step.
func fromError(area, subject string, err error) Finding {
	f := Finding{Area: area, Subject: subject, Severity: Error, Message: err.Error()}
	var have *fault.Error
	if errors.As(err, &have) && have.Next != "" {
		f.Next = have.Next
		f.Message = strings.TrimSuffix(f.Message, " ("+have.Next+")")
	}
	return f
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// some names a few of many.
func some(names []string) string {
	const shown = 5
	text := strings.Join(names[:min(len(names), shown)], ", ")
	if more := len(names) - shown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// forCommand names devices for a command line, where they are few.
func forCommand(names []string) string {
	if len(names) > 5 {
		return "--all"
	}
	return strings.Join(names, " ")
}
