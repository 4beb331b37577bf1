package jobs

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"

	"capfleet/internal/audit"
	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// The layout of the engine's part of the ledger. <job> is the job's number as 8
// bytes big endian, so that keys sort as jobs were made and one prefix holds all
// that a job has; <seq> is an event's number in the same form. Names are bounded
// and hold no NUL (Submit checks). Values are JSON.
//
//	namespace    key                    value
//	jobs         <job>                  Job, without what changes; written once
//	progress     <job>                  progress: counts and times, with each change of a task
//	active       <job>                  empty; there while a task of the job is not final
//	requests     request id             <job>
//	targets      <job> device           Target; written once, read at each hand-out
//	tasks        <job> device           taskRecord
//	rows         <job> device           the device's rows, a JSON array; one value, so never twice
//	journal      <job> unit NUL <n>     Entry, in order of n
//	memory       <job> unit NUL key     what the unit's steps remember, JSON
//	stores       operation NUL key      what an operation keeps across jobs, its own bytes
//	events       <seq>                  Event, in the order of the ledger's commits
//	job_events   <job> <seq>            empty; which events are the job's
//	devices      device                 deviceRecord: facts last seen
//
// Who asked for a change is in the audit, which package audit lays out.
//
// Start reads active and the tasks of the jobs in it, and nothing else.
const (
	nsJobs      ledger.Namespace = "jobs"
	nsProgress  ledger.Namespace = "progress"
	nsActive    ledger.Namespace = "active"
	nsRequests  ledger.Namespace = "requests"
	nsTargets   ledger.Namespace = "targets"
	nsTasks     ledger.Namespace = "tasks"
	nsRows      ledger.Namespace = "rows"
	nsJournal   ledger.Namespace = "journal"
	nsMemory    ledger.Namespace = "memory"
	nsStores    ledger.Namespace = "stores"
	nsEvents    ledger.Namespace = "events"
	nsJobEvents ledger.Namespace = "job_events"
	nsDevices   ledger.Namespace = "devices"
)

// Namespaces are what the engine writes in the ledger, for ledger.Options; those
// of the audit are among them.
func Namespaces() []ledger.Namespace {
	return append(audit.Namespaces(), nsJobs, nsProgress, nsActive, nsRequests, nsTargets, nsTasks, nsRows,
		nsJournal, nsMemory, nsStores, nsEvents, nsJobEvents, nsDevices)
}

// number is a job's id as the ledger's keys have it.
type number uint64

func (n number) String() string { return strconv.FormatUint(uint64(n), 10) }

func (n number) key() []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// under is the key of something that the job has one of for each name.
func (n number) under(name string) []byte { return append(n.key(), name...) }

// end is the first key behind everything of the job.
func (n number) end() []byte { return (n + 1).key() }

func numberOf(key []byte) number { return number(binary.BigEndian.Uint64(key)) }

// nameOf is the name in a key that under made.
func nameOf(key []byte) string { return string(key[8:]) }

// parseID turns a job's id into its number. What is not an id names no job.
func parseID(id string) (number, error) {
	n, err := strconv.ParseUint(id, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != id {
		return 0, noJob(id)
	}
	return number(n), nil
}

func noJob(id string) error {
	return &fault.Error{Kind: fault.NotFound, Err: fmt.Errorf("there is no job %q", id), Next: "fleetctl job list shows them"}
}

func seqKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

func jobEventKey(job number, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(job.key(), seq)
}

// unitPrefix comes before what is kept of one unit; units whose names begin alike
// are told apart by the NUL.
func unitPrefix(job number, unit string) []byte { return append(job.under(unit), 0) }

// unitEnd is the first key behind it.
func unitEnd(job number, unit string) []byte { return append(job.under(unit), 1) }

func memoryKey(job number, unit, key string) []byte { return append(unitPrefix(job, unit), key...) }

func storeKey(operation, key string) []byte { return append(append([]byte(operation), 0), key...) }

// put writes a value as JSON.
func put(tx *ledger.Tx, ns ledger.Namespace, key []byte, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fault.Wrap(fault.Internal, "encode for ledger "+string(ns), err)
	}
	return tx.Put(ns, key, data)
}

// decode reads a value that put wrote. What it cannot read is damage.
func decode[T any](ns ledger.Namespace, data []byte) (value T, err error) {
	if err := json.Unmarshal(data, &value); err != nil {
		return value, &fault.Error{Kind: fault.Storage, Act: "decode from ledger " + string(ns), Err: err}
	}
	return value, nil
}

// get reads a value that put wrote; ok tells whether there is one.
func get[T any](tx *ledger.Tx, ns ledger.Namespace, key []byte) (value T, ok bool, err error) {
	data := tx.Get(ns, key)
	if data == nil {
		return value, false, nil
	}
	value, err = decode[T](ns, data)
	return value, err == nil, err
}

// each decodes the values of a range in order, until fn says that it has enough.
func each[T any](tx *ledger.Tx, ns ledger.Namespace, from, to []byte, fn func(key []byte, value T) (more bool)) error {
	var bad error
	err := tx.Scan(ns, from, to, func(k, v []byte) bool {
		value, err := decode[T](ns, v)
		if err != nil {
			bad = err
			return false
		}
		return fn(k, value)
	})
	if err == nil {
		err = bad
	}
	return err
}
