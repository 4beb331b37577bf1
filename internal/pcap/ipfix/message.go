package ipfix

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// RFC 7011: sizes and numbers of the message format.
const (
	version         = 10
	headerSize      = 16
	setHeaderSize   = 4
	setTemplates    = 2
	setOptions      = 3
	firstData       = 256
	variableLength  = 65535
	enterpriseBit   = 0x8000
	maxFields       = 4096
	longLengthFirst = 255
)

// header is that of a message.
type header struct {
	exported time.Time
	sequence uint32
	domain   uint32
}

// field is a field of a template.
type field struct {
	enterprise uint32
	id         uint16
	length     uint16
}

// template describes records.
type template struct {
	fields []field
	scope  int // how many of the fields are the scope of an options record
	least  int // bytes of the shortest record
}

// looksLikeMessage reports whether a datagram is one message by its own length.
func looksLikeMessage(b []byte) bool {
	return len(b) >= headerSize && binary.BigEndian.Uint16(b) == version && int(binary.BigEndian.Uint16(b[2:])) == len(b)
}

func readHeader(b []byte) header {
	return header{
		exported: time.Unix(int64(binary.BigEndian.Uint32(b[4:])), 0).UTC(),
		sequence: binary.BigEndian.Uint32(b[8:]),
		domain:   binary.BigEndian.Uint32(b[12:]),
	}
}

var errShort = errors.New("it ends in the middle")

// readTemplates reads the templates of a set; add is called for each, a nil template
// withdraws an id (all of the set's kind where it is the set's own number).
func readTemplates(b []byte, options bool, add func(id uint16, t *template)) error {
	for len(b) >= setHeaderSize {
		id, count := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if id < firstData && count != 0 {
			return fmt.Errorf("a template has the number %d", id)
		}
		b = b[setHeaderSize:]
		if count == 0 {
			add(id, nil)
			continue
		}
		if count > maxFields {
			return fmt.Errorf("a template has %d fields", count)
		}
		t := &template{}
		if options {
			if len(b) < 2 {
				return errShort
			}
			if t.scope = int(binary.BigEndian.Uint16(b)); t.scope == 0 || t.scope > count {
				return fmt.Errorf("an options template has %d scope fields of %d", t.scope, count)
			}
			b = b[2:]
		}
		for range count {
			if len(b) < 4 {
				return errShort
			}
			f := field{id: binary.BigEndian.Uint16(b), length: binary.BigEndian.Uint16(b[2:])}
			b = b[4:]
			if f.id&enterpriseBit != 0 {
				if len(b) < 4 {
					return errShort
				}
				f.id, f.enterprise, b = f.id&^enterpriseBit, binary.BigEndian.Uint32(b), b[4:]
			}
			t.fields = append(t.fields, f)
			if f.length == variableLength {
				t.least++
			} else {
				t.least += int(f.length)
			}
		}
		if t.least == 0 {
			return fmt.Errorf("records of template %d have no bytes", id)
		}
		add(id, t)
	}
	return nil // fewer than 4 bytes are padding
}

// value cuts the bytes of a field from the beginning of a record.
func (f field) value(b []byte) (value, rest []byte, err error) {
	n := int(f.length)
	if f.length == variableLength {
		if len(b) < 1 {
			return nil, nil, errShort
		}
		n, b = int(b[0]), b[1:]
		if n == longLengthFirst {
			if len(b) < 2 {
				return nil, nil, errShort
			}
			n, b = int(binary.BigEndian.Uint16(b)), b[2:]
		}
	}
	if len(b) < n {
		return nil, nil, errShort
	}
	return b[:n], b[n:], nil
}
