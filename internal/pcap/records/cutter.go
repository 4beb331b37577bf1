// Package records passes a pcap stream on record by record: whole ones only, so
// that what is written can be read wherever the stream ends. It looks at nothing
// but the headers, keeps no more than one record, and copies no byte of a record
// that arrives in one piece.
package records

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// Sizes of pcap's headers, and the largest record that is taken: libpcap's bound
// of a snap length, with room for what appliances append.
const (
	fileHeader   = 24
	recordHeader = 16
	maxRecord    = 1 << 20
)

// ErrLimit ends a stream at Limits; what was passed on is within them.
var ErrLimit = errors.New("the limit is reached")

// NotCaptureError means that the stream does not begin as pcap does.
type NotCaptureError struct {
	// Begin is how it begins instead: usually the text of an error.
	Begin []byte
}

// Error implements error.
func (e *NotCaptureError) Error() string {
	return fmt.Sprintf("the stream is no pcap; it begins with %q", e.Begin)
}

// Limits bound what is passed on; 0 is none.
type Limits struct {
	Packets int64
	Bytes   int64 // with all headers
}

// Cutter is a Writer that passes on the whole records of the pcap stream that is
// written to it. After an error every Write gives it again. It is not safe for
// concurrent use.
type Cutter struct {
	w      io.Writer
	limits Limits
	order  binary.ByteOrder
	nano   bool
	began  bool
	part   []byte // of a header or record that is not whole yet
	err    error

	packets, bytes int64
	first, last    time.Time
	link           uint32
}

// New makes a Cutter that writes to w, as few and as large pieces as arrive.
func New(w io.Writer, limits Limits) *Cutter { return &Cutter{w: w, limits: limits} }

// Packets and Bytes count what was passed on, Bytes with all headers.
func (c *Cutter) Packets() int64 { return c.packets }

// Bytes counts what was passed on, headers included.
func (c *Cutter) Bytes() int64 { return c.bytes }

// Times gives the times of the first and the last packet; false without one.
func (c *Cutter) Times() (first, last time.Time, ok bool) {
	return c.first, c.last, c.packets > 0
}

// Began reports whether the file's header was passed on.
func (c *Cutter) Began() bool { return c.began }

// LinkType is the file's link type, as its header has it; 0 before.
func (c *Cutter) LinkType() uint32 { return c.link }

// Left counts the bytes of a record that is not whole.
func (c *Cutter) Left() int { return len(c.part) }

// Write implements io.Writer. It takes all of p or gives an error.
func (c *Cutter) Write(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if err := c.write(p); err != nil {
		c.err = err
		return 0, err
	}
	return len(p), nil
}

func (c *Cutter) write(p []byte) error {
	// What began earlier is made whole first.
	for len(c.part) > 0 && len(p) > 0 {
		need, err := c.need(c.part)
		if err != nil {
			return err
		}
		take := min(need-len(c.part), len(p))
		c.part = append(c.part, p[:take]...)
		p = p[take:]
		if len(c.part) < need {
			return nil
		}
		// The header may only now say how long the record is.
		if need, err = c.need(c.part); err != nil {
			return err
		} else if len(c.part) < need {
			continue
		}
		whole := c.part
		c.part = c.part[:0]
		if err := c.pass(whole); err != nil {
			return err
		}
	}
	// Then the run of whole ones, as one piece.
	size := 0
	for size < len(p) {
		need, err := c.need(p[size:])
		if err != nil {
			return errors.Join(c.flush(p[:size]), err)
		}
		if need > len(p)-size {
			break
		}
		if !c.began || c.full(need) {
			// The header changes how the rest is read; a limit ends it here.
			if err := c.flush(p[:size]); err != nil {
				return err
			}
			if c.full(need) {
				return ErrLimit
			}
			if err := c.pass(p[:need]); err != nil {
				return err
			}
			p, size = p[need:], 0
			continue
		}
		c.count(p[size:])
		c.bytes += int64(need)
		size += need
	}
	if err := c.flush(p[:size]); err != nil {
		return err
	}
	c.part = append(c.part, p[size:]...)
	if c.limits.Packets > 0 && c.packets >= c.limits.Packets {
		return ErrLimit
	}
	return nil
}

// need is how many bytes the header or record at b has, as far as b tells.
func (c *Cutter) need(b []byte) (int, error) {
	if !c.began {
		if n := min(len(b), 4); n < 4 && !couldBegin(b[:n]) || n == 4 && !c.magic(b) {
			return 0, &NotCaptureError{Begin: bytes.Clone(b[:min(len(b), 512)])}
		}
		return fileHeader, nil
	}
	if len(b) < recordHeader {
		return recordHeader, nil
	}
	n := c.order.Uint32(b[8:])
	if n > maxRecord {
		return 0, fmt.Errorf("the stream is damaged after %d packets: a packet of %d bytes", c.packets, n)
	}
	return recordHeader + int(n), nil
}

// full reports whether a record of a size would pass a limit.
func (c *Cutter) full(size int) bool {
	return c.began && (c.limits.Packets > 0 && c.packets >= c.limits.Packets ||
		c.limits.Bytes > 0 && c.bytes+int64(size) > c.limits.Bytes)
}

// magics are the first four bytes of pcap in both byte orders, micro- and nanosecond.
func magics() [4]string {
	return [4]string{"\xd4\xc3\xb2\xa1", "\xa1\xb2\xc3\xd4", "\x4d\x3c\xb2\xa1", "\xa1\xb2\x3c\x4d"}
}

func couldBegin(b []byte) bool {
	for _, m := range magics() {
		if m[:len(b)] == string(b) {
			return true
		}
	}
	return false
}

func (c *Cutter) magic(b []byte) bool {
	for i, m := range magics() {
		if m == string(b[:4]) {
			c.order, c.nano = binary.BigEndian, i >= 2
			if i%2 == 0 {
				c.order = binary.LittleEndian
			}
			return true
		}
	}
	return false
}

// pass passes on one header or record.
func (c *Cutter) pass(b []byte) error {
	if c.full(len(b)) {
		return ErrLimit
	}
	if c.began {
		c.count(b)
	} else {
		c.began = true
		c.link = c.order.Uint32(b[20:]) & 0x03ffffff
	}
	c.bytes += int64(len(b))
	return c.flush(b)
}

func (c *Cutter) count(record []byte) {
	sec, part := c.order.Uint32(record), int64(c.order.Uint32(record[4:]))
	if !c.nano {
		part *= 1000
	}
	c.last = time.Unix(int64(sec), part).UTC()
	if c.packets == 0 {
		c.first = c.last
	}
	c.packets++
}

func (c *Cutter) flush(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	_, err := c.w.Write(b)
	return err
}
