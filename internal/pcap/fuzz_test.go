package pcap_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/pcaptest"
)

// Whatever a file holds: packets lie in it where they are said to, one behind the
// other, and reading ends with io.EOF or with an *Error within the file.
func FuzzReader(f *testing.F) {
	for _, file := range files() {
		f.Add(file[:min(len(file), 4000)])
	}
	c := pcaptest.Classic{Big: true, Patched: true, Major: 2, Minor: 3, Link: 113}
	f.Add(append(c.Header(), c.Record(1, 2, 5, 3, []byte("abcde"))...))
	n := pcaptest.NG{Big: true}
	f.Add(append(n.Section(), append(n.Interface(1, 0, n.Offset(5)), n.Simple(4, []byte("abcd"))...)...))
	f.Fuzz(func(t *testing.T, file []byte) {
		if len(file) > 1 && file[0] == 0x1f && file[1] == 0x8b {
			return // offsets are of what it unpacks to: FuzzGzip
		}
		walk(t, file, bytes.NewReader(file))
	})
}

// Gzip adds nothing but its own damage.
func FuzzGzip(f *testing.F) {
	for _, file := range files() {
		f.Add(pcaptest.Gzip(file[:min(len(file), 4000)]))
	}
	f.Fuzz(func(t *testing.T, file []byte) { walk(t, nil, bytes.NewReader(file)) })
}

func walk(t *testing.T, file []byte, src io.Reader) {
	t.Helper()
	r, err := pcap.NewReader(src, pcap.ReaderOptions{MaxExpansion: 10})
	var p pcap.Packet
	end := int64(0)
	for count := uint64(1); err == nil; count++ {
		if err = r.Next(&p); err != nil {
			break
		}
		if p.Number != count || p.Offset < end || p.Interface < 0 || p.Interface >= len(r.Interfaces()) || p.Time.Nanos >= 1e9 {
			t.Fatalf("packet %d after %d bytes: %+v", count, end, p)
		}
		end = p.Offset + int64(len(p.Data))
		if file != nil && (end > int64(len(file)) || !bytes.Contains(file[p.Offset:], p.Data)) {
			t.Fatalf("packet %d is not in the file: %+v", count, p)
		}
		for range p.Options.Comments() { //nolint:revive // only that it ends
		}
	}
	var bad *pcap.Error
	switch {
	case errors.Is(err, io.EOF) && !errors.As(err, &bad):
		if file != nil && r.Offset() != int64(len(file)) {
			t.Fatalf("the end at %d of %d", r.Offset(), len(file))
		}
	case !errors.As(err, &bad):
		t.Fatalf("%v is no *pcap.Error", err)
	case file != nil && bad.Offset > int64(len(file)), bad.Offset < 0, bad.Packets != r.Packets():
		t.Fatalf("%v after %d packets of a file of %d bytes", err, r.Packets(), len(file))
	}
}
