package history

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"
)

// Point is what a report said on one day. A figure that the device did not print is
// None.
type Point struct {
	Time time.Time // whole seconds, UTC
	// Used and Limit are in bytes. The limit of a ring is the one in force, that of a
	// file system its size.
	Used, Limit int64
	// Retention is how far back the device says that it reaches, in seconds: of a ring
	// that of its Vision metadata.
	Retention int64
	// Vision is what the metadata takes, in bytes.
	Vision int64
}

// None is a figure that is not known.
const None int64 = -1

// blockDays is how many days share a value of the ledger.
const blockDays = 32

func dayOf(t time.Time) int64 { return t.Unix() / 86400 }

func blockOf(t time.Time) uint32 { return uint32(dayOf(t) / blockDays) } //nolint:gosec // until the year 40000000

// A block is the points in order of time. Each is a byte that says which figures
// differ from the point before (bit 0 to 3: used, limit, retention, vision), the
// seconds since the point before, and for each figure that differs the difference,
// as signed varints. The first point differs from one of 1970 with no figures.
const figures = 4

func (p *Point) figure(i int) *int64 {
	return [figures]*int64{&p.Used, &p.Limit, &p.Retention, &p.Vision}[i]
}

func origin() Point {
	return Point{Time: time.Unix(0, 0), Used: None, Limit: None, Retention: None, Vision: None}
}

func encode(points []Point) []byte {
	var out []byte
	was := origin()
	for _, p := range points {
		head := len(out)
		out = append(out, 0)
		out = binary.AppendVarint(out, p.Time.Unix()-was.Time.Unix())
		for i := range figures {
			if now, before := *p.figure(i), *was.figure(i); now != before {
				out[head] |= 1 << i
				out = binary.AppendVarint(out, now-before)
			}
		}
		was = p
	}
	return out
}

var errBlock = errors.New("a block of the history is damaged")

func decode(data []byte) (points []Point, err error) {
	at := origin()
	for len(data) > 0 {
		head := data[0]
		data = data[1:]
		next := func() (v int64) {
			v, n := binary.Varint(data)
			if n <= 0 {
				err = errBlock
				return 0
			}
			data = data[n:]
			return v
		}
		if head >= 1<<figures {
			return nil, errBlock
		}
		at.Time = time.Unix(at.Time.Unix()+next(), 0).UTC()
		for i := range figures {
			if head&(1<<i) != 0 {
				*at.figure(i) += next()
			}
		}
		if err != nil {
			return nil, err
		}
		points = append(points, at)
	}
	return points, nil
}

// insert puts a point in its place: the last of a day stays.
func insert(points []Point, p Point) []Point {
	i, found := slices.BinarySearchFunc(points, dayOf(p.Time), func(have Point, day int64) int { return int(dayOf(have.Time) - day) })
	if !found {
		return slices.Insert(points, i, p)
	}
	if points[i].Time.Before(p.Time) {
		points[i] = p
	}
	return points
}
