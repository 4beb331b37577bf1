package device

import (
	"bytes"
	"strings"
)

// Cleaner makes text of what a device wrote for a terminal: CR LF and runs of CR
// before LF become LF, a CR at the start of a line (where it moves nothing) is
// gone, escape sequences and control characters are gone (tab, LF, a CR inside a
// line and backspace stay), all other bytes are untouched. It works on a stream,
// so that a sequence may be split over any number of reads. The zero Cleaner is
// ready; it is not safe for concurrent use.
//
// The grammar is ECMA-48's, in its 7-bit form (ESC [), its 8-bit form (0x9B) and
// the 8-bit form as UTF-8 writes it (0xC2 0x9B): a terminal may obey any of them.
// A control string (OSC, DCS ...) that is not ended ends with its line, because
// otherwise an unfinished one would swallow all output behind it.
type Cleaner struct {
	state   cleanState
	cr      int  // CRs held back until it is known what follows
	text    bool // there is text on the present line
	follow  int  // UTF-8 continuation bytes still to come
	c2      bool // 0xC2 held back: the next byte tells whether it is a control
	escaped bool // in a control string: ESC was the last byte
}

type cleanState uint8

const (
	ground      cleanState = iota
	escape                 // ESC seen
	escapeInter            // ESC and intermediate bytes
	controlSeq             // CSI
	controlStr             // OSC, DCS, SOS, PM, APC
)

// maxHeldBackCR bounds a run of CRs; more of them overwrite the same line.
const maxHeldBackCR = 1 << 16

// Append cleans src and appends it to dst. A CR at the end of src is held back
// until the next call tells what follows it.
func (c *Cleaner) Append(dst, src []byte) []byte {
	for i := 0; i < len(src); {
		if c.state == ground && c.cr == 0 && c.follow == 0 && !c.c2 {
			n := plainRun(src[i:])
			dst = append(dst, src[i:i+n]...)
			if n > 0 {
				c.text = src[i+n-1] != '\n'
			}
			if i += n; i == len(src) {
				break
			}
		}
		dst = c.step(dst, src[i])
		i++
	}
	return dst
}

// Held is how many bytes are held back.
func (c *Cleaner) Held() int { return c.cr }

// plainRun is how many bytes at the start of b need no thought.
func plainRun(b []byte) int {
	for i, x := range b {
		if x >= 0x7f || x < 0x20 && x != '\n' && x != '\t' {
			return i
		}
	}
	return len(b)
}

func (c *Cleaner) step(dst []byte, x byte) []byte {
	if c.c2 {
		c.c2 = false
		if x >= 0x80 && x < 0xa0 { // U+0080 to U+009F: a control, spelt in UTF-8
			c.control(x)
			return dst
		}
		dst = append(c.flushCR(dst), 0xc2)
		c.follow = 1
	}
	switch c.state {
	case escape, escapeInter:
		return c.stepEscape(dst, x)
	case controlSeq:
		return c.stepSequence(dst, x)
	case controlStr:
		return c.stepString(dst, x)
	}
	switch {
	case x == '\n':
		c.cr, c.follow, c.text = 0, 0, false
		return append(dst, '\n')
	case x == '\r':
		c.follow = 0
		if c.text && c.cr < maxHeldBackCR {
			c.cr++
		}
		return dst
	case x == 0x1b:
		c.state, c.follow = escape, 0
		return dst
	case x < 0x20 && x != '\t' && x != '\b' || x == 0x7f:
		c.follow = 0
		return dst
	case x < 0x80:
		c.follow = 0
	case x < 0xc0 && c.follow > 0:
		c.follow--
	case x < 0xa0: // a lone C1 control
		c.control(x)
		return dst
	case x == 0xc2:
		c.c2 = true
		return dst
	case x >= 0xf0:
		c.follow = 3
	case x >= 0xe0:
		c.follow = 2
	case x >= 0xc0:
		c.follow = 1
	}
	return append(c.flushCR(dst), x)
}

// flushCR puts out the CRs held back, as text follows them on their line.
func (c *Cleaner) flushCR(dst []byte) []byte {
	c.text = true
	for ; c.cr > 0; c.cr-- {
		dst = append(dst, '\r')
	}
	return dst
}

// control starts what a C1 control starts.
func (c *Cleaner) control(x byte) {
	c.follow = 0
	switch x {
	case 0x9b:
		c.state = controlSeq
	case 0x90, 0x98, 0x9d, 0x9e, 0x9f:
		c.state, c.escaped = controlStr, false
	}
}

func (c *Cleaner) stepEscape(dst []byte, x byte) []byte {
	switch {
	case x < 0x20:
		return c.interrupt(dst, x)
	case x < 0x30:
		c.state = escapeInter
	case c.state == escape && x == '[':
		c.state = controlSeq
	case c.state == escape && (x == ']' || x == 'P' || x == 'X' || x == '^' || x == '_'):
		c.state, c.escaped = controlStr, false
	case x < 0x80:
		c.state = ground
	default: // not a sequence: what was taken for one is gone, the byte is not
		c.state = ground
		return c.step(dst, x)
	}
	return dst
}

func (c *Cleaner) stepSequence(dst []byte, x byte) []byte {
	switch {
	case x < 0x20:
		return c.interrupt(dst, x)
	case x < 0x40:
	case x < 0x80:
		c.state = ground
	default:
		c.state = ground
		return c.step(dst, x)
	}
	return dst
}

// interrupt handles a control character inside a sequence. A line end ends the
// sequence as well, so that a broken one costs no more than its line.
func (c *Cleaner) interrupt(dst []byte, x byte) []byte {
	switch x {
	case 0x1b:
		c.state = escape
	case '\n', '\r', 0x18, 0x1a:
		c.state = ground
		return c.step(dst, x)
	}
	return dst
}

func (c *Cleaner) stepString(dst []byte, x byte) []byte {
	switch {
	case x == '\n' || x == 0x18 || x == 0x1a:
		c.state = ground
		return c.step(dst, x)
	case x == 0x07 || x == '\\' && c.escaped:
		c.state = ground
	case c.escaped: // ESC and not its end: a new sequence
		c.state = escape
		return c.stepEscape(dst, x)
	}
	c.escaped = x == 0x1b
	return dst
}

// CleanText is Cleaner for text that is there as a whole. Backspaces go too:
// there is no more line editing to be worked out.
func CleanText(b []byte) string {
	var c Cleaner
	out := c.Append(make([]byte, 0, len(b)), b)
	for ; c.cr > 0; c.cr-- {
		out = append(out, '\r')
	}
	if bytes.IndexByte(out, '\b') >= 0 {
		return strings.ReplaceAll(string(out), "\b", "")
	}
	return string(out)
}
