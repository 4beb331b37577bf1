package operation

import (
	"context"
	"io"
	"time"

	"capfleet/internal/device"
)

// Bounds of what is remembered.
const (
	MaxRemembered = 64 << 10 // bytes of one value of Remember, as JSON
	MaxStored     = 1 << 20  // bytes of one value of Store
)

// Memory is what outlives an attempt. Methods may be called from several
// goroutines.
type Memory interface {
	// Remember keeps a value of this unit in this job as JSON, in place of what the
	// key had: a snapshot before the change, the PID of what was started. It is
	// durable when it returns nil, and there again after a kill and in a retry. A
	// value over MaxRemembered is fault.TooLarge.
	Remember(ctx context.Context, key string, value any) error
	// Recall reads a remembered value; ok is false when there is none.
	Recall(key string, into any) (ok bool, err error)
	// Intended tells whether the journal holds an intent of a once-only step, of this
	// attempt or an earlier one, and when the last was written.
	Intended(step string) (at time.Time, ok bool)
	// Retries is how often an operator took the unit up again in this job: what was
	// left to a person before the last of them has been looked at.
	Retries() int
	// Load reads what this operation has stored under a key, in any job; nil when
	// there is nothing.
	Load(ctx context.Context, key string) ([]byte, error)
	// Store keeps a value for later jobs of this operation. It is committed together
	// with the device's result: of what only reads like rows, when the work was done or
	// needs attention; of what changes devices however it ended. Load gives the old
	// value until then; nil removes the key. A value over MaxStored fails the step.
	// Where another job has stored since this attempt loaded, nothing is committed and
	// the work is done again.
	Store(dev *device.Device, key string, value []byte)
}

// ArtifactFile is an open artifact.
type ArtifactFile interface {
	io.ReaderAt
	io.Closer
	Size() int64
	Name() string
}
