package merge_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/merge"
)

// Whatever the parts hold, what is said to be written is there, and in order of time
// where each part is.
func FuzzMerge(f *testing.F) {
	whole := capture(f, []event{{1, "a"}, {3, "b"}})
	f.Add(whole, whole[:len(whole)-3], capture(f, []event{{2, "c"}, {2, "c"}}), int64(time.Millisecond))
	f.Fuzz(func(t *testing.T, a, b, c []byte, offset int64) {
		var out bytes.Buffer
		w, err := pcap.NewNGWriter(&out, pcap.Section{})
		if err != nil {
			t.Fatal(err)
		}
		result, err := merge.Merge(t.Context(), []merge.Source{source("ring", 0, a, b), source("other", time.Duration(offset), c)}, w)
		if w.Flush() != nil {
			return // a time or a link type that pcapng does not hold
		}
		read, repeated, ordered := uint64(0), uint64(0), true
		for _, p := range result.Parts {
			read += p.Packets - p.Untimed
			repeated += p.Repeated
			ordered = ordered && p.Disorder == 0
		}
		if read != result.Packets+repeated {
			t.Fatalf("%+v, %v", result, err)
		}
		r, err := pcap.NewReader(&out, pcap.ReaderOptions{})
		var last pcap.Timestamp
		for err == nil {
			var p pcap.Packet
			if err = r.Next(&p); err == nil {
				if ordered && p.Time.Compare(last) < 0 {
					t.Fatalf("packet %d is of %v, after %v", p.Number, p.Time, last)
				}
				last = p.Time
			}
		}
		if !errors.Is(err, io.EOF) || r.Packets() != result.Packets {
			t.Fatalf("%d packets, %+v, %v", r.Packets(), result, err)
		}
	})
}
