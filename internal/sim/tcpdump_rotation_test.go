package sim

import (
	"encoding/binary"
	"fmt"
	"io"
	"testing"
	"time"
)

// A rotating capture keeps the newest packets, whole, each file with its header.
func TestTcpdumpRotation(t *testing.T) {
	f, err := New(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	files := f.devices["lon-cap-01"].files
	t.Cleanup(func() { _ = files.close() })
	out, err := rotation{size: 10_000, files: 11}.open(files, "/tmp/ring")
	if err != nil {
		t.Fatal(err)
	}
	d := &tcpdump{snap: 262144, out: out}
	if err := d.put(d.header()); err != nil {
		t.Fatal(err)
	}
	const sent = 1500
	frame := make([]byte, 100)
	for i := range sent {
		binary.BigEndian.PutUint32(frame, uint32(i))
		if err := d.packet(time.Unix(int64(i), 0), frame); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := out.Write(d.held.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := out.close(); err != nil {
		t.Fatal(err)
	}
	seen := map[uint32]bool{}
	for n := range 11 {
		r, err := files.content(fmt.Sprintf("/tmp/ring%02d", n))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(r)
		_ = r.Close()
		if err != nil || len(raw) < 24 || len(raw) > 10_000+116 || binary.LittleEndian.Uint32(raw) != 0xa1b2c3d4 || (len(raw)-24)%116 != 0 {
			t.Fatalf("file %d has %d bytes, %v", n, len(raw), err)
		}
		for b := raw[24:]; len(b) > 0; b = b[116:] {
			seen[binary.BigEndian.Uint32(b[16:])] = true
		}
	}
	for i := sent - 10*86; i < sent; i++ {
		if !seen[uint32(i)] { //nolint:gosec // below 1500
			t.Fatalf("packet %d is missing among %d", i, len(seen))
		}
	}
	if seen[0] {
		t.Error("the first packet is still there")
	}
}
