// Package stream joins a step of a job that makes bytes as it goes with the one
// client that reads them, through this process's memory and without keeping any:
// a reader that does not read soon holds the writer up.
//
// Nobody is authoritative for long. A stream exists from the moment one side asks
// for it by name until either side closes it; the name is free again then. What a
// reader left unread is lost, which is what a live capture wants.
package stream

import (
	"context"
	"errors"
	"io"
	"sync"

	"capfleet/internal/fault"
)

// ErrGone is what a Write gives after the reader has closed its side.
var ErrGone = errors.New("the reader has gone")

// maxLeft is how many readers that went before their writer came are remembered.
const maxLeft = 1000

// Hub holds the streams of one process. The zero Hub is ready; it is safe for
// concurrent use.
type Hub struct {
	mu    sync.Mutex
	slots map[string]*slot
	left  []string // names of slots whose reader went first, oldest first
}

// slot is a stream, or one side that waits for the other.
type slot struct {
	reader, writer bool
	left           bool          // the reader went before the writer came
	met            chan struct{} // closed once the reader is there
	gone           chan struct{} // closed once the reader has closed
	pipe           *pipe
}

func (h *Hub) take(name string, side func(*slot) *bool) (*slot, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.slots == nil {
		h.slots = map[string]*slot{}
	}
	s := h.slots[name]
	if s != nil && s.left && side(s) == &s.reader {
		s = nil // another try, for another writer
	}
	if s == nil {
		s = &slot{met: make(chan struct{}), gone: make(chan struct{}), pipe: newPipe()}
		h.slots[name] = s
	}
	if *side(s) {
		return nil, fault.New(fault.Conflict, "the stream is in use already")
	}
	*side(s) = true
	return s, nil
}

// leave is the end of a reader. One that goes before the writer comes is
// remembered, so that the writer does not wait for another.
func (h *Hub) leave(name string, s *slot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.slots[name] != s {
		return
	}
	if s.writer {
		delete(h.slots, name)
		return
	}
	s.left = true
	h.left = append(h.left, name)
	if len(h.left) > maxLeft {
		if old := h.slots[h.left[0]]; old != nil && old.left {
			delete(h.slots, h.left[0])
		}
		h.left = h.left[1:]
	}
}

// drop frees a name, if it is still this stream's.
func (h *Hub) drop(name string, s *slot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.slots[name] == s {
		delete(h.slots, name)
	}
}

// Read takes the reading side; a second reader is fault.Conflict. It does not
// wait for a writer, but a Read of the stream does, until Close. Reading ends with
// io.EOF when the writer has closed.
func (h *Hub) Read(name string) (io.ReadCloser, error) {
	s, err := h.take(name, func(s *slot) *bool { return &s.reader })
	if err != nil {
		return nil, err
	}
	close(s.met)
	return &Reader{pipe: s.pipe, end: sync.OnceFunc(func() {
		close(s.gone)
		h.leave(name, s)
		s.pipe.leave()
	})}, nil
}

// Reader is the reading side, for one goroutine at a time. Close may be called at
// any time, also while a Read waits, and more than once.
type Reader struct {
	pipe *pipe
	end  func()
}

// Read implements io.Reader.
func (r *Reader) Read(b []byte) (int, error) { return r.pipe.read(b) }

// Close ends the stream for both sides.
func (r *Reader) Close() error {
	r.end()
	return nil
}

// Write takes the writing side and waits for the reader until ctx ends, which is
// ctx's error. A reader that has come and gone is not waited for: the Writer is
// Gone from the start.
func (h *Hub) Write(ctx context.Context, name string) (*Writer, error) {
	s, err := h.take(name, func(s *slot) *bool { return &s.writer })
	if err != nil {
		return nil, err
	}
	select {
	case <-s.met:
		return &Writer{pipe: s.pipe, gone: s.gone, end: sync.OnceFunc(func() { h.drop(name, s) })}, nil
	case <-ctx.Done():
		h.drop(name, s)
		s.pipe.end()
		return nil, ctx.Err()
	}
}

// Writer is the writing side. Write is for one goroutine at a time and waits for a
// reader that is 1 MiB behind; after the reader's Close it gives ErrGone.
type Writer struct {
	pipe *pipe
	gone <-chan struct{}
	end  func()
}

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (int, error) { return w.pipe.write(p) }

// Gone is closed once the reader has closed its side.
func (w *Writer) Gone() <-chan struct{} { return w.gone }

// Close ends the stream: the reader gets what was written and then io.EOF. It may
// be called at any time and more than once.
func (w *Writer) Close() error {
	w.end()
	w.pipe.end()
	return nil
}
