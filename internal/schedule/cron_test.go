package schedule

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"capfleet/internal/fault"
)

func expression(t testing.TB, cron, zone string) Expression {
	t.Helper()
	e, err := Parse(cron, zone)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestOccurrences has the changes of clocks both ways in zones that do it
// differently, and what crontab(5) says about days.
func TestOccurrences(t *testing.T) {
	const form = "2006-01-02 15:04 -0700"
	for name, c := range map[string]struct {
		cron, zone, after string
		want              []string
	}{
		"spring, daily, left out": {"30 2 * * *", "America/New_York", "2026-03-07 12:00 -0500",
			[]string{"2026-03-08 03:00 -0400", "2026-03-09 02:30 -0400"}},
		"spring, several left out run once": {"0,15,30 2 * * *", "America/New_York", "2026-03-07 12:00 -0500",
			[]string{"2026-03-08 03:00 -0400", "2026-03-09 02:00 -0400"}},
		"spring, hourly": {"30 * * * *", "America/New_York", "2026-03-08 00:45 -0500",
			[]string{"2026-03-08 01:30 -0500", "2026-03-08 03:30 -0400"}},
		"spring, quarters": {"*/15 * * * *", "Europe/London", "2026-03-29 00:40 +0000",
			[]string{"2026-03-29 00:45 +0000", "2026-03-29 02:00 +0100", "2026-03-29 02:15 +0100"}},
		"autumn, daily, comes twice": {"30 1 * * *", "America/New_York", "2026-10-31 12:00 -0400",
			[]string{"2026-11-01 01:30 -0400", "2026-11-02 01:30 -0500"}},
		"autumn, asked between the two": {"30 1 * * *", "America/New_York", "2026-11-01 01:10 -0500",
			[]string{"2026-11-02 01:30 -0500"}},
		"autumn, hourly": {"0 * * * *", "America/New_York", "2026-11-01 00:30 -0400",
			[]string{"2026-11-01 01:00 -0400", "2026-11-01 01:00 -0500", "2026-11-01 02:00 -0500"}},
		"autumn, half hours": {"*/30 * * * *", "Europe/Berlin", "2026-10-25 01:45 +0200",
			[]string{"2026-10-25 02:00 +0200", "2026-10-25 02:30 +0200", "2026-10-25 02:00 +0100", "2026-10-25 02:30 +0100", "2026-10-25 03:00 +0100"}},
		"half an hour": {"15 2 * * *", "Australia/Lord_Howe", "2026-10-03 12:00 +1030",
			[]string{"2026-10-04 02:30 +1100", "2026-10-05 02:15 +1100"}},
		"midnight left out": {"0 0 * * *", "America/Sao_Paulo", "2018-11-03 12:00 -0300",
			[]string{"2018-11-04 01:00 -0200", "2018-11-05 00:00 -0200"}},
		"a day left out": {"0 9 * * *", "Pacific/Apia", "2011-12-28 12:00 -1000",
			[]string{"2011-12-29 09:00 -1000", "2011-12-31 00:00 +1400", "2011-12-31 09:00 +1400"}},
		"either day is enough":  {"0 4 15 * MON", "UTC", "2026-06-12 00:00 +0000", []string{"2026-06-15 04:00 +0000", "2026-06-22 04:00 +0000"}},
		"first Saturday":        {"0 22 * * SAT#1", "UTC", "2026-06-12 00:00 +0000", []string{"2026-07-04 22:00 +0000", "2026-08-01 22:00 +0000"}},
		"last day of the month": {"0 0 L * *", "UTC", "2028-02-01 00:00 +0000", []string{"2028-02-29 00:00 +0000", "2028-03-31 00:00 +0000"}},
		"over midnight":         {"0 22-1 * * FRI-SAT", "UTC", "2026-06-12 12:00 +0000", []string{"2026-06-12 22:00 +0000", "2026-06-12 23:00 +0000", "2026-06-13 00:00 +0000", "2026-06-13 01:00 +0000", "2026-06-13 22:00 +0000"}},
		"over the weekend":      {"0 6 * * SAT-MON", "UTC", "2026-06-12 12:00 +0000", []string{"2026-06-13 06:00 +0000", "2026-06-14 06:00 +0000", "2026-06-15 06:00 +0000", "2026-06-20 06:00 +0000"}},
		"leap day":              {"0 0 29 2 *", "UTC", "2096-03-01 00:00 +0000", []string{"2104-02-29 00:00 +0000"}},
		"weekly":                {"@weekly", "Asia/Kolkata", "2026-06-12 00:00 +0530", []string{"2026-06-14 00:00 +0530"}},
	} {
		t.Run(name, func(t *testing.T) {
			e := expression(t, c.cron, c.zone)
			at, err := time.Parse(form, c.after)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for range c.want {
				at = e.Next(at)
				got = append(got, at.In(e.zone).Format(form))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%v\nwant %v", got, c.want)
			}
		})
	}
}

func TestExpressionsThatAreRefused(t *testing.T) {
	for _, c := range [][2]string{
		{"", ""}, {"* * * *", ""}, {"* * * * * *", ""}, {"60 * * * *", ""}, {"0 0 31 2 *", ""}, {"@every 1h", ""}, {"@reboot", ""},
		{"TZ=Europe/London 0 6 * * *", ""}, {"CRON_TZ=UTC 0 6 * * *", ""}, {"TZ=0", ""}, {"*/0 * * * *", ""}, {"H * * * *", ""},
		{"0 6 * * *", "Local"}, {"0 6 * * *", "Mars/Olympus"}, {"0 6 * * *", "../etc/passwd"},
	} {
		if _, err := Parse(c[0], c[1]); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q in %q: %v", c[0], c[1], err)
		}
	}
}

// TestNextIsInOrder: from any moment, the occurrences ascend, none is left out by
// asking from somewhere between two, and each shows a minute and an hour of the
// expression or is at a change of clocks.
func TestNextIsInOrder(t *testing.T) {
	zones := []string{"UTC", "Europe/London", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kolkata"}
	rapid.Check(t, func(t *rapid.T) {
		minute, hour := rapid.SampledFrom([]string{"0", "30", "*/7", "59"}).Draw(t, "minute"), rapid.SampledFrom([]string{"*", "1", "2", "*/2", "0-3"}).Draw(t, "hour")
		e, err := Parse(minute+" "+hour+" * * *", rapid.SampledFrom(zones).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		at := time.Unix(rapid.Int64Range(1735689600, 1830297600).Draw(t, "from"), 0)
		if rapid.Bool().Draw(t, "near a change") {
			if _, change := at.In(e.zone).ZoneBounds(); !change.IsZero() {
				at = change.Add(-time.Duration(rapid.IntRange(0, 200).Draw(t, "minutes before")) * time.Minute)
			}
		}
		first := e.Next(at)
		second := e.Next(first)
		if !first.After(at) || !second.After(first) {
			t.Fatalf("after %v come %v and %v", at, first, second)
		}
		between := at.Add(time.Duration(rapid.Int64Range(0, int64(first.Sub(at))-1).Draw(t, "between")))
		if again := e.Next(between); !again.Equal(first) {
			t.Fatalf("after %v comes %v, after %v in between %v", at, first, between, again)
		}
		wall := e.wall(first)
		change, _ := first.In(e.zone).ZoneBounds()
		if !change.Equal(first) && !e.spec.Next(wall.Add(-time.Second)).Equal(wall) {
			t.Fatalf("%v is no time of the expression", first.In(e.zone))
		}
	})
}
