package jobs

import (
	"cmp"
	"context"
	"encoding/json"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// Job gives a job and its state; fault.NotFound when there is none.
func (e *Engine) Job(ctx context.Context, id string) (job Job, state State, err error) {
	n, err := parseID(id)
	if err != nil {
		return Job{}, "", err
	}
	err = e.view(ctx, func(tx *ledger.Tx) error {
		job, err = readJob(tx, n)
		return err
	})
	if err != nil {
		return Job{}, "", err
	}
	return job, JobState(job), nil
}

// view is a read for a caller that may have gone away.
func (e *Engine) view(ctx context.Context, fn func(*ledger.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.KindOf(err), "read jobs", context.Cause(ctx))
	}
	return e.ledger.View(fn)
}

func readJob(tx *ledger.Tx, id number) (Job, error) {
	job, ok, err := get[Job](tx, nsJobs, id.key())
	if err != nil {
		return Job{}, err
	}
	if !ok {
		return Job{}, noJob(id.String())
	}
	p, _, err := get[progress](tx, nsProgress, id.key())
	p.fill(&job)
	return job, err
}

// ListOptions choose jobs.
type ListOptions struct {
	Before string // only jobs older than this id
	Limit  int    // at most so many; 0 is 100
	Active bool   // only unfinished jobs
}

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// List gives jobs, newest first, and the id to pass as Before for the older ones,
// or "" when there are none. Warnings and specs are included, tasks are not.
func (e *Engine) List(ctx context.Context, opts ListOptions) (list []Job, next string, err error) {
	var to []byte
	if opts.Before != "" {
		n, err := parseID(opts.Before)
		if err != nil {
			return nil, "", fault.New(fault.Invalid, "before=%q is not a job's id", opts.Before)
		}
		to = n.key()
	}
	limit := opts.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	limit = min(limit, maxLimit)
	index := nsJobs
	if opts.Active {
		index = nsActive
	}
	err = e.view(ctx, func(tx *ledger.Tx) error {
		var ids []number
		if err := tx.ScanReverse(index, nil, to, func(k, _ []byte) bool {
			ids = append(ids, numberOf(k))
			return len(ids) <= limit
		}); err != nil {
			return err
		}
		if len(ids) > limit {
			ids = ids[:limit]
			next = ids[limit-1].String()
		}
		list = make([]Job, 0, len(ids))
		for _, id := range ids {
			job, err := readJob(tx, id)
			if err != nil {
				return err
			}
			list = append(list, job)
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return list, next, nil
}

// Tasks gives a job's tasks in order of device. One that a limit holds up says which
// as its Reason.
func (e *Engine) Tasks(ctx context.Context, id string) (tasks []Task, err error) {
	n, err := parseID(id)
	if err != nil {
		return nil, err
	}
	err = e.view(ctx, func(tx *ledger.Tx) error {
		if tx.Get(nsJobs, n.key()) == nil {
			return noJob(id)
		}
		return each(tx, nsTasks, n.key(), n.end(), func(_ []byte, t taskRecord) bool {
			t.Job = id
			tasks = append(tasks, t.Task)
			return true
		})
	})
	if err != nil {
		return nil, err
	}
	e.explain(ctx, n, tasks)
	return tasks, nil
}

// rowsBatch is how many bytes of rows are read before they are handed on.
const rowsBatch = 1 << 20

// Rows calls fn for each device that has rows, in order of device. It holds
// about a megabyte at a time, and no transaction while fn runs, so fn may be as
// slow as its client. A job that still runs has the rows of the tasks done so
// far; they are of one moment only within a device.
func (e *Engine) Rows(ctx context.Context, id string, fn func(device string, rows []json.RawMessage) error) error {
	n, err := parseID(id)
	if err != nil {
		return err
	}
	type device struct {
		name string
		rows []json.RawMessage
	}
	from := n.key()
	for {
		var (
			batch []device
			size  int
		)
		err := e.view(ctx, func(tx *ledger.Tx) error {
			if tx.Get(nsJobs, n.key()) == nil {
				return noJob(id)
			}
			var bad error
			err := tx.Scan(nsRows, from, n.end(), func(k, kept []byte) bool {
				var d device
				if d.rows, bad = rowsOf(kept); bad != nil {
					return false
				}
				d.name = nameOf(k)
				batch = append(batch, d)
				size += len(kept)
				return size < rowsBatch
			})
			return cmp.Or(err, bad)
		})
		if err != nil {
			return err
		}
		for _, d := range batch {
			if err := fn(d.name, d.rows); err != nil {
				return err
			}
		}
		if size < rowsBatch {
			return nil
		}
		from = append(n.under(batch[len(batch)-1].name), 0)
	}
}

// Journal gives the journal of the unit that a device is worked on in, oldest
// first.
func (e *Engine) Journal(ctx context.Context, id, device string) (entries []Entry, err error) {
	n, err := parseID(id)
	if err != nil {
		return nil, err
	}
	err = e.view(ctx, func(tx *ledger.Tx) error {
		if tx.Get(nsJobs, n.key()) == nil {
			return noJob(id)
		}
		t, ok, err := get[taskRecord](tx, nsTasks, n.under(device))
		if err != nil {
			return err
		}
		if !ok {
			return fault.New(fault.NotFound, "job %s has no task for device %q", id, device)
		}
		entries, err = readJournal(tx, n, t.Unit)
		return err
	})
	return entries, err
}

func readJournal(tx *ledger.Tx, id number, unit string) (entries []Entry, err error) {
	err = each(tx, nsJournal, unitPrefix(id, unit), unitEnd(id, unit), func(_ []byte, entry Entry) bool {
		entries = append(entries, entry)
		return true
	})
	return entries, err
}

// DeviceFacts is what the tasks of any job learned about a device.
type DeviceFacts struct {
	Facts map[string]string `json:"facts,omitempty"`
	// LastSeen is when a task last reached the device.
	LastSeen *time.Time `json:"last_seen_at,omitempty"`
	// LastError is why the last task that ended failed; empty when it did not.
	LastError string `json:"last_error,omitempty"`
	// Silent says that it did not answer the last task that tried.
	Silent bool `json:"silent,omitempty"`
}

// DeviceFacts gives the facts last seen of a device. One that no task has
// reached has none, which is no error.
func (e *Engine) DeviceFacts(ctx context.Context, device string) (facts map[string]string, lastSeen *time.Time, lastError string, err error) {
	var d DeviceFacts
	if !validName(device) {
		return nil, nil, "", nil
	}
	err = e.view(ctx, func(tx *ledger.Tx) error {
		d, _, err = get[DeviceFacts](tx, nsDevices, []byte(device))
		return err
	})
	return d.Facts, d.LastSeen, d.LastError, err
}

// AllDeviceFacts gives the facts of every device that any task has reached or
// failed on, as they were at one moment.
func (e *Engine) AllDeviceFacts(ctx context.Context) (FleetFacts, error) {
	all := FleetFacts{make(map[string]string)}
	err := e.view(ctx, func(tx *ledger.Tx) error {
		return tx.Scan(nsDevices, nil, nil, func(k, v []byte) bool {
			all.encoded[string(k)] = string(v)
			return true
		})
	})
	return all, err
}

// FleetFacts is what was known of all devices at one moment. It stays encoded until it
// is asked for: of a large fleet, decoding would take most of the time of a list.
type FleetFacts struct{ encoded map[string]string }

// Len is the number of devices of which something is known.
func (f FleetFacts) Len() int { return len(f.encoded) }

// Encoded gives a device's facts as they are stored, "" where there are none. Equal
// texts are equal facts; there is nothing else to be read from it.
func (f FleetFacts) Encoded(device string) string { return f.encoded[device] }

// Of gives a device's facts; one that no task has reached has none, which is no error.
func (f FleetFacts) Of(device string) (DeviceFacts, error) {
	text, ok := f.encoded[device]
	if !ok {
		return DeviceFacts{}, nil
	}
	return decode[DeviceFacts](nsDevices, []byte(text))
}
