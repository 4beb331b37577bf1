package xff_test

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/corpus"
	"capfleet/internal/pcap/pcaptest"
	"capfleet/internal/pcap/xff"
)

func search(t testing.TB, src io.Reader, address string) []xff.Hit {
	t.Helper()
	var all []xff.Hit
	s := xff.New(netip.MustParseAddr(address), xff.Headers(), func(h xff.Hit) { all = append(all, h) })
	if _, err := pcap.Scan(context.Background(), src, pcap.ReaderOptions{Window: 128 << 10}, s); err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(all, func(x, y xff.Hit) int { return cmp.Compare(x.Packet, y.Packet) })
	return all
}

// Every header that the corpus knows of is found and nothing else, in windows and
// one packet after the other.
func TestCorpus(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "corpus.pcap")
	var b bytes.Buffer
	truth, err := corpus.Write(&b, corpus.Spec{Seed: 3, Bytes: 6 << 20, Connections: 60})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	hourAgo := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, hourAgo, hourAgo); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{corpus.Address4, corpus.Address6} {
		var want []corpus.Forwarded
		for _, f := range truth.Forwarded {
			if f.Address == netip.MustParseAddr(address) {
				want = append(want, f)
			}
		}
		slices.SortStableFunc(want, func(x, y corpus.Forwarded) int { return cmp.Compare(x.Packet, y.Packet) })
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		windows, streamed := search(t, file, address), search(t, bytes.NewReader(b.Bytes()), address)
		_ = file.Close()
		if !slices.Equal(windows, streamed) {
			t.Errorf("in windows there are %d headers, else %d", len(windows), len(streamed))
		}
		if len(want) < 3 || len(streamed) != len(want) {
			t.Fatalf("%d headers, want %d", len(streamed), len(want))
		}
		for i, h := range streamed {
			got := corpus.Forwarded{Packet: h.Packet, Client: h.Source, Server: h.Destination, Header: h.Header, Address: want[i].Address}
			if got != want[i] {
				t.Errorf("got %+v, want %+v", got, want[i])
			}
		}
	}
}

// Captures of strangers give the same in windows and one packet after the other: whole
// packets and cut ones, and with bytes changed anywhere in them.
func TestWindowsAgreeWithOneWalk(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		for _, snap := range []int{0, 300} {
			var b bytes.Buffer
			if _, err := corpus.Write(&b, corpus.Spec{Seed: seed, Bytes: 512 << 10, Connections: 40, SnapLen: snap}); err != nil {
				t.Fatal(err)
			}
			content := b.Bytes()
			pcaptest.Spoil(content, 0.03*float64(seed), seed)
			path := filepath.Join(t.TempDir(), "corpus.pcap")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			file, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			windows, streamed := search(t, file, corpus.Address4), search(t, bytes.NewReader(content), corpus.Address4)
			_ = file.Close()
			if !slices.Equal(windows, streamed) {
				t.Errorf("seed %d, cut at %d: in windows there are %d headers, else %d", seed, snap, len(windows), len(streamed))
			}
		}
	}
}
