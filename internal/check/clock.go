package check

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"capfleet/internal/device"

	"capfleet/internal/fault"
)

// readClock takes the device's time out of what its clock command printed. A
// time without a zone is in the device's own, which is its site's, else UTC.
func readClock(output string, checks device.Checks, timezone string) (time.Time, error) {
	re, err := regexp.Compile(checks.ClockMatch)
	if err != nil {
		return time.Time{}, fmt.Errorf("pattern clock_match of the platform: %w", err)
	}
	m := re.FindStringSubmatch(output)
	if len(m) < 2 {
		return time.Time{}, fmt.Errorf("no time is found in %q", fault.Clip(strings.TrimSpace(output), 80))
	}
	where := time.UTC
	if timezone != "" {
		if where, err = time.LoadLocation(timezone); err != nil {
			return time.Time{}, fmt.Errorf("time zone of the site: %w", err)
		}
	}
	t, err := time.ParseInLocation(checks.ClockLayout, m[1], where)
	if err != nil {
		// The error of package time repeats layout and text without bounds.
		return time.Time{}, fmt.Errorf("%q is no time of the form %q", fault.Clip(m[1], 80), checks.ClockLayout)
	}
	if name, offset := t.Zone(); offset == 0 && strings.Contains(checks.ClockLayout, "MST") && name != "UTC" && name != "GMT" && t.Location() != where {
		// An abbreviation that is not one of the site's says nothing about its
		// offset; package time then makes one up, of zero.
		if timezone == "" {
			return time.Time{}, fmt.Errorf("the time zone %q is not known: give the device's site its timezone", fault.Clip(name, 80))
		}
		t = time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), where)
	}
	if t.Year() == 0 {
		return time.Time{}, errors.New("the platform's clock_layout has no date")
	}
	if !strings.Contains(checks.ClockLayout, ".0") && !strings.Contains(checks.ClockLayout, ".9") {
		// Cut to whole seconds: on average half a second is missing.
		t = t.Add(time.Second / 2)
	}
	return t, nil
}
