package sim

import "fmt"

// rotation is what -C and -W ask for: the next file when one has its size, and the
// first one again after the last.
type rotation struct {
	size  int64 // bytes; 0 is one file
	files int   // 0 is as many as it takes
}

// rotated is the file that is written now.
type rotated struct {
	rotation
	tree    *tree
	base    string
	n       int
	f       *diskFile
	written int64
}

func (r rotation) open(files *tree, base string) (*rotated, error) {
	o := &rotated{rotation: r, tree: files, base: base}
	return o, o.next()
}

// name has as many digits as the last file of the ring; the first file has none
// where nothing bounds them.
func (o *rotated) name() string {
	width := 0
	if o.size > 0 && o.files > 1 {
		width = len(fmt.Sprint(o.files - 1))
	}
	if o.n == 0 && width == 0 {
		return o.base
	}
	return fmt.Sprintf("%s%0*d", o.base, width, o.n)
}

func (o *rotated) next() (err error) {
	o.written = 0
	o.f, err = o.tree.create(o.name(), 0o644)
	return err
}

// full tells whether the next packet belongs to the next file, with so much still to
// be written to this one.
func (o *rotated) full(held int64) bool { return o.size > 0 && o.written+held > o.size }

func (o *rotated) turn() error {
	if err := o.f.Close(); err != nil {
		return err
	}
	o.n++
	if o.files > 0 && o.n >= o.files {
		o.n = 0
	}
	return o.next()
}

// Write implements io.Writer.
func (o *rotated) Write(p []byte) (int, error) {
	n, err := o.f.Write(p)
	o.written += int64(n)
	return n, err
}

func (o *rotated) close() error { return o.f.Close() }
