package pcap

import (
	"errors"
	"fmt"
)

// What an *Error is, for errors.Is.
var (
	// ErrNotCapture means that the file begins like no capture.
	ErrNotCapture = errors.New("not a pcap or pcapng file")
	// ErrTruncated means that the file ends in the middle of a record. Of a file
	// that is still written the rest may come: see Reader.Next.
	ErrTruncated = errors.New("the capture is cut short")
	// ErrDamaged means that what the file says contradicts itself.
	ErrDamaged = errors.New("the capture is damaged")
	// ErrTooLarge means a length or a number beyond what the reader takes.
	ErrTooLarge = errors.New("the capture exceeds a limit")
	// ErrUnsupported means a version or a variant that the reader does not know.
	ErrUnsupported = errors.New("unsupported variant of the format")
	// ErrRead means that the file or stream could not be read further.
	ErrRead = errors.New("the capture could not be read")
)

// Error says where and why reading ended before the end of the capture.
// Everything before Offset was read.
type Error struct {
	// Offset is the place of the record that could not be read, in bytes from the
	// start of the capture; of a gzip file, of what it unpacks to.
	Offset int64
	// Packets were given before.
	Packets uint64
	// Kind is one of the errors above.
	Kind error
	// Reason says what is wrong there.
	Reason string
	// Cause is the error of the source, where there is one.
	Cause error
}

// Error gives kind, offset, reason and cause in one line.
func (e *Error) Error() string {
	text := fmt.Sprintf("%v at offset %d, after %d packets: %s", e.Kind, e.Offset, e.Packets, e.Reason)
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Unwrap gives kind and cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}
