package schedule

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"time"

	"capfleet/internal/audit"
	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// The layout of the schedules' part of the ledger. Values are JSON.
//
//	namespace       key               value
//	schedules       name              Schedule
//	schedule_state  uid               State
//	schedule_runs   uid <number>      Run; the newest so many of each schedule
const (
	nsSchedules ledger.Namespace = "schedules"
	nsState     ledger.Namespace = "schedule_state"
	nsRuns      ledger.Namespace = "schedule_runs"
)

// Namespaces are what the ledger must be opened with.
func Namespaces() []ledger.Namespace { return []ledger.Namespace{nsSchedules, nsState, nsRuns} }

// The bounds of what is kept.
const (
	maxSchedules = 1000
	runsKept     = 200
)

// Listed is a schedule with how far it has come.
type Listed struct {
	Schedule
	State State
	// Next is when the next occurrence is due, jitter included; zero when none is.
	Next time.Time
}

// Add keeps a new schedule. Occurrences from now on count. A name that is taken is
// fault.Conflict.
func (s *Scheduler) Add(ctx context.Context, def Schedule) (Listed, error) {
	if err := def.Validate(); err != nil {
		return Listed{}, err
	}
	now := s.now().UTC()
	def.UID, def.CreatedAt, def.ApprovedBy, def.ApprovedAt = rand.Text(), now, "", nil
	st := State{Decided: now}
	err := s.ledger.Update(ctx, func(tx *ledger.Tx) error {
		if tx.Get(nsSchedules, []byte(def.Name)) != nil {
			return &fault.Error{Kind: fault.Conflict, Act: "add schedule " + def.Name, Err: fault.New(fault.Conflict, "there is one of that name"),
				Next: "fleetctl schedule remove " + def.Name + " first, or choose another name"}
		}
		n := 0
		if err := tx.Scan(nsSchedules, nil, nil, func(_, _ []byte) bool { n++; return n < maxSchedules }); err != nil {
			return err
		}
		if n == maxSchedules {
			return fault.New(fault.Conflict, "there are %d schedules, more are not possible", n)
		}
		if err := put(tx, nsSchedules, []byte(def.Name), def); err != nil {
			return err
		}
		if err := put(tx, nsState, []byte(def.UID), st); err != nil {
			return err
		}
		return audit.Add(tx, audit.Entry{Time: now, By: def.CreatedBy, Action: audit.ScheduleAdd,
			Detail: def.Name + " (" + def.Cron + " " + def.TimeZone + "): " + string(def.Request)})
	})
	if err != nil {
		return Listed{}, err
	}
	s.wake()
	return listed(def, st)
}

// Remove forgets a schedule. Jobs that it started go on.
func (s *Scheduler) Remove(ctx context.Context, name, by string) error {
	err := s.ledger.Update(ctx, func(tx *ledger.Tx) error {
		def, err := read(tx, name)
		if err != nil {
			return err
		}
		runs, err := runKeys(tx, def.UID)
		if err != nil {
			return err
		}
		for _, key := range runs {
			if err := tx.Delete(nsRuns, key); err != nil {
				return err
			}
		}
		if err := tx.Delete(nsState, []byte(def.UID)); err != nil {
			return err
		}
		if err := tx.Delete(nsSchedules, []byte(name)); err != nil {
			return err
		}
		return audit.Add(tx, audit.Entry{Time: s.now(), By: by, Action: audit.ScheduleRemove, Detail: name})
	})
	s.wake()
	return err
}

// Approve lets a schedule that changes devices run. Who made it cannot.
func (s *Scheduler) Approve(ctx context.Context, name, by string) (Listed, error) {
	var (
		def Schedule
		st  State
	)
	err := s.ledger.Update(ctx, func(tx *ledger.Tx) (err error) {
		if def, err = read(tx, name); err != nil {
			return err
		}
		if st, err = readState(tx, def.UID); err != nil {
			return err
		}
		switch {
		case !def.Change:
			return fault.New(fault.Conflict, "schedule %s only reads: there is nothing to approve", name)
		case def.ApprovedBy != "":
			return nil
		case by == def.CreatedBy:
			return &fault.Error{Kind: fault.Denied, Act: "approve schedule " + name, Err: fault.New(fault.Denied, "%s made it", by),
				Next: "another user has to approve it"}
		}
		at := s.now().UTC()
		def.ApprovedBy, def.ApprovedAt = by, &at
		if err := put(tx, nsSchedules, []byte(name), def); err != nil {
			return err
		}
		return audit.Add(tx, audit.Entry{Time: at, By: by, Action: audit.ScheduleApprove, Detail: name + ": " + string(def.Request)})
	})
	if err != nil {
		return Listed{}, err
	}
	s.wake()
	return listed(def, st)
}

// Get gives one schedule; fault.NotFound when there is none of that name.
func (s *Scheduler) Get(ctx context.Context, name string) (Listed, error) {
	var (
		def Schedule
		st  State
	)
	err := s.view(ctx, func(tx *ledger.Tx) (err error) {
		if def, err = read(tx, name); err == nil {
			st, err = readState(tx, def.UID)
		}
		return err
	})
	if err != nil {
		return Listed{}, err
	}
	return listed(def, st)
}

// List gives all schedules in order of name.
func (s *Scheduler) List(ctx context.Context) ([]Listed, error) {
	defs, states, err := s.load(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]Listed, len(defs))
	for i := range defs {
		if all[i], err = listed(defs[i], states[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Runs gives what became of a schedule's occurrences, newest first.
func (s *Scheduler) Runs(ctx context.Context, name string, limit int) (runs []Run, err error) {
	err = s.view(ctx, func(tx *ledger.Tx) error {
		def, err := read(tx, name)
		if err != nil {
			return err
		}
		from, to := runRange(def.UID)
		var bad error
		if err := tx.ScanReverse(nsRuns, from, to, func(_, v []byte) bool {
			var run Run
			if bad = decode(nsRuns, v, &run); bad != nil {
				return false
			}
			runs = append(runs, run)
			return limit <= 0 || len(runs) < limit
		}); err != nil {
			return err
		}
		return bad
	})
	return runs, err
}

func listed(def Schedule, st State) (Listed, error) {
	e, err := def.Expression()
	if err != nil {
		return Listed{}, err
	}
	l := Listed{Schedule: def, State: st}
	if next := e.Next(st.Decided); !next.IsZero() {
		l.Next = next.Add(def.Delay(next))
	}
	return l, nil
}

// load reads all schedules with their states.
func (s *Scheduler) load(ctx context.Context) (defs []Schedule, states []State, err error) {
	err = s.view(ctx, func(tx *ledger.Tx) error {
		var bad error
		if err := tx.Scan(nsSchedules, nil, nil, func(_, v []byte) bool {
			var def Schedule
			if bad = decode(nsSchedules, v, &def); bad == nil {
				defs = append(defs, def)
			}
			return bad == nil
		}); err != nil {
			return err
		}
		for _, def := range defs {
			st, err := readState(tx, def.UID)
			if err != nil {
				return err
			}
			states = append(states, st)
		}
		return bad
	})
	return defs, states, err
}

func (s *Scheduler) view(ctx context.Context, fn func(*ledger.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.KindOf(err), "read schedules", context.Cause(ctx))
	}
	return s.ledger.View(fn)
}

func read(tx *ledger.Tx, name string) (def Schedule, err error) {
	if !nameForm.MatchString(name) { // no key of the ledger
		return def, none(name)
	}
	v := tx.Get(nsSchedules, []byte(name))
	if v == nil {
		return def, none(name)
	}
	err = decode(nsSchedules, v, &def)
	return def, err
}

func none(name string) error {
	return &fault.Error{Kind: fault.NotFound, Err: fault.New(fault.NotFound, "there is no schedule %q", fault.Clip(name, 64)),
		Next: "fleetctl schedule list shows them"}
}

// readState gives a schedule's state; one that was removed meanwhile is
// fault.NotFound.
func readState(tx *ledger.Tx, uid string) (st State, err error) {
	v := tx.Get(nsState, []byte(uid))
	if v == nil {
		return st, fault.New(fault.NotFound, "the schedule was removed")
	}
	err = decode(nsState, v, &st)
	return st, err
}

// record adds to a schedule's runs and removes the oldest beyond those kept.
func record(tx *ledger.Tx, uid string, run Run) error {
	n, err := tx.Sequence(nsRuns)
	if err != nil {
		return err
	}
	if err := put(tx, nsRuns, binary.BigEndian.AppendUint64([]byte(uid), n), run); err != nil {
		return err
	}
	keys, err := runKeys(tx, uid)
	if err != nil {
		return err
	}
	for _, key := range keys[:max(len(keys)-runsKept, 0)] {
		if err := tx.Delete(nsRuns, key); err != nil {
			return err
		}
	}
	return nil
}

func runRange(uid string) (from, to []byte) {
	return []byte(uid), append([]byte(uid), bytes.Repeat([]byte{0xff}, 9)...)
}

func runKeys(tx *ledger.Tx, uid string) (keys [][]byte, err error) {
	from, to := runRange(uid)
	err = tx.Scan(nsRuns, from, to, func(k, _ []byte) bool {
		keys = append(keys, bytes.Clone(k))
		return true
	})
	return keys, err
}

func put(tx *ledger.Tx, ns ledger.Namespace, key []byte, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fault.Wrap(fault.Internal, "encode for ledger "+string(ns), err)
	}
	return tx.Put(ns, key, data)
}

// decode reads a value that put wrote. What it cannot read is damage.
func decode(ns ledger.Namespace, data []byte, into any) error {
	if err := json.Unmarshal(data, into); err != nil {
		return &fault.Error{Kind: fault.Storage, Act: "decode from ledger " + string(ns), Err: err}
	}
	return nil
}
