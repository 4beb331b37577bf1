package shell

import (
	"bytes"
	"time"

	"capfleet/internal/device"
)

// screen is what the device has written since the last line was typed, cleaned.
type screen struct {
	cleaner device.Cleaner
	buf     []byte
	raw     int // bytes received
	last    int // where the last, unterminated line begins in buf
	erase   int // where a pager's prompt stood whose erasure is awaited; -1 for nowhere

	fed   time.Time     // of the last read
	pause time.Duration // the longest between two reads
}

func (s *screen) reset() {
	if cap(s.buf) > maxIdleBuffer {
		s.buf = nil
	}
	*s = screen{cleaner: s.cleaner, buf: s.buf[:0], erase: -1}
}

// maxIdleBuffer is what a shell keeps of its buffer between commands.
const maxIdleBuffer = 64 << 10

func (s *screen) feed(chunk []byte, now time.Time) {
	if s.raw > 0 {
		s.pause = max(s.pause, now.Sub(s.fed))
	}
	s.fed = now
	s.raw += len(chunk)

	before := len(s.buf)
	s.buf = s.cleaner.Append(s.buf, chunk)
	if s.erase >= 0 {
		before = min(before, s.erase)
		s.dropErasure()
	}
	if i := bytes.LastIndexByte(s.buf[before:], '\n'); i >= 0 {
		s.last = before + i + 1
	}
}

// tail is the last, unterminated line.
func (s *screen) tail() []byte { return s.buf[s.last:] }

// cutTail takes a pager's prompt away, from offset i of the last line on.
func (s *screen) cutTail(i int) {
	s.buf = s.buf[:s.last+i]
	s.erase = len(s.buf)
}

// dropErasure takes away what a pager overwrites its own prompt with: CRs,
// spaces and backspaces up to the last CR or backspace. Spaces behind that are
// the next line's indentation.
func (s *screen) dropErasure() {
	run := s.buf[s.erase:]
	n := len(run) - len(bytes.TrimLeft(run, " \r\b"))
	if n == len(run) {
		return // it may go on
	}
	if i := bytes.LastIndexAny(run[:n], "\r\b"); i >= 0 {
		s.buf = append(s.buf[:s.erase], run[i+1:]...)
	}
	s.erase = -1
}
