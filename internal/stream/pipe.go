package stream

import (
	"io"
	"sync"
)

// maxPending is how much a writer may be ahead of its reader. A reader that is
// behind gets much at once, which saves both sides most of their waits for each
// other; one that keeps up gets each piece as it comes.
const maxPending = 1 << 20

// pipe carries bytes from one writer to one reader.
type pipe struct {
	mu       sync.Mutex
	readable sync.Cond
	writable sync.Cond
	pending  []byte // written and not taken
	gone     bool   // the reader has closed
	ended    bool   // the writer has closed

	// The reader's own.
	current []byte // taken, and not read yet
	taken   []byte // all of what was taken; the writer gets its room next time
}

func newPipe() *pipe {
	p := &pipe{}
	p.readable.L, p.writable.L = &p.mu, &p.mu
	return p
}

func (p *pipe) write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	written := 0
	for {
		for len(p.pending) >= maxPending && !p.gone && !p.ended {
			p.writable.Wait()
		}
		switch {
		case p.gone:
			return written, ErrGone
		case p.ended:
			return written, io.ErrClosedPipe
		}
		n := min(maxPending-len(p.pending), len(b)-written)
		p.pending = append(p.pending, b[written:written+n]...)
		p.readable.Signal()
		if written += n; written == len(b) {
			return written, nil
		}
	}
}

func (p *pipe) read(b []byte) (int, error) {
	if len(p.current) == 0 {
		if err := p.take(); err != nil {
			return 0, err
		}
	}
	n := copy(b, p.current)
	p.current = p.current[n:]
	return n, nil
}

// take gets all that is pending, in exchange for the room of what was taken before.
func (p *pipe) take() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.pending) == 0 && !p.gone && !p.ended {
		p.readable.Wait()
	}
	switch {
	case p.gone:
		return io.ErrClosedPipe
	case len(p.pending) == 0:
		return io.EOF
	}
	room := p.taken[:0]
	p.current, p.taken, p.pending = p.pending, p.pending, room
	p.writable.Signal()
	return nil
}

func (p *pipe) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	p.readable.Broadcast()
	p.writable.Broadcast()
}

func (p *pipe) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.readable.Broadcast()
	p.writable.Broadcast()
}
