package transfer

import (
	"context"
)

// flow has several chunks of a file under way at once and takes them in order.
// One goroutine owns it; only move is called from others.
type flow struct {
	buffers *Buffers
	// large is the size of a large chunk; at most smallChunk where there are none.
	large int
	// allowed is how many bytes may be under way now. It is asked before each chunk;
	// one chunk always may.
	allowed func() int64
	// fill makes a chunk ready before it goes; nil where move brings it. In order.
	fill func(p []byte, off int64) error
	// move carries it to the device or from it, one packet, concurrently.
	move func(p []byte, off int64) error
	// done is told of each chunk that was moved, in order.
	done func(p []byte, off int64) error

	underWay int64
	taken    int64 // of underWay: what is reserved of the shared memory
}

// parcel is a chunk on its way.
type parcel struct {
	data   []byte
	off    int64
	shared bool
	err    error
}

// run moves the bytes from from up to to. On return nothing is under way. Of
// several errors it gives the one of the lowest offset; done was told of all
// chunks before it.
func (f *flow) run(ctx context.Context, from, to int64) error {
	r := run{flow: f, arrived: make(chan *parcel), waiting: map[int64]*parcel{}, next: from, due: from, to: to}
	for {
		r.send()
		if r.failed == nil && ctx.Err() != nil && r.due < to {
			r.failed = context.Cause(ctx)
		}
		if r.moving == 0 {
			for _, p := range r.waiting {
				f.end(p, false)
			}
			return r.failed
		}
		r.receive(<-r.arrived)
	}
}

// run is the state of one call of flow.run.
type run struct {
	*flow
	arrived chan *parcel
	waiting map[int64]*parcel // moved, but something before them was not yet
	next    int64             // the offset of the next chunk to go
	due     int64             // the offset of the next chunk for done
	to      int64
	moving  int
	failed  error
	refused bool // done gave an error: it is told of nothing more
}

// send lets as many chunks go as there is room for.
func (r *run) send() {
	for r.failed == nil && r.next < r.to {
		p := r.start(r.next, r.to)
		if p == nil {
			return
		}
		if r.fill != nil {
			if err := r.fill(p.data, p.off); err != nil {
				r.failed = err
				r.end(p, true)
				return
			}
		}
		r.next += int64(len(p.data))
		r.moving++
		go func() {
			p.err = r.move(p.data, p.off)
			r.arrived <- p
		}()
	}
}

// receive takes a chunk that was moved, and hands on those whose turn it is.
func (r *run) receive(p *parcel) {
	r.moving--
	r.waiting[p.off] = p
	if p.err != nil && r.failed == nil {
		r.failed = p.err
	}
	for p = r.waiting[r.due]; p != nil && !r.refused; p = r.waiting[r.due] {
		if p.err != nil {
			r.failed = p.err
			return
		}
		delete(r.waiting, r.due)
		r.due += int64(len(p.data))
		err := r.done(p.data, p.off)
		r.end(p, true)
		if err != nil {
			r.failed, r.refused = err, true
		}
	}
}

// start takes the memory of the next chunk, or gives nil where it has to wait.
func (f *flow) start(off, to int64) *parcel {
	room := f.allowed() - f.underWay
	size := int64(smallChunk)
	large := int64(f.large)
	if large > size && room >= large && f.underWay >= smallChunk && f.buffers.reserve(large) {
		f.taken += large
		return f.take(off, min(large, to-off), int(large), true)
	}
	switch {
	case f.underWay == 0:
		return f.take(off, min(size, max(room, leastChunk), to-off), int(size), false)
	case room < size:
		return nil
	case f.underWay-f.taken < ownChunks*smallChunk:
	case f.buffers.reserve(size):
		f.taken += size
		return f.take(off, min(size, to-off), int(size), true)
	default:
		return nil
	}
	return f.take(off, min(size, to-off), int(size), false)
}

func (f *flow) take(off, n int64, size int, shared bool) *parcel {
	f.underWay += int64(size)
	return &parcel{data: f.buffers.get(size)[:n], off: off, shared: shared}
}

// end gives a chunk's memory back. After an error the memory may still be in use
// by what was left behind, and is left to the collector.
func (f *flow) end(p *parcel, whole bool) {
	size := int64(cap(p.data))
	f.underWay -= size
	if p.shared {
		f.taken -= size
		f.buffers.unreserve(size)
	}
	if whole {
		f.buffers.put(p.data)
	}
}
