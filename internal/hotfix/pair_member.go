package hotfix

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

// The roles that show cm failover-status gives (verified), in capitals there.
// Anything else is a device that does not work: OFFLINE, FORCED OFFLINE.
const (
	roleActive  = "active"
	roleStandby = "standby"
)

// inSync is the sync state that a pair has to be in before it is changed.
const inSync = "In Sync"

// member is what a device shows of itself at one time.
type member struct {
	Running software    `json:"running"` // show sys version
	Edition string      `json:"edition,omitempty"`
	Volume  string      `json:"volume"` // the running one
	Volumes []volumeRow `json:"volumes"`
	Role    string      `json:"role"`
	Sync    string      `json:"sync"`
	Boot    boot        `json:"boot"`
}

// volumeRow is a row of show sys software status.
type volumeRow struct {
	Name    string `json:"name"`
	Product string `json:"product"`
	software
	Active bool   `json:"active"`
	Status string `json:"status"`
}

// holds reports whether the row is of this software, whatever its status is.
func (r volumeRow) holds(s software) bool { return r.Product == "BIG-IP" && r.software == s }

func (r volumeRow) complete() bool { return r.Status == "complete" }
func (r volumeRow) failed() bool {
	return strings.HasPrefix(r.Status, "failed") || strings.HasPrefix(r.Status, "cancel")
}

// busy reports whether something is being installed there, or is about to be.
func (r volumeRow) busy() bool {
	return slices.ContainsFunc([]string{"installing", "waiting", "audited", "retry", "upgrade"}, func(w string) bool { return strings.HasPrefix(r.Status, w) })
}

func (r volumeRow) empty() bool { return r.Version == "none" || r.Version == "" }

// String is the row as people read it.
func (r volumeRow) String() string {
	if r.empty() {
		return fmt.Sprintf("%s empty, %s", r.Name, r.Status)
	}
	return fmt.Sprintf("%s %s, %s", r.Name, r.software, r.Status)
}

// row gives a volume; ok is false where the device has none of that name.
func (m member) row(volume string) (volumeRow, bool) {
	i := slices.IndexFunc(m.Volumes, func(r volumeRow) bool { return r.Name == volume })
	if i < 0 {
		return volumeRow{}, false
	}
	return m.Volumes[i], true
}

// at reports whether the device runs what the leg leads to: by the volume, by its
// row and by what it says of itself.
func (m member) at(l leg) bool {
	r, ok := m.row(l.Volume)
	return ok && r.Active && m.Volume == l.Volume && r.holds(l.Software) && m.Running == l.Software
}

func (m member) String() string {
	return fmt.Sprintf("%s from %s, %s", m.Running, m.Volume, m.Role)
}

// olderThan compares version and then build, number by number.
func (s software) olderThan(o software) bool {
	for _, pair := range [][2]string{{s.Version, o.Version}, {s.Build, o.Build}} {
		a, b := numbers(pair[0]), numbers(pair[1])
		for len(a) < len(b) {
			a = append(a, 0)
		}
		for len(b) < len(a) {
			b = append(b, 0)
		}
		if c := slices.Compare(a, b); c != 0 {
			return c < 0
		}
	}
	return false
}

// numbers takes a dotted version apart; what is no number counts as 0.
func numbers(s string) []int {
	var out []int
	for part := range strings.SplitSeq(s, ".") {
		n, _ := strconv.Atoi(part) // 0, as said
		out = append(out, n)
	}
	return out
}

var (
	versionLine = regexp.MustCompile(`(?m)^ *Version +(\S+)`)
	buildLine   = regexp.MustCompile(`(?m)^ *Build +(\S+)`)
	editionLine = regexp.MustCompile(`(?m)^ *Edition +(\S.*?) *$`)
	statusLine  = regexp.MustCompile(`(?m)^Status +(\S.*?) *$`)
)

func first(re *regexp.Regexp, text string) string {
	if m := re.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

// parseVolumes reads show sys software status. Its columns differ by release and
// are as wide as their widest value; a status has spaces in it. On a chassis a
// volume has a row for each slot, and is as far as the last of them.
func parseVolumes(text string) ([]volumeRow, error) {
	var list []volumeRow
	var head []string
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || strings.Trim(words[0], "-") == "" || strings.HasPrefix(words[0], "Sys::"):
			continue
		case words[0] == "Volume":
			head = words
			continue
		case head == nil:
			continue // a banner
		}
		slot := slices.Contains(head, "Slot")
		if slot && len(words) > 1 {
			words = slices.Delete(words, 1, 2)
		}
		if slices.Contains(head, "Allowed") && len(words) > 6 {
			words = words[:len(words)-1]
		}
		if len(words) < 6 || words[4] != "yes" && words[4] != "no" {
			return nil, fmt.Errorf("a row of the software status that is not understood: %s", quote(strings.TrimSpace(line)))
		}
		r := volumeRow{Name: words[0], Product: words[1], software: software{words[2], words[3]}, Active: words[4] == "yes", Status: strings.Join(words[5:], " ")}
		if i := slices.IndexFunc(list, func(o volumeRow) bool { return o.Name == r.Name }); i >= 0 {
			if list[i].complete() {
				list[i] = r
			}
			continue
		}
		list = append(list, r)
	}
	if len(list) == 0 {
		return nil, errors.New("the software status lists no volume")
	}
	return list, nil
}

// see looks at a device, and records what it runs.
func (p *pair) see(ctx context.Context, env operation.Env, dev *device.Device) (member, error) {
	var m member
	unclear := func(line, why string) error {
		return &fault.Error{Kind: fault.Unparsed, Act: "read " + line, Device: dev.Name, Err: errors.New(why)}
	}
	out, err := p.tmsh(ctx, env, dev, "show sys version", 0)
	if err != nil {
		return m, err
	}
	m.Running = software{first(versionLine, out.Text), first(buildLine, out.Text)}
	m.Edition = first(editionLine, out.Text)
	if m.Running.Version == "" || m.Running.Build == "" {
		return m, unclear("show sys version", "it shows no version and build")
	}
	if out, err = p.tmsh(ctx, env, dev, "show sys software status", 0); err != nil {
		return m, err
	}
	if m.Volumes, err = parseVolumes(out.Text); err != nil {
		return m, unclear("show sys software status", err.Error())
	}
	for _, r := range m.Volumes {
		if r.Active {
			m.Volume = r.Name
		}
	}
	if out, err = p.tmsh(ctx, env, dev, "show cm failover-status", 0); err != nil {
		return m, err
	}
	if m.Role = strings.ToLower(first(statusLine, out.Text)); m.Role == "" {
		return m, unclear("show cm failover-status", "it shows no status")
	}
	if out, err = p.tmsh(ctx, env, dev, "show cm sync-status", 0); err != nil {
		return m, err
	}
	m.Sync = first(statusLine, out.Text)
	if m.Boot, _, err = p.look(env, dev).boot(ctx, p.def.Proofs.Rebooted); err != nil {
		return m, err
	}
	env.Facts(dev, operation.Facts{"version": m.Running.Version, "build": m.Running.Build})
	return m, nil
}

// seeAll looks at all devices of the unit, side by side.
func (p *pair) seeAll(ctx context.Context, env operation.Env) (map[string]member, error) {
	list := make([]member, len(p.devices))
	err := p.each(func(i int, dev *device.Device) (err error) {
		list[i], err = p.see(ctx, env, dev)
		return err
	})
	out := make(map[string]member, len(list))
	for i, dev := range p.devices {
		out[dev.Name] = list[i]
	}
	return out, err
}

// each does something with every device, side by side. One that fails does not end
// what is done with the other; all errors are given.
func (p *pair) each(fn func(i int, dev *device.Device) error) error {
	errs := make([]error, len(p.devices))
	var g errgroup.Group
	for i, dev := range p.devices {
		g.Go(func() error {
			errs[i] = fn(i, dev)
			return nil
		})
	}
	_ = g.Wait() // no part gives an error
	return errors.Join(errs...)
}

// clipLine quotes the last line of an output.
func clipLine(text string) string { return quote(lastLine(text)) }

// stamp is the present time as it is kept.
func stamp(env operation.Env) time.Time { return env.Now().UTC().Truncate(time.Second) }
