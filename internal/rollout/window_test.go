package rollout

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"

	"capfleet/internal/fault"
)

func at(t *testing.T, s string) time.Time {
	t.Helper()
	moment, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return moment
}

func TestParseWindow(t *testing.T) {
	for in, want := range map[string]string{
		"Sat 22:00+4h":         "Sat 22:00+4h",
		" saturday 9:30 + 90m": "Sat 09:30+1h30m",
		"daily 00:00+24h":      "daily 00:00+24h",
		"sun 23:59+168h":       "Sun 23:59+168h",
		"Mon 01:00+1h30m15s":   "Mon 01:00+1h30m15s",
	} {
		w, err := ParseWindow(in)
		if err != nil || w.String() != want {
			t.Errorf("%q: %s, %v; want %s", in, w, err, want)
			continue
		}
		data, err := json.Marshal(w)
		var again Window
		if err != nil || json.Unmarshal(data, &again) != nil || again != w {
			t.Errorf("%q as JSON: %s, %v", in, data, err)
		}
	}
	for _, in := range []string{"", "Sat", "Sat 22:00", "Sat 24:00+1h", "Sat 22:60+1h", "Sat 22:00+0s", "Sat 22:00-4h", "Sat 22:00+169h",
		"daily 22:00+25h", "Satt 22:00+4h", "22:00+4h", "Sat 22:00+4", "Sat 22:00+4h Europe/London", "Sat 22:00+1e9h"} {
		if w, err := ParseWindow(in); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q is read as %s, %v", in, w, err)
		}
	}
}

func FuzzParseWindow(f *testing.F) {
	for _, s := range []string{"Sat 22:00+4h", "daily 1:00+24h", "Sun 23:59+168h", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		w, err := ParseWindow(s)
		if err != nil {
			return
		}
		again, err := ParseWindow(w.String())
		if err != nil || again != w {
			t.Errorf("%q is %s, and that is %s, %v", s, w, again, err)
		}
	})
}

// TestOccurrence: windows begin when the clock on the wall says so and are as long as
// they say, also where clocks are changed.
func TestOccurrence(t *testing.T) {
	for name, tc := range map[string]struct{ window, zone, after, start, end string }{
		"next week":            {"Sat 22:00+4h", "Europe/London", "2026-06-07T12:00:00Z", "2026-06-13T21:00:00Z", "2026-06-14T01:00:00Z"},
		"now":                  {"Sat 22:00+4h", "Europe/London", "2026-06-13T22:00:00Z", "2026-06-13T21:00:00Z", "2026-06-14T01:00:00Z"},
		"just over":            {"Sat 22:00+4h", "Europe/London", "2026-06-14T01:00:00Z", "2026-06-20T21:00:00Z", "2026-06-21T01:00:00Z"},
		"clocks back":          {"Sat 22:00+4h", "Europe/London", "2026-10-20T00:00:00Z", "2026-10-24T21:00:00Z", "2026-10-25T01:00:00Z"},
		"clocks forward":       {"Sat 22:00+4h", "Europe/London", "2026-03-25T00:00:00Z", "2026-03-28T22:00:00Z", "2026-03-29T02:00:00Z"},
		"a time left out":      {"Sun 01:30+1h", "Europe/London", "2026-03-28T00:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"},
		"a time shown twice":   {"Sun 01:30+1h", "Europe/London", "2026-10-24T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"},
		"left out in New York": {"daily 02:30+2h", "America/New_York", "2026-03-08T05:00:00Z", "2026-03-08T07:00:00Z", "2026-03-08T09:00:00Z"},
		"over midnight":        {"daily 23:00+2h", "Asia/Kolkata", "2026-06-07T18:00:00Z", "2026-06-07T17:30:00Z", "2026-06-07T19:30:00Z"},
		"half an hour of summer": {"daily 02:15+1h", "Australia/Lord_Howe", "2026-10-03T14:00:00Z",
			"2026-10-03T15:30:00Z", "2026-10-03T16:30:00Z"},
		"all week": {"Mon 00:00+168h", "UTC", "2026-06-07T12:00:00Z", "2026-06-01T00:00:00Z", "2026-06-08T00:00:00Z"},
	} {
		w, err := ParseWindow(tc.window)
		if err != nil {
			t.Fatal(err)
		}
		zone, err := location(tc.zone)
		if err != nil {
			t.Fatal(err)
		}
		got := w.occurrence(zone, at(t, tc.after))
		if !got.start.Equal(at(t, tc.start)) || !got.end.Equal(at(t, tc.end)) {
			t.Errorf("%s: %s in %s after %s is %v to %v, want %s to %s", name, tc.window, tc.zone, tc.after, got.start.UTC(), got.end.UTC(), tc.start, tc.end)
		}
	}
}

// TestWall compares with a search over all minutes of the days around.
func TestWall(t *testing.T) {
	zones := []string{"Europe/London", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia", "America/St_Johns", "Africa/Casablanca"}
	rapid.Check(t, func(t *rapid.T) {
		zone, err := location(rapid.SampledFrom(zones).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		day := time.Date(2026, 1, 1+rapid.IntRange(0, 364).Draw(t, "day"), 0, 0, 0, 0, time.UTC)
		hour, minute := rapid.IntRange(0, 23).Draw(t, "hour"), rapid.IntRange(0, 59).Draw(t, "minute")
		want := day.Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute)
		got := wall(day.Year(), day.Month(), day.Day(), hour, minute, zone)
		// The first minute whose clock shows the time or, where it is left out, more.
		clock := func(m time.Time) time.Time {
			l := m.In(zone)
			return time.Date(l.Year(), l.Month(), l.Day(), l.Hour(), l.Minute(), 0, 0, time.UTC)
		}
		m := want.Add(-28 * time.Hour)
		for clock(m).Before(want) {
			m = m.Add(time.Minute)
		}
		if !got.Equal(m) {
			t.Fatalf("%v in %v is %v, want %v", want, zone, got, m)
		}
	})
}
