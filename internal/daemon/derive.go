package daemon

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/history"
	"capfleet/internal/jobs"
	"capfleet/internal/ledger"
	"capfleet/internal/notify"
	"capfleet/internal/report"
	"capfleet/internal/schedule"
	"capfleet/internal/sel"
)

// Some things are made of what happens: the history of storage, notifications, and
// the deliveries of schedules. They are derived from the stored events, in order, and
// the number of the last event that was handled is written in the transaction of what
// was made of it. So each event is handled exactly once, whatever dies.
//
// nsDerived has two keys: "handled" is that number, and "quiet" the number up to which
// events make a history but tell nobody: those of before the first start that derived.
const nsDerived ledger.Namespace = "derived"

const (
	keyHandled = "handled"
	keyQuiet   = "quiet"
)

const (
	// deriveBatch is how many events share a transaction.
	deriveBatch = 100
	deriveAgain = 5 * time.Second
)

// mark is how far events have been handled. The zero mark is at the beginning.
type mark struct {
	mu      sync.Mutex
	seq     uint64
	changed chan struct{} // closed at the next move; nil while nobody waits
}

func (m *mark) move(seq uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seq = seq
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

// await returns once events up to a number have been handled.
func (m *mark) await(ctx context.Context, seq uint64) error {
	for {
		m.mu.Lock()
		if m.seq >= seq {
			m.mu.Unlock()
			return nil
		}
		if m.changed == nil {
			m.changed = make(chan struct{})
		}
		changed := m.changed
		m.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// catchUp bounds the wait for what is derived: a ledger that cannot be written is no
// reason to show nothing.
const catchUp = 10 * time.Second

// caughtUp returns once everything that has happened by now is in what is derived.
func (d *Daemon) caughtUp(ctx context.Context) error {
	stats, err := d.engine.Stats(ctx)
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	if d.handled.await(waiting, stats.LastEvent) != nil && ctx.Err() == nil {
		d.log.Warn("the history is behind; what is shown may be old")
	}
	return ctx.Err()
}

// derive handles events until ctx ends.
func (d *Daemon) derive(ctx context.Context) {
	for ctx.Err() == nil {
		if err := d.deriveFrom(ctx); err != nil && ctx.Err() == nil {
			d.log.Error("events are not made use of; trying again", "err", err)
		}
		timer := time.NewTimer(deriveAgain)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// deriveFrom goes on after the last event that was handled.
func (d *Daemon) deriveFrom(ctx context.Context) error {
	handled, quiet, err := d.derived(ctx)
	if err != nil {
		return err
	}
	d.handled.move(handled)
	ctx, cancel := context.WithCancel(ctx)
	events := make(chan jobs.Event, deriveBatch)
	failed := make(chan error, 1)
	go func() {
		defer close(events)
		for ev, err := range d.engine.Watch(ctx, jobs.WatchOptions{After: handled}) {
			if err != nil {
				failed <- err
				return
			}
			if ev.Seq == 0 {
				continue // progress
			}
			select {
			case events <- ev:
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() {
		cancel()
		for range events { //nolint:revive // until the reader has ended
		}
	}()
	for ev := range events {
		batch := []jobs.Event{ev}
	more:
		for len(batch) < deriveBatch {
			select {
			case ev, ok := <-events:
				if !ok {
					break more
				}
				batch = append(batch, ev)
			default:
				break more
			}
		}
		if err := d.handle(ctx, batch, quiet); err != nil {
			return err
		}
	}
	select {
	case err := <-failed:
		return err
	default:
		return ctx.Err()
	}
}

// derived reads how far events have been handled.
func (d *Daemon) derived(ctx context.Context) (handled, quiet uint64, err error) {
	stats, err := d.engine.Stats(ctx)
	if err != nil {
		return 0, 0, err
	}
	begun := false
	err = d.ledger.View(func(tx *ledger.Tx) error {
		handled, begun = number(tx.Get(nsDerived, []byte(keyHandled)))
		quiet, _ = number(tx.Get(nsDerived, []byte(keyQuiet)))
		return nil
	})
	if err != nil || begun {
		return handled, quiet, err
	}
	err = d.ledger.Update(ctx, func(tx *ledger.Tx) error {
		if err := tx.Put(nsDerived, []byte(keyHandled), binary.BigEndian.AppendUint64(nil, 0)); err != nil {
			return err
		}
		return tx.Put(nsDerived, []byte(keyQuiet), binary.BigEndian.AppendUint64(nil, stats.LastEvent))
	})
	return 0, stats.LastEvent, err
}

func number(v []byte) (uint64, bool) {
	if len(v) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(v), true
}

// effect is what an event leads to, written in one transaction with others.
type effect func(tx *ledger.Tx) error

// handle makes of events what they lead to. Reading comes first: nothing in the
// transaction waits for anything.
func (d *Daemon) handle(ctx context.Context, batch []jobs.Event, quiet uint64) error {
	var effects []effect
	var touched []history.Series
	finished := false
	known := map[string]jobs.Job{}
	for _, ev := range batch {
		var wanted bool
		switch ev.Type {
		case jobs.EventTaskState:
			wanted = ev.State == jobs.Succeeded || ev.State == jobs.Unchanged || ev.State == jobs.Attention
		case jobs.EventJobFinished:
			wanted, finished = true, true
		}
		if !wanted {
			continue
		}
		job, ok := known[ev.Job]
		if !ok {
			var err error
			job, _, err = d.engine.Job(ctx, ev.Job)
			if fault.Is(err, fault.NotFound) { // retention took it: fleetd was away for very long
				continue
			}
			if err != nil {
				return err
			}
			known[ev.Job] = job
		}
		more, series, err := d.effects(ctx, ev, job, ev.Seq <= quiet)
		if err != nil {
			return err
		}
		effects, touched = append(effects, more...), append(touched, series...)
	}
	err := d.ledger.Update(ctx, func(tx *ledger.Tx) error {
		for _, e := range effects {
			if err := e(tx); err != nil {
				return err
			}
		}
		return tx.Put(nsDerived, []byte(keyHandled), binary.BigEndian.AppendUint64(nil, batch[len(batch)-1].Seq))
	})
	if err != nil {
		return err
	}
	d.handled.move(batch[len(batch)-1].Seq)
	if err := d.assess(ctx, touched); err != nil {
		return err
	}
	if len(effects) > 0 {
		d.notify.Wake()
	}
	if finished {
		d.schedules.Wake()
	}
	return nil
}

// effects says what one event leads to, and which series of the history it adds to.
func (d *Daemon) effects(ctx context.Context, ev jobs.Event, job jobs.Job, quiet bool) (effects []effect, touched []history.Series, err error) {
	if ev.Type == jobs.EventJobFinished {
		if !quiet {
			effects, err = d.finished(ctx, ev, job)
		}
		return effects, nil, err
	}
	if ev.State == jobs.Attention && !quiet {
		effects = append(effects, d.tells(attention(ev, job)))
	}
	switch job.Operation {
	case "report":
		rows, err := d.engine.DeviceRows(ctx, ev.Job, ev.Device)
		if err != nil || len(rows) == 0 {
			return effects, nil, ignoreGone(err)
		}
		points := pointsOf(job, ev.Device, rows)
		for _, at := range points {
			touched = append(touched, at.of)
		}
		return append(effects, d.remembers(ev, points, quiet)), touched, nil
	case sel.Name:
		if quiet || onlyListed(job) {
			return effects, nil, nil
		}
		rows, err := d.engine.DeviceRows(ctx, ev.Job, ev.Device)
		if err != nil {
			return effects, nil, ignoreGone(err)
		}
		for _, m := range pciErrors(ev, rows) {
			effects = append(effects, d.tells(m))
		}
	}
	return effects, nil, nil
}

// ignoreGone takes a job that retention has just taken for one without rows.
func ignoreGone(err error) error {
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

func (d *Daemon) tells(m notify.Message) effect {
	return func(tx *ledger.Tx) error { return d.notify.Tell(tx, m) }
}

// attention is told of a device whose state is not proven.
func attention(ev jobs.Event, job jobs.Job) notify.Message {
	return notify.Message{ID: fmt.Sprintf("attention/%s/%s/%d", ev.Job, ev.Device, ev.Seq), Condition: notify.RolloutAttention, Severity: notify.Critical,
		Time: ev.Time, Device: ev.Device, Job: ev.Job, Operation: job.Operation,
		Summary: fmt.Sprintf("job %s (%s): %s needs attention in step %s: %s", ev.Job, job.Operation, ev.Device, ev.Step, ev.Reason)}
}

// finished is what the end of a job leads to.
func (d *Daemon) finished(ctx context.Context, ev jobs.Event, job jobs.Job) (effects []effect, err error) {
	name, uid, scheduled := schedule.Origin(job.RequestID)
	if ev.State == jobs.Failed || ev.State == jobs.Partial || ev.State == jobs.Attention {
		m := notify.Message{ID: fmt.Sprintf("job/%s/%d", ev.Job, ev.Seq), Condition: notify.JobFailed, Severity: notify.Error, Time: ev.Time,
			Job: ev.Job, Operation: job.Operation, Summary: fmt.Sprintf("job %s (%s on %s) ended as %s: %s", ev.Job, job.Operation, devicesText(job.Devices),
				ev.State, countsText(job.Counts))}
		if scheduled {
			m.Schedule = name
		}
		if ev.State == jobs.Partial {
			m.Severity = notify.Warning
		}
		effects = append(effects, d.tells(m))
	}
	if !scheduled {
		return effects, nil
	}
	def, err := d.schedules.Get(ctx, name)
	switch {
	case fault.Is(err, fault.NotFound) || err == nil && def.UID != uid:
		return effects, nil // the schedule was removed, and with it who is to get its results
	case err != nil:
		return nil, err
	case len(def.Deliver) == 0 || ev.State == jobs.Canceled:
		return effects, nil
	}
	what := notify.Delivery{ID: fmt.Sprintf("result/%s/%d", ev.Job, ev.Seq), Job: ev.Job, Schedule: name, Time: job.CreatedAt}
	return append(effects, func(tx *ledger.Tx) error { return d.notify.Deliver(tx, what, def.Deliver) }), nil
}

func devicesText(n int) string {
	if n == 1 {
		return "1 device"
	}
	return fmt.Sprintf("%d devices", n)
}

func countsText(counts map[jobs.State]int) string {
	var parts []string
	for _, state := range slices.Sorted(maps.Keys(counts)) {
		if n := counts[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	return strings.Join(parts, ", ")
}

// onlyListed reports whether a job read event logs without counting as a check. What
// is new there is new to the next check too, which tells of it.
func onlyListed(job jobs.Job) bool {
	var spec sel.Spec
	return json.Unmarshal(job.Spec, &spec) == nil && spec.Peek
}

// pciErrors are the records of PCI errors that the last check of a BMC did not see. One that
// says that an error ended (its severity is ok) is none.
func pciErrors(ev jobs.Event, rows []json.RawMessage) (messages []notify.Message) {
	for _, raw := range rows {
		if !bytes.Contains(raw, []byte(`"new":true`)) || !bytes.Contains(raw, []byte(`"kind":"pci`)) {
			continue // of a log of thousands nearly all are old, or of something else
		}
		var row struct {
			BMC      string     `json:"bmc"`
			RecordID uint64     `json:"record_id"`
			Time     *time.Time `json:"time"`
			Severity string     `json:"severity"`
			Kind     string     `json:"kind"`
			Bus      *int       `json:"bus"`
			Device   *int       `json:"device_number"`
			Function *int       `json:"function"`
			Event    string     `json:"event"`
			Raw      *string    `json:"raw"`
			New      bool       `json:"new"`
		}
		if json.Unmarshal(raw, &row) != nil || !row.New || !strings.HasPrefix(row.Kind, "pci") || row.Severity == "ok" {
			continue
		}
		at, record := "", ""
		told := ev.Job // that it is another record than one of the same bytes only the check knows
		if row.Time != nil {
			at = row.Time.UTC().Format(time.RFC3339)
			told = at
		}
		if row.Raw != nil {
			record = *row.Raw
		}
		where := ""
		if row.Bus != nil && row.Device != nil && row.Function != nil {
			where = fmt.Sprintf(" at %02x:%02x.%x", *row.Bus, *row.Device, *row.Function)
		}
		m := notify.Message{
			// The record and not the check: the same record is told once. Only one without a
			// time can come again as another, after the log was cleared.
			ID:        fmt.Sprintf("pci/%s/%s/%d/%s/%s", ev.Device, row.BMC, row.RecordID, told, record),
			Condition: notify.PCIError, Severity: notify.Warning, Time: ev.Time, Device: ev.Device, Job: ev.Job, Operation: "sel",
			Summary: fmt.Sprintf("%s: %s%s (%s, record %d %s)", ev.Device, row.Kind, where, row.Event, row.RecordID, at), Details: raw}
		if row.Severity == "critical" {
			m.Severity = notify.Critical
		}
		messages = append(messages, m)
	}
	return messages
}

// remembers adds a report's figures to the history and tells of what fell below a
// limit.
func (d *Daemon) remembers(ev jobs.Event, points []pointAt, quiet bool) effect {
	return func(tx *ledger.Tx) error {
		for _, at := range points {
			if err := d.history.Add(tx, at.of, at.point); err != nil {
				if fault.Is(err, fault.Invalid) { // a name that no key can be made of
					d.log.Warn("figures not remembered", "device", ev.Device, "err", err)
					continue
				}
				return err
			}
			if quiet {
				continue
			}
			if err := d.measure(tx, ev, at.of); err != nil {
				return err
			}
		}
		return nil
	}
}

type pointAt struct {
	of    history.Series
	point history.Point
}

// pointsOf reads the rows of a report that has sizes.
func pointsOf(job jobs.Job, device string, rows []json.RawMessage) (points []pointAt) {
	var spec report.Spec
	if json.Unmarshal(job.Spec, &spec) != nil || spec.Record {
		return nil
	}
	figure := func(n *int64) int64 {
		if n == nil {
			return history.None
		}
		return *n
	}
	for _, raw := range rows {
		switch spec.Report {
		case report.RotationFileReport:
			var row report.RotationFile
			if json.Unmarshal(raw, &row) != nil || row.Name == nil {
				continue
			}
			limit, used := row.ActualLimitBytes, row.DiskUsageBytes
			if limit == nil {
				limit = row.UserLimitBytes
			}
			if used == nil {
				used = row.CurrentSizeBytes
			}
			points = append(points, pointAt{history.Series{Kind: history.Ring, Device: device, Name: *row.Name}, history.Point{Time: row.CollectedAt,
				Used: figure(used), Limit: figure(limit), Retention: figure(row.VisionRetentionSeconds), Vision: figure(row.VisionSizeBytes)}})
		case report.FilesystemReport:
			var row report.Filesystem
			if json.Unmarshal(raw, &row) != nil || row.Filesystem == nil {
				continue
			}
			limit := row.UsableBytes
			if limit == nil {
				limit = row.TotalBytes
			}
			points = append(points, pointAt{history.Series{Kind: history.Filesystem, Device: device, Name: *row.Filesystem}, history.Point{Time: row.CollectedAt,
				Used: figure(row.UsedBytes), Limit: figure(limit), Retention: history.None, Vision: history.None}})
		}
	}
	return points
}

// decided tells of schedules that were missed, in the transaction of the decision.
func (d *Daemon) decided(tx *ledger.Tx, def schedule.Schedule, run schedule.Run) error {
	if run.Outcome != schedule.Missing && run.Outcome != schedule.Failed {
		return nil
	}
	count := max(run.Count, 1)
	times := fmt.Sprintf("%d runs", count)
	if count == 1 {
		times = "the run"
	}
	return d.notify.Tell(tx, notify.Message{ID: fmt.Sprintf("schedule/%s/%d/%s", def.UID, run.Occurrence.Unix(), run.Outcome), Condition: notify.ScheduleMissed,
		Severity: notify.Error, Time: run.At, Schedule: def.Name,
		Summary: fmt.Sprintf("schedule %s: %s up to %s: %s: %s", def.Name, times, run.Occurrence.UTC().Format(time.RFC3339), run.Outcome, run.Reason)})
}
