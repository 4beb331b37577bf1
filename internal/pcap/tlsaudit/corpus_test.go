package tlsaudit_test

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/corpus"
	"capfleet/internal/pcap/pcaptest"
	"capfleet/internal/pcap/tlsaudit"
)

// audit gives the sessions of a capture by their first packets. Those in memory are
// read one packet after the other and in small windows, which must agree.
func audit(t testing.TB, src io.Reader) []tlsaudit.Session {
	t.Helper()
	if b, ok := src.(*bytes.Reader); ok && b.Len() < 1<<20 {
		path := filepath.Join(t.TempDir(), "small.pcap")
		content, err := io.ReadAll(b)
		// At the end of a file packets are looked at in another way.
		arp := pcaptest.Ethernet(0x0806, pcaptest.ARP(1)...)
		for range 8 {
			content = append(content, pcaptest.Classic{}.Record(1_700_009_999, 0, uint32(len(arp)), uint32(len(arp)), arp)...) //nolint:gosec // a short packet
		}
		if err == nil {
			err = os.WriteFile(path, content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		windows, streamed := auditBy(t, f, 200), auditBy(t, struct{ io.Reader }{bytes.NewReader(content)}, 0)
		if !slices.Equal(windows, streamed) {
			t.Errorf("in windows %+v, one packet after the other %+v", windows, streamed)
		}
		return streamed
	}
	return auditBy(t, src, 128<<10)
}

func auditBy(t testing.TB, src io.Reader, window int64) []tlsaudit.Session {
	t.Helper()
	var all []tlsaudit.Session
	a := tlsaudit.New(func(s *tlsaudit.Session) { all = append(all, *s) })
	if _, err := pcap.Scan(context.Background(), src, pcap.ReaderOptions{Window: window}, a); err != nil {
		t.Fatal(err)
	}
	a.Close()
	slices.SortFunc(all, func(x, y tlsaudit.Session) int { return cmp.Compare(x.Packet, y.Packet) })
	return all
}

// known gives sessions in the form of the corpus's truth.
func known(all []tlsaudit.Session) []corpus.Session {
	list := make([]corpus.Session, 0, len(all))
	for i := range all {
		s := &all[i]
		k := corpus.Session{Packet: s.Packet, Client: s.Client, Server: s.Server, ServerName: s.ServerName}
		if s.HasOffered {
			k.Offered = s.Offered.String()
		}
		if s.HasNegotiated {
			k.Negotiated = s.Negotiated.String()
		}
		if s.HasAlert {
			k.Alert = s.Alert
		}
		list = append(list, k)
	}
	return list
}

// corpusFile writes a corpus that is old enough to be mapped.
func corpusFile(t testing.TB, spec corpus.Spec) (string, *corpus.Truth) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "corpus.pcap")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	truth, err := corpus.Write(f, spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	hourAgo := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, hourAgo, hourAgo); err != nil {
		t.Fatal(err)
	}
	return path, truth
}

// What is known about a generated capture is found, in windows and one packet after
// the other.
func TestCorpus(t *testing.T) {
	t.Parallel()
	path, truth := corpusFile(t, corpus.Spec{Seed: 7, Bytes: 6 << 20, Connections: 60})
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	want := slices.Clone(truth.Sessions)
	slices.SortFunc(want, func(x, y corpus.Session) int { return cmp.Compare(x.Packet, y.Packet) })
	streamed := audit(t, bytes.NewReader(content))
	if diff := gocmp.Diff(want, known(streamed), gocmp.Comparer(func(x, y corpus.Session) bool { return x == y })); diff != "" {
		t.Errorf("one after the other (-want +got):\n%.3000s", diff)
	}
	windows := audit(t, file)
	if !slices.Equal(windows, streamed) {
		t.Errorf("in windows there are %d sessions, else %d", len(windows), len(streamed))
	}
	for i := range streamed {
		if s := &streamed[i]; s.Gap || s.Truncated || s.Refused() != (s.Alert == 70) {
			t.Errorf("%+v", s)
		}
	}
}

// Captures of strangers give the same in windows and one packet after the other: whole
// packets and cut ones, and with bytes changed anywhere in them.
func TestWindowsAgreeWithOneWalk(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		for _, snap := range []int{0, 80, 118} {
			path, _ := corpusFile(t, corpus.Spec{Seed: seed, Bytes: 512 << 10, Connections: 40, SnapLen: snap})
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if seed > 0 {
				pcaptest.Spoil(content, 0.02*float64(seed), seed)
			}
			file, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := file.WriteAt(content, 0); err != nil {
				t.Fatal(err)
			}
			windows, streamed := audit(t, file), audit(t, bytes.NewReader(content))
			_ = file.Close()
			if diff := gocmp.Diff(streamed, windows, gocmp.Comparer(func(x, y tlsaudit.Session) bool { return x == y })); diff != "" || len(streamed) == 0 {
				t.Errorf("seed %d, cut at %d (-one by one +in windows):\n%.2000s", seed, snap, diff)
			}
		}
	}
}
