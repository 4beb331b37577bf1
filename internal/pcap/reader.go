package pcap

import (
	"errors"
	"fmt"
	"io"
)

// Format is a file format.
type Format string

// The formats.
const (
	FormatPcap   Format = "pcap"
	FormatPcapNG Format = "pcapng"
)

// ReaderOptions bounds a Reader; the zero value is what is meant for files of strangers.
type ReaderOptions struct {
	// MaxExpansion is how many bytes a byte of a gzip file may become, counted
	// after the first 64 MiB; 0 means 1000. What packets compress to stays below
	// even when they hold nothing but zeros.
	MaxExpansion int64
	// Window is how much of a large plain pcap file Scan looks at at once; 0 means
	// 1 MiB. A file of less than two windows is read packet by packet.
	Window int64
}

// Bounds of what a Reader keeps of a pcapng file.
const (
	maxInterfaces = 1 << 16
	maxSections   = 1 << 16
	// maxDescription bounds the blocks that describe sections and interfaces:
	// each of them, and the text of all together.
	maxDescription = 16 << 20
)

// Reader reads one capture. It is not safe for concurrent use.
type Reader struct {
	win     window
	gzip    bool
	format  Format
	decoder decoder
	count   uint64
	failed  *Error // what no later call can mend

	sections   []Section
	interfaces []Interface
	blocks     Blocks
}

// decoder gives the next packet of a format.
type decoder interface {
	next(r *Reader, p *Packet) error
}

// NewReader reads the beginning of a capture, as far as it takes to know the
// format. Source is read from its present place and is not closed.
func NewReader(src io.Reader, opts ReaderOptions) (*Reader, error) {
	r := &Reader{win: window{src: src}}
	magic, err := r.win.peek(4)
	if isGzip(magic) {
		if err := r.unpack(opts); err != nil {
			return r, err
		}
		magic, err = r.win.peek(4)
	}
	if len(magic) == 0 && errors.Is(err, io.EOF) {
		return r, r.fail(ErrNotCapture, 0, "the file is empty", nil)
	}
	if len(magic) < 4 {
		if !errors.Is(err, io.EOF) {
			return r, r.fail(ErrRead, r.win.pos, "the beginning", err)
		}
		return r, r.fail(ErrNotCapture, 0, fmt.Sprintf("the file has %d bytes", len(magic)), nil)
	}
	if isSectionHeader(magic) {
		r.format = FormatPcapNG
		ng := &ngDecoder{}
		r.decoder = ng
		return r, r.began(ng.begin(r))
	}
	variant, ok := classicVariant(magic)
	if !ok {
		return r, r.fail(ErrNotCapture, 0, foreign(magic), nil)
	}
	r.format = FormatPcap
	c := &classicDecoder{variant: variant}
	r.decoder = c
	return r, r.began(c.begin(r))
}

// began makes an error of the beginning stay: without it nothing can be read.
func (r *Reader) began(err error) error {
	var e *Error
	if errors.As(err, &e) {
		r.failed = e
	}
	return err
}

// Next gives the next packet in p, whose bytes are valid until the next call.
//
// The end of the capture is io.EOF; anything else is an *Error and the packets
// before it are good. After io.EOF and ErrTruncated Next may be called again: it
// goes on where it ended when the source, a file that grows, has more by then.
// Every other error stays.
func (r *Reader) Next(p *Packet) error {
	if r.failed != nil {
		return r.failed
	}
	if err := r.decoder.next(r, p); err != nil {
		return err
	}
	r.count++
	return nil
}

// Format gives the format of the file.
func (r *Reader) Format() Format { return r.format }

// Compressed reports whether the file is a gzip file.
func (r *Reader) Compressed() bool { return r.gzip }

// Packets counts the packets that were given.
func (r *Reader) Packets() uint64 { return r.count }

// Offset is the place of the next record, as Error.Offset.
func (r *Reader) Offset() int64 { return r.win.pos }

// Sections gives the sections read so far. The reader owns the slice.
func (r *Reader) Sections() []Section { return r.sections }

// Interfaces gives the interfaces known so far. The reader owns the slice.
func (r *Reader) Interfaces() []Interface {
	if r.format == FormatPcap && len(r.interfaces) == 1 {
		r.interfaces[0].Packets = r.count
	}
	return r.interfaces
}

// Blocks counts the blocks without a packet read so far.
func (r *Reader) Blocks() Blocks { return r.blocks }

// fail gives an error that stays.
func (r *Reader) fail(kind error, offset int64, reason string, cause error) error {
	r.failed = &Error{Offset: offset, Packets: r.count, Kind: kind, Reason: reason, Cause: cause}
	return r.failed
}

// ended gives the error for a record of which the source gave only some bytes.
func (r *Reader) ended(err error, got int, what string) error {
	switch {
	case errors.Is(err, io.EOF):
		return &Error{Offset: r.win.pos, Packets: r.count, Kind: ErrTruncated, Reason: fmt.Sprintf("%s has %d bytes left", what, got)}
	case errors.Is(err, errExpansion):
		return r.fail(ErrTooLarge, r.win.pos, what, err)
	case isDamagedGzip(err):
		return r.fail(ErrDamaged, r.win.pos, what, err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return r.fail(ErrTruncated, r.win.pos, what, err)
	}
	return r.fail(ErrRead, r.win.pos, what, err)
}
