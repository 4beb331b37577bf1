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
	"capfleet/internal/pcap/tlsaudit"
)

// audit gives the sessions of a capture by their first packets.
func audit(t testing.TB, src io.Reader) []tlsaudit.Session {
	t.Helper()
	var all []tlsaudit.Session
	a := tlsaudit.New(func(s *tlsaudit.Session) { all = append(all, *s) })
	if _, err := pcap.Scan(context.Background(), src, pcap.ReaderOptions{Window: 128 << 10}, a); err != nil {
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
