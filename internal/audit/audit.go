// Package audit remembers who changed what and when: one entry for each change
// that somebody asked for, written in the transaction of the change itself, so
// that there is neither a change without an entry nor an entry without a change.
//
// Who asked is what the kernel said about the other end of the socket; nothing
// that a client says about itself is believed. The ledger is authoritative.
package audit

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// namespace holds the entries: number (8 bytes, big endian) -> Entry as JSON.
// Numbers ascend with the commits and so with time: what is older than a day is
// a prefix of the keys.
const namespace ledger.Namespace = "audit"

// Namespaces are what the ledger must be opened with.
func Namespaces() []ledger.Namespace { return []ledger.Namespace{namespace} }

// Action names what was asked for.
type Action string

// The actions.
const (
	JobSubmit      Action = "job.submit"
	JobCancel      Action = "job.cancel"
	JobRetry       Action = "job.retry"
	JobPause       Action = "job.pause"
	JobStop        Action = "job.stop"
	JobResume      Action = "job.resume"
	JobApprove     Action = "job.approve"
	HostKeyPin     Action = "host_key.pin"
	ArtifactAdd    Action = "artifact.add"
	ArtifactRemove Action = "artifact.remove"

	ScheduleAdd     Action = "schedule.add"
	ScheduleRemove  Action = "schedule.remove"
	ScheduleApprove Action = "schedule.approve"
	ScheduleRun     Action = "schedule.run" // by hand, beside its times
)

// Result says how far it came.
type Result string

// Results. What changes only the ledger is Done by the entry being there. What
// changes something beside it has an entry that it was Begun before, and one of
// how it ended after.
const (
	Begun  Result = "begun"
	Done   Result = "done"
	Failed Result = "failed"
)

// Entry is one change. Empty fields are what it did not concern.
type Entry struct {
	Seq      uint64    `json:"-"` // its key; given by Add
	Time     time.Time `json:"time"`
	By       string    `json:"by"` // a user of fleetd's host, or what the daemon calls itself
	Action   Action    `json:"action"`
	Result   Result    `json:"result"`
	Job      string    `json:"job,omitempty"`
	Device   string    `json:"device,omitempty"`
	Artifact string    `json:"artifact,omitempty"` // SHA-256
	Detail   string    `json:"detail,omitempty"`   // one line
}

// maxDetail bounds an entry's text.
const maxDetail = 500

// Add writes an entry with the transaction. An empty Result is Done.
func Add(tx *ledger.Tx, e Entry) error {
	if e.Result == "" {
		e.Result = Done
	}
	e.Time = e.Time.UTC().Truncate(time.Millisecond)
	e.Detail = fault.Clip(e.Detail, maxDetail)
	value, err := json.Marshal(e)
	if err != nil {
		return fault.Wrap(fault.Internal, "write audit entry", err)
	}
	seq, err := tx.Sequence(namespace)
	if err != nil {
		return err
	}
	return tx.Put(namespace, key(seq), value)
}

func key(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// Query chooses entries. Empty fields choose all.
type Query struct {
	Before uint64 // only those with a smaller number; 0 is from the newest
	Limit  int    // at most so many; 0 is 100
	By     string
	Action Action
	Job    string
	Device string
}

const (
	defaultLimit = 100
	// MaxLimit is the most that one List gives.
	MaxLimit = 1000
	// maxRead is how many entries one List looks at, so that a search for what is
	// not there does not read years at a time.
	maxRead = 50_000
)

// List gives entries, newest first. Next, when not 0, is what to pass as Before
// to go on; there may be more entries even when fewer than the limit came.
func List(ctx context.Context, db *ledger.DB, q Query) (list []Entry, next uint64, err error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, fault.Wrap(fault.KindOf(err), "read the audit", context.Cause(ctx))
	}
	limit := q.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	limit = min(limit, MaxLimit)
	var to []byte
	if q.Before > 0 {
		to = key(q.Before)
	}
	var bad error
	read, last, stopped := 0, uint64(0), false
	err = db.View(func(tx *ledger.Tx) error {
		return tx.ScanReverse(namespace, nil, to, func(k, v []byte) bool {
			if len(list) == limit || read == maxRead || ctx.Err() != nil {
				stopped = true
				return false
			}
			read++
			var e Entry
			if bad = json.Unmarshal(v, &e); bad != nil {
				return false
			}
			last = binary.BigEndian.Uint64(k)
			e.Seq = last
			if q.wants(e) {
				list = append(list, e)
			}
			return true
		})
	})
	switch {
	case err != nil:
		return nil, 0, err
	case bad != nil:
		return nil, 0, fault.Wrap(fault.Storage, "read the audit", bad)
	case ctx.Err() != nil:
		return nil, 0, fault.Wrap(fault.KindOf(ctx.Err()), "read the audit", context.Cause(ctx))
	case stopped:
		next = last
	}
	return list, next, nil
}

func (q Query) wants(e Entry) bool {
	return (q.By == "" || q.By == e.By) && (q.Action == "" || q.Action == e.Action) &&
		(q.Job == "" || q.Job == e.Job) && (q.Device == "" || q.Device == e.Device)
}
