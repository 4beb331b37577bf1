package jobs

import (
	"encoding/json"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/rollout"
)

// Job is one request: an operation, its spec, and the devices it was resolved
// to. Its state is computed from its tasks (JobState) and never stored.
type Job struct {
	ID        string          `json:"id"` // decimal, ascending; given by the engine at submission
	Operation string          `json:"operation"`
	Spec      json.RawMessage `json:"spec"`   // as prepared by the operation, defaults filled in
	Access    string          `json:"access"` // read or change
	CreatedBy string          `json:"created_by"`
	CreatedAt time.Time       `json:"created_at"`
	RequestID string          `json:"request_id,omitempty"` // the client's, makes a repeated submission the same job
	Warnings  []string        `json:"warnings,omitempty"`
	// Coordinated says that all units are worked on together, or none.
	Coordinated bool `json:"coordinated,omitempty"`
	// Beside says that not the devices are asked but what is beside them, so that how
	// a task ends tells nothing about its device.
	Beside bool `json:"beside,omitempty"`
	// Rollout says how a change goes over the units, Covering how many devices of the
	// inventory watch each of their links.
	Rollout  *rollout.Policy `json:"rollout,omitempty"`
	Covering map[string]int  `json:"covering,omitempty"`

	Devices int `json:"devices"` // how many tasks the job has
	// FirstEvent is the sequence number just before the job's first event.
	FirstEvent uint64 `json:"first_event"`

	StartedAt  *time.Time `json:"started_at,omitempty"`  // first task left pending
	FinishedAt *time.Time `json:"finished_at,omitempty"` // last task reached a final state
	// CanceledBy and CanceledAt are set once somebody asked for the job to stop.
	CanceledBy string     `json:"canceled_by,omitempty"`
	CanceledAt *time.Time `json:"canceled_at,omitempty"`
	// PausedBy and PausedAt are set while the job is paused.
	PausedBy string     `json:"paused_by,omitempty"`
	PausedAt *time.Time `json:"paused_at,omitempty"`
	// ApprovedBy and ApprovedAt are set once somebody approved a rollout that wants it.
	ApprovedBy string     `json:"approved_by,omitempty"`
	ApprovedAt *time.Time `json:"approved_at,omitempty"`
	// Counts of tasks by state; kept by the engine with each change of a task.
	Counts map[State]int `json:"counts"`
}

// Task is a job on one device.
type Task struct {
	Job    string `json:"job"`
	Device string `json:"device"`
	Unit   string `json:"unit"` // name of the unit the device is worked on in
	Site   string `json:"site,omitempty"`
	Wave   int    `json:"wave"` // 0 is the first; reads have one wave
	State  State  `json:"state"`
	Step   string `json:"step,omitempty"` // the step it is in, or ended in
	// Attempt counts from 1; 0 before the first.
	Attempt int `json:"attempt"`
	// Reason says why the task waits, failed or needs attention, in one line.
	Reason string `json:"reason,omitempty"`
	// Until is when a waiting task goes on, where that is known.
	Until      *time.Time `json:"until,omitempty"`
	StartedAt  *time.Time `json:"started_at,omitempty"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`
	Failure    *Failure   `json:"failure,omitempty"`
	Warnings   []string   `json:"warnings,omitempty"`
	Artifacts  []string   `json:"artifacts,omitempty"` // SHA-256 digests
	Rows       int        `json:"rows"`                // how many rows its result has
	// Fence grows with every hand-out of the task's unit; a report with an older
	// fence is refused, so that a runner that lost its place cannot write.
	Fence uint64 `json:"fence"`
	// Prepared says that the prepare phase of its unit is over.
	Prepared bool `json:"prepared,omitempty"`
	// Begun says that the unit has announced an act that is not to be done twice, or is
	// out of use: it goes on before others, also outside of its window and while the
	// job is paused.
	Begun bool `json:"begun,omitempty"`
	// Held says that its unit has begun what must be brought to its end (Journal.Hold):
	// a cancel of the job waits for it.
	Held bool `json:"held,omitempty"`
}

// Failure is the row of a device that could not be done.
type Failure struct {
	Device  string     `json:"device"`
	Stage   string     `json:"stage"`
	Kind    fault.Kind `json:"kind"`
	Message string     `json:"message"`
}

// Target is one device of a request, resolved. Snapshot is the device as the
// inventory had it; the engine stores it and hands it to the runner unread.
type Target struct {
	Device   string          `json:"device"`
	Unit     string          `json:"unit"`
	Site     string          `json:"site,omitempty"`
	Wave     int             `json:"wave"`
	Snapshot json.RawMessage `json:"snapshot"`
	// What a rollout goes by: the links that the device watches, the longest that its
	// change may take, the IANA time zone of its windows, and whether it is prepared
	// in a phase of its own.
	Covers    []string      `json:"covers,omitempty"`
	WorstCase time.Duration `json:"worst_case,omitempty"`
	Zone      string        `json:"zone,omitempty"`
	Prepares  bool          `json:"prepares,omitempty"`
}

// Request is a job to be made. It comes from the daemon's one way in, which has
// resolved the selection and let the operation check the spec.
type Request struct {
	Operation string
	Spec      json.RawMessage
	Access    string
	CreatedBy string
	RequestID string
	Warnings  []string
	// Coordinated asks for all units to be handed out in one go, never some of
	// them: they wait for each other at Journal.Ready and stop together. It is not
	// begun again by itself after a failure, and has one wave.
	Coordinated bool
	Beside      bool // as in Job
	Targets     []Target
	// Rollout says how a change goes over the units, and gives them their waves; nil
	// is all at once, within the limits.
	Rollout *rollout.Policy
	// Covering is how many devices of the whole inventory watch each link that a
	// target covers; what is missing is counted over the targets.
	Covering map[string]int
}

// Event is one thing that happened, in the order in which the ledger has it.
// Seq is the id with which a client asks to continue.
type Event struct {
	Seq     uint64    `json:"seq"`
	Time    time.Time `json:"time"`
	Type    EventType `json:"type"`
	Job     string    `json:"job"`
	Device  string    `json:"device,omitempty"`
	State   State     `json:"state,omitempty"` // of the task, or of the job for job events
	Step    string    `json:"step,omitempty"`
	Attempt int       `json:"attempt,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	// Until is when a task that waits goes on, where that is known.
	Until *time.Time `json:"until,omitempty"`
	// Done, Total and Unit are set on progress events, which are not stored.
	Done  int64  `json:"done,omitempty"`
	Total int64  `json:"total,omitempty"`
	Unit  string `json:"unit,omitempty"`
}

// EventType names what happened.
type EventType string

// Event types.
const (
	EventJobCreated  EventType = "job_created"
	EventJobFinished EventType = "job_finished"
	EventJobCanceled EventType = "job_canceled" // somebody asked for it
	EventJobRetried  EventType = "job_retried"
	EventJobPaused   EventType = "job_paused"
	EventJobResumed  EventType = "job_resumed"
	EventJobApproved EventType = "job_approved"
	EventTaskState   EventType = "task_state"
	EventTaskStep    EventType = "task_step"
	EventProgress    EventType = "progress"
)
