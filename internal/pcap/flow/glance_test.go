package flow_test

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/flow"
	"capfleet/internal/pcap/pcaptest"
)

// outliner holds outlines against Peek, window by window.
type outliner struct {
	t       *testing.T
	outline int // packets that were seen in windows
}

func (*outliner) Packet(*pcap.Packet) {}

func (o *outliner) Sift(w *pcap.Window, _ any) any {
	var wrong []string
	out := make([]flow.Outline, w.Len())
	for _, run := range w.Runs() {
		flow.Outlines(w, run, out)
		for i, at := range run {
			frame, wire := w.Frame(at)
			var got, want flow.Segment
			is, should := out[i].Peek(w.Link(), frame, wire, &got), flow.Peek(w.Link(), frame, wire, &want)
			if is != should || is && !reflect.DeepEqual(got, want) || out[i].Nothing() && len(want.Payload) > 0 {
				wrong = append(wrong, w.Link().String())
			}
		}
	}
	return wrong
}

func (o *outliner) Take(w *pcap.Window, sifted any) {
	for _, link := range sifted.([]string) {
		o.t.Errorf("%s: an outline contradicts the packet", link)
	}
	o.outline += w.Len()
}

// What lies behind a packet in the file, which an outline looks at too, changes
// nothing: every form of packet, cut at every length.
func TestOutlinesAgreeWithPeek(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]pcaptest.Classic{
		"little-endian": {SnapLen: 65535, Link: 1},
		"big-endian":    {SnapLen: 65535, Link: 1, Big: true},
		"patched":       {SnapLen: 65535, Link: 1, Patched: true},
		"raw":           {SnapLen: 65535, Link: 101},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := c.Header()
			for _, p := range append(pcaptest.Packets(), tagged()...) {
				if p.Link != c.Link {
					continue
				}
				for cut := range uint32(len(p.Data) + 1) { //nolint:gosec // a short packet
					file = append(file, c.Record(1_700_000_000, 0, cut, uint32(len(p.Data)), p.Data[:cut])...) //nolint:gosec // a short packet
					file = append(file, c.Record(1_700_000_000, 0, cut, cut, p.Data[:cut])...)
				}
			}
			for one := file[len(c.Header()):]; len(file) < 64<<10; {
				file = append(file, one...)
			}
			path := filepath.Join(t.TempDir(), "packets.pcap")
			if err := os.WriteFile(path, file, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			o := &outliner{t: t}
			r, err := pcap.Scan(t.Context(), f, pcap.ReaderOptions{Window: 16 << 10}, o)
			if err != nil || o.outline < 400 || uint64(o.outline) != r.Packets() { //nolint:gosec // a count
				t.Errorf("%d of %d packets in windows, error %v", o.outline, r.Packets(), err)
			}
		})
	}
}
