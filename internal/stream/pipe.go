package stream

import (
	"io"
	"sync"
)

// pipe hands what is written on its one side to the place that its other side
// names. It holds nothing: the writer's own goroutine writes there, which saves two
// copies of every byte and a change of goroutines for every piece.
type pipe struct {
	mu      sync.Mutex
	changed sync.Cond
	to      io.Writer // the reader's; nil before it takes
	writing bool      // a Write of to is under way
	gone    bool      // the reader has closed, or to has failed
	ended   bool      // the writer has closed

	passed int64
	failed error // of to
}

func newPipe() *pipe {
	p := &pipe{}
	p.changed.L = &p.mu
	return p
}

func (p *pipe) write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.to == nil && !p.gone && !p.ended {
		p.changed.Wait()
	}
	switch {
	case p.gone:
		return 0, ErrGone
	case p.ended:
		return 0, io.ErrClosedPipe
	}
	p.writing = true
	p.mu.Unlock()
	n, err := p.to.Write(b)
	p.mu.Lock()
	p.writing = false
	p.passed += int64(n)
	if err != nil {
		p.failed, p.gone = err, true
	}
	if p.gone || p.ended {
		p.changed.Broadcast()
	}
	if err != nil {
		return n, ErrGone
	}
	return n, nil
}

// take lets the writer write to w until either side closes or w fails, which is the
// error. It returns when no Write of w is under way.
func (p *pipe) take(w io.Writer) (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = w
	p.changed.Broadcast()
	for p.writing || !p.gone && !p.ended {
		p.changed.Wait()
	}
	return p.passed, p.failed
}

func (p *pipe) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	p.changed.Broadcast()
}

func (p *pipe) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.changed.Broadcast()
}
