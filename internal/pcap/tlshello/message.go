package tlshello

// Extensions.
const (
	extServerName        = 0
	extSupportedVersions = 43
)

const sizeRandom = 32

// retryRandom is the random of a ServerHello that is a HelloRetryRequest, the
// SHA-256 of that word (RFC 8446 section 4.1.3).
const retryRandom = "\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91" +
	"\xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c"

// cursor walks through a message. Beyond what is there it notes short and gives
// nothing.
type cursor struct {
	b     []byte
	short bool
}

func (c *cursor) take(n int) []byte {
	if c.short || n > len(c.b) {
		c.short = true
		return nil
	}
	got := c.b[:n]
	c.b = c.b[n:]
	return got
}

func (c *cursor) number(size int) int {
	n := 0
	for _, v := range c.take(size) {
		n = n<<8 | int(v)
	}
	return n
}

// part gives a cursor over what follows a length of size bytes, as far as it is
// there; that of the outer one is then at its end.
func (c *cursor) part(size int) cursor {
	n := c.number(size)
	if c.short {
		return cursor{short: true}
	}
	if n > len(c.b) {
		c.short = true
		return cursor{b: c.b}
	}
	return cursor{b: c.take(n)}
}

// begin reads what both hellos begin with.
func begin(message []byte, kind Kind) (Hello, cursor, []byte) {
	h := Hello{Kind: kind}
	if len(message) < messageHeader {
		return h, cursor{short: true}, nil
	}
	h.Complete = len(message) == messageHeader+messageLength(message)
	c := cursor{b: message[messageHeader:]}
	field := c.number(2)
	if c.short {
		return h, c, nil
	}
	h.Field, h.FieldKnown = Version(field), true //nolint:gosec // two bytes
	if h.Field>>8 != 3 {
		return Hello{}, c, nil
	}
	return h, c, c.take(sizeRandom)
}

func parseClient(message []byte) Hello {
	h, c, _ := begin(message, Client)
	c.part(1) // session
	c.part(2) // ciphers
	c.part(1) // compression
	h.extensions(&c, func(kind int, body cursor) {
		switch kind {
		case extSupportedVersions:
			for list := body.part(1); len(list.b) >= 2; {
				if v := Version(list.number(2)); !v.grease() { //nolint:gosec // two bytes
					h.Supported = append(h.Supported, v)
				}
			}
		case extServerName:
			list := body.part(2)
			if list.number(1) == 0 { // a host name
				if name := list.part(2); !list.short {
					h.ServerName = clean(name.b)
				}
			}
		}
	})
	return h
}

func parseServer(message []byte) Hello {
	h, c, random := begin(message, Server)
	if string(random) == retryRandom {
		h.Kind = Retry
	}
	c.part(1)   // session
	c.number(2) // cipher
	c.number(1) // compression
	h.extensions(&c, func(kind int, body cursor) {
		if v := body.number(2); kind == extSupportedVersions && !body.short {
			h.Supported = []Version{Version(v)} //nolint:gosec // two bytes
		}
	})
	return h
}

// extensions reads those at the end of a hello. Before TLS 1.2 there need be none.
func (h *Hello) extensions(c *cursor, read func(kind int, body cursor)) {
	if h.Kind == None || c.short {
		return
	}
	if h.Complete && len(c.b) == 0 {
		h.extensionsDone = true
		return
	}
	list := c.part(2)
	for len(list.b) > 0 && !list.short {
		kind := list.number(2)
		body := list.part(2)
		if list.short {
			return // an extension of which a part is missing says nothing
		}
		read(kind, body)
		if kind == extSupportedVersions {
			h.extensionsDone = true
		}
	}
	h.extensionsDone = h.extensionsDone || !c.short && !list.short
}
