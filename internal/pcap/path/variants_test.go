package path_test

import (
	"bytes"
	"testing"

	"capfleet/internal/pcap/corpus"
	"capfleet/internal/pcap/path"
	"capfleet/internal/pcap/pcaptest"
)

// Places may capture with different link layers and in different formats: no packet is
// lost by that, and one that is missing is found missing.
func TestEveryLinkLayerAndFormat(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	truth, err := corpus.Write(&b, corpus.Spec{Seed: 4, Bytes: 60 << 10, Connections: 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range pcaptest.Variants(b.Bytes()) {
		r := analyze(t, []path.Hop{
			{Name: "in", Captures: []path.Capture{{Name: "in", Reader: bytes.NewReader(b.Bytes())}}},
			{Name: "out", Captures: []path.Capture{{Name: "out", Reader: bytes.NewReader(v.File)}}},
		}, path.Options{})
		if r.Verdict.Status != path.Complete || r.Hops[1].Packets != truth.Packets || r.Hops[1].Other != 0 || *r.Hops[1].Offset != 0 {
			t.Errorf("%s, %s: %+v %+v", v.Link, v.Format, r.Verdict, r.Hops[1])
		}
	}
}
