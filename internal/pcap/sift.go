package pcap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// defaultWindow is how much of a file a window covers. What is walked in it stays
	// in the processor's cache until it is sifted.
	defaultWindow = 1 << 20
	// minWindows is from how many windows on sifting pays.
	minWindows = 2
	// maxSifted is the largest packet of link types that are sifted: windows reach as
	// far beyond their segment.
	maxSifted = 256 << 10
	// readBeyond is how far beyond their segment windows that are read reach: nearly
	// all packets are shorter, and behind a longer one the reader's own walk goes on.
	readBeyond = 80 << 10
	// restless is how long a file must not have been written to before it is mapped:
	// one that is rewritten or cut while it is read is better copied.
	restless = 10 * time.Second
)

// sift hands the beginning of a pcap file to a Sifter, as far as its records follow
// each other without a fault, and leaves the reader behind that. What it finds
// wrong, it leaves to the reader's own walk, which tells exactly.
func (r *Reader) sift(ctx context.Context, file *os.File, base int64, opts ReaderOptions, a Sifter) error {
	c, ok := r.decoder.(*classicDecoder)
	if !ok || r.gzip || c.link.maxPacket() > maxSifted {
		return nil
	}
	segment := opts.Window
	if segment <= 0 {
		segment = defaultWindow
	}
	info, err := file.Stat()
	if err != nil || info.Size()-base < minWindows*segment {
		return nil //nolint:nilerr // the reader meets it again
	}
	first, err := r.win.peek(recordHeader)
	if err != nil {
		return nil //nolint:nilerr // the reader meets it again
	}
	s := &sieve{
		analysis: a, layout: r.layout(c, first), begin: r.win.pos,
		src: &segments{file: file, base: base, size: info.Size() - base, segment: segment, mapped: time.Since(info.ModTime()) > restless},
	}
	end, count, err := s.run(ctx)
	if err != nil {
		return err
	}
	if _, err := file.Seek(base+end, io.SeekStart); err != nil {
		return r.fail(ErrRead, end, "go on behind the windows", err)
	}
	r.win = window{src: untilDone{ctx, file}, pos: end}
	r.count = count
	return nil
}

// sieve runs a Sifter over a file: windows are walked and sifted by workers, and
// taken in order.
type sieve struct {
	layout
	analysis Sifter
	src      *segments
	begin    int64 // of the first record
	expected int64 // where the window that is being taken begins

	mu     sync.Mutex
	former []any     // results to use again
	spare  []*Window // windows to use again, with what they still hold
}

// task is a window on its way.
type task struct {
	index  int64
	window *Window
	first  int64 // where the walk began; -1 when it did not
	sifted any
	done   chan struct{}
}

// run gives where the reader goes on, and how many packets lie before.
func (s *sieve) run(ctx context.Context) (end int64, count uint64, err error) {
	workers := runtime.GOMAXPROCS(0)
	work := make(chan *task, workers+1)
	var joined sync.WaitGroup
	defer joined.Wait()
	defer close(work)
	for range workers {
		joined.Go(func() {
			defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
			for t := range work {
				s.prepare(t)
				close(t.done)
			}
		})
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	var queue []*task
	defer func() {
		for _, t := range queue {
			<-t.done
			s.src.release(t.window)
		}
		for _, w := range s.spare {
			s.src.release(w)
		}
	}()
	end = s.begin
	for next := s.begin / s.src.segment; ; {
		for ; len(queue) <= workers && next*s.src.segment < s.src.size; next++ {
			t := &task{index: next, done: make(chan struct{})}
			queue = append(queue, t)
			work <- t
		}
		if len(queue) == 0 {
			return end, count, nil
		}
		if err := ctx.Err(); err != nil {
			return end, count, err
		}
		t := queue[0]
		<-t.done
		queue = queue[1:]
		if !s.finish(t, &end, &count) {
			return end, count, nil
		}
	}
}

// prepare loads, walks and sifts a window whose beginning is guessed.
func (s *sieve) prepare(t *task) {
	t.first = -1
	w := s.window()
	s.src.release(w) // here, where it delays nobody
	w.layout = s.layout
	t.window = w
	if err := s.src.load(w, t.index); err != nil {
		return
	}
	from := s.begin - w.base
	if from < 0 {
		place, ok := w.look(s.src.covers(w))
		if !ok {
			return
		}
		from = int64(place)
	}
	s.examine(t, from)
}

// look finds a place to begin with in a window behind the first.
func (w *Window) look(limit int) (place int, ok bool) {
	defer w.survive(&ok)
	return w.find(0, limit)
}

// examine walks and sifts a window from a place on.
func (s *sieve) examine(t *task, from int64) {
	w, there := t.window, true
	var sifted any
	func() {
		defer w.survive(&there)
		w.walk(int(from), s.src.covers(w))
		sifted = s.analysis.Sift(w, s.formerResult())
	}()
	if there {
		t.first, t.sifted = w.base+from, sifted
	}
}

// take gives false when the file shrank before the packet that the window has
// noted; everything before it was taken.
func (s *sieve) take(w *Window, sifted any) (there bool) {
	w.index, w.place = 0, s.expected-w.base
	there = true
	defer w.survive(&there)
	s.analysis.Take(w, sifted)
	return there
}

// survive ends a function that touched the mapping of a file that became shorter:
// the processor's fault there is a panic of the goroutine, as sieve.run asked for.
// Every other panic goes on.
func (w *Window) survive(there *bool) {
	caught := recover()
	if caught == nil {
		return
	}
	var fault interface {
		runtime.Error
		Addr() uintptr
	}
	if cause, ok := caught.(error); !ok || w.mapping == nil || !errors.As(cause, &fault) {
		panic(caught)
	}
	*there = false
}

// finish takes the window that is next in order. Whole is false when the reader
// must go on from end.
func (s *sieve) finish(t *task, end *int64, count *uint64) (whole bool) {
	w := t.window
	defer func() {
		s.mu.Lock()
		s.spare = append(s.spare, w)
		if t.sifted != nil {
			s.former = append(s.former, t.sifted)
		}
		s.mu.Unlock()
	}()
	if w.data == nil {
		return false
	}
	if t.first != *end {
		// Guessed wrong, or not at all.
		if *end >= w.base+int64(len(w.data)) {
			return true
		}
		t.first = -1
		s.examine(t, *end-w.base)
		if t.first < 0 {
			return false
		}
	}
	if w.mapping != nil && !s.src.has(w.base+int64(w.end)) {
		return false // the rest of the last page would be zeros and no fault
	}
	w.number, s.expected = *count, *end
	if !s.take(w, t.sifted) {
		*end, *count = w.base+w.place, w.number+w.index
		return false
	}
	*count += uint64(w.Len())
	*end = w.base + int64(w.end)
	return w.whole
}

func (s *sieve) window() *Window {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.spare); n > 0 {
		w := s.spare[n-1]
		s.spare = s.spare[:n-1]
		return w
	}
	return &Window{}
}

func (s *sieve) formerResult() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.former)
	if n == 0 {
		return nil
	}
	f := s.former[n-1]
	s.former = s.former[:n-1]
	return f
}

// Packet gives a packet by its index in the window and its place as Runs has it, for
// Take. Its bytes are a copy that is valid until the next call. Where the file shrank
// meanwhile, Take does not come back from it.
func (w *Window) Packet(index int, at uint32, p *Packet) {
	w.index, w.place = uint64(index), int64(at) //nolint:gosec // an index
	from := int(at)
	w.bytes = append(w.bytes[:0], w.data[from:min(len(w.data), from+w.header+int(w.captured(from)))]...)
	rec := w.dec.record(w.bytes)
	*p = Packet{
		Number: w.number + w.index + 1, Offset: w.base + int64(at), Time: rec.time, HasTime: true,
		Link: w.dec.link, Length: rec.original, Data: w.bytes[w.header:],
	}
}

// segments gives the bytes of a file for windows.
type segments struct {
	file    *os.File
	base    int64 // where the capture begins in the file
	size    int64 // of the capture
	segment int64 // what a window covers
	mapped  bool

	mu   sync.Mutex
	free [][]byte
}

// load fills a window with a segment and what its last record may need.
func (s *segments) load(w *Window, index int64) error {
	from := index * s.segment
	size := int(min(s.size-from, s.segment+maxSifted+patchedHeader))
	w.base = from
	if s.mapped && resident(s.file, s.base+from) && resident(s.file, s.base+from+int64(size)-1) {
		mapping, data, err := mapFile(s.file, s.base+from, size)
		if err == nil {
			w.data, w.mapping = data, mapping
			return nil
		}
	}
	size = min(size, int(s.segment)+readBeyond)
	buf := s.buffer()
	n, err := s.file.ReadAt(buf[:size], s.base+from)
	if n == 0 {
		s.giveBack(buf)
		return fmt.Errorf("read a window: %w", err)
	}
	w.data, w.mapping = buf[:n], nil // what is missing, the reader will meet
	return nil
}

// covers gives how much of a window's bytes is its segment.
func (s *segments) covers(w *Window) int { return int(min(int64(len(w.data)), s.segment)) }

// has reports whether the file still reaches so far.
func (s *segments) has(to int64) bool {
	info, err := s.file.Stat()
	return err == nil && info.Size() >= s.base+to
}

// release gives back what a window holds of the file.
func (s *segments) release(w *Window) {
	if w == nil || w.data == nil {
		return
	}
	if w.mapping != nil {
		unmapFile(w.mapping)
	} else {
		s.giveBack(w.data)
	}
	w.data, w.mapping = nil, nil
}

func (s *segments) buffer() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		b := s.free[n-1]
		s.free = s.free[:n-1]
		return b[:cap(b)]
	}
	return make([]byte, s.segment+readBeyond)
}

func (s *segments) giveBack(b []byte) {
	s.mu.Lock()
	s.free = append(s.free, b)
	s.mu.Unlock()
}
