package daemon

import (
	"encoding/json"
	"fmt"
	"time"

	"capfleet/internal/config"
	"capfleet/internal/fault"
	"capfleet/internal/history"
	"capfleet/internal/jobs"
	"capfleet/internal/ledger"
	"capfleet/internal/notify"
)

// alarm is what a series comes to under one rule's limit.
type alarm struct {
	below     bool // told, once; it has recovered otherwise
	text      string
	details   map[string]any
	condition string // that of the series which is remembered; "" is what it is now
}

// foreseen is the condition of a series that will fall below a limit.
const foreseen = "foreseen"

// measure tells of a ring or file system that has fallen below the limit of a rule, or
// will within the time that the rule looks ahead.
func (d *Daemon) measure(tx *ledger.Tx, ev jobs.Event, of history.Series) error {
	rules := d.notify.CapacityRules()
	if len(rules) == 0 {
		return nil
	}
	points, err := d.history.PointsIn(tx, of, ev.Time.AddDate(0, 0, -120))
	if err != nil {
		return err
	}
	for _, rule := range rules {
		for _, a := range alarms(rule, of.Kind, points) {
			if err := d.sound(tx, ev, of, rule, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// sound tells of an alarm, unless it was told and has not recovered since.
func (d *Daemon) sound(tx *ledger.Tx, ev jobs.Event, of history.Series, rule notify.CapacityRule, a alarm) error {
	what := string(of.Kind) + "\x00" + of.Device + "\x00" + of.Name
	id := fmt.Sprintf("capacity/%s/%s/%s/%s/%d", rule.ID, of.Kind, of.Device, of.Name, ev.Seq)
	if a.condition != "" {
		what += "\x00" + a.condition
		id += "/" + a.condition
	}
	fell, err := d.notify.Fell(tx, rule.ID, what, a.below)
	if err != nil || !fell {
		return err
	}
	a.details["kind"], a.details["name"] = of.Kind, of.Name
	details, err := json.Marshal(a.details)
	if err != nil {
		return fault.Wrap(fault.Internal, "tell of capacity", err)
	}
	return d.notify.TellRule(tx, rule, notify.Message{
		ID: id, Condition: notify.CapacityBelow, Severity: notify.Warning,
		Time: ev.Time, Device: of.Device, Job: ev.Job, Summary: fmt.Sprintf("%s: %s %s %s", of.Device, of.Kind, of.Name, a.text), Details: details,
	})
}

// alarms compares a series with the limit of a rule. Nothing is said where too little
// is known, and between a limit and a twentieth above it, where it has neither fallen
// nor recovered.
func alarms(rule notify.CapacityRule, kind history.Kind, points []history.Point) (found []alarm) {
	a := history.Assess(kind, points, history.Question{Ahead: rule.Within, Below: rule.Retention})
	value, limit, text, ok := against(rule, kind, a)
	if ok && (value < limit || value >= limit*1.05) {
		found = append(found, alarm{below: value < limit, text: text, details: map[string]any{"value": value, "limit": limit}})
	}
	if !ok || value < limit || rule.Within == 0 {
		return found // of what is below already nothing has to be foreseen
	}
	if next, ok := ahead(rule, kind, a); ok {
		found = append(found, next)
	}
	return found
}

// against compares an assessment with a rule's limit. Of a ring that fills it is what
// it will reach back once it is full; nothing is said where that is not known.
func against(rule notify.CapacityRule, kind history.Kind, a history.Assessment) (value, limit float64, text string, ok bool) {
	switch {
	case kind == history.Ring && rule.Retention > 0:
		limit = rule.Retention.Seconds()
		least := config.FormatDuration(rule.Retention)
		switch {
		case a.State == history.Full && a.Retention != nil:
			return *a.Retention, limit, fmt.Sprintf("reaches back %s, less than %s", span(*a.Retention), least), true
		case a.State == history.Filling && a.WhenFull != nil:
			return a.WhenFull.Value, limit, fmt.Sprintf("will reach back %s once it is full, less than %s", span(a.WhenFull.Value), least), true
		}
	case kind == history.Filesystem && rule.FreePercent > 0 && a.Latest.Limit > 0 && a.Latest.Used != history.None:
		free := percentFree(a, float64(a.Latest.Used))
		return free, rule.FreePercent, fmt.Sprintf("has %.1f %% free, less than %g %%", free, rule.FreePercent), true
	}
	return 0, 0, "", false
}

// ahead says whether a trend leads below a rule's limit within the time that the rule
// looks ahead. It has recovered when the day is a quarter of that time further away,
// or by then a twentieth more will be free.
func ahead(rule notify.CapacityRule, kind history.Kind, a history.Assessment) (alarm, bool) {
	until := a.Latest.Time.Add(rule.Within)
	switch {
	case kind == history.Ring && a.State == history.Full && a.Trend != nil:
		least := config.FormatDuration(rule.Retention)
		switch {
		case a.Crossed == nil || a.Crossed.At.After(until.Add(rule.Within/4)):
			return alarm{condition: foreseen}, true
		case a.Crossed.At.After(until):
			return alarm{}, false
		}
		between := "from " + day(a.Crossed.Low) + " on"
		if !a.Crossed.High.IsZero() {
			between = day(a.Crossed.Low) + " to " + day(a.Crossed.High)
		}
		return alarm{below: true, condition: foreseen,
			text: fmt.Sprintf("falls below %s about %s (%s)", least, day(a.Crossed.At), between),
			details: map[string]any{"limit": rule.Retention.Seconds(), "crossed_at": moment(a.Crossed.At),
				"crossed_at_low": moment(a.Crossed.Low), "crossed_at_high": moment(a.Crossed.High)}}, true
	case kind == history.Filesystem && a.Forecast != nil && a.Latest.Limit > 0:
		free := percentFree(a, a.Forecast.Value)
		if free >= rule.FreePercent && free < rule.FreePercent*1.05 {
			return alarm{}, false
		}
		return alarm{below: free < rule.FreePercent, condition: foreseen,
			text:    fmt.Sprintf("will have %.1f %% free on %s, less than %g %%", free, day(until), rule.FreePercent),
			details: map[string]any{"limit": rule.FreePercent, "forecast": free, "forecast_at": moment(until)}}, true
	}
	return alarm{}, false
}

func percentFree(a history.Assessment, used float64) float64 {
	return 100 * (float64(a.Latest.Limit) - used) / float64(a.Latest.Limit)
}

// span gives a retention in its two largest units.
func span(seconds float64) string {
	minutes := int64(seconds / 60)
	if days := minutes / (24 * 60); days >= 2 {
		return fmt.Sprintf("%dd %dh", days, minutes/60%24)
	}
	return fmt.Sprintf("%dh %dm", minutes/60, minutes%60)
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// moment is null where a time is further away than anybody can say.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}
