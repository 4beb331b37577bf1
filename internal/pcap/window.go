package pcap

import "io"

// windowSize is how much is read at once. Larger windows gain nothing and push
// the packets out of the cache.
const windowSize = 256 << 10

// firstWindow is how much is read first: all there is of small captures.
const firstWindow = 16 << 10

// maxEmptyReads bounds reads of a source that gives neither bytes nor an error.
const maxEmptyReads = 100

// window is the part of a source that is in memory. What peek gives stays valid
// until the next peek; the end of the source is not remembered, so that a file
// that grows can be read on.
type window struct {
	src  io.Reader
	buf  []byte
	r, w int   // buf[r:w] is not yet consumed
	pos  int64 // of buf[r] in the source
}

// peek gives the next n bytes without consuming them. With fewer bytes before
// the end it gives those and io.EOF; any other error is the source's. The caller
// bounds n.
func (w *window) peek(n int) ([]byte, error) {
	if w.w-w.r >= n {
		return w.buf[w.r : w.r+n], nil
	}
	return w.fill(n)
}

func (w *window) fill(n int) ([]byte, error) {
	if len(w.buf)-w.r < n {
		buf, size := w.buf, windowSize
		if buf == nil {
			size = firstWindow
		}
		if size = max(size, n); len(buf) < size {
			buf = make([]byte, size)
		}
		w.w = copy(buf, w.buf[w.r:w.w])
		w.r, w.buf = 0, buf
	}
	for empty := 0; w.w-w.r < n; {
		got, err := w.src.Read(w.buf[w.w:])
		w.w += got
		switch {
		case w.w-w.r >= n:
		case err != nil:
			return w.buf[w.r:w.w], err
		case got > 0:
			empty = 0
		default:
			if empty++; empty == maxEmptyReads {
				return w.buf[w.r:w.w], io.ErrNoProgress
			}
		}
	}
	return w.buf[w.r : w.r+n], nil
}

// consume moves past n bytes that were peeked.
func (w *window) consume(n int) {
	w.r += n
	w.pos += int64(n)
}

// skip moves past up to n bytes, read or not, and gives how many are left when
// the source ends or fails before.
func (w *window) skip(n int64) (left int64, err error) {
	for n > 0 {
		b, err := w.peek(int(min(n, windowSize)))
		w.consume(len(b))
		n -= int64(len(b))
		if err != nil {
			return n, err
		}
	}
	return 0, nil
}
