package hotfix

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

// Answer is what a proof gives.
type Answer string

// The answers.
const (
	Proven        Answer = "proven"
	Disproven     Answer = "disproven"
	NotObservable Answer = "not_observable"
)

// The proofs, by the names that --accept-unobserved takes.
const (
	ProofInstalled  = "installed"
	ProofRebooted   = "rebooted"
	ProofNormalMode = "normal_mode"
	ProofCapturing  = "capturing"
)

var proofNames = []string{ProofInstalled, ProofRebooted, ProofNormalMode, ProofCapturing, ProofLicence}

// Proof is one proof with its answer.
type Proof struct {
	Name   string `json:"name"`
	Answer Answer `json:"answer"`
	// How is the command that shows it, "" where none does.
	How string `json:"how"`
	// Detail is what was seen, in one line, with what else is known.
	Detail string `json:"detail"`
	// Accepted is set where it passed although nothing showed it, because the
	// operator had said so.
	Accepted bool `json:"accepted"`
}

// look is a device being looked at.
type look struct {
	env operation.Env
	dev *device.Device
}

func (l look) session(ctx context.Context) (device.Session, error) { return l.env.Session(ctx, l.dev) }

// run runs a command of a reading.
func (l look) run(ctx context.Context, line, mode string, timeout time.Duration) (device.Output, error) {
	s, err := l.session(ctx)
	if err != nil {
		return device.Output{}, err
	}
	return s.Run(ctx, device.Command{Line: line, Mode: mode, Timeout: timeout})
}

// first tries readings until one answers. A command that the device does not know
// shows nothing; any other error is one.
func (l look) first(name string, readings []device.Reading, read func(device.Reading) (Answer, string, error)) (Proof, error) {
	p := Proof{Name: name, Answer: NotObservable}
	var why []string
	for _, r := range readings {
		answer, detail, err := read(r)
		if fault.Is(err, fault.Refused) {
			answer, detail, err = NotObservable, fmt.Sprintf("the device has no %s", quote(r.Line)), nil
		}
		if err != nil {
			return p, err
		}
		if answer != NotObservable {
			p.Answer, p.How, p.Detail = answer, r.Line, detail
			return p, nil
		}
		if p.How == "" {
			p.How = r.Line
		}
		why = append(why, detail)
	}
	if len(why) == 0 {
		why = []string{"the platform definition has no reading for it"}
	}
	p.Detail = strings.Join(slices.Compact(why), "; ")
	return p, nil
}

// entry is a line of a list.
type entry struct{ name, version string }

func (e entry) String() string { return strings.TrimSpace(e.name + " " + e.version) }

// list reads what is installed. ok is false where no reading could be understood.
func (l look) list(ctx context.Context, readings []device.Reading) (entries []entry, p Proof, err error) {
	p, err = l.first(ProofInstalled, readings, func(r device.Reading) (Answer, string, error) {
		out, err := l.run(ctx, r.Line, r.Mode, r.Timeout)
		if err != nil {
			return "", "", err
		}
		list, bad := readList(r, out.Text)
		if bad != "" {
			return NotObservable, fmt.Sprintf("%s has a line that the definition does not know: %s", r.Line, quote(bad)), nil
		}
		entries = list
		return Proven, "", nil
	})
	return entries, p, err
}

// readList takes a list apart. bad is the first line that is not understood.
func readList(r device.Reading, text string) (list []entry, bad string) {
	match := expr(r.Match)
	ignore := compile(r.Ignore)
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" || matchAny(ignore, line) {
			continue
		}
		m := match.FindStringSubmatch(line)
		if m == nil {
			return nil, line
		}
		e := entry{name: m[match.SubexpIndex("name")]}
		if i := match.SubexpIndex("version"); i >= 0 {
			e.version = m[i]
		}
		list = append(list, e)
	}
	return list, ""
}

// boot is what a device shows of its last boot.
type boot struct {
	Kind   device.ReadingKind `json:"kind,omitempty"` // "" when it shows nothing
	Line   string             `json:"line,omitempty"`
	Value  string             `json:"value,omitempty"`  // as printed
	Uptime float64            `json:"uptime,omitempty"` // seconds
	Grain  float64            `json:"grain,omitempty"`  // of the uptime, seconds
	At     time.Time          `json:"at"`               // when it was looked at, by fleetd's clock
}

// boot reads the first boot reading that the device answers.
func (l look) boot(ctx context.Context, readings []device.Reading) (boot, Proof, error) {
	var b boot
	p, err := l.first(ProofRebooted, readings, func(r device.Reading) (Answer, string, error) {
		out, err := l.run(ctx, r.Line, r.Mode, r.Timeout)
		if err != nil {
			return "", "", err
		}
		got, ok := readBoot(r, out.Text)
		if !ok {
			return NotObservable, fmt.Sprintf("%s shows no %s that the definition knows", r.Line, strings.ReplaceAll(string(r.Kind), "_", " ")), nil
		}
		b, b.At = got, l.env.Now().UTC()
		return Proven, "", nil
	})
	return b, p, err
}

func readBoot(r device.Reading, text string) (boot, bool) {
	match := expr(r.Match)
	m := match.FindStringSubmatch(text)
	if m == nil {
		return boot{}, false
	}
	b := boot{Kind: r.Kind, Line: r.Line, Value: strings.Join(strings.Fields(m[0]), " ")}
	switch r.Kind {
	case device.ReadUptime:
		finest := math.Inf(1)
		for _, unit := range []struct {
			name    string
			seconds float64
		}{{"days", 86400}, {"hours", 3600}, {"minutes", 60}, {"seconds", 1}} {
			i := match.SubexpIndex(unit.name)
			if i < 0 || m[i] == "" {
				continue
			}
			n, err := strconv.ParseFloat(m[i], 64)
			if err != nil || n < 0 {
				return boot{}, false
			}
			b.Uptime += n * unit.seconds
			finest = min(finest, unit.seconds)
		}
		b.Grain = finest
		return b, !math.IsInf(finest, 1)
	case device.ReadBootTime:
		if _, err := time.Parse(r.Layout, m[1]); err != nil {
			return boot{}, false
		}
		b.Value = m[1]
		return b, true
	default:
		b.Value = m[1]
		return b, b.Value != ""
	}
}

// clockSlack is by how much fleetd's clock and a device's run apart while a device
// is worked on, as far as that is normal.
const clockSlack = 5 * time.Second

// slackOf is by how many seconds two uptimes may differ from the time between them.
func slackOf(before, after boot) float64 {
	return clockSlack.Seconds() + before.Grain + after.Grain
}

// rebooted tells whether the device booted between two looks. An uptime that is
// shorter than before needs no clock to be believed; a longer one is compared with
// the time that has passed, and where that fits neither, a clock was set.
func rebooted(before, after boot) (Answer, string) {
	switch {
	case before.Kind == "" || after.Kind == "":
		return NotObservable, "the device shows nothing of its boot"
	case before.Kind != after.Kind || before.Line != after.Line:
		return NotObservable, fmt.Sprintf("before it was shown by %s (%s) and now by %s (%s)", before.Line, before.Kind, after.Line, after.Kind)
	case after.Kind != device.ReadUptime:
		if before.Value == after.Value {
			return Disproven, "still " + quote(after.Value)
		}
		return Proven, fmt.Sprintf("%s, before %s", quote(after.Value), quote(before.Value))
	}
	passed := after.At.Sub(before.At).Seconds()
	slack := slackOf(before, after)
	detail := fmt.Sprintf("up for %s, %s before the change", short(after.Uptime), short(before.Uptime))
	switch {
	case after.Uptime < before.Uptime:
		return Proven, detail
	case math.Abs(after.Uptime-before.Uptime-passed) <= slack:
		return Disproven, detail
	case after.Uptime <= passed+slack:
		return Proven, detail
	default:
		return NotObservable, fmt.Sprintf("%s, but %s have passed: a clock was set", detail, short(passed))
	}
}

// rebootedAgain says how a device that is being watched shows that it booted between
// two looks, "" where it does not. An answer that comes late makes an uptime look too
// short: it counts only where it is less than the time that has passed.
func rebootedAgain(earlier, now boot) string {
	switch {
	case earlier.Kind == "" || earlier.Kind != now.Kind || earlier.Line != now.Line:
		return ""
	case now.Kind != device.ReadUptime:
		if earlier.Value == now.Value {
			return ""
		}
		return fmt.Sprintf("%s, before %s", quote(now.Value), quote(earlier.Value))
	}
	passed := now.At.Sub(earlier.At)
	if now.Uptime >= earlier.Uptime && now.Uptime >= (passed-clockSlack).Seconds()-now.Grain {
		return ""
	}
	return fmt.Sprintf("up for %s, and %s earlier for %s", short(now.Uptime), short(passed.Seconds()), short(earlier.Uptime))
}

// normalMode tells whether the device is out of maintenance mode.
func (l look) normalMode(ctx context.Context, readings []device.Reading) (Proof, error) {
	return l.first(ProofNormalMode, readings, func(r device.Reading) (Answer, string, error) {
		out, err := l.run(ctx, r.Line, r.Mode, r.Timeout)
		if err != nil {
			return "", "", err
		}
		text, what := out.Text, "its answer"
		if r.Kind == device.ReadPrompt {
			if text = out.Prompt; text == "" {
				return NotObservable, "there is no prompt", nil
			}
			what = "prompt " + quote(text)
		}
		answer := NotObservable
		switch {
		case r.Disproven != "" && expr(r.Disproven).MatchString(text):
			answer = Disproven
		case r.Proven == "" || expr(r.Proven).MatchString(text):
			answer = Proven
		}
		return answer, what, nil
	})
}

// capturing tells whether packets are being kept.
func (l look) capturing(ctx context.Context, def *device.Definition) (Proof, error) {
	return l.first(ProofCapturing, def.Proofs.Capturing, func(r device.Reading) (Answer, string, error) {
		out, err := l.run(ctx, r.Line, r.Mode, r.Timeout)
		if err != nil {
			return "", "", err
		}
		found := expr(r.Match).FindAllStringSubmatch(out.Text, -1)
		if len(found) == 0 {
			return NotObservable, fmt.Sprintf("%s shows nothing that the definition knows", r.Line), nil
		}
		if r.Kind == device.ReadNewest {
			return l.newest(ctx, def, r, found)
		}
		if err := l.wait(ctx, r.Apart); err != nil {
			return "", "", err
		}
		again, err := l.run(ctx, r.Line, r.Mode, r.Timeout)
		if err != nil {
			return "", "", err
		}
		was, is := figures(found), figures(expr(r.Match).FindAllStringSubmatch(again.Text, -1))
		detail := fmt.Sprintf("%s then %s, %s later", quote(was), quote(is), r.Apart)
		switch {
		case was != is:
			return Proven, detail, nil
		case r.Still == device.StillDisproven:
			return Disproven, "does not move: " + detail, nil
		default:
			return NotObservable, fmt.Sprintf("%s does not move, which full ones never do", quote(is)), nil
		}
	})
}

// newest compares the newest packet with the device's own clock: two clocks would
// prove something about clocks.
func (l look) newest(ctx context.Context, def *device.Definition, r device.Reading, found [][]string) (Answer, string, error) {
	var newest time.Time
	for _, m := range found {
		t, err := time.Parse(r.Layout, m[1])
		if err != nil {
			return NotObservable, fmt.Sprintf("%s is not a time of the layout %s", quote(m[1]), r.Layout), nil //nolint:nilerr // that it shows nothing is the answer
		}
		if t.After(newest) {
			newest = t
		}
	}
	if def.Checks.Clock == "" {
		return NotObservable, "the platform definition does not say how to read the clock", nil
	}
	out, err := l.run(ctx, def.Checks.Clock, "", 0)
	if err != nil {
		return "", "", err
	}
	m := expr(def.Checks.ClockMatch).FindStringSubmatch(out.Text)
	if m == nil {
		return NotObservable, def.Checks.Clock + " shows no time that the definition knows", nil
	}
	clock, err := time.Parse(def.Checks.ClockLayout, m[1])
	if err != nil {
		return NotObservable, fmt.Sprintf("%s is not a time of the layout %s", quote(m[1]), def.Checks.ClockLayout), nil //nolint:nilerr // as above
	}
	// The packet's time is in the zone of the clock, as far as a layout says one.
	clock = time.Date(clock.Year(), clock.Month(), clock.Day(), clock.Hour(), clock.Minute(), clock.Second(), 0, newest.Location())
	age := clock.Sub(newest)
	detail := fmt.Sprintf("newest packet %s old", short(max(0, age.Seconds())))
	if age > r.Within || age < -r.Within {
		return Disproven, detail, nil
	}
	return Proven, detail, nil
}

// wait lets time pass.
func (l look) wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return stopped(ctx, l.dev)
	}
}

// stopped is the error of work whose context has ended.
func stopped(ctx context.Context, dev *device.Device) error {
	return &fault.Error{Kind: fault.KindOf(context.Cause(ctx)), Act: "wait", Device: dev.Name, Err: context.Cause(ctx)}
}

func figures(found [][]string) string {
	words := make([]string, len(found))
	for i, m := range found {
		words[i] = m[1]
	}
	return strings.Join(words, ", ")
}

// expr compiles a pattern of a definition. LoadDefinition has done so before; of a
// definition that was put together by hand one that does not compile matches
// nothing.
func expr(pattern string) *regexp.Regexp {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return regexp.MustCompile(`[^\s\S]`)
	}
	return re
}

func compile(patterns []string) []*regexp.Regexp {
	out := make([]*regexp.Regexp, len(patterns))
	for i, p := range patterns {
		out[i] = expr(p)
	}
	return out
}

func matchAny(patterns []*regexp.Regexp, s string) bool {
	return slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool { return p.MatchString(s) })
}

// quote makes device text part of a line: bounded, and nothing in it can be taken
// for ours.
func quote(s string) string {
	const most = 160
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "..."
	}
	return strconv.Quote(s)
}

// short writes seconds as people do.
func short(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Minute:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	default:
		return d.Round(time.Second).String()
	}
}
