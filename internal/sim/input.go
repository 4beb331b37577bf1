package sim

import (
	"bytes"
	"context"
	"io"
)

// input is what the client types, read ahead of the program so that Ctrl-C
// reaches a command that does not read.
type input struct {
	chunks chan []byte
	rest   []byte // read by the session's goroutine only
}

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

// pump reads r until it ends. interrupt is called for a Ctrl-C and tells
// whether a command took it; what was typed before is then thrown away, as a
// terminal does.
func (in *input) pump(ctx context.Context, r io.Reader, interrupt func() bool) {
	defer close(in.chunks)
	var buf [4096]byte
	for {
		n, err := r.Read(buf[:])
		chunk := bytes.Clone(buf[:n])
		if i := bytes.LastIndexByte(chunk, keyCtrlC); i >= 0 && interrupt() {
			chunk = chunk[i+1:]
		}
		if len(chunk) > 0 {
			select {
			case in.chunks <- chunk:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// next gives the next byte. Before it waits it calls idle.
func (in *input) next(ctx context.Context, idle func() error) (byte, error) {
	for len(in.rest) == 0 {
		var ok bool
		select {
		case in.rest, ok = <-in.chunks:
		default:
			if err := idle(); err != nil {
				return 0, err
			}
			select {
			case in.rest, ok = <-in.chunks:
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		if !ok {
			return 0, io.EOF
		}
	}
	b := in.rest[0]
	in.rest = in.rest[1:]
	return b, nil
}
