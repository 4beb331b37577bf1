package tlsaudit

// Bounds of what is kept. Beyond them the connections that were quiet for longest
// are given up, with what is known of them.
const (
	maxConnections = 1 << 15
	maxBuffered    = 16 << 20 // bytes of streams
	// maxClosed is how many connections are remembered after their end, so that
	// repeated packets are known for that.
	maxClosed = 256
)

// table holds the connections in which hellos are looked for.
type table struct {
	audit    *Audit
	all      map[uint64]*connection // by the sum of the key; more of the same are behind it
	count    int
	ring     connection // its newer neighbour is the oldest, its older the newest
	buffered int
	closed   [maxClosed]*connection
	next     int           // place in closed
	free     []*connection // memory of former ones
}

func (t *table) reset() {
	t.all = map[uint64]*connection{}
	t.ring.older, t.ring.newer = &t.ring, &t.ring
}

// get gives a segment's connection, and makes it the newest; nil when there is none.
func (t *table) get(s *segment) *connection {
	c := t.all[s.sum]
	for c != nil && c.key != s.key {
		c = c.alike
	}
	if c != nil && c.newer != &t.ring {
		c.unlink()
		t.append(c)
	}
	return c
}

// add makes a connection of a segment, in place of one that had the same ends.
func (t *table) add(s *segment) *connection {
	if old := t.get(s); old != nil {
		t.drop(old)
	}
	for t.count >= maxConnections {
		t.drop(t.ring.newer)
	}
	var c *connection
	if n := len(t.free); n > 0 {
		c, t.free = t.free[n-1], t.free[:n-1]
		*c = connection{}
	} else {
		c = new(connection)
	}
	c.audit, c.key, c.sum, c.hash = t.audit, s.key, s.sum, s.hash
	c.alike = t.all[s.sum]
	t.all[s.sum] = c
	t.count++
	t.append(c)
	return c
}

// remove takes a connection out.
func (t *table) remove(c *connection) {
	t.count--
	c.unlink()
	first := t.all[c.sum]
	switch {
	case first != c:
		for first.alike != c {
			first = first.alike
		}
		first.alike = c.alike
	case c.alike != nil:
		t.all[c.sum] = c.alike
	default:
		delete(t.all, c.sum)
	}
}

// settle does what follows from a segment of a connection: counts, and forgets what
// is not worth its memory.
func (t *table) settle(c *connection) {
	held := c.held()
	t.buffered += held - c.counted
	c.counted = held
	switch {
	case c.useless():
		t.drop(c)
	case c.ended && c.queued == 0:
		if old := t.closed[t.next]; old != nil {
			t.drop(old)
		}
		t.closed[t.next], c.queued = c, t.next+1
		t.next = (t.next + 1) % maxClosed
	}
	for t.buffered > maxBuffered && t.ring.newer != t.ring.older {
		t.drop(t.ring.newer)
	}
}

// drop forgets a connection after it gave what is known.
func (t *table) drop(c *connection) {
	c.finish()
	t.buffered -= c.counted
	if c.queued > 0 {
		t.closed[c.queued-1] = nil
	}
	t.remove(c)
	t.free = append(t.free, c)
}

func (t *table) clear() {
	for t.ring.newer != &t.ring {
		t.drop(t.ring.newer)
	}
}

func (t *table) append(c *connection) {
	c.older, c.newer = t.ring.older, &t.ring
	c.older.newer, t.ring.older = c, c
}

func (c *connection) unlink() {
	c.older.newer, c.newer.older = c.newer, c.older
}
