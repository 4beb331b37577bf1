// Package operation is the contract between kinds of work and the runner that
// takes them through a device.
//
// An operation is a list of steps. A step looks before it acts: Observe reads
// the device and says whether the wanted state is there already, Act makes it
// so. A report is a step that only observes. A step whose act must never happen
// twice is marked Once: the runner journals an intent, durably, before Act and
// an outcome after it, and after a crash it starts again from Observe. The
// journal says what may have happened; the device says what did.
//
// Operations know nothing of queues, schedules or storage. The daemon joins
// operations and runner in one explicit list.
package operation

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"time"

	"capfleet/internal/device"
)

// Access says what an operation may do to a device.
type Access string

const (
	// Read changes nothing on the device; it shares the device with others.
	Read Access = "read"
	// Change alters the device; one changing task per unit at a time.
	Change Access = "change"
)

// Operation is one kind of work. Implementations hold no state of a run and are
// safe for concurrent use.
type Operation interface {
	// Name is the word used in requests: report, command, check ...
	Name() string
	// Prepare checks a request before a job exists: strictly (an unknown key is
	// fault.Invalid) and without touching a device. It returns the spec with every
	// default filled in, which is what is stored and run, and the access it needs.
	Prepare(ctx context.Context, spec json.RawMessage, devices []*device.Device) (Prepared, error)
	// Steps gives the steps for one unit. It is called again on every attempt, so
	// it must depend on its arguments alone.
	Steps(spec json.RawMessage, unit Unit) ([]Step, error)
}

// Prepared is a checked request.
type Prepared struct {
	Spec     json.RawMessage
	Access   Access
	Warnings []string
	// Omit names devices that the operation has nothing to do on (a platform
	// without rotation files), with the reason. They get no task, and the job
	// carries a warning. When none is left the request is refused.
	Omit map[string]string
	// Beside says that not the device itself is asked but something beside it, its
	// BMC: how the work ends then tells nothing about the device, and a device that
	// is silent does not hold it up.
	Beside bool
	// Coordinated says that the units begin and stop together, or none begins; steps
	// use Together. It has to fit the limits, and is not begun again by itself.
	Coordinated bool
	// Prepares says that some steps are Step.Prepare, so that each unit is handed
	// out twice: to be prepared, and in its wave to be changed.
	Prepares bool
	// WorstCase is, by device, the longest that its part of the change phase may
	// take. A unit is begun only if the sum over its devices fits into its window.
	WorstCase map[string]time.Duration
}

// Unit is what is worked on as one: a device, or both members of an HA pair.
type Unit struct {
	Name    string
	Devices []*device.Device
}

// Step is a named, journalled part of a task.
type Step struct {
	Name string
	// Once marks an act that must not happen twice.
	Once bool
	// Prepare marks a step of the prepare phase, such as an upload: it changes
	// nothing that is in use. It runs before the unit's wave, for all units at once
	// within the limits, beside other work on the device and outside of any window.
	// It is observed once more in the change phase, and made good there if need be.
	Prepare bool
	// Hold marks a step that takes the device out of use or brings it back. From the
	// moment before the first Act of such a step until the last of them is through, a
	// cancel of the job is held back: the steps' context then ends only when fleetd
	// stops, and the next start goes on by observation. A unit that fails in between
	// goes to attention, unless its error is Secured.
	Hold bool
	// Observe reads the device. In a step without Act it is the work itself. It is
	// nil only in a Once step whose effect no device shows (an operator's own
	// command): such a step acts when the journal holds no intent of it, and goes to
	// attention otherwise, because it may have been done.
	Observe func(ctx context.Context, env Env) (Observation, error)
	// Act makes it so; nil where looking is all there is to do.
	Act func(ctx context.Context, env Env) error
}

// Verdict is the answer of an observation.
type Verdict string

const (
	// Needed means that the wanted state is proven absent; Act has to run.
	Needed Verdict = "needed"
	// Done means that the wanted state is proven present; nothing to do.
	Done Verdict = "done"
	// Inconclusive means that the device does not show it. The task goes to attention.
	Inconclusive Verdict = "inconclusive"
)

// Observation is what a step saw.
type Observation struct {
	Verdict Verdict
	Detail  string // one line for people: what was seen
}

// Env is what the runner gives to a step: the unit's devices, and places to put
// results. Methods may be called from several goroutines.
type Env interface {
	Together
	Memory
	Unit() Unit
	// Session gives the open session with a device of the unit, opening it on
	// first use. The runner closes it after the last step. It is opened again
	// after it broke.
	Session(ctx context.Context, dev *device.Device) (device.Session, error)
	// Conn gives the connection below without opening a command line on it.
	Conn(ctx context.Context, dev *device.Device) (device.Conn, error)
	// Row adds a result row of a device. Rows are committed together with the
	// task's result, all or none; a failed attempt leaves no rows behind.
	Row(dev *device.Device, row any)
	// Facts records what was learned about a device for `device list`. Committed
	// with the result; unlike rows it is kept when the task fails.
	Facts(dev *device.Device, facts Facts)
	// Keep stores a file as an artifact of the job and returns its SHA-256. It is
	// kept whatever the result is.
	Keep(ctx context.Context, dev *device.Device, name, mediaType string, r io.Reader) (string, error)
	// Artifact opens a kept file by its SHA-256, to read at any place and from
	// several goroutines. What is read has been checked against the digest once in
	// this process; a damaged file is fault.Storage.
	Artifact(ctx context.Context, sha256 string) (ArtifactFile, error)
	// Warn adds a line that people should read to the task.
	Warn(dev *device.Device, format string, args ...any)
	// Progress tells watchers how far a step is; it may be dropped.
	Progress(dev *device.Device, done, total int64, unit string)
	Now() time.Time
	Logger() *slog.Logger
}

// Facts are last seen properties of a device, merged by key; an empty value
// removes the key. Keys in use: version, build, platform_version, prompt_host,
// clock_offset_seconds, host_key_sha256.
type Facts map[string]string
