package notify

import (
	"encoding/json"
	"time"
)

// Condition is what a rule is on.
type Condition string

// The conditions, as the configuration spells them.
const (
	PCIError         Condition = "pci_error"         // a new record of a PCI error in a BMC's event log
	RolloutAttention Condition = "rollout_attention" // a device's state is not proven after a change
	CapacityBelow    Condition = "capacity_below"    // a ring or a file system fell below a rule's limit
	JobFailed        Condition = "job_failed"        // a job ended and not all of it was done
	ScheduleMissed   Condition = "schedule_missed"   // nothing ran for an occurrence of a schedule
	Test             Condition = "test"              // somebody asked for it
)

// Severity is that of syslog.
type Severity string

// The severities that are used.
const (
	Critical Severity = "critical"
	Error    Severity = "error"
	Warning  Severity = "warning"
	Notice   Severity = "notice"
)

// Message is what happened, as a webhook gets it. Its id is the same each time that
// it is sent.
type Message struct {
	ID        string          `json:"id"`
	Condition Condition       `json:"condition"`
	Severity  Severity        `json:"severity"`
	Time      time.Time       `json:"time"`
	Summary   string          `json:"summary"` // one line
	Device    string          `json:"device,omitempty"`
	Job       string          `json:"job,omitempty"`
	Operation string          `json:"operation,omitempty"`
	Schedule  string          `json:"schedule,omitempty"`
	Details   json.RawMessage `json:"details,omitempty"` // an object, by condition
}

// Delivery is the result of a schedule's run, which is read when it is sent.
type Delivery struct {
	ID       string    `json:"id"`
	Job      string    `json:"job"`
	Schedule string    `json:"schedule"`
	Time     time.Time `json:"time"` // when the job was made; in the name of the file
}

// Result is a delivery as it is sent.
type Result struct {
	// CSV is the rows; Failures, "" when there are none, the devices that could not be
	// read, likewise.
	CSV, Failures []byte
	Failed        int // how many devices
}

// entry is one thing to be sent to one receiver, as the outbox keeps it.
type entry struct {
	Message  *Message  `json:"message,omitempty"`
	Delivery *Delivery `json:"delivery,omitempty"`
	Queued   time.Time `json:"queued"`
	// Attempts, NextTry and LastError are of an entry that was not taken.
	Attempts  int       `json:"attempts,omitempty"`
	NextTry   time.Time `json:"next_try,omitzero"`
	LastError string    `json:"last_error,omitempty"`

	key []byte
}

func (e *entry) id() string {
	if e.Message != nil {
		return e.Message.ID
	}
	return e.Delivery.ID
}

// maxSummary bounds a line for people: device text ends up in it.
const maxSummary = 1000
