package merge

import (
	"bytes"
	"testing"
	"time"

	"capfleet/internal/pcap"
)

// capture makes a pcap of one-byte packets at microseconds.
func capture(t *testing.T, at []int, data string) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w, err := pcap.NewWriter(&b, pcap.LinkEthernet, 100, pcap.Nanoseconds)
	if err != nil {
		t.Fatal(err)
	}
	for i, us := range at {
		p := pcap.Packet{Time: pcap.Timestamp{Sec: 1, Nanos: uint32(us) * 1000}, HasTime: true, Length: 1, Data: []byte{data[i]}, Link: pcap.LinkEthernet}
		if err := w.Write(&p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// TestSlack: two captures that ran at once differ a little in the times of what
// both have. What one of them has twice is there twice.
func TestSlack(t *testing.T) {
	t.Parallel()
	for slack, want := range map[time.Duration]uint64{0: 10, 10 * time.Microsecond: 6} {
		var out bytes.Buffer
		ng, err := pcap.NewNGWriter(&out, pcap.Section{})
		if err != nil {
			t.Fatal(err)
		}
		res, err := Merge(t.Context(), []Source{{Slack: slack, Parts: []Part{
			{Name: "a", Capture: capture(t, []int{100, 200, 300, 305, 400}, "abccd")},
			{Name: "b", Capture: capture(t, []int{203, 301, 308, 401, 500}, "bccde")},
		}}}, ng)
		if err != nil {
			t.Fatal(err)
		}
		if res.Packets != want {
			t.Errorf("slack %v: %d packets, want %d: %+v", slack, res.Packets, want, res.Parts)
		}
	}
}
