package records

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"capfleet/internal/pcap"
)

// stream makes a pcap stream of packets of the given sizes.
func stream(order binary.AppendByteOrder, magic uint32, sizes []int) (file []byte, ends []int) {
	file = order.AppendUint32(file, magic)
	file = order.AppendUint16(file, 2)
	file = order.AppendUint16(file, 4)
	for _, v := range []uint32{0, 0, 262144, 1} {
		file = order.AppendUint32(file, v)
	}
	ends = append(ends, len(file))
	for i, n := range sizes {
		for _, v := range []uint32{uint32(1700000000 + i), 7, uint32(n), uint32(n)} {
			file = order.AppendUint32(file, v)
		}
		file = append(file, bytes.Repeat([]byte{byte(i)}, n)...)
		ends = append(ends, len(file))
	}
	return file, ends
}

// Whatever the pieces, what is passed on is the longest whole beginning, within
// the limits, and our reader of captures takes it.
func TestCutterPassesWholeRecords(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(0, 40), 0, 8).Draw(t, "sizes")
		var order binary.AppendByteOrder = binary.LittleEndian
		if rapid.Bool().Draw(t, "big") {
			order = binary.BigEndian
		}
		magic := rapid.SampledFrom([]uint32{0xa1b2c3d4, 0xa1b23c4d}).Draw(t, "magic")
		file, ends := stream(order, magic, sizes)
		cut := rapid.IntRange(0, len(file)).Draw(t, "cut")
		limits := Limits{Packets: rapid.Int64Range(0, 9).Draw(t, "packets"), Bytes: rapid.Int64Range(0, int64(len(file)+9)).Draw(t, "bytes")}

		var out bytes.Buffer
		c := New(&out, limits)
		var err error
		for rest := file[:cut]; len(rest) > 0 && err == nil; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			_, err = c.Write(rest[:n])
			rest = rest[n:]
		}
		want, packets := 0, int64(0)
		for i, end := range ends {
			if end > cut || i > 0 && (limits.Packets > 0 && int64(i) > limits.Packets || limits.Bytes > 0 && int64(end) > limits.Bytes) {
				break
			}
			want, packets = end, int64(i)
		}
		if err != nil && !errors.Is(err, ErrLimit) {
			t.Fatal(err)
		}
		if !bytes.Equal(out.Bytes(), file[:want]) {
			t.Fatalf("%d bytes are passed on, want %d of %d (cut at %d, %+v)", out.Len(), want, len(file), cut, limits)
		}
		if c.Packets() != packets || c.Bytes() != int64(want) {
			t.Fatalf("%d packets, %d bytes; want %d, %d", c.Packets(), c.Bytes(), packets, want)
		}
		if want == 0 {
			return
		}
		r, err := pcap.NewReader(bytes.NewReader(out.Bytes()), pcap.ReaderOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var p pcap.Packet
		for n := int64(0); ; n++ {
			if err := r.Next(&p); err != nil {
				if n != packets {
					t.Fatalf("after %d packets: %v", n, err)
				}
				break
			}
		}
	})
}

func TestCutterRefusesText(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"tcpdump: eth9: No such device\n", "\xd4\xc3x", "\n"} {
		var out bytes.Buffer
		c := New(&out, Limits{})
		_, err := c.Write([]byte(text))
		var not *NotCaptureError
		if !errors.As(err, &not) || string(not.Begin) != text || out.Len() > 0 {
			t.Errorf("%q: %v, %d bytes", text, err, out.Len())
		}
		if _, again := c.Write([]byte("x")); !errors.Is(again, err) {
			t.Errorf("the error does not stay: %v", again)
		}
	}
}

func TestCutterRefusesWhatCannotBeAPacket(t *testing.T) {
	t.Parallel()
	file, _ := stream(binary.LittleEndian, 0xa1b2c3d4, []int{4, 4})
	whole := len(file)
	file = append(file, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0)
	var out bytes.Buffer
	if _, err := New(&out, Limits{}).Write(file); err == nil || out.Len() != whole {
		t.Errorf("%v after %d bytes, want %d", err, out.Len(), whole)
	}
}

// A record is passed on as the slice that came.
func TestCutterDoesNotAllocate(t *testing.T) {
	file, _ := stream(binary.LittleEndian, 0xa1b2c3d4, []int{1000, 1000, 1000})
	c := New(discard{}, Limits{})
	if _, err := c.Write(file); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = c.Write(file[24:]) }); n > 0 {
		t.Errorf("%v allocations for three records", n)
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func FuzzCutter(f *testing.F) {
	file, _ := stream(binary.LittleEndian, 0xa1b2c3d4, []int{3, 0, 9})
	f.Add(file, 5)
	f.Add([]byte("tcpdump: no"), 1)
	f.Fuzz(func(t *testing.T, b []byte, piece int) {
		piece = max(1, piece%64)
		var out bytes.Buffer
		c := New(&out, Limits{})
		for rest := b; len(rest) > 0; {
			n := min(piece, len(rest))
			if _, err := c.Write(rest[:n]); err != nil {
				break
			}
			rest = rest[n:]
		}
		if !bytes.HasPrefix(b, out.Bytes()) || int64(out.Len()) != c.Bytes() {
			t.Errorf("passed on %d bytes that did not come so", out.Len())
		}
	})
}
