package tlsaudit

import "capfleet/internal/pcap/flow"

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
	all      map[flow.Key]*connection
	ring     connection // its newer neighbour is the oldest, its older the newest
	buffered int
	closed   [maxClosed]*connection
	next     int           // place in closed
	free     []*connection // memory of former ones
}

func (t *table) reset() {
	t.all = map[flow.Key]*connection{}
	t.ring.older, t.ring.newer = &t.ring, &t.ring
}

// get gives a connection, and makes it the newest; nil when there is none.
func (t *table) get(key *flow.Key) *connection {
	c := t.all[*key]
	if c != nil {
		c.unlink()
		t.append(c)
	}
	return c
}

// add makes a connection, in place of one that had the same ends.
func (t *table) add(key *flow.Key, hash uint32) *connection {
	if old := t.all[*key]; old != nil {
		t.drop(old)
	}
	for len(t.all) >= maxConnections {
		t.drop(t.ring.newer)
	}
	var c *connection
	if n := len(t.free); n > 0 {
		c, t.free = t.free[n-1], t.free[:n-1]
	} else {
		c = new(connection)
	}
	*c = connection{audit: t.audit, key: *key, hash: hash}
	t.all[*key] = c
	t.append(c)
	return c
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
	c.unlink()
	delete(t.all, c.key)
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
