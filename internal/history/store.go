package history

import (
	"bytes"
	"context"
	"encoding/binary"
	"strings"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// The layout of the history's part of the ledger.
//
//	namespace        key                     value
//	history_series   kind NUL device NUL name   <id> <day>: its number, and the day of its last point
//	history          <id> <block>            points, see block.go
//
// <id>, <day> and <block> are 4 bytes, big endian. Ids are never used again.
const (
	nsSeries ledger.Namespace = "history_series"
	nsPoints ledger.Namespace = "history"
)

// Namespaces are what the ledger must be opened with.
func Namespaces() []ledger.Namespace { return []ledger.Namespace{nsSeries, nsPoints} }

// Kind says what a series is about.
type Kind string

// The kinds.
const (
	Ring       Kind = "rotation-file"
	Filesystem Kind = "filesystem"
)

// Series names what points are about.
type Series struct {
	Kind   Kind
	Device string
	Name   string
}

func (s Series) key() []byte { return []byte(string(s.Kind) + "\x00" + s.Device + "\x00" + s.Name) }

func seriesOf(key []byte) (s Series, ok bool) {
	parts := strings.SplitN(string(key), "\x00", 3)
	if len(parts) != 3 {
		return s, false
	}
	return Series{Kind(parts[0]), parts[1], parts[2]}, true
}

// maxName bounds a series' name, which a device chose.
const maxName = 512

// Store is the history in a ledger that was opened with Namespaces. It is safe for
// concurrent use.
type Store struct {
	ledger *ledger.DB
	keep   time.Duration
}

// New makes a Store that keeps points for a time; 0 is two years.
func New(db *ledger.DB, keep time.Duration) *Store {
	if keep <= 0 {
		keep = 2 * 366 * 24 * time.Hour
	}
	return &Store{ledger: db, keep: keep}
}

// Add keeps a point, within a transaction. A later one of the same day takes its
// place, and what is older than what is kept goes. The same point again changes
// nothing.
func (s *Store) Add(tx *ledger.Tx, of Series, p Point) error {
	if of.Device == "" || len(of.Device) > maxName || len(of.Name) > maxName || strings.Contains(of.Device, "\x00") || p.Time.Unix() <= 0 {
		return fault.New(fault.Invalid, "a point of %q on %q cannot be kept", fault.Clip(of.Name, 64), fault.Clip(of.Device, 64))
	}
	p.Time = p.Time.UTC().Truncate(time.Second)
	id, last, known := entry(tx.Get(nsSeries, of.key()))
	if !known {
		n, err := tx.Sequence(nsSeries)
		if err != nil {
			return err
		}
		id = uint32(n) //nolint:gosec // four thousand million rings
	}
	if day := uint32(dayOf(p.Time)); !known || day > last { //nolint:gosec // see blockOf
		if err := tx.Put(nsSeries, of.key(), binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, id), day)); err != nil {
			return err
		}
	}
	key := blockKey(id, blockOf(p.Time))
	have := tx.Get(nsPoints, key)
	points, err := decode(have)
	if err != nil {
		return &fault.Error{Kind: fault.Storage, Act: "read the history of " + of.Name, Device: of.Device, Err: err}
	}
	if now := encode(insert(points, p)); !bytes.Equal(now, have) {
		if err := tx.Put(nsPoints, key, now); err != nil {
			return err
		}
	}
	if have != nil {
		return nil
	}
	return s.drop(tx, id, p.Time.Add(-s.keep))
}

// drop removes the blocks of a series that end before a time.
func (s *Store) drop(tx *ledger.Tx, id uint32, before time.Time) error {
	if before.Unix() <= 0 {
		return nil
	}
	var old [][]byte
	if err := tx.Scan(nsPoints, blockKey(id, 0), blockKey(id, blockOf(before)), func(k, _ []byte) bool {
		old = append(old, bytes.Clone(k))
		return true
	}); err != nil {
		return err
	}
	for _, k := range old {
		if err := tx.Delete(nsPoints, k); err != nil {
			return err
		}
	}
	return nil
}

func blockKey(id, block uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, id), block)
}

func entry(v []byte) (id, lastDay uint32, ok bool) {
	if len(v) != 8 {
		return 0, 0, false
	}
	return binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:]), true
}

// Points gives the points of a series since a time, oldest first. A series that is
// not known has none.
func (s *Store) Points(ctx context.Context, of Series, since time.Time) (points []Point, err error) {
	err = s.view(ctx, func(tx *ledger.Tx) error {
		points, err = pointsOf(tx, of, since)
		return err
	})
	return points, err
}

func pointsOf(tx *ledger.Tx, of Series, since time.Time) (points []Point, err error) {
	id, _, ok := entry(tx.Get(nsSeries, of.key()))
	if !ok {
		return nil, nil
	}
	from := uint32(0)
	if since.Unix() > 0 {
		from = blockOf(since)
	}
	var bad error
	if err := tx.Scan(nsPoints, blockKey(id, from), blockKey(id+1, 0), func(_, v []byte) bool {
		var block []Point
		if block, bad = decode(v); bad != nil {
			bad = &fault.Error{Kind: fault.Storage, Act: "read the history of " + of.Name, Device: of.Device, Err: bad}
			return false
		}
		for _, p := range block {
			if !p.Time.Before(since) {
				points = append(points, p)
			}
		}
		return true
	}); err != nil {
		return nil, err
	}
	return points, bad
}

// All lists the series of a kind, in order of device and name; of one device where
// it is not "".
func (s *Store) All(ctx context.Context, kind Kind, device string) (all []Series, err error) {
	prefix := string(kind) + "\x00"
	if device != "" {
		prefix += device + "\x00"
	}
	from := []byte(prefix)
	const batch = 5000 // no snapshot is held for long
	for more := true; more; {
		more = false
		n := 0
		err := s.view(ctx, func(tx *ledger.Tx) error {
			return tx.Scan(nsSeries, from, nil, func(k, _ []byte) bool {
				if !bytes.HasPrefix(k, []byte(prefix)) {
					return false
				}
				if n == batch {
					more, from = true, bytes.Clone(k)
					return false
				}
				n++
				if one, ok := seriesOf(k); ok {
					all = append(all, one)
				}
				return true
			})
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Prune forgets the series that no report has spoken of for as long as points are
// kept, and gives their number.
func (s *Store) Prune(ctx context.Context, now time.Time) (gone int, err error) {
	before := uint32(max(dayOf(now.Add(-s.keep)), 0)) //nolint:gosec // see blockOf
	const batch = 100
	for {
		var keys [][]byte
		var ids []uint32
		if err := s.view(ctx, func(tx *ledger.Tx) error {
			return tx.Scan(nsSeries, nil, nil, func(k, v []byte) bool {
				if id, last, ok := entry(v); ok && last < before {
					keys, ids = append(keys, bytes.Clone(k)), append(ids, id)
				}
				return len(keys) < batch
			})
		}); err != nil || len(keys) == 0 {
			return gone, err
		}
		if err := s.ledger.Update(ctx, func(tx *ledger.Tx) error {
			for i, k := range keys {
				if _, last, ok := entry(tx.Get(nsSeries, k)); !ok || last >= before {
					continue // a report came meanwhile
				}
				if err := tx.Delete(nsSeries, k); err != nil {
					return err
				}
				if err := s.drop(tx, ids[i], now.Add(366*24*time.Hour)); err != nil {
					return err
				}
				gone++
			}
			return nil
		}); err != nil {
			return gone, err
		}
	}
}

func (s *Store) view(ctx context.Context, fn func(*ledger.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.KindOf(err), "read the history", context.Cause(ctx))
	}
	return s.ledger.View(fn)
}

// PointsIn is Points within a transaction, its own writes included.
func (s *Store) PointsIn(tx *ledger.Tx, of Series, since time.Time) ([]Point, error) {
	return pointsOf(tx, of, since)
}
