package sel

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"capfleet/internal/bmc"
	"capfleet/internal/fault"
)

const (
	// memoryVersion is of the JSON below. Another one is as if nothing was kept:
	// every record then counts as new once, which is the safe side.
	memoryVersion = 1

	// maxGone bounds the records that are remembered after they left the log. A BMC
	// that shows an empty log while it starts has them back a minute later.
	maxGone = 4096

	// markSize is the size of a mark as it is kept, in bytes.
	markSize = 8

	// maxKept bounds the records that are kept as they are; of a longer log only the
	// marks are.
	maxKept = 8192
)

// memory is what is kept of a BMC between checks. A log of 4000 records takes
// 85 kB, one of 65,536, the most that can be, 700 kB.
type memory struct {
	Version int `json:"version"`
	// Protocol is how the log was read: auto begins with it.
	Protocol bmc.Protocol `json:"protocol"`
	// Checked is when, by fleetd's clock.
	Checked time.Time `json:"checked"`
	// Erased is when the log was last erased, by the BMC's clock; null where the
	// protocol does not tell.
	Erased *time.Time `json:"erased,omitempty"`
	// Stamp and Records are what the next reading goes on from: what the BMC said of
	// the log, and its records, 16 bytes each. Without bytes, or over maxKept, there
	// are none.
	Stamp   *bmc.Stamp `json:"stamp,omitempty"`
	Records []byte     `json:"records,omitempty"`
	// Seen has the marks of the records of the log, in its order. With Records it is
	// not kept but made of them.
	Seen marks `json:"seen,omitempty"`
	// Gone has those of records that were in the log before, the latest last. One
	// without a time is among them only as long as nothing was erased.
	Gone marks `json:"gone,omitempty"`

	log bmc.Log // of Seen; not all of it is kept
}

// mark stands for one record. Two records are the same one where id, time and
// bytes are; Redfish, which has no bytes, is compared by id and time.
//
// Its upper half is a hash of id and time, its lower half one of the bytes but for
// the lowest bit, which says that there is a time: a record without one (from
// before the clock was set) can come back with the same bytes after a clear, a
// record with a time cannot.
type mark uint64

func (m mark) timed() bool { return m&1 == 1 }

// place is the part that readings with and without bytes have in common.
func (m mark) place() mark { return m >> 32 }

type marks []mark

// MarshalJSON gives base64 of the marks one after the other.
func (m marks) MarshalJSON() ([]byte, error) {
	packed := make([]byte, 0, len(m)*markSize)
	for _, one := range m {
		packed = binary.BigEndian.AppendUint64(packed, uint64(one))
	}
	return json.Marshal(packed)
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *marks) UnmarshalJSON(raw []byte) error {
	var packed []byte
	if err := json.Unmarshal(raw, &packed); err != nil {
		return err
	}
	if len(packed)%markSize != 0 {
		return fault.New(fault.Storage, "%d bytes are no whole number of marks", len(packed))
	}
	*m = make(marks, 0, len(packed)/markSize)
	for at := 0; at < len(packed); at += markSize {
		*m = append(*m, mark(binary.BigEndian.Uint64(packed[at:])))
	}
	return nil
}

func markOf(e bmc.Entry) mark {
	place, rest := strconv.FormatUint(e.RecordID, 10), e.Raw
	if e.Time != nil {
		place += " " + strconv.FormatInt(e.Time.Unix(), 10)
	} else if e.Raw == "" {
		// Words change with the BMC's firmware, but nothing else tells these apart.
		rest = e.SensorType + "\x00" + e.Event
	}
	upper, lower := sha256.Sum256([]byte(place)), sha256.Sum256([]byte(rest))
	m := mark(binary.BigEndian.Uint32(upper[:]))<<32 | mark(binary.BigEndian.Uint32(lower[:])&^1)
	if e.Time != nil {
		m |= 1
	}
	return m
}

// recall reads what is kept of a BMC; nothing, or something of another version,
// is a memory of nothing.
func recall(raw []byte) (memory, error) {
	if len(raw) == 0 {
		return memory{}, nil
	}
	var m memory
	if err := json.Unmarshal(raw, &m); err != nil {
		return memory{}, fault.Wrap(fault.Storage, "read what is kept of the last check", err)
	}
	if m.Version != memoryVersion {
		return memory{}, nil
	}
	if len(m.Records) > 0 {
		if err := m.unpack(); err != nil {
			return memory{}, err
		}
	}
	return m, nil
}

// unpack reads Records.
func (m *memory) unpack() error {
	m.Seen = make(marks, 0, len(m.Records)/bmc.RecordSize)
	for raw := range slices.Chunk(m.Records, bmc.RecordSize) {
		e, err := bmc.Decode(raw)
		if err != nil {
			return fault.Wrap(fault.Storage, "read what is kept of the last check", err)
		}
		m.log.Entries = append(m.log.Entries, e)
		m.Seen = append(m.Seen, markOf(e))
	}
	m.log.Protocol, m.log.Stamp, m.log.Erased = m.Protocol, m.Stamp, m.Erased
	return nil
}

// pack gives what is to be kept.
func (m memory) pack() ([]byte, error) {
	m.Records = nil
	for _, e := range m.log.Entries {
		raw, err := hex.DecodeString(e.Raw)
		if err != nil || len(raw) != bmc.RecordSize || len(m.log.Entries) > maxKept {
			m.Records = nil
			break
		}
		m.Records = append(m.Records, raw...)
	}
	if m.Records != nil {
		m.Seen = nil
	}
	packed, err := json.Marshal(m)
	return packed, fault.Wrap(fault.Internal, "keep what was seen", err)
}

// verdict is what a comparison found.
type verdict struct {
	fresh []bool // by entry: not seen at the last check
	// cleared says that the log was emptied since the last check.
	cleared bool
	next    memory
}

// compare says which records of a whole log are new since before, and what to
// keep of it.
//
// A record with a time is old where it was ever seen (as far back as maxGone
// goes): ids come again after a clear or a wrap and clocks jump, but not to the
// same second with the same bytes. A record without a time is old only where the
// log was not emptied since, which cleared tells.
func compare(before memory, log bmc.Log, now time.Time) verdict {
	seen := make(marks, len(log.Entries))
	for i, e := range log.Entries {
		seen[i] = markOf(e)
	}
	bytesLess := before.Protocol != "" && (before.Protocol == bmc.Redfish) != (log.Protocol == bmc.Redfish)
	key := func(m mark) mark {
		if bytesLess {
			return m.place()
		}
		return m
	}
	v := verdict{fresh: make([]bool, len(seen))}
	v.cleared = cleared(before, seen, log.Erased, key)

	left := map[mark]int{} // records of before that are not found again yet
	for _, m := range before.Seen {
		if !v.cleared || m.timed() {
			left[key(m)]++
		}
	}
	unerased := before.Erased != nil && log.Erased != nil && before.Erased.Equal(*log.Erased)
	gone := map[mark]bool{}
	for _, m := range before.Gone {
		gone[key(m)] = m.timed() || unerased
	}
	for i, m := range seen {
		switch {
		case left[key(m)] > 0:
			left[key(m)]--
		case gone[key(m)]:
		default:
			v.fresh[i] = true
		}
	}

	v.next = memory{Version: memoryVersion, Protocol: log.Protocol, Checked: now.UTC().Truncate(time.Second), Erased: log.Erased, Stamp: log.Stamp, Seen: seen, log: log}
	present := map[mark]bool{}
	for _, m := range seen {
		present[key(m)] = true
	}
	for _, m := range append(before.Gone[:len(before.Gone):len(before.Gone)], before.Seen...) {
		if k := key(m); (m.timed() || unerased) && !present[k] {
			present[k] = true
			v.next.Gone = append(v.next.Gone, m)
		}
	}
	if over := len(v.next.Gone) - maxGone; over > 0 {
		v.next.Gone = v.next.Gone[over:]
	}
	return v
}

// cleared tells an emptied log from one that only grew, wrapped, or lost single
// records. What cannot be left in a log after it was emptied is a record with a
// time of before; what is left in any ring that has been written round is its
// latest record. Where neither decides, the time of the last erasure does.
func cleared(before memory, seen marks, erased *time.Time, key func(mark) mark) bool {
	if len(before.Seen) == 0 {
		return false
	}
	known := before.Erased != nil && erased != nil
	if known && before.Erased.Equal(*erased) {
		return false
	}
	now := make(map[mark]bool, len(seen))
	for _, m := range seen {
		now[key(m)] = true
	}
	for _, m := range before.Seen {
		if m.timed() && now[key(m)] {
			return false
		}
	}
	return known || !now[key(before.Seen[len(before.Seen)-1])]
}
