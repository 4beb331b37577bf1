package schedule

import (
	"fmt"
	"time"
)

// The times by which an occurrence is judged.
const (
	// grace is how late an occurrence may be and still count as on time: a restart of
	// fleetd takes seconds.
	grace = 5 * time.Minute
	// ahead is how far a schedule may be decided into the future before it is clear
	// that the host's clock was wrong.
	ahead = time.Hour
)

// decision is what is to be done about a schedule at one moment.
type decision struct {
	state State // as it is to be from now on
	runs  []Run // what has been decided, in order
	// again is when to look again; zero is when something else happens.
	again time.Time
}

// decide works out, without touching anything, what is due. Busy says that the
// schedule's last job has not finished. An occurrence in Starting is not looked at:
// the caller starts it first.
func decide(def *Schedule, e Expression, st State, now time.Time, busy bool) decision {
	d := decision{state: st}
	if st.Decided.Sub(now) > ahead {
		d.state.Decided = now
	}
	if q := st.Queued; q != nil && !busy {
		d.state.Queued, d.state.Starting = nil, q
		return d
	}
	// One that is put off by its jitter holds back those behind it, so that they stay
	// in order.
	last, before, earlier, next := def.due(e, d.state.Decided, now)
	if last.IsZero() {
		d.again = next
		return d
	}
	d.state.Decided = last
	late := now.Sub(last.Add(def.Delay(last)))
	run := Run{Schedule: def.Name, Occurrence: last, At: now}
	refuse := func(how Outcome, reason string) decision {
		run.Outcome, run.Reason = how, reason
		d.runs = append(d.runs, run)
		return d
	}
	if late > grace && def.Missed == Report {
		if earlier > 0 {
			run.Count = earlier + 1
		}
		return refuse(Missing, "fleetd did not run, or could not start it, within "+grace.String()+" of its time")
	}
	if earlier > 0 {
		merged := Run{Schedule: def.Name, At: now, Outcome: Merged, Count: earlier, Occurrence: before,
			Reason: "the next one runs for it"}
		if def.Missed == Report {
			merged.Outcome, merged.Reason = Missing, "fleetd did not run, or could not start it"
		}
		d.runs = append(d.runs, merged)
	}
	switch {
	case def.Change && def.ApprovedBy == "":
		return refuse(Skipped, "the schedule changes devices and nobody has approved it")
	case busy && def.Overlap == Skip:
		return refuse(Skipped, fmt.Sprintf("job %s of the occurrence before has not finished", st.Job))
	case busy && def.Overlap == Queue && st.Queued != nil:
		return refuse(Skipped, fmt.Sprintf("one waits for job %s already", st.Job))
	case busy && def.Overlap == Queue:
		d.state.Queued = &last
	default:
		d.state.Starting = &last
	}
	return d
}

// due gives the last occurrence after a time that is due by now, the one before it,
// and how many come before it; and when the first that is not due will be. Last is
// zero when none is due. After a thousand those that the jitter cannot hold back any
// more are neither counted nor gone through.
func (s *Schedule) due(e Expression, after, now time.Time) (last, before time.Time, earlier int, next time.Time) {
	for at := e.Next(after); !at.IsZero(); at = e.Next(at) {
		if due := at.Add(s.Delay(at)); due.After(now) {
			return last, before, earlier, due
		}
		if !last.IsZero() {
			earlier = min(earlier+1, countMost)
		}
		last, before = at, last
		if certain := now.Add(-s.Jitter); earlier == countMost && certain.Sub(at) > near {
			at = e.latest(at, certain)
			last = at
		}
	}
	return last, before, earlier, time.Time{}
}
