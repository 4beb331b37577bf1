package pcap

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
)

const (
	defaultExpansion = 1000
	// freeExpansion may be unpacked whatever it came from.
	freeExpansion = 64 << 20
)

// errExpansion is a file that was made to fill memory or time.
var errExpansion = errors.New("the file unpacks to far more than packets do")

func isGzip(magic []byte) bool { return len(magic) >= 2 && magic[0] == 0x1f && magic[1] == 0x8b }

// isDamagedGzip reports whether unpacking failed by what the file holds.
func isDamagedGzip(err error) bool {
	var corrupt flate.CorruptInputError
	return errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) || errors.As(err, &corrupt)
}

// unpack puts gunzip between window and source.
func (r *Reader) unpack(opts ReaderOptions) error {
	limit := opts.MaxExpansion
	if limit <= 0 {
		limit = defaultExpansion
	}
	head := bytes.Clone(r.win.buf[r.win.r:r.win.w])
	packed := &counter{src: io.MultiReader(bytes.NewReader(head), r.win.src)}
	plain, err := gzip.NewReader(packed)
	if err != nil {
		return r.ended(unexpected(err), 0, "the gzip header")
	}
	r.gzip = true
	r.win = window{src: &expansion{src: plain, packed: packed, limit: limit}}
	return nil
}

// unexpected makes the end of a gzip file within its header an error that stays.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// counter counts what is read.
type counter struct {
	src io.Reader
	n   int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.src.Read(p)
	c.n += int64(n)
	return n, err
}

// expansion ends reading when too much comes out of too little.
type expansion struct {
	src    io.Reader
	packed *counter
	limit  int64
	n      int64
}

func (e *expansion) Read(p []byte) (int, error) {
	n, err := e.src.Read(p)
	e.n += int64(n)
	if e.n > freeExpansion && (e.n-freeExpansion)/e.limit > e.packed.n {
		return 0, fmt.Errorf("%w: %d bytes from %d", errExpansion, e.n, e.packed.n)
	}
	return n, err
}

// foreign says what a file is that begins like no capture.
func foreign(magic []byte) string {
	for _, f := range []struct{ magic, says string }{
		{"\x28\xb5\x2f\xfd", "it is compressed with zstd: unpack it first"},
		{"\xfd7zX", "it is compressed with xz: unpack it first"},
		{"BZh", "it is compressed with bzip2: unpack it first"},
		{"\x04\x22\x4d\x18", "it is compressed with lz4: unpack it first"},
		{"PK\x03\x04", "it is a ZIP archive: unpack it first"},
		{"snoo", "it is a snoop file: convert it with editcap"},
		{"\x1f\x8b", "it is a gzip file within a gzip file"},
	} {
		if bytes.HasPrefix(magic, []byte(f.magic)) {
			return f.says
		}
	}
	return fmt.Sprintf("it begins with % x", magic)
}
