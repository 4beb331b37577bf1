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
	Spec      json.RawMessage `json:"spec,omitempty" doc:"the operation's own settings, an object; an unknown key is refused"`
	Selection Selection       `json:"selection" doc:"the devices; a selection that matches nothing is refused"`
	RequestID string          `json:"request_id,omitempty" maxLength:"128" doc:"the same id again gives the same job and starts nothing"`
	Rollout   *Rollout        `json:"rollout,omitempty" doc:"how a change goes over the devices; without it all at once, within the limits"`
}

// Job is a job as clients see it. State is computed from the tasks.
type Job struct {
	ID         string          `json:"id" doc:"decimal, ascending"`
	Operation  string          `json:"operation"`
	State      string          `json:"state" doc:"computed from the tasks: pending, waiting, running, paused, succeeded, partial, failed, attention, canceled"`
	Access     string          `json:"access" doc:"read or change"`
	CreatedBy  string          `json:"created_by" doc:"the user at the other end of the socket"`
	Schedule   string          `json:"schedule,omitempty" doc:"the schedule that started it"`
	CreatedAt  time.Time       `json:"created_at"`
	StartedAt  *time.Time      `json:"started_at" doc:"when the first task left pending; null before"`
	FinishedAt *time.Time      `json:"finished_at" doc:"when the last task reached a final state; null before"`
	CanceledBy string          `json:"canceled_by,omitempty" doc:"who asked for the job to stop"`
	PausedBy   string          `json:"paused_by,omitempty" doc:"who paused it, while it is paused"`
	PausedAt   *time.Time      `json:"paused_at,omitempty" doc:"since when it is paused"`
	ApprovedBy string          `json:"approved_by,omitempty" doc:"who approved a rollout that wants it"`
	ApprovedAt *time.Time      `json:"approved_at,omitempty"`
	Rollout    *Rollout        `json:"rollout,omitempty" doc:"how the change goes over the devices"`
	Counts     map[string]int  `json:"counts" doc:"tasks by state"`
	Devices    int             `json:"devices" doc:"number of tasks"`
	Spec       json.RawMessage `json:"spec" doc:"the operation's settings, defaults filled in"`
	Warnings   []string        `json:"warnings"`
}

// Task is a job on one device.
type Task struct {
	Job        string     `json:"job"`
	Device     string     `json:"device"`
	Unit       string     `json:"unit" doc:"what the device is worked on with; its own name, or an HA pair's"`
	Site       string     `json:"site"`
	Wave       int        `json:"wave" doc:"0 is the first"`
	State      string     `json:"state" doc:"pending, waiting, running, succeeded, unchanged, failed, attention, skipped, canceled"`
	Step       string     `json:"step" doc:"the step it is in, or ended in"`
	Attempt    int        `json:"attempt" doc:"from 1; 0 before the first"`
	Reason     string     `json:"reason" doc:"why it waits, failed or needs attention"`
	Until      *time.Time `json:"until" doc:"when a waiting task goes on, where that is known"`
	StartedAt  *time.Time `json:"started_at"`
	FinishedAt *time.Time `json:"finished_at"`
	Failure    *Failure   `json:"failure"`
	Warnings   []string   `json:"warnings"`
	Artifacts  []string   `json:"artifacts" doc:"SHA-256 digests of what was kept"`
	Rows       int        `json:"rows" doc:"number of result rows"`
}

// Failure is a device that could not be done.
type Failure struct {
	Device  string `json:"device"`
	Stage   string `json:"stage" doc:"the part that failed: dial, host_key, auth, session, prompt, command, parse, or a step's name"`
	Kind    string `json:"kind" doc:"as in an error body"`
	Message string `json:"message" doc:"one line"`
}

// Results is what a job produced: one object with rows and failures, as every
// read command prints it.
type Results struct {
	Job      Job               `json:"job"`
	Rows     []json.RawMessage `json:"rows" doc:"in order of device, then as the operation gave them"`
	Failures []Failure         `json:"failures" doc:"failed, attention, canceled and skipped tasks"`
	Warnings []string          `json:"warnings" doc:"the job's, then the tasks' as device: text"`
}

// Device is an inventory entry with the facts last seen. It holds no secret and
// no place of one: of the credentials only the user name.
type Device struct {
	Name       string            `json:"name"`
	Platform   string            `json:"platform"`
	Address    string            `json:"address" doc:"host:port"`
	Site       string            `json:"site"`
	Groups     []string          `json:"groups"`
	Labels     map[string]string `json:"labels"`
	Covers     []string          `json:"covers" doc:"links that the device watches"`
	HAPeer     string            `json:"ha_peer"`
	Jump       []string          `json:"jump" doc:"hosts to go through, nearest to fleetd first"`
	BMC        string            `json:"bmc" doc:"host:port of the baseboard management controller, or empty"`
	Username   string            `json:"username"`
	Facts      map[string]string `json:"facts" doc:"last seen: version, build, platform_version, prompt_host, clock_offset_seconds, host_key_sha256"`
	LastSeenAt *time.Time        `json:"last_seen_at" doc:"end of the last task that reached the device"`
	LastError  string            `json:"last_error" doc:"why the last task failed; empty when it did not"`
}

// DeviceList is the body of GET /v1/devices.
type DeviceList struct {
	Rows []Device `json:"rows"`
}

// JobQuery limits GET /v1/jobs.
type JobQuery struct {
	Before string // only jobs older than this id
	Limit  int    // 0 is the server's default
	Active bool   // only unfinished jobs
}

// JobList is the body of GET /v1/jobs.
type JobList struct {
	Rows []Job  `json:"rows" doc:"newest first"`
	Next string `json:"next,omitempty" doc:"pass as before= to get older jobs"`
}

// TaskList is the body of GET /v1/jobs/{id}/tasks.
type TaskList struct {
	Rows []Task `json:"rows" doc:"in order of device"`
}

// JournalEntry is one line of what was done to a unit.
type JournalEntry struct {
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind" doc:"step, intent, outcome or note"`
	Unit    string    `json:"unit"`
	Step    string    `json:"step"`
	Attempt int       `json:"attempt"`
	Detail  string    `json:"detail,omitempty"`
	Error   string    `json:"error,omitempty"`
}

// JournalList is the body of GET /v1/jobs/{id}/journal.
type JournalList struct {
	Rows []JournalEntry `json:"rows" doc:"oldest first"`
}

// HostKey is one public host key.
type HostKey struct {
	Device    string `json:"device"`
	Host      string `json:"host" doc:"as known_hosts names it: host or [host]:port"`
	Type      string `json:"type" doc:"ssh-ed25519 and the like; x509 for the certificate of a BMC"`
	SHA256    string `json:"sha256" doc:"SHA256:..., as ssh-keygen -l prints it; of a certificate 64 hexadecimal digits"`
	PublicKey string `json:"public_key" doc:"authorized_keys form, without comment; of a certificate base64 of its DER form"`
}

// PinRequest is the body of POST /v1/host-keys: keys to trust from now on.
// Replace allows a key of the same type to take the place of a pinned one.
type PinRequest struct {
	Keys    []HostKey `json:"keys"`
	Replace bool      `json:"replace,omitempty" doc:"a key may take the place of a pinned one of the same type"`
}

// PinResult tells what was written.
type PinResult struct {
	Added     []HostKey `json:"added"`
	Unchanged []HostKey `json:"unchanged"`
}

// Artifact is a stored file.
type Artifact struct {
	SHA256    string    `json:"sha256" doc:"of the content, 64 hex digits; its address"`
	Name      string    `json:"name"`
	MediaType string    `json:"media_type"`
	Size      int64     `json:"size" doc:"bytes"`
	Job       string    `json:"job"`
	Device    string    `json:"device"`
	CreatedBy string    `json:"created_by" doc:"who added it; empty for what a job made"`
	CreatedAt time.Time `json:"created_at"`
	Secret    bool      `json:"secret" doc:"holds keys or passwords: a client hands it out only when told so"`
}

// ArtifactList is the body of GET /v1/artifacts.
type ArtifactList struct {
	Rows []Artifact `json:"rows"`
}

// Event is one server-sent event; its id is Seq. Progress events have Seq 0 and
// are not replayed.
type Event struct {
	Seq     uint64     `json:"seq"`
	Time    time.Time  `json:"time"`
	Type    string     `json:"type" doc:"job_created, job_finished, job_canceled, job_retried, job_paused, job_resumed, job_approved, task_state, task_step, progress"`
	Job     string     `json:"job"`
	Device  string     `json:"device,omitempty"`
	State   string     `json:"state,omitempty" doc:"of the task, or of the job in job events"`
	Step    string     `json:"step,omitempty"`
	Attempt int        `json:"attempt,omitempty"`
	Reason  string     `json:"reason,omitempty"`
	Until   *time.Time `json:"until,omitempty" doc:"when a task that waits goes on, where that is known"`
	Done    int64      `json:"done,omitempty" doc:"progress: how much is done"`
	Total   int64      `json:"total,omitempty" doc:"progress: of how much; 0 is not known"`
	Unit    string     `json:"unit,omitempty" doc:"progress: of what, such as bytes"`
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
	State     string    `json:"state" doc:"state directory"`
}

// Problem is the body of every error (RFC 9457) with our kind.
type Problem struct {
	Title  string `json:"title" doc:"the kind in words"`
	Status int    `json:"status" doc:"the HTTP status"`
	Detail string `json:"detail" doc:"what went wrong, one line"`
	Kind   string `json:"kind" doc:"the error's kind; clients decide by it"`
	Device string `json:"device,omitempty"`
	Stage  string `json:"stage,omitempty" doc:"the part that failed"`
	Next   string `json:"next,omitempty" doc:"what to do about it"`
}
