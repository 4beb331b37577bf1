package shell

import "io"

// A read begins small, as most answers are, and grows with what comes: two such
// buffers are held for each shell. An SSH packet carries at most 32 KiB.
const (
	firstRead = 2 << 10
	mostRead  = 32 << 10
)

// reader hands on what a channel brings, read by read. Nobody waiting means that
// it stops reading, so that a device which writes unasked fills its own window
// and not our memory.
type reader struct {
	chunks chan []byte   // a chunk is valid until the next one is received
	quit   chan struct{} // closed by stop
	done   chan struct{} // closed when the reader has ended
	err    error         // why; may be read then
}

func startReader(src io.Reader) *reader {
	r := &reader{chunks: make(chan []byte), quit: make(chan struct{}), done: make(chan struct{})}
	go r.run(src)
	return r
}

func (r *reader) run(src io.Reader) {
	defer close(r.done)
	var bufs [2][]byte
	size := firstRead
	for i := 0; ; {
		if len(bufs[i]) < size {
			bufs[i] = make([]byte, size)
		}
		n, err := src.Read(bufs[i])
		if n == size {
			size = min(4*size, mostRead)
		}
		if n > 0 {
			select {
			case r.chunks <- bufs[i][:n]:
				i ^= 1 // whoever took this one is done with the other
			case <-r.quit:
				return
			}
		}
		if err != nil {
			r.err = err
			return
		}
	}
}

// stop ends the reader, whose source must have been closed, and waits for it.
func (r *reader) stop() {
	close(r.quit)
	<-r.done
}
