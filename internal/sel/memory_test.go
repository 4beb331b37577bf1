package sel

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"capfleet/internal/bmc"
	"capfleet/internal/operation"
)

// box is a BMC's event log as the standard lets one behave: a ring or a log that
// stops, ids used again after a clear, a clock that is not set after a restart
// and that people put back and forth.
type box struct {
	ring     bool
	room     int
	clock    uint32
	nextID   uint16
	erased   uint32
	tellsIt  bool // whether the protocol gives the time of the last erasure
	log      []entry
	appended int
}

// entry is a record with the number that only this test knows it by.
type entry struct {
	serial int
	raw    [bmc.RecordSize]byte
}

// append adds a record; false where a full log drops it.
func (b *box) append(data1 byte) (int, bool) {
	if len(b.log) == b.room {
		if !b.ring {
			return 0, false
		}
		b.log = b.log[1:]
	}
	b.appended++
	e := entry{serial: b.appended}
	b.nextID++
	if b.nextID == 0xffff {
		b.nextID = 1
	}
	binary.LittleEndian.PutUint16(e.raw[0:], b.nextID)
	e.raw[2] = 2
	binary.LittleEndian.PutUint32(e.raw[3:], b.clock)
	copy(e.raw[7:], []byte{0x33, 0, 4, 0x13, 0, 0x6f, data1, 0x80, 0x12})
	b.log = append(b.log, e)
	return e.serial, true
}

func (b *box) read() bmc.Log {
	log := bmc.Log{Protocol: bmc.IPMILan}
	for _, e := range b.log {
		entry, err := bmc.Decode(e.raw[:])
		if err != nil {
			panic(err)
		}
		log.Entries = append(log.Entries, entry)
	}
	if b.tellsIt {
		t := time.Unix(int64(b.erased), 0).UTC()
		log.Erased = &t
	}
	return log
}

// TestNoRecordIsMissedOrAlarmedTwice plays what happens to a BMC and to the checks
// of it in any order: appends, wraps, clears, restarts of the BMC (whose clock
// begins anew) and of fleetd, clocks put back, readings that fail and results that
// are lost. Every record that a check could see is new in exactly one check whose
// result was kept.
func TestNoRecordIsMissedOrAlarmedTwice(t *testing.T) {
	t.Parallel()
	for range 100 { // of 100 sequences each
		rapid.Check(t, playedOut)
	}
}

func playedOut(t *rapid.T) {
	b := &box{
		ring: rapid.Bool().Draw(t, "ring"), room: rapid.IntRange(1, 12).Draw(t, "room"),
		clock: 1_500_000_000, erased: 1_400_000_000, tellsIt: rapid.Bool().Draw(t, "tells when it was erased"),
	}
	var kept []byte
	told := map[int]int{}
	for range rapid.IntRange(1, 40).Draw(t, "steps") {
		b.clock += uint32(rapid.IntRange(1, 100).Draw(t, "seconds")) //nolint:gosec // small
		step := rapid.SampledFrom([]string{"append", "append", "append", "burst", "check", "check", "lost", "failed", "blank", "clear", "restart", "set"}).Draw(t, "step")
		switch step {
		case "append":
			b.append(rapid.SampledFrom([]byte{0xa5, 0xa7, 0xaa}).Draw(t, "event"))
		case "burst":
			for range rapid.IntRange(1, 20).Draw(t, "records") {
				b.append(0xa5) // all in one second
			}
		case "clear":
			b.log, b.nextID = nil, 0
			b.erased++ // no two at the same second
		case "restart":
			// Without the time of the erasure a log with nothing but records from before
			// the clock was set looks the same before and after a clear.
			if b.tellsIt {
				// Each start logs the same at the same second.
				b.clock = 5
				b.append(0xaa)
			}
		case "set":
			// Somebody sets the clock, perhaps back to the hour before.
			b.clock = 1_500_000_000 + uint32(b.appended)*7919 + uint32(rapid.IntRange(0, 3600).Draw(t, "clock")) //nolint:gosec // small
		case "failed":
			// Read in part: nothing is compared and nothing kept.
		case "check", "lost", "blank":
			log := b.read()
			if step == "blank" {
				log.Entries = nil // a BMC that starts shows an empty log for a moment
			}
			before, err := recall(kept)
			if err != nil {
				t.Fatal(err)
			}
			v := compare(before, log, time.Unix(1_700_000_000, 0))
			next, err := v.next.pack()
			if err != nil {
				t.Fatal(err)
			}
			if step == "lost" {
				continue // the result, and with it what was to be kept
			}
			if kept = next; step == "blank" {
				continue
			}
			for i, e := range b.log {
				if v.fresh[i] {
					told[e.serial]++
				}
				if told[e.serial] != 1 {
					t.Fatalf("record %d (id %d, at %d) was new in %d checks", e.serial, binary.LittleEndian.Uint16(e.raw[0:]), binary.LittleEndian.Uint32(e.raw[3:]), told[e.serial])
				}
			}
		}
	}
}

// rec is a record by its id and time; a time of up to 0x20000000 is none.
func rec(id uint16, seconds uint32) bmc.Entry {
	raw := make([]byte, bmc.RecordSize)
	binary.LittleEndian.PutUint16(raw, id)
	raw[2] = 2
	binary.LittleEndian.PutUint32(raw[3:], seconds)
	copy(raw[7:], []byte{0x33, 0, 4, 0x13, 0, 0x6f, 0xa5, 0x80, 0x12})
	e, err := bmc.Decode(raw)
	if err != nil {
		panic(err)
	}
	return e
}

// bare is a record as Redfish gives it.
func bare(e bmc.Entry) bmc.Entry {
	e.Raw, e.Bus, e.Device, e.Function = "", nil, nil, nil
	return e
}

func TestCompare(t *testing.T) {
	t.Parallel()
	const day = 1_560_000_000
	at := func(seconds int64) *time.Time { u := time.Unix(seconds, 0).UTC(); return &u }
	for name, c := range map[string]struct {
		before, now         []bmc.Entry
		erasedThen, erased  *time.Time
		protocolThen, proto bmc.Protocol
		fresh               []bool
		cleared             bool
	}{
		"first check": {nil, []bmc.Entry{rec(1, day)}, nil, nil, "", bmc.IPMILan, []bool{true}, false},
		"nothing new": {[]bmc.Entry{rec(1, day)}, []bmc.Entry{rec(1, day)}, nil, nil, bmc.IPMILan, bmc.IPMILan, []bool{false}, false},
		"id used again": {[]bmc.Entry{rec(1, day), rec(2, day)}, []bmc.Entry{rec(1, day+9)}, nil, nil, bmc.IPMILan, bmc.IPMILan,
			[]bool{true}, true},
		"written round from the front": {[]bmc.Entry{rec(1, day), rec(2, day), rec(3, day)}, []bmc.Entry{rec(4, day), rec(2, day), rec(3, day)}, nil, nil,
			bmc.IPMILan, bmc.IPMILan, []bool{true, false, false}, false},
		"one deleted": {[]bmc.Entry{rec(1, 5), rec(2, day), rec(3, day)}, []bmc.Entry{rec(1, 5), rec(2, day), rec(4, day)}, at(day), at(day + 1),
			bmc.IPMILan, bmc.IPMILan, []bool{false, false, true}, false},
		"no clock, cleared": {[]bmc.Entry{rec(1, 5), rec(2, 6)}, []bmc.Entry{rec(1, 5)}, nil, nil, bmc.IPMILan, bmc.IPMILan, []bool{true}, true},
		"no clock, round":   {[]bmc.Entry{rec(1, 5), rec(2, 6)}, []bmc.Entry{rec(2, 6), rec(3, 7)}, nil, nil, bmc.IPMILan, bmc.IPMILan, []bool{false, true}, false},
		"emptied":           {[]bmc.Entry{rec(1, day)}, nil, nil, nil, bmc.IPMILan, bmc.IPMILan, []bool{}, true},
		"by the web interface now": {[]bmc.Entry{rec(1, day)}, []bmc.Entry{rec(1, day), rec(2, day)}, at(day), nil, bmc.IPMILan, bmc.SupermicroWeb,
			[]bool{false, true}, false},
		"without bytes now": {[]bmc.Entry{rec(1, day)}, []bmc.Entry{bare(rec(1, day)), bare(rec(2, day))}, nil, nil, bmc.IPMILan, bmc.Redfish,
			[]bool{false, true}, false},
		"other words of new firmware": {[]bmc.Entry{{RecordID: 1, Time: at(day), Event: "PCI SERR"}}, []bmc.Entry{{RecordID: 1, Time: at(day), Event: "System error"}}, nil, nil,
			bmc.Redfish, bmc.Redfish, []bool{false}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var before memory
			if c.before != nil {
				before = compare(memory{}, bmc.Log{Protocol: c.protocolThen, Entries: c.before, Erased: c.erasedThen}, time.Unix(0, 0)).next
				raw, err := before.pack()
				if err != nil {
					t.Fatal(err)
				}
				if before, err = recall(raw); err != nil {
					t.Fatal(err)
				}
			}
			v := compare(before, bmc.Log{Protocol: c.proto, Entries: c.now, Erased: c.erased}, time.Unix(0, 0))
			if diff := cmp.Diff(c.fresh, v.fresh); diff != "" || v.cleared != c.cleared {
				t.Errorf("cleared %v; new (-want +got):\n%s", v.cleared, diff)
			}
		})
	}
}

// TestMemoryIsBounded: the longest log there can be, of which every record was
// replaced, fits into what is kept.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	var m memory
	for round := range uint32(2) {
		log := bmc.Log{Protocol: bmc.IPMILan}
		for id := range 1 << 16 {
			log.Entries = append(log.Entries, rec(uint16(id), 1_500_000_000+round)) //nolint:gosec // 16 bits
		}
		m = compare(m, log, time.Unix(0, 0)).next
	}
	raw, err := m.pack()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Gone) != maxGone || len(raw) > operation.MaxStored {
		t.Errorf("%d gone records and %d bytes are kept", len(m.Gone), len(raw))
	}
}

func FuzzRecall(f *testing.F) {
	raw, err := compare(memory{}, bmc.Log{Entries: []bmc.Entry{rec(1, 5), rec(2, 1_500_000_000)}}, time.Unix(0, 0)).next.pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"version":1,"seen":"AAA="}`))
	f.Fuzz(func(_ *testing.T, kept []byte) {
		before, err := recall(kept)
		if err == nil {
			compare(before, bmc.Log{Entries: []bmc.Entry{rec(1, 5)}}, time.Unix(0, 0))
		}
	})
}
