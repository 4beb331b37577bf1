package info_test

import (
	"bytes"
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
	"capfleet/internal/pcap/info"
	"capfleet/internal/pcap/pcaptest"
)

// A large file, which is read in windows and hashed beside that, gives what the same
// bytes give as a stream.
func TestLargeFile(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if _, err := corpus.Write(&b, corpus.Spec{Seed: 2, Bytes: 1 << 20, SnapLen: 700}); err != nil {
		t.Fatal(err)
	}
	// Oddities far behind, and times that go back.
	c := pcaptest.Classic{SnapLen: 65535, Link: 1}
	odd := c.Record(1_600_000_000, 5, 42, 42, pcaptest.Ethernet(0x0806, pcaptest.ARP(77)...)[:42])
	whole := slices.Concat(b.Bytes(), odd, b.Bytes()[24:], odd)
	for name, content := range map[string][]byte{
		"whole": whole, "cut": whole[:len(whole)-5], "in order": b.Bytes(),
		"damaged": slices.Concat(whole[:len(whole)-5], make([]byte, 9), []byte{0xff, 0xff, 0xff, 0xff}, make([]byte, 100)),
	} {
		path := filepath.Join(t.TempDir(), "large.pcap")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		hourAgo := time.Now().Add(-time.Hour)
		if err := os.Chtimes(path, hourAgo, hourAgo); err != nil {
			t.Fatal(err)
		}
		for _, hash := range []bool{true, false} {
			file, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			got, failed := info.Read(context.Background(), file, info.Options{Hash: hash, Reader: pcap.ReaderOptions{Window: 100_000}})
			_ = file.Close()
			want, wantErr := info.Read(context.Background(), struct{ io.Reader }{bytes.NewReader(content)}, info.Options{Hash: hash, Reader: pcap.ReaderOptions{Window: 100_000}})
			if (failed == nil) != (wantErr == nil) || failed != nil && failed.Error() != wantErr.Error() {
				t.Errorf("%s: %v, want %v", name, failed, wantErr)
			}
			if !hash && wantErr != nil {
				want.FileBytes = got.FileBytes // a stream is not read to its end then
			}
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-stream +file):\n%s", name, diff)
			}
		}
	}
}
