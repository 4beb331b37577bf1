package sim

import (
	"bytes"
	"context"
	"io"
	"sync"
)

// maxTypedAhead is how much unread input a session keeps; the client waits then.
const maxTypedAhead = 64 << 10

const (
	keyCtrlC     = 0x03
	keyCtrlD     = 0x04
	keyBackspace = 0x08
	keyTab       = 0x09
	keyCtrlU     = 0x15
	keyCtrlW     = 0x17
	keyEscape    = 0x1b
	keyDelete    = 0x7f
)

// input is what the client types, read ahead of the program so that Ctrl-C
// reaches a command that does not read. Like a terminal, it throws away what was
// typed before a Ctrl-C that stops a command.
type input struct {
	interrupt func() bool // stops the running command, if there is one

	mu    sync.Mutex
	buf   []byte
	ended bool
	wake  chan struct{} // something changed for the reader
	room  chan struct{} // something changed for the pump
}

func newInput(interrupt func() bool) *input {
	return &input{interrupt: interrupt, wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

func signalOne(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// pump reads r until it ends or ctx does.
func (in *input) pump(ctx context.Context, r io.Reader) {
	var chunk [4096]byte
	for {
		n, err := r.Read(chunk[:])
		full := in.arrived(chunk[:n], err != nil)
		signalOne(in.wake)
		if err != nil {
			return
		}
		for full {
			select {
			case <-in.room:
			case <-ctx.Done():
				return
			}
			full = in.arrived(nil, false)
		}
	}
}

func (in *input) arrived(chunk []byte, ended bool) (full bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if i := bytes.LastIndexByte(chunk, keyCtrlC); i >= 0 && in.interrupt() {
		in.buf, chunk = in.buf[:0], chunk[i+1:]
	}
	in.buf = append(in.buf, chunk...)
	in.ended = in.ended || ended
	return len(in.buf) >= maxTypedAhead
}

// overtake is called when a command starts: a Ctrl-C that was typed behind it
// has been waiting and stops it.
func (in *input) overtake() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if i := bytes.LastIndexByte(in.buf, keyCtrlC); i >= 0 && in.interrupt() {
		in.buf = in.buf[:copy(in.buf, in.buf[i+1:])]
	}
}

// take gives the next byte if there is one.
func (in *input) take() (b byte, ok, ended bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.buf) == 0 {
		return 0, false, in.ended
	}
	b = in.buf[0]
	if in.buf = in.buf[1:]; len(in.buf) == 0 {
		in.buf = nil
	}
	signalOne(in.room)
	return b, true, false
}

// next gives the next byte. Before it waits it calls idle.
func (in *input) next(ctx context.Context, idle func() error) (byte, error) {
	for waited := false; ; waited = true {
		b, ok, ended := in.take()
		switch {
		case ok:
			return b, nil
		case !waited:
			if err := idle(); err != nil {
				return 0, err
			}
		}
		if ended {
			return 0, io.EOF
		}
		select {
		case <-in.wake:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}
