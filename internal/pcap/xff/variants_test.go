package xff_test

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"capfleet/internal/pcap/corpus"
	"capfleet/internal/pcap/pcaptest"
)

// Headers are found in every link layer and file format.
func TestEveryLinkLayerAndFormat(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	truth, err := corpus.Write(&b, corpus.Spec{Seed: 3, Bytes: 300 << 10, Connections: 15, NoAcknowledgements: true})
	if err != nil {
		t.Fatal(err)
	}
	var want []uint64
	for _, f := range truth.Forwarded {
		if f.Address == netip.MustParseAddr(corpus.Address4) {
			want = append(want, f.Packet)
		}
	}
	slices.Sort(want)
	if len(want) == 0 {
		t.Fatal("the corpus has no header")
	}
	for _, v := range pcaptest.Variants(b.Bytes()) {
		var got []uint64
		for _, h := range search(t, bytes.NewReader(v.File), corpus.Address4) {
			got = append(got, h.Packet)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s, %s: found in packets %v, want %v", v.Link, v.Format, got, want)
		}
	}
}
