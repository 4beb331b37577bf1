package parse

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"unicode/utf8"

	"capfleet/internal/fault"
)

// MaxLine is the longest line that Parse accepts, in bytes.
const MaxLine = 16 << 20

// lineReader splits a stream where Python's str.splitlines does: at \n, \r, \r\n,
// \v, \f, the separators 1c to 1e, NEL, and the Unicode line and paragraph
// separators. It looks at each byte once, however small the pieces in which they
// arrive.
type lineReader struct {
	ctx     context.Context
	in      io.Reader
	buf     []byte
	start   int // of the line being read
	scanned int // up to here there is no line break
	ascii   bool
	ended   bool
	number  int
}

func newLineReader(ctx context.Context, in io.Reader) *lineReader {
	return &lineReader{ctx: ctx, in: in, buf: make([]byte, 0, 64<<10)}
}

// next gives the next line without its break, valid until the following call, and
// whether it is all ASCII. At the end of the text the error is io.EOF.
func (l *lineReader) next() (line []byte, ascii bool, err error) {
	l.ascii = true
	for {
		if end, width := l.scan(); width > 0 {
			line = l.buf[l.start:end]
			l.start, l.scanned = end+width, end+width
			return l.done(line)
		}
		if l.ended {
			if l.start == len(l.buf) {
				return nil, false, io.EOF
			}
			line = l.buf[l.start:]
			l.start, l.scanned = len(l.buf), len(l.buf)
			return l.done(line)
		}
		if err := l.fill(); err != nil {
			return nil, false, err
		}
	}
}

func (l *lineReader) done(line []byte) ([]byte, bool, error) {
	l.number++
	if !l.ascii && !utf8.Valid(line) {
		line = bytes.ToValidUTF8(line, []byte("\ufffd"))
	}
	return line, l.ascii, nil
}

// scan looks for a line break in what was not looked at yet. A byte that may be
// the first of a longer break is left for when the next one is here.
func (l *lineReader) scan() (end, width int) {
	for i := l.scanned; i < len(l.buf); i++ {
		c := l.buf[i]
		if c > 0x1e && c < utf8.RuneSelf || c == '\t' {
			continue
		}
		switch {
		case c == '\n', c == '\v', c == '\f', c >= 0x1c && c <= 0x1e:
			return i, 1
		case c == '\r':
			if i+1 < len(l.buf) && l.buf[i+1] == '\n' {
				return i, 2
			}
			if i+1 < len(l.buf) || l.ended {
				return i, 1
			}
			l.scanned = i
			return 0, 0
		case c == 0xc2, c == 0xe2:
			if !l.ended && !utf8.FullRune(l.buf[i:]) {
				l.scanned = i
				return 0, 0
			}
			if r, size := utf8.DecodeRune(l.buf[i:]); r == 0x85 || r == 0x2028 || r == 0x2029 {
				return i, size
			}
			l.ascii = false
		case c >= utf8.RuneSelf:
			l.ascii = false
		}
	}
	l.scanned = len(l.buf)
	return 0, 0
}

// fill reads more, moving the line to the front or growing the buffer as needed.
func (l *lineReader) fill() error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	if len(l.buf)-l.start > MaxLine {
		return fault.New(fault.TooLarge, "line %d is longer than %d bytes", l.number+1, MaxLine)
	}
	if len(l.buf) == cap(l.buf) {
		if l.start > 0 {
			n := copy(l.buf, l.buf[l.start:])
			l.buf, l.scanned, l.start = l.buf[:n], l.scanned-l.start, 0
		}
		if len(l.buf) > cap(l.buf)/2 {
			l.buf = append(make([]byte, 0, 2*cap(l.buf)), l.buf...)
		}
	}
	for range 100 {
		n, err := l.in.Read(l.buf[len(l.buf):cap(l.buf)])
		l.buf = l.buf[:len(l.buf)+n]
		if err == io.EOF {
			l.ended = true
			return nil
		}
		if err != nil {
			return fmt.Errorf("read line %d: %w", l.number+1, err)
		}
		if n > 0 {
			return nil
		}
	}
	return fmt.Errorf("read line %d: %w", l.number+1, io.ErrNoProgress)
}
