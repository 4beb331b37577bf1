package daemon

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"capfleet/internal/api"
	"capfleet/internal/api/client"
	"capfleet/internal/schedule"
)

// TestNightsOfClockChanges takes fleetd through the nights in which clocks are set, by a
// clock that goes on in steps: what a schedule promises for them is started once, and
// nothing else, also when fleetd is stopped in the middle. The times are written down
// here rather than computed: 2 o'clock is left out in New York in spring and comes once
// in autumn, when 1 o'clock comes twice; in London both are about 1 o'clock.
func TestNightsOfClockChanges(t *testing.T) {
	t.Parallel()
	const jitter, step = 20 * time.Minute, 30 * time.Minute
	const grace = jitter + 4*time.Minute
	for name, night := range map[string]struct {
		zone string
		// change is when the clocks are set.
		change string
		want   map[string][]string // by cron expression, in UTC: that night and the next
	}{
		"New York, forward": {"America/New_York", "2026-03-08T07:00", map[string][]string{
			"30 1 * * *": {"2026-03-08T06:30", "2026-03-09T05:30"},
			"30 2 * * *": {"2026-03-08T07:00", "2026-03-09T06:30"},
			"30 3 * * *": {"2026-03-08T07:30", "2026-03-09T07:30"},
		}},
		"New York, back": {"America/New_York", "2026-11-01T06:00", map[string][]string{
			"30 1 * * *": {"2026-11-01T05:30", "2026-11-02T06:30"},
			"30 2 * * *": {"2026-11-01T07:30", "2026-11-02T07:30"},
		}},
		"London, forward": {"Europe/London", "2026-03-29T01:00", map[string][]string{
			"30 1 * * *": {"2026-03-29T01:00", "2026-03-30T00:30"},
			"30 2 * * *": {"2026-03-29T01:30", "2026-03-30T01:30"},
		}},
		"London, back": {"Europe/London", "2026-10-25T01:00", map[string][]string{
			"30 1 * * *": {"2026-10-25T00:30", "2026-10-26T01:30"},
			"30 2 * * *": {"2026-10-25T02:30", "2026-10-26T02:30"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := func(text string) time.Time {
				parsed, err := time.Parse("2006-01-02T15:04", text)
				if err != nil {
					t.Fatal(err)
				}
				return parsed
			}
			var now atomic.Int64 // seconds since 1970
			change := at(night.change)
			begin, end := change.Add(-3*time.Hour), change.Add(26*time.Hour)
			now.Store(begin.Unix())
			opts := options(t, place(t), "")
			opts.Now = func() time.Time { return time.Unix(now.Load(), 0) }
			opts.LookEvery = time.Millisecond
			start := func() (*Daemon, *client.Client, func()) {
				d, err := New(t.Context(), opts)
				if err != nil {
					t.Fatal(err)
				}
				c, stop := runDaemon(t, d, opts)
				return d, c, stop
			}
			d, c, stop := start()

			want := map[string][]string{}
			add := func(name string, req api.ScheduleRequest, times []string) {
				t.Helper()
				req.Name, req.TimeZone, req.Overlap, req.Missed = name, night.zone, string(schedule.Allow), string(schedule.Report)
				req.Request = api.JobRequest{Operation: "capacity", Spec: json.RawMessage(`{}`), Selection: api.Selection{All: true}}
				if _, err := c.AddSchedule(t.Context(), req); err != nil {
					t.Fatal(err)
				}
				want[name] = times
			}
			for cron, times := range night.want {
				hour := strings.Fields(cron)[1]
				add("at-"+hour, api.ScheduleRequest{Cron: cron}, times)
				add("about-"+hour, api.ScheduleRequest{Cron: cron, JitterSeconds: int(jitter / time.Second)}, times)
			}
			var hours []string
			for h := begin.Truncate(time.Hour).Add(30 * time.Minute); h.Before(end); h = h.Add(time.Hour) {
				if h.After(begin) {
					hours = append(hours, h.Format("2006-01-02T15:04"))
				}
			}
			add("hourly", api.ScheduleRequest{Cron: "30 * * * *"}, hours)

			// Steps are short of what counts as late where a start may come after its time, and
			// half an hour elsewhere.
			next := func(from time.Time) time.Time {
				for _, times := range night.want {
					for _, text := range times {
						if since := from.Sub(at(text)); since >= 0 && since <= jitter {
							return from.Add(4 * time.Minute)
						}
					}
				}
				return from.Truncate(step).Add(step)
			}
			stopped := false
			for at := begin; at.Before(end); at = next(at) {
				now.Store(at.Unix())
				if !stopped && !at.Before(change) {
					stopped = true
					stop()
					d, c, stop = start()
				}
				eventually(t, "everything up to "+at.Format(time.RFC3339)+" decided", func() bool {
					all, err := d.schedules.List(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					return len(all) == len(want) && !slices.ContainsFunc(all, func(l schedule.Listed) bool { return !l.Next.After(at) || l.State.Starting != nil })
				})
			}

			for name, times := range want {
				runs, err := c.ScheduleRuns(t.Context(), name, 200)
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				made := map[string]bool{}
				for _, r := range slices.Backward(runs) {
					got = append(got, r.Occurrence.UTC().Format("2006-01-02T15:04"))
					if late := r.At.Sub(r.Occurrence); late < 0 || late > grace || !strings.HasPrefix(name, "about") && late > 0 {
						t.Errorf("%s: %v after its time", name, late)
					}
					if r.Outcome != string(schedule.Started) || r.Job == "" || made[r.Job] {
						t.Errorf("%s: %+v", name, r)
					}
					made[r.Job] = true
				}
				if fmt.Sprint(got) != fmt.Sprint(times) {
					t.Errorf("%s ran for\n%v, want\n%v", name, got, times)
				}
			}
		})
	}
}
