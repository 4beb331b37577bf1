package path_test

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/path"
	"capfleet/internal/pcap/rewrite"
)

// capture gives frames a millisecond apart; nil ones leave a gap.
func capture(t *testing.T, name string, frames [][]byte) path.Capture {
	t.Helper()
	var b bytes.Buffer
	w, err := pcap.NewWriter(&b, pcap.LinkEthernet, 0, pcap.Nanoseconds)
	for i, data := range frames {
		if data == nil {
			continue
		}
		err = errors.Join(err, w.Write(&pcap.Packet{Link: pcap.LinkEthernet, HasTime: true, Data: data, Length: uint32(len(data)),
			Time: pcap.Timestamp{Sec: 1e9}.Add(time.Duration(i) * time.Millisecond)}))
	}
	if err := errors.Join(err, w.Flush()); err != nil {
		t.Fatal(err)
	}
	return path.Capture{Name: name, Reader: &b}
}

// frames gives what the client's place of a small network saw.
func frames(t *testing.T) (all [][]byte) {
	t.Helper()
	n := newNetwork(21, 2)
	n.traffic()
	for _, f := range n.seen[0] {
		all = append(all, f.data)
	}
	return all
}

func diffed(t *testing.T, a, b [][]byte) (fates []*path.Fate, s path.DiffSummary) {
	t.Helper()
	s, err := path.Diff(t.Context(), capture(t, "a", a), capture(t, "b", b), func(f *path.Fate) error { fates = append(fates, f); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return fates, s
}

func TestDiffOfTheSame(t *testing.T) {
	t.Parallel()
	all := frames(t)
	fates, s := diffed(t, all, all)
	if s.Forwarded != uint64(len(all)) || s.Added != 0 || len(s.Fields) != 0 {
		t.Errorf("%+v", s)
	}
	for i, f := range fates {
		if f.Packet != uint64(i+1) || *f.Other != f.Packet || *f.Delay != 0 {
			t.Errorf("%+v", f)
		}
	}
}

// Every third packet is dropped and the others are rewritten: each is told, with what
// changed.
func TestDiffTellsWhatChanged(t *testing.T) {
	t.Parallel()
	all := frames(t)
	vlan := uint16(12)
	w, err := rewrite.New(rewrite.Rules{SetVLAN: &vlan, Addresses: []rewrite.AddressRule{{From: netip.PrefixFrom(client, 32), To: netip.MustParsePrefix("203.0.113.5/32")}},
		MACs: []rewrite.MACRule{{Side: rewrite.Source, To: [6]byte{2, 0, 0, 0, 0, 9}}}})
	if err != nil {
		t.Fatal(err)
	}
	var second [][]byte
	var dropped []uint64
	for i, data := range all {
		if i%3 == 2 {
			dropped, second = append(dropped, uint64(i+1)), append(second, nil)
			continue
		}
		p := pcap.Packet{Link: pcap.LinkEthernet, Data: data, Length: uint32(len(data))}
		w.Packet(&p)
		second = append(second, slices.Clone(p.Data))
	}
	extra := wire{away: true, udp: true, port: 9, client: client, payload: []byte("not there before")}
	second = append(second, extra.bytes())
	fates, s := diffed(t, all, second)
	var got []uint64
	for _, f := range fates {
		if f.Outcome == path.Dropped {
			got = append(got, f.Packet)
			continue
		}
		var fields []string
		for _, c := range f.Changes {
			fields = append(fields, c.Field+" "+c.From+" "+c.To)
		}
		address := "source 10.1.0.7 203.0.113.5"
		if strings.HasPrefix(f.Source, "192.") {
			address = "destination 10.1.0.7 203.0.113.5"
		}
		want := []string{"source_mac 00:00:00:00:00:00 02:00:00:00:00:09", "vlan none 12", address}
		if diff := cmp.Diff(want, fields); diff != "" || f.Outcome != path.Changed {
			t.Fatalf("packet %d is %s (-want +got):\n%s", f.Packet, f.Outcome, diff)
		}
	}
	if diff := cmp.Diff(dropped, got); diff != "" || s.Added != 1 || s.Dropped != uint64(len(dropped)) || s.Fields["vlan"] != s.Changed {
		t.Errorf("%+v (-want +got):\n%s", s, diff)
	}
}

func TestDiffErrors(t *testing.T) {
	t.Parallel()
	stop := errors.New("stop")
	all := frames(t)
	if _, err := path.Diff(t.Context(), capture(t, "a", all), capture(t, "b", nil), func(*path.Fate) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	n := 0
	bad := path.Capture{Name: "bad", Reader: strings.NewReader("xxxxxxxxxxxxxxxxxxxxxxxx")}
	if _, err := path.Diff(t.Context(), capture(t, "a", all), bad, func(*path.Fate) error { n++; return nil }); !errors.Is(err, pcap.ErrNotCapture) || n != len(all) {
		t.Errorf("%v, %d packets", err, n)
	}
}

// Whatever the captures hold, every packet has one fate.
func FuzzDiff(f *testing.F) {
	n := newNetwork(1, 2)
	n.links[0].loss[0] = 0.5
	n.tcp(0, 4000, 2)
	seeds := seedsOf(f, n)
	f.Add(seeds[0], seeds[1])
	f.Fuzz(func(t *testing.T, a, b []byte) {
		given := uint64(0)
		s, err := path.Diff(t.Context(), path.Capture{Name: "a", Reader: bytes.NewReader(a)}, path.Capture{Name: "b", Reader: bytes.NewReader(b)},
			func(fate *path.Fate) error {
				given++
				if (fate.Other == nil) != (fate.Outcome == path.Dropped || fate.Outcome == path.Recut) || (len(fate.Changes) > 0) != (fate.Outcome == path.Changed) {
					t.Fatalf("%+v", fate)
				}
				return nil
			})
		if given != s.Packets || s.Forwarded+s.Changed+s.Recut+s.Dropped != s.Packets {
			t.Fatalf("%d given, %+v, %v", given, s, err)
		}
	})
}
