package api

import (
	"encoding/json"
	"time"
)

// Selection names devices: names or globs, a label selector, or all of them.
// The parts are combined: a device must match the selector and, when names are
// given, one of the names.
type Selection struct {
	Names    []string `json:"names,omitempty" doc:"device names or globs"`
	Selector string   `json:"selector,omitempty" doc:"Kubernetes label selector; site, platform, group and name are selectable too"`
	All      bool     `json:"all,omitempty" doc:"every device of the inventory"`
}

// JobRequest is the body of POST /v1/jobs.
type JobRequest struct {
	Operation string          `json:"operation" doc:"kind of work: report, command, check, hostkeys"`
	Spec      json.RawMessage `json:"spec,omitempty" doc:"the operation's own settings"`
	Selection Selection       `json:"selection"`
	RequestID string          `json:"request_id,omitempty" doc:"the same id again gives the same job and starts nothing"`
}

// Job is a job as clients see it. State is computed from the tasks.
type Job struct {
	ID         string          `json:"id"`
	Operation  string          `json:"operation"`
	State      string          `json:"state"`
	Access     string          `json:"access"`
	CreatedBy  string          `json:"created_by"`
	CreatedAt  time.Time       `json:"created_at"`
	StartedAt  *time.Time      `json:"started_at"`
	FinishedAt *time.Time      `json:"finished_at"`
	CanceledBy string          `json:"canceled_by,omitempty"`
	Counts     map[string]int  `json:"counts"`
	Devices    int             `json:"devices"`
	Spec       json.RawMessage `json:"spec"`
	Warnings   []string        `json:"warnings"`
}

// Task is a job on one device.
type Task struct {
	Job        string     `json:"job"`
	Device     string     `json:"device"`
	Unit       string     `json:"unit"`
	Site       string     `json:"site"`
	Wave       int        `json:"wave"`
	State      string     `json:"state"`
	Step       string     `json:"step"`
	Attempt    int        `json:"attempt"`
	Reason     string     `json:"reason"`
	Until      *time.Time `json:"until"`
	StartedAt  *time.Time `json:"started_at"`
	FinishedAt *time.Time `json:"finished_at"`
	Failure    *Failure   `json:"failure"`
	Warnings   []string   `json:"warnings"`
	Artifacts  []string   `json:"artifacts"`
	Rows       int        `json:"rows"`
}

// Failure is a device that could not be done.
type Failure struct {
	Device  string `json:"device"`
	Stage   string `json:"stage"`
	Kind    string `json:"kind"`
	Message string `json:"message"`
}

// Results is what a job produced: one object with rows and failures, as every
// read command prints it.
type Results struct {
	Job      Job               `json:"job"`
	Rows     []json.RawMessage `json:"rows"`     // in order of device, then as the operation gave them
	Failures []Failure         `json:"failures"` // failed, attention, canceled and skipped tasks
	Warnings []string          `json:"warnings"` // "device: text"
}

// Device is an inventory entry with the facts last seen.
type Device struct {
	Name       string            `json:"name"`
	Platform   string            `json:"platform"`
	Address    string            `json:"address"` // host:port
	Site       string            `json:"site"`
	Groups     []string          `json:"groups"`
	Labels     map[string]string `json:"labels"`
	Covers     []string          `json:"covers"`
	HAPeer     string            `json:"ha_peer"`
	Jump       []string          `json:"jump"`
	BMC        string            `json:"bmc"`
	Username   string            `json:"username"`
	Facts      map[string]string `json:"facts"`
	LastSeenAt *time.Time        `json:"last_seen_at"` // last task that reached the device
	LastError  string            `json:"last_error"`
}

// DeviceList is the body of GET /v1/devices.
type DeviceList struct {
	Rows []Device `json:"rows"`
}

// JobList is the body of GET /v1/jobs.
type JobList struct {
	Rows []Job  `json:"rows"`
	Next string `json:"next,omitempty" doc:"pass as before= to get older jobs"`
}

// TaskList is the body of GET /v1/jobs/{id}/tasks.
type TaskList struct {
	Rows []Task `json:"rows"`
}

// HostKey is one public host key.
type HostKey struct {
	Device    string `json:"device"`
	Host      string `json:"host"` // as known_hosts names it: host or [host]:port
	Type      string `json:"type"`
	SHA256    string `json:"sha256"`
	PublicKey string `json:"public_key"` // authorized_keys form, without comment
}

// PinRequest is the body of POST /v1/host-keys: keys to trust from now on.
// Replace allows a key of the same type to take the place of a pinned one.
type PinRequest struct {
	Keys    []HostKey `json:"keys"`
	Replace bool      `json:"replace,omitempty"`
}

// PinResult tells what was written.
type PinResult struct {
	Added     []HostKey `json:"added"`
	Unchanged []HostKey `json:"unchanged"`
}

// Artifact is a stored file.
type Artifact struct {
	SHA256    string    `json:"sha256"`
	Name      string    `json:"name"`
	MediaType string    `json:"media_type"`
	Size      int64     `json:"size"`
	Job       string    `json:"job"`
	Device    string    `json:"device"`
	CreatedAt time.Time `json:"created_at"`
}

// Event is one server-sent event; its id is Seq. Progress events have Seq 0 and
// are not replayed.
type Event struct {
	Seq     uint64    `json:"seq"`
	Time    time.Time `json:"time"`
	Type    string    `json:"type"`
	Job     string    `json:"job"`
	Device  string    `json:"device,omitempty"`
	State   string    `json:"state,omitempty"`
	Step    string    `json:"step,omitempty"`
	Attempt int       `json:"attempt,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Done    int64     `json:"done,omitempty"`
	Total   int64     `json:"total,omitempty"`
	Unit    string    `json:"unit,omitempty"`
}

// Version is the body of GET /v1/version.
type Version struct {
	Version   string    `json:"version"`
	Commit    string    `json:"commit"`
	Go        string    `json:"go"`
	StartedAt time.Time `json:"started_at"`
	Socket    string    `json:"socket"`
	Inventory string    `json:"inventory"`
	Devices   int       `json:"devices"`
	State     string    `json:"state"` // state directory
}

// Problem is the body of every error (RFC 9457) with our kind.
type Problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Kind   string `json:"kind"`
	Device string `json:"device,omitempty"`
	Stage  string `json:"stage,omitempty"`
	Next   string `json:"next,omitempty"`
}
