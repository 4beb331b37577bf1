package jobs

import (
	"context"
	"encoding/json"
	"time"
)

// Runner takes one unit of work through its operation. The contract, which the
// suite in package runnertest holds every implementation to:
//
//   - Run blocks until the work has ended or ctx has; it returns within 100 ms of
//     ctx ending plus what the operation needs to leave its devices safe.
//   - Everything it has to say goes through the Journal it is given or into the
//     Result; both are serialisable, since a runner may be at another site.
//   - It calls Journal.Intent before each once-only act and sends nothing when
//     that fails.
//   - It never panics out of Run and never retries by itself: the engine decides
//     that from the failure's kind.
//   - It may be called for many units at once, never twice at a time for one.
type Runner interface {
	Run(ctx context.Context, work Work, journal Journal) Result
}

// Work is one unit handed out.
type Work struct {
	Job       string          `json:"job"`
	Operation string          `json:"operation"`
	Spec      json.RawMessage `json:"spec"`
	Unit      string          `json:"unit"`
	Targets   []Target        `json:"targets"`
	Attempt   int             `json:"attempt"`
	// Retries is how often an operator took the unit up again.
	Retries int    `json:"retries,omitempty"`
	Fence   uint64 `json:"fence"`
	// Phase says which part of the work is wanted: all of it when empty.
	Phase Phase `json:"phase,omitempty"`
	// History is what the journal holds for this unit from earlier attempts.
	History []Entry `json:"history,omitempty"`
	// Memory is what earlier attempts have remembered, by key.
	Memory map[string]json.RawMessage `json:"memory,omitempty"`
	// Held says that an earlier attempt has begun what must be brought to its end
	// (Journal.Hold). A cancel is held back from the start.
	Held bool `json:"held,omitempty"`
}

// Phase is a part of the work on a unit.
type Phase string

// Phases. A unit whose target Prepares is handed out once for each.
const (
	PhasePrepare Phase = "prepare" // what changes nothing in use; not in waves
	PhaseChange  Phase = "change"
)

// Journal is where a runner reports while it works. Each method is durable when
// it returns nil, except Progress. A fault.Conflict means that the runner lost
// its place and must stop.
type Journal interface {
	// Step says that the unit has entered a step.
	Step(ctx context.Context, step string) error
	// Intent says that a once-only act is about to be done.
	Intent(ctx context.Context, step, detail string) error
	// Outcome says how a once-only act ended. It is kept even when ctx has ended.
	Outcome(ctx context.Context, step, detail string, err error) error
	// Remember keeps a value of the unit under a key; Work.Memory has it in later
	// attempts. Null removes it.
	Remember(ctx context.Context, key string, value json.RawMessage) error
	// Load reads what the job's operation has stored under a key, in any job; nil
	// when there is nothing. What a Result stores is not there before it is settled.
	Load(ctx context.Context, key string) ([]byte, error)
	// Hold says that the unit is about to begin what must not be left halfway: from
	// now on a cancel of the job does not end the runner's context, in this attempt
	// and in later ones, until Release. When the context has ended already it is an
	// error, and nothing is to be begun.
	Hold(ctx context.Context, step string) error
	// Release says that the unit is safe again. A cancel that was held back takes
	// effect now. It is kept even when ctx has ended.
	Release(ctx context.Context, step string) error
	// Note keeps a line about the unit (what was observed).
	Note(ctx context.Context, step, detail string) error
	// Ready says that the unit is prepared to begin what all units of a coordinated
	// job begin together, and waits until all are. Nil is the go. Any error means
	// that nothing is to be begun: another unit could not be prepared, or ctx ended;
	// the runner undoes what it prepared and ends. In a job that is not coordinated
	// it gives the go at once.
	Ready(ctx context.Context) error
	// Stop asks all units of a coordinated job to stop what they began together,
	// this one included: its trigger fired, its time is over. What was begun is then
	// ended and collected as usual; it is no failure.
	Stop(ctx context.Context, why string) error
	// Stopped is closed once a unit of a coordinated job asked all to stop, or has
	// ended for whatever reason. It is nil, and so never ready, in other jobs.
	Stopped() <-chan struct{}
	// Progress tells watchers how far a step is. It is not kept.
	Progress(device string, done, total int64, unit string)
}

// EntryKind is the kind of a journal entry.
type EntryKind string

// Journal entry kinds.
const (
	EntryStep    EntryKind = "step"
	EntryIntent  EntryKind = "intent"
	EntryOutcome EntryKind = "outcome"
	EntryNote    EntryKind = "note"
	EntryHold    EntryKind = "hold"    // from here on a cancel is held back
	EntryRelease EntryKind = "release" // and here no more
)

// Entry is one line of a unit's journal.
type Entry struct {
	Time    time.Time `json:"time"`
	Kind    EntryKind `json:"kind"`
	Unit    string    `json:"unit"`
	Step    string    `json:"step"`
	Attempt int       `json:"attempt"`
	Fence   uint64    `json:"fence"`
	Detail  string    `json:"detail,omitempty"`
	Error   string    `json:"error,omitempty"`
}

// Result is how the work on a unit ended, for each of its devices.
type Result struct {
	Tasks map[string]TaskResult `json:"tasks"` // by device
}

// TaskResult is committed in one transaction: state, rows, facts and all. A
// device's rows of an earlier attempt are replaced, never added to.
type TaskResult struct {
	State     State             `json:"state"` // succeeded, unchanged, failed, attention or canceled
	Failure   *Failure          `json:"failure,omitempty"`
	Rows      []json.RawMessage `json:"rows,omitempty"`
	Facts     map[string]string `json:"facts,omitempty"`
	Artifacts []string          `json:"artifacts,omitempty"`
	Warnings  []string          `json:"warnings,omitempty"`
	// Stores are values for later jobs of the operation, by key; nil removes one.
	// Like rows they are kept when the work was done or needs attention, and those of
	// a job that changes devices however it ended.
	Stores map[string][]byte `json:"stores,omitempty"`
}
