package pcap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// Analysis takes the packets of a capture in the order of the file.
type Analysis interface {
	// Packet takes the next packet, whose bytes are valid during the call.
	Packet(p *Packet)
}

// Sifter is an Analysis that can look at many packets at once, on several
// processors, where the capture allows: a large plain pcap file. What it finds must
// not depend on how the packets came to it.
type Sifter interface {
	Analysis
	// Sift looks at the packets of a window without regard to those before it, and
	// gives what Take needs of them. It is called from several goroutines, for
	// windows in any order and now and then for one that is then thrown away, so it
	// must change nothing that others see. Former is a result that Take is done
	// with, whose memory may serve again, or nil.
	Sift(w *Window, former any) any
	// Take takes all packets of a window, in the order of the file and between calls
	// of Packet. It touches the file by Window.Packet alone, and may not come back
	// from that; what it did before stays.
	Take(w *Window, sifted any)
}

// contextInterval is after how many packets the context is looked at.
const contextInterval = 4096

// Scan reads a capture from its beginning to its end and hands each packet to the
// analysis. The Reader tells format, sections and interfaces, also beside an error.
//
// Errors are those of NewReader and Reader.Next, and the context's; all packets
// before were handed over. Src is read through its ReadAt or its mapping too when
// it is a file, so that its position afterwards is not defined.
func Scan(ctx context.Context, src io.Reader, opts ReaderOptions, a Analysis) (*Reader, error) {
	file, base, size := seekable(src)
	r, err := NewReader(untilDone{ctx, src}, opts)
	if err != nil {
		return r, err
	}
	if sifter, ok := a.(Sifter); ok && file != nil {
		if err := r.sift(ctx, file, base, opts, sifter); err != nil {
			return r, err
		}
	}
	if err := r.each(ctx, a); err != nil || file == nil {
		return r, err
	}
	// What was behind the new end cannot be told from the end of the capture.
	if info, err := file.Stat(); err == nil && info.Size() < base+size {
		return r, r.fail(ErrTruncated, r.win.pos, fmt.Sprintf("the file shrank from %d to %d bytes while it was read", base+size, info.Size()), nil)
	}
	return r, nil
}

// each hands the packets that are left to an analysis.
func (r *Reader) each(ctx context.Context, a Analysis) error {
	var p Packet
	for n := 0; ; n++ {
		if n%contextInterval == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		if err := r.Next(&p); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		a.Packet(&p)
	}
}

// untilDone is a source whose reading ends with a context.
type untilDone struct {
	ctx context.Context //nolint:containedctx // an io.Reader is called without one
	src io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.src.Read(p)
}

// seekable gives src as a file that can be read at any place, where it stands, and
// how much of it follows.
func seekable(src io.Reader) (file *os.File, base, size int64) {
	file, ok := src.(*os.File)
	if !ok {
		return nil, 0, 0
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, 0, 0
	}
	base, err = file.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, 0, 0
	}
	return file, base, info.Size() - base
}
