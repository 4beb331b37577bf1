package notify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// The layout of the notifications' part of the ledger.
//
//	namespace      key                    value
//	notify_outbox  receiver NUL <number>  entry, JSON, in order of number (8 bytes, big endian)
//	notify_seen    16 bytes               day (4 bytes, big endian) on which this id was put into the outbox of this receiver
//	notify_levels  rule NUL what          empty; there while the rule's limit is not kept
const (
	nsOutbox ledger.Namespace = "notify_outbox"
	nsSeen   ledger.Namespace = "notify_seen"
	nsLevels ledger.Namespace = "notify_levels"
)

// Namespaces are what the ledger must be opened with.
func Namespaces() []ledger.Namespace { return []ledger.Namespace{nsOutbox, nsSeen, nsLevels} }

// The bounds of what is kept.
const (
	// giveUp is how long something is tried to be delivered.
	giveUp = 7 * 24 * time.Hour
	// outboxMost is how many may wait for one receiver; beyond it nothing is added, and
	// that is logged.
	outboxMost = 100_000
	// seenFor is how long it is remembered that something was told: longer than any
	// record stays in the event log of a BMC that is looked at now and then.
	seenFor = 400 * 24 * time.Hour
)

// Tell puts a message into the outboxes of the receivers that rules name for it, in
// the transaction of what it tells. One that a receiver was told before is left out.
func (n *Notifier) Tell(tx *ledger.Tx, m Message) error {
	var to []string
	for _, rule := range n.rules {
		if !rule.on(m) {
			continue
		}
		for _, name := range rule.To {
			if !slices.Contains(to, name) {
				to = append(to, name)
			}
		}
	}
	return n.tell(tx, m, to)
}

func (n *Notifier) tell(tx *ledger.Tx, m Message, to []string) error {
	m.Time = m.Time.UTC().Truncate(time.Millisecond)
	m.Summary = line(m.Summary)
	m.ID = identifier(m.ID)
	for _, name := range to {
		if err := n.put(tx, name, entry{Message: &m}); err != nil {
			return err
		}
	}
	return nil
}

// Deliver puts a result into the outboxes of receivers, in a transaction. Receivers
// that the configuration does not name any more are left out and logged.
func (n *Notifier) Deliver(tx *ledger.Tx, d Delivery, to []string) error {
	for _, name := range to {
		if _, ok := n.receivers[name]; !ok {
			n.log.Warn("result not delivered: the configuration does not name the receiver any more", "receiver", name, "schedule", d.Schedule, "job", d.Job)
			continue
		}
		if err := n.put(tx, name, entry{Delivery: &d}); err != nil {
			return err
		}
	}
	return nil
}

func (n *Notifier) put(tx *ledger.Tx, receiver string, e entry) error {
	now := n.now().UTC()
	e.Queued = now
	seen := seenKey(receiver, e.id())
	if tx.Get(nsSeen, seen) != nil {
		return nil
	}
	waiting := 0
	from, to := boxRange(receiver)
	if err := tx.Scan(nsOutbox, from, to, func(_, _ []byte) bool { waiting++; return waiting < outboxMost }); err != nil {
		return err
	}
	if waiting >= outboxMost {
		n.log.Error("message not kept: too many wait for the receiver", "receiver", receiver, "waiting", waiting, "id", e.id())
		return nil
	}
	number, err := tx.Sequence(nsOutbox)
	if err != nil {
		return err
	}
	data, err := json.Marshal(e)
	if err != nil {
		return fault.Wrap(fault.Internal, "keep a message", err)
	}
	if err := tx.Put(nsOutbox, binary.BigEndian.AppendUint64(from, number), data); err != nil {
		return err
	}
	return tx.Put(nsSeen, seen, binary.BigEndian.AppendUint32(nil, uint32(now.Unix()/86400))) //nolint:gosec // until the year 11 million
}

// Fell keeps whether something is below a rule's limit, and reports whether it has
// just fallen: an alarm is given once, and again only after it has recovered.
func (n *Notifier) Fell(tx *ledger.Tx, rule, what string, below bool) (fell bool, err error) {
	key := []byte(rule + "\x00" + what)
	was := tx.Get(nsLevels, key) != nil
	switch {
	case below && !was:
		return true, tx.Put(nsLevels, key, nil)
	case !below && was:
		return false, tx.Delete(nsLevels, key)
	}
	return false, nil
}

func seenKey(receiver, id string) []byte {
	sum := sha256.Sum256([]byte(receiver + "\x00" + id))
	return sum[:16]
}

func boxRange(receiver string) (from, to []byte) {
	return append([]byte(receiver), 0), append([]byte(receiver), 1)
}

// waiting reads what waits for a receiver, oldest first: those that may be tried now,
// and when the next of the others may.
func (n *Notifier) waiting(ctx context.Context, receiver string, most int) (due []entry, next time.Time, err error) {
	now := n.now()
	from, to := boxRange(receiver)
	var bad error
	err = n.view(ctx, func(tx *ledger.Tx) error {
		return tx.Scan(nsOutbox, from, to, func(k, v []byte) bool {
			var e entry
			if bad = json.Unmarshal(v, &e); bad != nil {
				bad = &fault.Error{Kind: fault.Storage, Act: "decode from ledger " + string(nsOutbox), Err: bad}
				return false
			}
			if e.NextTry.After(now) {
				if next.IsZero() || e.NextTry.Before(next) {
					next = e.NextTry
				}
				return true
			}
			e.key = bytes.Clone(k)
			due = append(due, e)
			return len(due) < most
		})
	})
	if err == nil {
		err = bad
	}
	return due, next, err
}

// done takes entries out of the outbox.
func (n *Notifier) done(ctx context.Context, entries []entry) error {
	return n.ledger.Update(ctx, func(tx *ledger.Tx) error {
		for _, e := range entries {
			if err := tx.Delete(nsOutbox, e.key); err != nil {
				return err
			}
		}
		return nil
	})
}

// postpone remembers that an entry was not taken, and when to try it again; the zero
// time is in its order.
func (n *Notifier) postpone(ctx context.Context, e entry, until time.Time, cause error) error {
	e.Attempts++
	e.NextTry, e.LastError = until, line(cause.Error())
	data, err := json.Marshal(e)
	if err != nil {
		return fault.Wrap(fault.Internal, "keep a message", err)
	}
	return n.ledger.Update(ctx, func(tx *ledger.Tx) error {
		if tx.Get(nsOutbox, e.key) == nil {
			return nil
		}
		return tx.Put(nsOutbox, e.key, data)
	})
}

// Prune forgets what was told so long ago that nothing tells it again, and what waits
// for receivers that the configuration does not name any more and is past its time.
func (n *Notifier) Prune(ctx context.Context) (gone int, err error) {
	day := uint32(n.now().Add(-seenFor).Unix() / 86400) //nolint:gosec // see put
	old := n.now().Add(-giveUp)
	gone, err = n.prune(ctx, nsSeen, func(_, v []byte) bool { return len(v) == 4 && binary.BigEndian.Uint32(v) < day })
	if err != nil {
		return gone, err
	}
	more, err := n.prune(ctx, nsOutbox, func(k, v []byte) bool {
		name, _, _ := bytes.Cut(k, []byte{0})
		var e entry
		_, known := n.receivers[string(name)]
		return !known && (json.Unmarshal(v, &e) != nil || e.Queued.Before(old))
	})
	return gone + more, err
}

// prune deletes what is to go from a namespace, in transactions of bounded size.
func (n *Notifier) prune(ctx context.Context, ns ledger.Namespace, goes func(k, v []byte) bool) (gone int, err error) {
	const reads, writes = 5000, 500
	var from []byte
	for {
		var keys [][]byte
		var next []byte
		seen := 0
		if err := n.view(ctx, func(tx *ledger.Tx) error {
			return tx.Scan(ns, from, nil, func(k, v []byte) bool {
				if seen == reads || len(keys) == writes {
					next = bytes.Clone(k)
					return false
				}
				seen++
				if goes(k, v) {
					keys = append(keys, bytes.Clone(k))
				}
				return true
			})
		}); err != nil {
			return gone, err
		}
		if len(keys) > 0 {
			if err := n.ledger.Update(ctx, func(tx *ledger.Tx) error {
				for _, k := range keys {
					if err := tx.Delete(ns, k); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				return gone, err
			}
			gone += len(keys)
		}
		if next == nil {
			return gone, nil
		}
		from = next
	}
}

func (n *Notifier) view(ctx context.Context, fn func(*ledger.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.KindOf(err), "read the outbox", context.Cause(ctx))
	}
	return n.ledger.View(fn)
}

// longestID is what every receiver's store of keys takes.
const longestID = 255

// identifier makes an id one that a header field can carry, whatever the name is that a
// device chose for what it is about: visible ASCII, of bounded length. Another id stays
// another.
func identifier(id string) string {
	plain := printable(id, longestID)
	if plain == id {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return plain[:min(len(plain), longestID-17)] + "/" + hex.EncodeToString(sum[:8])
}

// line makes text one bounded line.
func line(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0:
			return ' '
		case r >= 0x200b && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			return -1 // directions and widths that hide what is written
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	if len(s) > maxSummary {
		s = strings.ToValidUTF8(s[:maxSummary], "") + "..."
	}
	return s
}

// box is what waits for a receiver, in numbers.
type box struct {
	n      int
	oldest time.Time
	err    string
}

func (n *Notifier) box(ctx context.Context, receiver string) (b box, err error) {
	from, to := boxRange(receiver)
	err = n.view(ctx, func(tx *ledger.Tx) error {
		return tx.Scan(nsOutbox, from, to, func(_, v []byte) bool {
			if b.n == 0 {
				var e entry
				if json.Unmarshal(v, &e) == nil {
					b.oldest, b.err = e.Queued, e.LastError
				}
			}
			b.n++
			return true
		})
	})
	return b, err
}
