package tlsaudit_test

import (
	"bytes"
	"cmp"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"capfleet/internal/pcap/corpus"
	"capfleet/internal/pcap/pcaptest"
)

// The sessions of a capture are the same in every link layer and file format, for us and
// for tshark.
func TestEveryLinkLayerAndFormat(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	truth, err := corpus.Write(&b, corpus.Spec{Seed: 8, Bytes: 300 << 10, Connections: 20, NoAcknowledgements: true})
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Clone(truth.Sessions)
	slices.SortFunc(want, func(x, y corpus.Session) int { return cmp.Compare(x.Packet, y.Packet) })
	same := gocmp.Comparer(func(x, y corpus.Session) bool { return x == y })
	dir := t.TempDir()
	for i, v := range pcaptest.Variants(b.Bytes()) {
		sessions := audit(t, bytes.NewReader(v.File))
		if diff := gocmp.Diff(want, known(sessions), same); diff != "" {
			t.Fatalf("%s, %s (-want +got):\n%.2000s", v.Link, v.Format, diff)
		}
		if v.Format != pcaptest.MicroLittle {
			continue
		}
		path := filepath.Join(dir, string(rune('a'+i)))
		if err := os.WriteFile(path, v.File, 0o600); err != nil {
			t.Fatal(err)
		}
		theirs := tshark(t, path, 443, 8443, 4433, 10443)
		if diff := gocmp.Diff(theirs, summaries(sessions), gocmp.Comparer(func(x, y netip.AddrPort) bool { return x == y })); diff != "" {
			t.Errorf("%s (-tshark +ours):\n%.2000s", v.Link, diff)
		}
	}
}
