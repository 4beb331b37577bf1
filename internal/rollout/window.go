package rollout

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"capfleet/internal/fault"
)

// Window is a time that comes every week, or every day: from a time of day by the
// clock on the wall, for a length of time. Where clocks are changed within it, it is
// as long as it says.
type Window struct {
	day    int // of the week, Sunday is 0; daily is every day
	hour   int
	minute int
	length time.Duration
}

const daily = -1

// The bounds of a window's length.
const (
	minWindow = time.Minute
	maxWindow = 7 * 24 * time.Hour
)

var days = [...]string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}

var windowForm = regexp.MustCompile(`^\s*(\pL+)\s+(\d{1,2}):(\d{2})\s*\+\s*([0-9hms.]+)\s*$`)

// ParseWindow reads "Sat 22:00+4h": a day of the week in three letters or in full, or
// "daily"; the time of day; and a length.
func ParseWindow(s string) (Window, error) {
	m := windowForm.FindStringSubmatch(s)
	if m == nil {
		return Window{}, badWindow(s, `it has the form "Sat 22:00+4h" or "daily 22:00+4h"`)
	}
	w := Window{day: dayOf(m[1])}
	if w.day < daily {
		return Window{}, badWindow(s, m[1]+" is no day of the week")
	}
	if _, err := fmt.Sscanf(m[2]+" "+m[3], "%d %d", &w.hour, &w.minute); err != nil || w.hour > 23 || w.minute > 59 {
		return Window{}, badWindow(s, m[2]+":"+m[3]+" is no time of day")
	}
	length, err := time.ParseDuration(m[4])
	if err != nil {
		return Window{}, badWindow(s, m[4]+" is no length of time, as 4h or 90m")
	}
	most := maxWindow
	if w.day == daily {
		most = 24 * time.Hour
	}
	if length < minWindow || length > most {
		return Window{}, badWindow(s, fmt.Sprintf("its length has to be from %s to %s", short(minWindow), short(most)))
	}
	w.length = length
	return w, nil
}

func badWindow(s, why string) error {
	return fault.New(fault.Invalid, "window %q cannot be read: %s (--window)", fault.Clip(s, 60), why)
}

// dayOf gives the day of a name, and less than daily for none.
func dayOf(name string) int {
	if strings.EqualFold(name, "daily") {
		return daily
	}
	for i, short := range days {
		if strings.EqualFold(name, short) || strings.EqualFold(name, time.Weekday(i).String()) {
			return i
		}
	}
	return daily - 1
}

// String gives what ParseWindow reads.
func (w Window) String() string {
	day := "daily"
	if w.day != daily {
		day = days[w.day]
	}
	return fmt.Sprintf("%s %02d:%02d+%s", day, w.hour, w.minute, short(w.length))
}

// short prints a length without parts that are nought.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalJSON writes it as text.
func (w Window) MarshalJSON() ([]byte, error) { return json.Marshal(w.String()) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (w *Window) UnmarshalJSON(data []byte) (err error) {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	*w, err = ParseWindow(s)
	return err
}

// span is from a moment to another, without it.
type span struct{ start, end time.Time }

// occurrence gives the first time that the window comes in a zone and ends after a
// moment.
func (w Window) occurrence(zone *time.Location, after time.Time) span {
	local := after.In(zone)
	// The longest window that has begun before and is not over began so many days ago.
	back := int(w.length/(24*time.Hour)) + 2
	for offset := -back; ; offset++ {
		day := time.Date(local.Year(), local.Month(), local.Day()+offset, 12, 0, 0, 0, time.UTC)
		if w.day != daily && int(day.Weekday()) != w.day {
			continue
		}
		start := wall(day.Year(), day.Month(), day.Day(), w.hour, w.minute, zone)
		if end := start.Add(w.length); end.After(after) {
			return span{start, end}
		}
	}
}

// wall gives the first moment at which clocks in a zone show a time. A time that is
// left out when clocks are put forward is the moment at which they are.
func wall(year int, month time.Month, day, hour, minute int, zone *time.Location) time.Time {
	utc := time.Date(year, month, day, hour, minute, 0, 0, time.UTC)
	_, before := utc.Add(-26 * time.Hour).In(zone).Zone()
	_, behind := utc.Add(26 * time.Hour).In(zone).Zone()
	first := utc.Add(-time.Duration(before) * time.Second).In(zone)
	if shows(first, utc) {
		return first
	}
	if second := utc.Add(-time.Duration(behind) * time.Second).In(zone); shows(second, utc) {
		return second
	}
	changed, _ := first.ZoneBounds()
	return changed
}

// shows reports whether the clock at a moment shows a date and time of day.
func shows(t, want time.Time) bool {
	return t.Day() == want.Day() && t.Hour() == want.Hour() && t.Minute() == want.Minute()
}
