package bmc

import (
	"context"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/bougou/go-ipmi/pkg/command/storage"
	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// eventLog answers Get SEL Info and Get SEL Entry as a BMC with a ring does, and
// counts what it is asked.
type eventLog struct {
	records       [][]byte
	lastID        uint16
	clock, erased uint32
	room          int
	silent        bool // about itself: it does not know Get SEL Info
	asked         int
}

func (l *eventLog) add() {
	if len(l.records) == l.room {
		l.records = l.records[1:]
	}
	l.lastID++
	raw := make([]byte, RecordSize)
	binary.LittleEndian.PutUint16(raw, l.lastID)
	raw[atType] = recordSystemEvent
	binary.LittleEndian.PutUint32(raw[atTime:], l.clock)
	l.records = append(l.records, raw)
}

func (l *eventLog) command(_ context.Context, request types.Request, response types.Response) error {
	l.asked++
	ask, is := request.(*storage.GetSELEntryRequest)
	if !is {
		if l.silent {
			return types.NewResponseError(codeInvalidCommand, "")
		}
		reply := binary.LittleEndian.AppendUint16([]byte{0x51}, uint16(len(l.records)))
		reply = binary.LittleEndian.AppendUint16(reply, 0)
		reply = binary.LittleEndian.AppendUint32(reply, l.clock)
		return response.Unpack(append(binary.LittleEndian.AppendUint32(reply, l.erased), 0))
	}
	at := slices.IndexFunc(l.records, func(raw []byte) bool { return binary.LittleEndian.Uint16(raw) == ask.RecordID })
	if ask.RecordID == selFirst {
		at = 0
	}
	if at < 0 || at >= len(l.records) {
		return types.NewResponseError(codeNotPresent, "")
	}
	next := uint16(selNone)
	if at+1 < len(l.records) {
		next = binary.LittleEndian.Uint16(l.records[at+1])
	}
	return response.Unpack(append(binary.LittleEndian.AppendUint16(nil, next), l.records[at]...))
}

// TestResumeIsRead: whatever happened to a log, going on from what was read before
// gives what reading all of it gives.
func TestResumeIsRead(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := &eventLog{room: rapid.IntRange(1, 10).Draw(t, "room"), clock: 1_500_000_000, silent: rapid.IntRange(0, 9).Draw(t, "silent") == 0}
		var before Log
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			l.clock += uint32(rapid.IntRange(0, 5).Draw(t, "seconds")) //nolint:gosec // small
			switch rapid.SampledFrom([]string{"add", "add", "burst", "clear", "delete", "nothing"}).Draw(t, "step") {
			case "add":
				l.add()
			case "burst":
				for range rapid.IntRange(1, 15).Draw(t, "records") {
					l.add()
				}
			case "clear":
				l.records, l.lastID, l.erased = nil, 0, l.erased+1
			case "delete":
				if len(l.records) > 0 {
					at := rapid.IntRange(0, len(l.records)-1).Draw(t, "which")
					l.records, l.erased = slices.Delete(slices.Clone(l.records), at, at+1), l.erased+1
				}
			}
			now := Log{Protocol: IPMILan}
			if err := readAll(context.Background(), l, before, &now); err != nil {
				t.Fatal(err)
			}
			want, err := walk(context.Background(), l, selFirst, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, now.Entries); diff != "" {
				t.Fatalf("resumed (-all +resumed):\n%s", diff)
			}
			before = now
		}
	})
}

// TestResumeAsksLittle: a log of 500 records to which one was added is read with a
// handful of questions.
func TestResumeAsksLittle(t *testing.T) {
	t.Parallel()
	l := &eventLog{room: 1000, clock: 1_500_000_000}
	for range 500 {
		l.add()
	}
	before := Log{Protocol: IPMILan}
	if err := readAll(t.Context(), l, Log{}, &before); err != nil || l.asked != 502 {
		t.Fatalf("asked %d times, %v", l.asked, err)
	}
	l.add()
	l.asked = 0
	after := Log{Protocol: IPMILan}
	if err := readAll(t.Context(), l, before, &after); err != nil || l.asked != 5 || len(after.Entries) != 501 {
		t.Errorf("asked %d times for %d entries, %v", l.asked, len(after.Entries), err)
	}
}

// TestAutoBeginsWithWhatWorked: and goes on with the others in their order.
func TestAutoBeginsWithWhatWorked(t *testing.T) {
	t.Parallel()
	for worked, want := range map[Protocol][]Protocol{
		"":            {IPMILan, Redfish, SupermicroWeb},
		IPMILan:       {IPMILan, Redfish, SupermicroWeb},
		SupermicroWeb: {SupermicroWeb, IPMILan, Redfish},
		"telepathy":   {IPMILan, Redfish, SupermicroWeb},
	} {
		reader, err := AutoFrom(worked, Target{Host: "192.0.2.9"}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		var got []Protocol
		for _, r := range reader.(first) {
			switch r.(type) {
			case *lanReader:
				got = append(got, IPMILan)
			case *redfishReader:
				got = append(got, Redfish)
			case *supermicroReader:
				got = append(got, SupermicroWeb)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", worked, diff)
		}
	}
	if _, err := AutoFrom("", Target{Host: "192.0.2.9", Port: 8443}, Options{}); err == nil {
		t.Error("a port without a protocol is taken")
	}
}
